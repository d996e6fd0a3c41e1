//! Log probabilities beside the pieces of one reply, or of its prompt's tokens. The HTTP thread of a request that asks
//! for them allocates the memory; other requests don't pay for it.
//!
//! The batching thread writes a row, then publishes the piece of the same position; the HTTP thread reads the row after
//! it has seen the piece. Of a prompt all rows are written before the first piece or the end. `ReplySlot::state` orders the
//! two accesses, see `reply.rs`.

use super::sync::{Arc, AtomicU64, Ordering};
use crate::types::Token;
use crate::types::logprobs::TokenLogprobs;

/// Marks, in place of a token, that the row has no more entries.
const NO_TOKEN: u32 = u32::MAX;

/// One row for each piece: the chosen token's log probability, then the most likely tokens with theirs.
pub(super) struct Side {
    /// ORDERING: as `ReplySlot::cells`, all Relaxed.
    words: Box<[AtomicU64]>,
    /// The number of words of a row.
    stride: usize,
    /// The token that ended the reply without being a piece; its row follows the last piece's.
    ///
    /// ORDERING: as `words`; published by the terminal.
    ended_by: AtomicU64,
}

/// The log probabilities of one reply, as far as its request asked for them.
#[derive(Clone, Default)]
pub(super) struct Sides {
    pub(super) pieces: Option<Arc<Side>>,
    /// One row for each of the prompt's tokens but the first.
    pub(super) prompt: Option<Arc<Side>>,
}

impl Side {
    /// Room for a reply of at most `pieces` unread pieces, with `top` tokens each.
    pub(super) fn new(pieces: usize, top: usize) -> Side {
        let stride = 1 + top;
        let words = (0..pieces * stride).map(|_| AtomicU64::new(0)).collect();
        Side { words, stride, ended_by: AtomicU64::new(u64::from(NO_TOKEN)) }
    }

    /// The number of rows.
    pub(super) fn rows(&self) -> usize {
        self.words.len() / self.stride
    }

    /// Records that the reply of `position` pieces ended with `token`. Its row is free, because no piece follows there.
    pub(super) fn put_end(&self, position: u64, token: Token, scores: &TokenLogprobs) {
        self.put(position, scores);
        self.ended_by.store(u64::from(token.0), Ordering::Relaxed);
    }

    /// The token that ended a reply of `position` pieces, if a token did.
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
