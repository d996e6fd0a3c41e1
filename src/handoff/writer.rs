//! The batching thread's half of a reply slot. The protocol is described in `reply.rs`.

use std::fmt;

use super::lease::Lease;
use super::paths::Along;
use super::reply::{CANCELLED, FINISHED, MASK_WANTED, ONE_PIECE, ROOM_WANTED, SLEEPS, SLEEPS_FOR_PIECE};
use super::side::Sides;
use super::sync::{Ordering, Thread};
use super::words::{VERDICT_BITS, pack_piece, pack_terminal, unpack_piece, unpack_verdict};
use crate::types::{FinishReason, Path, PathStep, Piece, Terminal, Token, TokenLogprobs, TokenMask, Verdict};

/// The batching thread's half of a reply. If it is dropped without `finish` it sends `EngineError`, so that the reader
/// always gets a terminal.
pub struct ReplyWriter {
    slot: Lease,
    sides: Sides,
    /// Pieces published so far.
    tail: u64,
    /// The value of `ReplySlot::head` at the last look.
    head_seen: u64,
    /// `Piece::text_end` of the latest piece.
    text_end: u32,
    along: Along,
    finished: bool,
    /// The reader's thread, to unpark. A thread that reads another request by now looks again and goes back to sleep.
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

    /// Publishes one piece and wakes the reader if it sleeps for this event.
    ///
    /// # Errors
    /// There is no room; the error is the piece. The reader must read first.
    pub fn push(&mut self, piece: Piece) -> Result<(), Piece> {
        self.push_scored(piece, None)
    }

    /// Like `push`, with the piece's log probabilities. They are dropped if the request didn't ask for them.
    ///
    /// # Errors
    /// As `push`.
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
            // The flag is cleared here, not only by the reader, so that further pieces cause no further futex call
            // until the reader runs. If the reader has gone to sleep again meanwhile, this clears its new flag, but the
            // unpark below still wakes it.
            self.slot.state.fetch_and(!SLEEPS, Ordering::Relaxed);
            self.reader.unpark();
        }
        Ok(())
    }

    /// Records the log probabilities of scored prompt token `index`. All of them must be recorded before the first
    /// piece.
    pub fn put_prompt(&self, index: usize, scores: &TokenLogprobs) {
        if let Some(side) = self.sides.prompt.as_ref().filter(|side| index < side.rows()) {
            side.put(index as u64, scores);
        }
    }

    /// Records the log probabilities of `token`, which ends the reply without being a piece. Allowed only if `push`
    /// would succeed now.
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
        // Set the flag, then look again: the reader moves its head first and looks at the flag afterwards, so no
        // wake-up is lost.
        slot.state.fetch_or(ROOM_WANTED, Ordering::Acquire);
        self.tail - slot.head.load(Ordering::Acquire) < room
    }

    /// How many more pieces `push` will take now. It sets no flag: if it returns 0, `has_room` asks to be woken.
    pub fn room(&mut self) -> usize {
        self.head_seen = self.slot.head.load(Ordering::Acquire);
        (self.slot.cells.len() as u64 - (self.tail - self.head_seen)) as usize
    }

    /// The verdict on what may follow the pieces so far. If it is `Allow`, the allowed tokens are copied to `into`.
    /// `None`: the reader hasn't published it yet, and wakes the batching thread when it does.
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
            // Set the flag, then look again: the reader publishes its mask first and looks at the flag afterwards, so
            // no wake-up is lost.
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

    /// The guessed tokens that follow the pieces so far, each with the mask behind it. Empty if the reader gave no
    /// path, or if the pieces differ from it.
    pub fn ahead(&mut self) -> &[PathStep] {
        self.along().map_or(&[], |(path, walked)| &path.steps()[walked..])
    }

    /// The tokens that are expected behind the latest piece, if the latest path that `ahead` has found has a sequel for that
    /// piece. They have no masks.
    pub fn sequel(&self) -> &[Token] {
        let latest = self.tail.checked_sub(1).map(|at| unpack_piece(self.slot.cell(at).load(Ordering::Relaxed)).token);
        latest.map_or(&[], |token| self.along.sequel(token))
    }

    /// The reader's latest path, and how many of its tokens the pieces have used.
    fn along(&mut self) -> Option<(&Path, usize)> {
        let slot = &*self.slot;
        let token = |at: u64| unpack_piece(slot.cell(at).load(Ordering::Relaxed)).token;
        self.along.look(&slot.paths, self.tail, slot.cells.len(), token)
    }

    /// Whether the reader cancelled the request. The writer then calls `finish` with `Cancelled`.
    pub fn is_cancelled(&self) -> bool {
        self.slot.state.load(Ordering::Relaxed) & CANCELLED != 0
    }

    /// The number of pieces published so far.
    pub fn pieces(&self) -> u64 {
        self.tail
    }

    /// Publishes the terminal, which ends the reply.
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
