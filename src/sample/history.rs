//! The edits made to a row before any filter: logit bias, then the penalties on tokens seen lately.
//!
//! Runs on the batching thread. Only the entries named by the bias or found in the history are touched, and each edit
//! is undone after the draw: the row leaves as it came, so that sampling it again gives the same token and
//! log-probabilities are the model's own.

use super::dry::Repeats;
use crate::types::limits::{EOG_TOKENS_MAX, LOGIT_BIAS_MAX, STOP_TOKENS_MAX};
use crate::types::{Dry, SamplingParams, Token};

/// The latest tokens of one request, prompt and generated, oldest overwritten first.
pub struct History {
    /// `0..window` is in use once the ring is full.
    ring: Vec<Token>,
    /// Where the next token goes when the ring is full.
    oldest: usize,
    /// How many tokens the penalties look back on, at most `SamplingParams::PENALTY_LAST_N_MAX`.
    window: usize,
}

impl History {
    /// With room for the largest window, so that nothing is allocated later.
    pub fn new() -> History {
        History { ring: Vec::with_capacity(SamplingParams::PENALTY_LAST_N_MAX), oldest: 0, window: 0 }
    }

    /// Starts over with a window of `last_n` tokens, filled from the end of `prompt`.
    pub fn reset(&mut self, last_n: usize, prompt: &[Token]) {
        self.window = last_n.min(SamplingParams::PENALTY_LAST_N_MAX);
        self.oldest = 0;
        self.ring.clear();
        self.ring.extend_from_slice(&prompt[prompt.len().saturating_sub(self.window)..]);
    }

    /// Tokens it holds.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// The token at `place`, counted from the latest.
    pub fn latest(&self, place: usize) -> Token {
        let newest = if self.oldest == 0 { self.ring.len() } else { self.oldest } - 1;
        let at = if place <= newest { newest - place } else { newest + self.ring.len() - place };
        self.ring[at]
    }

    pub fn push(&mut self, token: Token) {
        if self.ring.len() < self.window {
            self.ring.push(token);
        } else if self.window > 0 {
            self.ring[self.oldest] = token;
            self.oldest = (self.oldest + 1) % self.window;
        }
    }
}

/// Room for one row's edits, shared by all requests that the thread serves.
pub struct Edits {
    /// How often each token of the vocabulary was seen; all zero between calls.
    counts: Vec<u16>,
    /// Entries overwritten, with what they held, in the order of writing.
    undo: Vec<(usize, f32)>,
    repeats: Repeats,
}

impl Edits {
    pub fn new(n_vocab: usize) -> Edits {
        let most = 2 * SamplingParams::PENALTY_LAST_N_MAX + LOGIT_BIAS_MAX + EOG_TOKENS_MAX + STOP_TOKENS_MAX;
        Edits { counts: vec![0; n_vocab], undo: Vec::with_capacity(most), repeats: Repeats::new(n_vocab) }
    }

    /// Adds the biases, then applies the penalties as llama.cpp's `penalties` sampler does. Ids outside the row are
    /// ignored.
    pub fn apply(&mut self, row: &mut [f32], params: &SamplingParams, history: &History) {
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
        for token in &history.ring {
            if let Some(count) = self.counts.get_mut(token.index()) {
                *count += 1;
            }
        }
        for token in &history.ring {
            let Some(count) = self.counts.get_mut(token.index()) else { continue };
            // The first of a token's occurrences takes the count; the others find 0.
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

    /// Takes from the logits of tokens that would go on with a repetition.
    pub fn apply_dry(&mut self, row: &mut [f32], dry: &Dry, history: &History) {
        let Edits { undo, repeats, .. } = self;
        repeats.penalties(dry, history, |token, penalty| {
            if let Some(logit) = row.get_mut(token.index()) {
                undo.push((token.index(), *logit));
                *logit -= penalty;
            }
        });
    }

    /// Puts back what was overwritten.
    pub fn undo(&mut self, row: &mut [f32]) {
        while let Some((index, logit)) = self.undo.pop() {
            row[index] = logit;
        }
    }
}

fn penalised(logit: f32, seen: u16, params: &SamplingParams) -> f32 {
    // Dividing a negative logit would make the token likelier.
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
        let mut history = History::new();
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
        let mut history = History::new();
        history.reset(4, &tokens(&[0]));
        let bias = vec![(0, 1.0), (0, 3.0), (2, f32::NEG_INFINITY), (77, 1.0)];
        let (mut row, mut edits) = (vec![0.0, 0.0, 5.0], Edits::new(3));
        edits.apply(&mut row, &SamplingParams { logit_bias: bias, ..params() }, &history);
        assert_eq!(row, [2.0 - 0.75, 0.0, f32::NEG_INFINITY]);
        edits.undo(&mut row);
        assert_eq!(row, [0.0, 0.0, 5.0]);
    }

    #[test]
    fn the_latest_is_found_before_and_after_the_ring_is_full() {
        let mut history = History::new();
        history.reset(3, &[]);
        for id in 0..20 {
            history.push(Token(id));
            let held = (id + 1).min(3);
            assert_eq!(history.len(), held as usize);
            assert!((0..held).all(|place| history.latest(place as usize) == Token(id - place)), "{id}");
        }
    }

    #[test]
    fn the_window_is_bounded_and_may_be_empty() {
        let mut history = History::new();
        history.reset(usize::MAX, &vec![Token(1); 3 * SamplingParams::PENALTY_LAST_N_MAX]);
        let capacity = history.ring.capacity();
        history.push(Token(2));
        assert_eq!(history.ring.len(), SamplingParams::PENALTY_LAST_N_MAX);
        assert_eq!(history.ring.capacity(), capacity);
        history.reset(0, &tokens(&[1, 2]));
        history.push(Token(2));
        assert!(history.ring.is_empty());
    }
}
