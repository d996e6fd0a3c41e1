//! Log-probabilities beside the pieces of one reply. Made by the HTTP thread that asks for them, so that nobody else pays.
//!
//! The batching thread writes a row, then publishes the piece of the same position; the HTTP thread reads it after it has
//! seen the piece. What orders the two is `Slot::state`, see `reply.rs`.

use super::sync::{AtomicU64, Ordering};
use crate::types::Token;
use crate::types::logprobs::TokenLogprobs;

/// In place of a token: the row has no more entries.
const NO_TOKEN: u32 = u32::MAX;

/// One row a piece: the chosen token's log-probability, then the likeliest tokens with theirs.
pub(super) struct Side {
    /// ORDERING: as `Slot::cells`, all Relaxed.
    words: Box<[AtomicU64]>,
    /// Words of a row.
    stride: usize,
}

impl Side {
    /// For replies of at most `pieces` unread pieces, with `top` tokens each.
    pub(super) fn new(pieces: usize, top: usize) -> Side {
        let stride = 1 + top;
        Side { words: (0..pieces * stride).map(|_| AtomicU64::new(0)).collect(), stride }
    }

    pub(super) fn put(&self, position: u64, scores: &TokenLogprobs) {
        let ended = std::iter::repeat((Token(NO_TOKEN), 0.0));
        let entries = std::iter::once((Token(0), scores.chosen)).chain(scores.top.iter().copied()).chain(ended);
        for (word, (token, logprob)) in self.row(position).iter().zip(entries) {
            word.store(u64::from(token.0) | u64::from(logprob.to_bits()) << 32, Ordering::Relaxed);
        }
    }

    pub(super) fn get(&self, position: u64) -> TokenLogprobs {
        let entry = |word: &AtomicU64| {
            let word = word.load(Ordering::Relaxed);
            (Token(word as u32), f32::from_bits((word >> 32) as u32))
        };
        let mut row = self.row(position).iter().map(entry);
        let chosen = row.next().map_or(f32::NEG_INFINITY, |(_, logprob)| logprob);
        TokenLogprobs { chosen, top: row.take_while(|(token, _)| token.0 != NO_TOKEN).collect() }
    }

    fn row(&self, position: u64) -> &[AtomicU64] {
        let rows = self.words.len() / self.stride;
        let start = (position as usize % rows) * self.stride;
        &self.words[start..start + self.stride]
    }
}
