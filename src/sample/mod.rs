//! From a row of logits to the next token: pure, safe Rust, without a sort of the vocabulary.
//!
//! Everything here runs on the batching thread, once per generated token. It never allocates after start-up (`reset`
//! apart, which may grow a bias list), never blocks, and never panics on what a model computes: NaN counts as `-inf`.
//!
//! The stages and their meaning are llama.cpp's default chain (`common_params_sampling`): logit bias, penalties, top-k,
//! typical-p, top-p, min-p, temperature, draw. Each filter sees the distribution that the one before left, untempered.
//! `tests/sampling.rs` compares every stage with llama.cpp's; `benches/sample.rs` times both.
//!
//! Where it differs from llama.cpp: equal logits are taken by lowest id (there, by an unstable sort); temperature 0
//! is the largest logit after bias and penalties even where typical-p would have dropped it; sums are kept in f64.
//!
//! ```text
//! mask       what a grammar forbids becomes impossible, in a copy of the row (`types::TokenMask`)
//! history    bias and penalties, written into the row and taken back
//! row        blocks, maxima, argmax, the order of entries, a cut through it
//! top_k      ┐
//! typical    ├ filters: each leaves a shorter row (`candidates`) or a cut
//! top_p      ┘
//! mass       where a running sum over the order reaches a target, for the last two
//! draw       temperature, one draw
//! random     a number from (seed, index)
//! logprobs   the model's own distribution, for whoever asks
//! ```

mod candidates;
mod draw;
mod exp;
mod history;
mod logprobs;
mod mass;
#[cfg(test)]
mod naive;
mod random;
mod row;
#[cfg(test)]
mod tests;
mod top_k;
mod top_p;
mod typical;

pub use logprobs::{log_softmax_at, token_logprobs, top_logprobs};
pub use random::uniform;

use crate::types::limits::LOGIT_BIAS_MAX;
use crate::types::{SamplingParams, Token, TokenMask};
use candidates::Candidates;
use draw::Survivors;
use history::{Edits, History};
use mass::Mass;
use row::Cut;

/// One request's sampling state: its parameters, the tokens its penalties look back on, and how many it generated.
///
/// One per slot, made at start-up, about 24 KiB, reused by `reset`.
pub struct Sampler {
    params: SamplingParams,
    history: History,
    /// Tokens accepted since `reset`: the index of the next draw.
    generated: u64,
}

/// Working memory for one row, 39 bytes per token of the vocabulary. One per batching thread: it holds nothing
/// between calls, and a single one stays in the cache while the slots take turns.
pub struct Scratch {
    edits: Edits,
    maxima: Vec<f32>,
    sums: Vec<f64>,
    mass: Mass,
    /// What top-k and typical-p leave, in turn.
    kept: [Candidates; 2],
    /// A row with what its mask forbids taken out.
    masked: Vec<f32>,
}

impl Scratch {
    /// For rows of `n_vocab` logits.
    pub fn new(n_vocab: usize) -> Scratch {
        let blocks = n_vocab.div_ceil(row::BLOCK);
        Scratch {
            edits: Edits::new(n_vocab),
            maxima: Vec::with_capacity(blocks),
            sums: Vec::with_capacity(blocks),
            mass: Mass::new(n_vocab),
            kept: [Candidates::new(n_vocab), Candidates::new(n_vocab)],
            masked: Vec::with_capacity(n_vocab),
        }
    }
}

impl Default for Sampler {
    fn default() -> Self {
        Sampler::new()
    }
}

impl Sampler {
    /// With default parameters and an empty history.
    pub fn new() -> Sampler {
        let params = SamplingParams { logit_bias: Vec::with_capacity(LOGIT_BIAS_MAX), ..SamplingParams::default() };
        Sampler { params, history: History::new(), generated: 0 }
    }

    /// Begins a request. The end of `prompt` is what the penalties see first.
    pub fn reset(&mut self, params: &SamplingParams, prompt: &[Token]) {
        let mut logit_bias = std::mem::take(&mut self.params.logit_bias);
        logit_bias.clone_from(&params.logit_bias);
        self.params = SamplingParams { logit_bias, ..*params };
        let last_n = if params.penalises() { params.penalty_last_n } else { 0 };
        self.history.reset(last_n, prompt);
        self.generated = 0;
    }

    /// Goes on with a request that was set aside: `reset` with all its tokens, and the number of those it generated.
    pub fn resume(&mut self, params: &SamplingParams, tokens: &[Token], generated: u64) {
        self.reset(params, tokens);
        self.generated = generated;
    }

