//! What one request must get, computed for it alone: no slots, no cache, no steps.

use cllm::sample::{Sampler, Scratch};
use cllm::types::{FinishReason, Token, TokenTable, Verdict};

use crate::fake_decoder::{EMPTY, extend, fill_logits};
use crate::shape::Ask;

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub tokens: Vec<Token>,
    /// `Eos`, `Stop`, `Length`, or `EngineError` where the model gives no logits or the grammar breaks.
    pub reason: FinishReason,
    /// Bytes of the text that stand.
    pub text_end: usize,
}

/// Computes answers; one a thread, for its memory.
pub struct Oracle {
    sampler: Sampler,
    scratch: Scratch,
    row: Vec<f32>,
}

impl Oracle {
    pub fn new(n_vocab: usize) -> Oracle {
        Oracle { sampler: Sampler::new(), scratch: Scratch::new(n_vocab), row: vec![0.0; n_vocab] }
    }

    pub fn answer(&mut self, ask: &Ask, table: &TokenTable, rots: bool) -> Answer {
        let Ask { prompt, params, grammar } = ask;
        self.sampler.reset(&params.sampling, prompt);
        let mut history = prompt.iter().fold(EMPTY, |history, token| extend(history, *token));
        let (mut tokens, mut text) = (Vec::new(), Vec::new());
        loop {
            fill_logits(history, rots, &mut self.row);
            let token = match grammar.map(|grammar| grammar.next(&tokens)) {
                None => self.sampler.sample(&mut self.scratch, &mut self.row),
                Some((Verdict::Allow, mask)) => self.sampler.sample_masked(&mut self.scratch, &self.row, &mask),
                Some((Verdict::Complete, _)) => {
                    return Answer { tokens, reason: FinishReason::Eos, text_end: text.len() };
                }
                Some((Verdict::DeadEnd, _)) => {
                    return Answer { tokens, reason: FinishReason::Grammar, text_end: text.len() };
                }
                Some((Verdict::Broken, _)) => None,
            };
            let Some(token) = token else {
                return Answer { tokens, reason: FinishReason::EngineError, text_end: text.len() };
            };
            self.sampler.accept(token);
            if table.is_eog(token) && !params.ignore_eos {
                return Answer { tokens, reason: FinishReason::Eos, text_end: text.len() };
            }
            tokens.push(token);
            text.extend_from_slice(table.bytes(token));
            if let Some(text_end) = params.stop.iter().filter_map(|stop| find(&text, stop)).min() {
                return Answer { tokens, reason: FinishReason::Stop, text_end };
            }
            if tokens.len() == params.max_tokens {
                return Answer { tokens, reason: FinishReason::Length, text_end: text.len() };
            }
            history = extend(history, token);
        }
    }
}

fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    text.windows(pattern.len()).position(|window| window == pattern)
}
