//! The reply slots: allocated at start-up, claimed by HTTP threads, returned when both halves are gone.

use std::fmt;

use super::bell::WakeHandle;
use super::lease::{Lease, PoolShared};
use super::reader::ReplyReader;
use super::reply::ReplySlot;
use super::side::{Side, Sides};
use super::sync::{Arc, ArrayQueue, current};
use super::writer::ReplyWriter;
use crate::types::TokenMask;

/// Reply slots for all requests that may be in flight; cheap to clone.
#[derive(Clone)]
pub struct ReplyPool {
    shared: Arc<PoolShared>,
}

impl ReplyPool {
    /// Makes `slots` reply slots, each with room for `pieces_per_reply` unread pieces (rounded up to a power of two);
    /// both at least 1. A piece takes 8 bytes.
    pub fn new(slots: usize, pieces_per_reply: usize) -> Self {
        ReplyPool::build(slots, pieces_per_reply, 0, None)
    }

    /// Like `new`; readers also wake the batching thread when they cancel or make room in a full reply.
    pub fn with_wake(slots: usize, pieces_per_reply: usize, wake: WakeHandle) -> Self {
        ReplyPool::build(slots, pieces_per_reply, 0, Some(wake))
    }

    /// Like `with_wake`; readers can also publish masks over `n_vocab` tokens, one bit each.
    pub fn with_masks(slots: usize, pieces_per_reply: usize, n_vocab: usize, wake: WakeHandle) -> Self {
        ReplyPool::build(slots, pieces_per_reply, TokenMask::words_of(n_vocab), Some(wake))
    }

    fn build(slots: usize, pieces_per_reply: usize, mask_words: usize, wake: Option<WakeHandle>) -> Self {
        assert!(slots > 0 && pieces_per_reply > 0, "a pool without room");
        let free = ArrayQueue::new(slots);
        for index in 0..slots {
            free.push(index).expect("as many as its capacity");
        }
        let slots = (0..slots).map(|_| ReplySlot::new(pieces_per_reply.next_power_of_two(), mask_words)).collect();
        ReplyPool { shared: Arc::new(PoolShared { slots, free, wake }) }
    }

    /// Both halves of a free slot. The calling thread is the one that will wait on the reader.
    /// `None`: all are in use; answer 429 or 503.
    pub fn claim(&self) -> Option<(ReplyWriter, ReplyReader)> {
        self.claim_beside(|_| Sides::default())
    }

    /// Like `claim`, with room for log probabilities of `prompt` tokens of the prompt and of `tokens` generated ones.
    /// For each it holds the token's own log probability and the `top` most likely tokens with theirs. Allocates.
    pub fn claim_with_logprobs(&self, prompt: usize, tokens: usize, top: usize) -> Option<(ReplyWriter, ReplyReader)> {
        self.claim_beside(|cells| Sides {
            // A reply of few tokens never reuses its first cell, so it needs a row for each token only; a longer reply
            // needs one for each cell.
            pieces: Some(Arc::new(Side::new(cells.min(tokens.max(1)), top))),
            prompt: (prompt > 0).then(|| Arc::new(Side::new(prompt, top))),
        })
    }

    fn claim_beside(&self, sides: impl FnOnce(usize) -> Sides) -> Option<(ReplyWriter, ReplyReader)> {
        let index = self.shared.free.pop()?;
        let slot = &self.shared.slots[index];
        let sides = sides(slot.cells());
        slot.begin();
        let lease = || Lease { shared: Arc::clone(&self.shared), index };
        let thread = current();
        Some((ReplyWriter::new(lease(), sides.clone(), thread.clone()), ReplyReader::new(lease(), sides, thread)))
    }

    /// The number of free slots; it may change at once.
    pub fn free(&self) -> usize {
        self.shared.free.len()
    }

    /// The number of all slots.
    pub fn capacity(&self) -> usize {
        self.shared.slots.len()
    }
}

impl fmt::Debug for ReplyPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyPool").field("free", &self.free()).field("capacity", &self.capacity()).finish()
    }
}
