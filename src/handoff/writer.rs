//! The batching thread's half of a reply slot. Its protocol stands in `reply`.

use std::fmt;

use super::lease::Lease;
use super::paths::Along;
use super::reply::{CANCELLED, FINISHED, MASK_WANTED, ONE_PIECE, ROOM_WANTED, SLEEPS, SLEEPS_FOR_PIECE};
use super::side::Sides;
use super::sync::{Ordering, Thread};
use super::words::{VERDICT_BITS, pack_piece, pack_terminal, unpack_piece, unpack_verdict};
use crate::types::{FinishReason, Path, PathStep, Piece, Terminal, Token, TokenLogprobs, TokenMask, Verdict};

/// The batching thread's half. Dropped without `finish` it says `EngineError`, so that no reader waits for ever.
pub struct ReplyWriter {
    slot: Lease,
    sides: Sides,
    /// Pieces published.
    tail: u64,
    /// `Slot::head` when it was last looked at.
    head_seen: u64,
    /// Of the latest piece.
    text_end: u32,
    along: Along,
    finished: bool,
    /// The reader's thread, to unpark. A reader that has moved on to another request re-checks and sleeps again.
    reader: Thread,
}

impl ReplyWriter {
    pub(super) fn new(slot: Lease, sides: Sides, reader: Thread) -> ReplyWriter {
        ReplyWriter {
            slot,
            sides,
            tail: 0,
            head_seen: 0,
            text_end: 0,
            along: Along::default(),
            finished: false,
            reader,
        }
    }

    /// Publishes one piece and wakes the reader if it sleeps and wished for this. Gives the piece back when the
    /// reader must read first.
    pub fn push(&mut self, piece: Piece) -> Result<(), Piece> {
        self.push_scored(piece, None)
    }

    /// As `push`, with the piece's log-probabilities. They are left out where the request didn't ask for them.
    pub fn push_scored(&mut self, piece: Piece, scores: Option<&TokenLogprobs>) -> Result<(), Piece> {
        let room = self.slot.cells.len() as u64;
        if self.tail - self.head_seen == room {
            self.head_seen = self.slot.head.load(Ordering::Acquire);
            if self.tail - self.head_seen == room {
                return Err(piece);
            }
        }
        self.slot.cell(self.tail).store(pack_piece(piece), Ordering::Relaxed);
        if let (Some(side), Some(scores)) = (&self.sides.pieces, scores) {
            side.put(self.tail, scores);
        }
        let before = self.slot.state.fetch_add(ONE_PIECE, Ordering::Release);
        self.tail += 1;
        self.text_end = piece.text_end;
        if before & SLEEPS != 0 && (before & SLEEPS_FOR_PIECE != 0 || self.many_unread()) {
            // Cleared here, not only by the reader: until it runs, further pieces need no further call. Should the
            // reader have gone to sleep anew meanwhile, this clears the new flag, and the unpark sets that right.
            self.slot.state.fetch_and(!SLEEPS, Ordering::Relaxed);
            self.reader.unpark();
        }
        Ok(())
    }

    /// Says how likely number `index` of the prompt's scored tokens was; all of them before the first piece.
    pub fn put_prompt(&self, index: usize, scores: &TokenLogprobs) {
        if let Some(side) = self.sides.prompt.as_ref().filter(|side| index < side.rows()) {
            side.put(index as u64, scores);
        }
    }

    /// The reply ends with `token`, which is no piece: says how likely it was. Only where the next `push` would succeed.
    pub fn put_end(&self, token: Token, scores: &TokenLogprobs) {
        if let Some(side) = &self.sides.pieces {
            side.put_end(self.tail, token, scores);
        }
    }

    /// Whether the next `push` will succeed. If not, the reader wakes the batching thread once it has made room.
    pub fn has_room(&self) -> bool {
        let slot = &*self.slot;
        let room = slot.cells.len() as u64;
        if self.tail - self.head_seen < room || self.tail - slot.head.load(Ordering::Acquire) < room {
            return true;
        }
        // Say so, then look again: the reader moves its head, then looks for the wish.
        slot.state.fetch_or(ROOM_WANTED, Ordering::Acquire);
        self.tail - slot.head.load(Ordering::Acquire) < room
    }