    /// The next token, or `None` when every logit is NaN or `-inf`: that request fails, the others don't.
    ///
    /// The row is written to and restored. Until `accept`, the same row gives the same token: randomness is a hash of
    /// the seed and the number of accepted tokens. A logit of `+inf` is chosen for certain, the first if several.
    pub fn sample(&self, scratch: &mut Scratch, logits: &mut [f32]) -> Option<Token> {
        scratch.edits.apply(logits, &self.params, &self.history);
        let chosen = self.choose(scratch, logits);
        scratch.edits.undo(logits);
        chosen.map(|place| Token(place as u32))
    }

    /// `sample` among the tokens that `mask` allows: all others are impossible, before bias, penalties and filters, so that
    /// top-k counts allowed tokens. Works on a copy of the row.
    pub fn sample_masked(&self, scratch: &mut Scratch, logits: &[f32], mask: &TokenMask) -> Option<Token> {
        let mut masked = std::mem::take(&mut scratch.masked);
        mask.select(logits, &mut masked);
        let token = self.sample(scratch, &mut masked);
        scratch.masked = masked;
        token
    }

    /// Takes note of a token that now belongs to the text.
    pub fn accept(&mut self, token: Token) {
        self.history.push(token);
        self.generated += 1;
    }

    /// The tokens that `sample` may return and their probabilities, by ascending id. Allocates: for tests and debugging.
    pub fn distribution(&self, scratch: &mut Scratch, logits: &mut [f32]) -> Vec<(Token, f32)> {
        scratch.edits.apply(logits, &self.params, &self.history);
        let mut tokens = Vec::new();
        if self.is_greedy() {
            tokens.extend(row::argmax(logits).map(|place| (Token(place as u32), 1.0)));
        } else {
            match self.filter(scratch, logits) {
                Filtered::Nothing => {}
                Filtered::Certain(place) => tokens.push((Token(place as u32), 1.0)),
                Filtered::Some(left, ids, _) => left.each(|place, p| tokens.push((token_at(ids, place), p))),
            }
        }
        scratch.edits.undo(logits);
        tokens
    }

    fn is_greedy(&self) -> bool {
        self.params.temperature <= 0.0
    }

    fn choose(&self, scratch: &mut Scratch, logits: &[f32]) -> Option<usize> {
        if self.is_greedy() {
            return row::argmax(logits);
        }
        match self.filter(scratch, logits) {
            Filtered::Nothing => None,
            Filtered::Certain(place) => Some(place),
            Filtered::Some(left, ids, sums) => {
                let place = left.draw(random::uniform(self.params.seed, self.generated), sums);
                Some(token_at(ids, place).index())
            }
        }
    }

    /// Runs the filters in order.
    fn filter<'a>(&self, scratch: &'a mut Scratch, logits: &'a [f32]) -> Filtered<'a> {
        let Scratch { maxima, sums, mass, kept, .. } = scratch;
        let [first, second] = kept;
        let SamplingParams { top_k, typical_p, top_p, min_p, temperature, .. } = self.params;

        let mut best = row::block_maxima(logits, maxima);
        if best == row::NOTHING {
            return Filtered::Nothing;
        }
        if best == f32::INFINITY {
            return row::argmax(logits).map_or(Filtered::Nothing, Filtered::Certain);
        }
        let (mut row, mut ids): (&[f32], Option<&[u32]>) = (logits, None);
        if top_k > 0 && top_k < row.len() {
            top_k::top_k(row, maxima, top_k, &mut mass.keys, first);
            (row, ids) = (&first.values, Some(first.ids.as_slice()));
            row::block_maxima(row, maxima);
        }
        if typical_p < 1.0 {
            typical::typical(row, maxima, best, typical_p, mass, second);
            if let Some(ids) = ids {
                second.ids.iter_mut().for_each(|id| *id = ids[*id as usize]);
            }
            (row, ids) = (&second.values, Some(second.ids.as_slice()));
            best = row::block_maxima(row, maxima);
        }
        let mut cut = Cut::NONE;
        if top_p < 1.0 {
            cut = top_p::top_p(row, maxima, best, top_p, mass);
        }
        if min_p > 0.0 {
            cut = cut.and(Cut { floor: best + min_p.ln(), ties_end: usize::MAX });
        }
        Filtered::Some(Survivors { row, maxima, best, cut, temperature }, ids, sums)
    }
}

/// What a row is after the filters.
enum Filtered<'a> {
    /// It has no candidate at all.
    Nothing,
    /// One entry is infinitely likely.
    Certain(usize),
    /// Survivors, their ids where they aren't their places, and scratch for the draw.
    Some(Survivors<'a>, Option<&'a [u32]>, &'a mut Vec<f64>),
}

fn token_at(ids: Option<&[u32]>, place: usize) -> Token {
    Token(ids.map_or(place as u32, |ids| ids[place]))
}
