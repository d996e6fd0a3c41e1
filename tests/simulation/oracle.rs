//! The correct answer of a request, computed for it alone: without slots, cache and steps.

use cllm::sample::{SampleScratch, Sampler, token_logprobs};
use cllm::types::{FinishReason, Token, TokenLogprobs, TokenTable, Verdict};

use crate::fake_decoder::{EMPTY, extend, fill_logits};
use crate::shape::Ask;

/// The whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub tokens: Vec<Token>,
    /// `Eos`, `Stop`, `Length`, or `EngineError` if the model gives no logits or the grammar fails.
    pub reason: FinishReason,
    /// Bytes of the text that belong to the answer.
    pub text_end: usize,
    /// Log probabilities of the prompt's tokens except the first, of generated tokens, and of the token that ended the
    /// text.
    pub scores: Scores,
}

/// Empty unless the request asks for them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    pub prompt: Vec<TokenLogprobs>,
    pub own: Vec<TokenLogprobs>,
    pub last: Option<(Token, TokenLogprobs)>,
}

/// Computes answers. One for each thread, to reuse its memory.
pub struct Oracle {
    sampler: Sampler,
    scratch: SampleScratch,
    row: Vec<f32>,
}

impl Oracle {
    pub fn new(n_vocab: usize) -> Oracle {
        Oracle { sampler: Sampler::new(), scratch: SampleScratch::new(n_vocab), row: vec![0.0; n_vocab] }
    }

    pub fn answer(&mut self, ask: &Ask, table: &TokenTable, rots: bool) -> Answer {
        let Ask { prompt, params, grammar } = ask;
        self.sampler.reset(&params.sampling, prompt);
        let all = (0..table.n_vocab() as u32).map(Token);
        let ending = |token: &Token| (table.is_eog(*token) && !params.ignore_eos) || params.stop_tokens.contains(token);
        self.sampler.keep_back(all.filter(ending), params.min_tokens);
        let mut scores = Scores::default();
        let mut history = extend(EMPTY, prompt[0]);
        for token in &prompt[1..] {
            if params.prompt_logprobs {
                fill_logits(history, rots, &mut self.row);
                if self.row[0].is_nan() {
                    return Answer { tokens: Vec::new(), reason: FinishReason::EngineError, text_end: 0, scores };
                }
                scores.prompt.extend(params.logprobs.map(|top| token_logprobs(&self.row, *token, top)));
            }
            history = extend(history, *token);
        }
        let (mut tokens, mut text) = (Vec::new(), Vec::new());
        // Bytes in which stop strings aren't searched.
        let mut unsearched = 0;
        if params.max_tokens == 0 {
            return Answer { tokens, reason: FinishReason::Length, text_end: 0, scores };
        }
        loop {
            fill_logits(history, rots, &mut self.row);
            // The row before the sampler edits it.
            let as_made = self.row.clone();
            let told = grammar.map(|grammar| grammar.next(&tokens));
            let token = match &told {
                None => self.sampler.sample(&mut self.scratch, &mut self.row),
                Some((Verdict::Allow, mask)) => self.sampler.sample_masked(&mut self.scratch, &self.row, mask),
                Some((Verdict::Complete, _)) => {
                    return Answer { tokens, reason: FinishReason::Eos, text_end: text.len(), scores };
                }
                Some((Verdict::DeadEnd, _)) => {
                    return Answer { tokens, reason: FinishReason::Grammar, text_end: text.len(), scores };
                }
                Some((Verdict::Broken, _)) => None,
            };
            let Some(token) = token else {
                return Answer { tokens, reason: FinishReason::EngineError, text_end: text.len(), scores };
            };
            let scored = params.logprobs.map(|top| match (params.sampled_logprobs, &told) {
                (false, _) => token_logprobs(&as_made, token, top),
                (true, Some((_, mask))) => self.sampler.masked_logprobs(&mut self.scratch, &self.row, mask, token, top),
                (true, None) => self.sampler.sampled_logprobs(&mut self.scratch, &mut self.row, token, top),
            });
            self.sampler.accept(token);
            if ending(&token) {
                scores.last = scored.map(|scored| (token, scored));
                return Answer { tokens, reason: FinishReason::Eos, text_end: text.len(), scores };
            }
            tokens.push(token);
            scores.own.extend(scored);
            text.extend_from_slice(table.bytes(token));
            if tokens.len() <= params.min_tokens {
                unsearched = text.len();
            }
            let found = |stop: &Vec<u8>| Some(unsearched + find(&text[unsearched..], stop)?);
            if let Some(text_end) = params.stop.iter().filter_map(found).min() {
                return Answer { tokens, reason: FinishReason::Stop, text_end, scores };
            }
            if tokens.len() == params.max_tokens {
                return Answer { tokens, reason: FinishReason::Length, text_end: text.len(), scores };
            }
            history = extend(history, token);
        }
    }
}

fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    text.windows(pattern.len()).position(|window| window == pattern)
}
