//! What a row's logits mean for its request: how likely a token of its prompt was, or its next token.

use super::Engine;
use super::live::Phase;
use super::slot::Taken;
use super::stats::Observer;
use crate::sample::token_logprobs;
use crate::types::seams::{Clock, Decoder};
use crate::types::{FinishReason, SlotId, Token, TokenLogprobs};

/// A token, and its log probabilities if the request asks for them.
pub(super) struct Chosen {
    token: Token,
    scores: Option<TokenLogprobs>,
}

impl Chosen {
    /// `top`: see `GenerateParams::logprobs`. `scores` is called with the token and that number, if there are both.
    pub(super) fn new(
        token: Option<Token>,
        top: Option<usize>,
        scores: impl FnOnce(Token, usize) -> TokenLogprobs,
    ) -> Option<Chosen> {
        token.map(|token| Chosen { token, scores: top.map(|top| scores(token, top)) })
    }
}

impl<D: Decoder, C: Clock, O: Observer> Engine<D, C, O> {
    /// Reports the log probability of `token`, which stands at `index` of the prompt in `slot`, from row `row`.
    pub(super) fn score(&mut self, slot: SlotId, row: usize, index: usize, token: Token) {
        let begun_us = self.mark();
        let logits = self.cache.logits(row);
        if !logits.iter().any(|logit| *logit > f32::NEG_INFINITY) {
            return self.end(slot, FinishReason::EngineError);
        }
        let Taken { live, .. } = self.slots.serving(slot);
        let top = live.request.params.logprobs.unwrap_or_default();
        live.request.score(index, &token_logprobs(logits, token, top));
        self.sample_us += self.mark() - begun_us;
    }

    /// Samples from row `row` for the request in `slot` and advances it.
    pub(super) fn choose(&mut self, slot: SlotId, row: usize, now_us: u64) {
        let begun_us = self.mark();
        let Taken { live, sampler, .. } = self.slots.serving(slot);
        if live.request.params.max_tokens == 0 {
            return self.end(slot, FinishReason::Length);
        }
        if live.request.params.constrained {
            return self.choose_or_keep(slot, row, now_us);
        }
        let token = sampler.sample(&mut self.scratch, self.cache.logits(row));
        // Bias and penalties were undone, so the row is as the model computed it.
        let params = &live.request.params;
        let chosen = Chosen::new(token, params.logprobs, |token, top| match params.sampled_logprobs {
            true => sampler.sampled_logprobs(&mut self.scratch, self.cache.logits(row), token, top),
            false => token_logprobs(self.cache.logits(row), token, top),
        });
        self.sample_us += self.mark() - begun_us;
        self.chosen(slot, chosen, now_us);
    }

    /// Advances the request in `slot` by the chosen token. `None`: no token could be chosen from its logits.
    pub(super) fn chosen(&mut self, slot: SlotId, chosen: Option<Chosen>, now_us: u64) {
        let Some(Chosen { token, scores }) = chosen else { return self.end(slot, FinishReason::EngineError) };
        let Taken { live, sampler, .. } = self.slots.serving(slot);
        sampler.accept(token);
        if let Some(speculation) = self.speculation.as_deref_mut() {
            speculation.take(slot, token, &mut live.request);
        }
        let since_last_us = live.request.since_last_token_us(now_us);
        let ended = live.request.take_token(token, scores.as_ref(), &self.table, now_us);
        live.phase = Phase::Decoding { next: token };
        match since_last_us {
            None => self.observer.first_token(live.request.age_us(now_us), live.request.queued_us(now_us)),
            Some(us) => self.observer.token(us),
        }
        if ended != Some(FinishReason::Eos) {
            self.stats.generated_tokens += 1;
        }
        if let Some(reason) = ended {
            self.end(slot, reason);
        }
    }
}
