//! The latest tokens of one request, which the penalties look at. Written and read by the batching thread.

use crate::types::Token;
use crate::types::limits::PENALTY_LAST_N_MAX;

/// The latest tokens of one request, of prompt and answer, in a circular buffer that overwrites the oldest.
pub struct TokenHistory {
    /// Once the buffer is full, its tokens are in `0..window`.
    latest: Vec<Token>,
    /// The index that the next token overwrites once the buffer is full.
    oldest: usize,
    /// How many tokens the penalties look at, at most `PENALTY_LAST_N_MAX`.
    window: usize,
}

impl TokenHistory {
    /// An empty history with room for the largest window, so that nothing is allocated later.
    pub fn new() -> TokenHistory {
        TokenHistory { latest: Vec::with_capacity(PENALTY_LAST_N_MAX), oldest: 0, window: 0 }
    }

    /// Starts over with a window of `last_n` tokens, filled from the end of `prompt`.
    pub fn reset(&mut self, last_n: usize, prompt: &[Token]) {
        self.window = last_n.min(PENALTY_LAST_N_MAX);
        self.oldest = 0;
        self.latest.clear();
        self.latest.extend_from_slice(&prompt[prompt.len().saturating_sub(self.window)..]);
    }

    /// All tokens of the window, in no particular order.
    pub fn tokens(&self) -> &[Token] {
        &self.latest
    }

    /// The number of tokens in the window.
    pub fn len(&self) -> usize {
        self.latest.len()
    }

    /// The token at `place`, where 0 is the latest.
    pub fn latest(&self, place: usize) -> Token {
        let newest = if self.oldest == 0 { self.latest.len() } else { self.oldest } - 1;
        let at = if place <= newest { newest - place } else { newest + self.latest.len() - place };
        self.latest[at]
    }

    /// Appends a token; a full window loses its oldest.
    pub fn push(&mut self, token: Token) {
        if self.latest.len() < self.window {
            self.latest.push(token);
        } else if self.window > 0 {
            self.latest[self.oldest] = token;
            self.oldest = (self.oldest + 1) % self.window;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(ids: &[u32]) -> Vec<Token> {
        ids.iter().map(|&id| Token(id)).collect()
    }

    #[test]
    fn the_latest_is_found_before_and_after_the_ring_is_full() {
        let mut history = TokenHistory::new();
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
        let mut history = TokenHistory::new();
        history.reset(usize::MAX, &vec![Token(1); 3 * PENALTY_LAST_N_MAX]);
        let capacity = history.latest.capacity();
        history.push(Token(2));
        assert_eq!(history.latest.len(), PENALTY_LAST_N_MAX);
        assert_eq!(history.latest.capacity(), capacity);
        history.reset(0, &tokens(&[1, 2]));
        history.push(Token(2));
        assert!(history.latest.is_empty());
    }
}