    /// How many more pieces `push` will take now. Asks for nothing: where it is 0, `has_room` does.
    pub fn room(&mut self) -> usize {
        self.head_seen = self.slot.head.load(Ordering::Acquire);
        (self.slot.cells.len() as u64 - (self.tail - self.head_seen)) as usize
    }

    /// What the reader said may come after `pieces()` pieces; the mask goes into `into` where there is one. `None`: it
    /// hasn't said so yet, and wakes the batching thread when it does.
    pub fn verdict(&mut self, into: &mut TokenMask) -> Option<Verdict> {
        let mut said = self.slot.masks.load(Ordering::Acquire);
        if said >> VERDICT_BITS <= self.tail
            && let Some((path, walked @ 1..)) = self.along()
        {
            let step = &path.steps()[walked - 1];
            if step.verdict == Verdict::Allow {
                into.clone_from(&step.mask);
            }
            return Some(step.verdict);
        }
        let slot = &*self.slot;
        if said >> VERDICT_BITS <= self.tail {
            // Say so, then look again: the reader publishes its mask, then looks for the wish.
            slot.state.fetch_or(MASK_WANTED, Ordering::Acquire);
            said = slot.masks.load(Ordering::Acquire);
        }
        if said >> VERDICT_BITS <= self.tail {
            return None;
        }
        let verdict = unpack_verdict(said);
        if verdict == Verdict::Allow {
            for (word, cell) in into.words_mut().iter_mut().zip(&slot.mask) {
                *word = cell.load(Ordering::Relaxed);
            }
        }
        Some(verdict)
    }

    /// What the reader takes to follow the pieces so far, with what may come behind each: nothing where it said nothing, or where the
    /// pieces went another way.
    pub fn ahead(&mut self) -> &[PathStep] {
        self.along().map_or(&[], |(path, walked)| &path.steps()[walked..])
    }

    /// The reader's latest path, and how many of its tokens the pieces since have gone.
    fn along(&mut self) -> Option<(&Path, usize)> {
        let slot = &*self.slot;
        let token = |at: u64| unpack_piece(slot.cell(at).load(Ordering::Relaxed)).token;
        self.along.look(&slot.paths, self.tail, slot.cells.len(), token)
    }

    /// Whether the reader wants no more; `finish` with `Cancelled` then.
    pub fn is_cancelled(&self) -> bool {
        self.slot.state.load(Ordering::Relaxed) & CANCELLED != 0
    }

    /// Pieces published so far.
    pub fn pieces(&self) -> u64 {
        self.tail
    }

    /// The last word.
    pub fn finish(mut self, terminal: Terminal) {
        self.publish(&terminal);
    }

    fn many_unread(&mut self) -> bool {
        let many = self.slot.many();
        if self.tail - self.head_seen >= many {
            self.head_seen = self.slot.head.load(Ordering::Acquire);
        }
        self.tail - self.head_seen >= many
    }

    fn publish(&mut self, terminal: &Terminal) {
        for (cell, word) in self.slot.terminal.iter().zip(pack_terminal(terminal)) {
            cell.store(word, Ordering::Relaxed);
        }
        let before = self.slot.state.fetch_or(FINISHED, Ordering::Release);
        assert!(before & FINISHED == 0, "a request has one terminal");
        self.finished = true;
        if before & SLEEPS != 0 {
            self.reader.unpark();
        }
    }
}

impl Drop for ReplyWriter {
    fn drop(&mut self) {
        if !self.finished {
            self.publish(&Terminal {
                reason: FinishReason::EngineError,
                text_end: self.text_end,
                generated_tokens: self.tail as u32,
                prompt_tokens: 0,
                thought_tokens: 0,
                guesses: 0,
                guesses_accepted: 0,
                gave_way: 0,
                cached_tokens: 0,
                restored_tokens: 0,
                stop: None,
                queue_us: 0,
                prefill_us: 0,
                decode_us: 0,
            });
        }
    }
}

impl fmt::Debug for ReplyWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyWriter").field("pieces", &self.tail).finish_non_exhaustive()
    }
}
