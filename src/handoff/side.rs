//! Log-probabilities beside the pieces of one reply, or of its prompt's tokens. Made by the HTTP thread that asks for them,
//! so that no other thread pays.
//!
//! The batching thread writes a row, then publishes the piece of the same position; the HTTP thread reads it after it has
//! seen the piece. Of a prompt all rows are written before the first piece or the end. What orders the two is
//! `Slot::state`, see `reply.rs`.

use super::sync::{Arc, AtomicU64, Ordering};
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
    /// The token that ended the reply and is no piece; its row is the one behind the last piece's.
    ///
    /// ORDERING: as `words`; published by the terminal.
    ended_by: AtomicU64,
}

/// What stands beside one reply, where it was asked for.
#[derive(Clone, Default)]
pub(super) struct Sides {
    pub(super) pieces: Option<Arc<Side>>,
    /// One row for each of the prompt's tokens but the first.
    pub(super) prompt: Option<Arc<Side>>,
}

impl Side {
    /// For replies of at most `pieces` unread pieces, with `top` tokens each.
    pub(super) fn new(pieces: usize, top: usize) -> Side {
        let stride = 1 + top;
        let words = (0..pieces * stride).map(|_| AtomicU64::new(0)).collect();
        Side { words, stride, ended_by: AtomicU64::new(u64::from(NO_TOKEN)) }
    }

    /// Rows there are.
    pub(super) fn rows(&self) -> usize {
        self.words.len() / self.stride
    }

    /// The reply ends with `token` behind `position` pieces. Its row is free: the piece that could stand there never comes.
    pub(super) fn put_end(&self, position: u64, token: Token, scores: &TokenLogprobs) {
        self.put(position, scores);
        self.ended_by.store(u64::from(token.0), Ordering::Relaxed);
    }

    /// The token that ended a reply of `position` pieces, if one did.
    pub(super) fn end(&self, position: u64) -> Option<(Token, TokenLogprobs)> {
        let token = self.ended_by.load(Ordering::Relaxed) as u32;
        (token != NO_TOKEN).then(|| (Token(token), self.get(position)))
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
        let start = (position as usize % self.rows()) * self.stride;
        &self.words[start..start + self.stride]
    }
}
