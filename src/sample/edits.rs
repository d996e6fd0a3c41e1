//! The edits made to a row before any filter: logit bias, then the penalties on recently seen tokens.
//!
//! Runs on the batching thread. Only the entries named by the bias or found in the history are changed, and each edit
//! is undone after the draw. So the row ends as it began: sampling it again gives the same token, and log probabilities
//! are the model's own.

use super::dry::Repeats;
use super::history::TokenHistory;
use crate::types::limits::{EOG_TOKENS_MAX, LOGIT_BIAS_MAX, PENALTY_LAST_N_MAX, STOP_TOKENS_MAX};
use crate::types::{Dry, SamplingParams, Token};

/// Scratch memory for one row's edits, shared by all requests that the thread serves.
pub struct Edits {
    /// How often each token of the vocabulary was seen. All zero between calls.
    counts: Vec<u16>,
    /// Entries overwritten, as (index, value before), in the order of writing.
    undo: Vec<(usize, f32)>,
    repeats: Repeats,
}

impl Edits {
    /// For a vocabulary of `n_vocab` tokens.
    pub fn new(n_vocab: usize) -> Edits {
        let most = 2 * PENALTY_LAST_N_MAX + LOGIT_BIAS_MAX + EOG_TOKENS_MAX + STOP_TOKENS_MAX;
        Edits { counts: vec![0; n_vocab], undo: Vec::with_capacity(most), repeats: Repeats::new(n_vocab) }
    }

    /// Adds the biases, then applies the penalties as llama.cpp's `penalties` sampler does. Ids outside the row are
    /// ignored.
    pub fn apply(&mut self, row: &mut [f32], params: &SamplingParams, history: &TokenHistory) {
        debug_assert!(self.undo.is_empty());
        for &(id, bias) in &params.logit_bias {
            if let Some(logit) = row.get_mut(id as usize) {
                self.undo.push((id as usize, *logit));
                *logit += bias;
            }
        }
        if !params.penalises() || params.mirostat.is_some() {
            return;
        }
        for token in history.tokens() {
            if let Some(count) = self.counts.get_mut(token.index()) {
                *count += 1;
            }
        }
        for token in history.tokens() {
            let Some(count) = self.counts.get_mut(token.index()) else { continue };
            // The first occurrence of a token takes its whole count; later ones find 0.
            let (seen, Some(logit)) = (std::mem::take(count), row.get_mut(token.index())) else { continue };
            if seen > 0 {
                self.undo.push((token.index(), *logit));
                *logit = penalised(*logit, seen, params);
            }
        }
    }

    /// Makes each of `tokens` impossible.
    pub fn forbid(&mut self, row: &mut [f32], tokens: &[Token]) {
        for token in tokens {
            if let Some(logit) = row.get_mut(token.index()) {
                self.undo.push((token.index(), *logit));
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    /// Lowers the logits of tokens that would continue a repetition.
    pub fn apply_dry(&mut self, row: &mut [f32], dry: &Dry, history: &TokenHistory) {
        let Edits { undo, repeats, .. } = self;
        repeats.penalties(dry, history, |token, penalty| {
            if let Some(logit) = row.get_mut(token.index()) {
                undo.push((token.index(), *logit));
                *logit -= penalty;
            }
        });
    }

    /// Restores all overwritten entries.
    pub fn undo(&mut self, row: &mut [f32]) {
        while let Some((index, logit)) = self.undo.pop() {
            row[index] = logit;
        }
    }
}

fn penalised(logit: f32, seen: u16, params: &SamplingParams) -> f32 {
    // A negative logit is multiplied, because dividing it would make the token more likely.
    let repeated = if logit <= 0.0 { logit * params.repetition_penalty } else { logit / params.repetition_penalty };
    repeated - (f32::from(seen) * params.frequency_penalty + params.presence_penalty)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(ids: &[u32]) -> Vec<Token> {
        ids.iter().map(|&id| Token(id)).collect()
    }

    fn params() -> SamplingParams {
        SamplingParams {
            repetition_penalty: 2.0,
            frequency_penalty: 0.5,
            presence_penalty: 0.25,
            penalty_last_n: 4,
            ..SamplingParams::default()
        }
    }

    #[test]
    fn penalises_each_token_once_by_its_count_and_puts_the_row_back() {
        let mut history = TokenHistory::new();
        history.reset(4, &tokens(&[3, 3, 0, 1, 1]));
        history.push(Token(9));
        // The window is now 0, 1, 1, 9; 9 lies outside the row.
        let before = vec![4.0, -4.0, 1.0, 1.0];
        let (mut row, mut edits) = (before.clone(), Edits::new(4));
        edits.apply(&mut row, &params(), &history);
        assert_eq!(row, [2.0 - 0.75, -8.0 - 1.25, 1.0, 1.0]);
        edits.undo(&mut row);
        assert_eq!(row, before);
        assert!(edits.counts.iter().all(|&n| n == 0));
    }

    #[test]
    fn biases_add_up_come_first_and_are_undone() {
        let mut history = TokenHistory::new();
        history.reset(4, &tokens(&[0]));
        let bias = vec![(0, 1.0), (0, 3.0), (2, f32::NEG_INFINITY), (77, 1.0)];
        let (mut row, mut edits) = (vec![0.0, 0.0, 5.0], Edits::new(3));
        edits.apply(&mut row, &SamplingParams { logit_bias: bias, ..params() }, &history);
        assert_eq!(row, [2.0 - 0.75, 0.0, f32::NEG_INFINITY]);
        edits.undo(&mut row);
        assert_eq!(row, [0.0, 0.0, 5.0]);
    }
}
