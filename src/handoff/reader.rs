//! The HTTP thread's half of a reply slot. The protocol is described in `reply.rs`.

use std::fmt;
use std::time::{Duration, Instant};

use super::canceller::Canceller;
use super::lease::Lease;
use super::reply::{
    CANCELLED, FINISHED, MASK_WANTED, ROOM_WANTED, SLEEPS, SLEEPS_FOR_END, SLEEPS_FOR_PIECE, published, use_of,
};
use super::side::Sides;
use super::sync::{Ordering, Thread, current, park, park_timeout};
use super::words::{VERDICT_BITS, unpack_piece, unpack_terminal};
use crate::types::{Path, Piece, Terminal, Token, TokenLogprobs, TokenMask, Verdict};

/// The event that a reader sleeps for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// For a streamed answer: as soon as there is a piece.
    EachPiece,
    /// For an answer in one part: once, at the end. Earlier only if the buffer of pieces is more than half full.
    AtEnd,
}

impl Wake {
    fn flag(self) -> u64 {
        match self {
            Wake::EachPiece => SLEEPS_FOR_PIECE,
            Wake::AtEnd => SLEEPS_FOR_END,
        }
    }
}

/// Sleeps until the event `wish` has happened to any of `readers`, which the calling thread must have claimed, or the
/// deadline passes. Returns whether the event has happened; `poll` shows to which reader. Returns at once if it already
/// has, or if `readers` is empty.
pub fn wait_any<'a>(
    readers: impl Iterator<Item = &'a ReplyReader> + Clone,
    deadline: Option<Instant>,
    wish: Wake,
) -> bool {
    if readers.clone().next().is_none() {
        return true;
    }
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let is_over = left.is_some_and(|left| left.is_zero());
        // Each reader records that it sleeps before the thread parks, so any later event unparks the thread.
        if !is_over && readers.clone().all(|reader| reader.lie_down(wish)) {
            park_for(left);
        }
        // `any` would stop at the first reader with news, but each must clear its sleep flag.
        let has_news = readers.clone().filter(|reader| reader.get_up(wish)).count() > 0;
        if has_news || is_over {
            return has_news;
        }
    }
}

fn park_for(left: Option<Duration>) {
    match left {
        None => park(),
        Some(left) => park_timeout(left),
    }
}

/// Why `ReplyReader::wait` returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyState {
    /// There are pieces to read.
    Pieces,
    /// Every piece has been read, and this is the terminal. Waiting again returns it again.
    Finished(Terminal),
    /// The deadline passed without news.
    TimedOut,
}

/// The HTTP thread's half of a reply. Dropping it before the terminal cancels the request.
pub struct ReplyReader {
    slot: Lease,
    sides: Sides,
    /// Pieces taken so far.
    head: u64,
    /// Masks published so far.
    masks: u64,
    /// The thread that claimed the slot, which the writer unparks.
    thread: Thread,
}

impl ReplyReader {
    pub(super) fn new(slot: Lease, sides: Sides, thread: Thread) -> ReplyReader {
        ReplyReader { slot, sides, head: 0, masks: 0, thread }
    }

    /// Appends the unread pieces to `out` and returns their number. Never waits.
    pub fn read_into(&mut self, out: &mut Vec<Piece>) -> usize {
        self.read_scored_into(out, &mut Vec::new())
    }

    /// Like `read_into`; also appends the log probabilities of each piece to `scores`, if the request asked for them.
    pub fn read_scored_into(&mut self, out: &mut Vec<Piece>, scores: &mut Vec<TokenLogprobs>) -> usize {
        let slot = &*self.slot;
        let (head, tail) = (self.head, published(slot.state.load(Ordering::Acquire)));
        if head == tail {
            return 0;
        }
        out.extend((head..tail).map(|position| unpack_piece(slot.cell(position).load(Ordering::Relaxed))));
        if let Some(side) = &self.sides.pieces {
            scores.extend((head..tail).map(|position| side.get(position)));
        }
        self.head = tail;
        slot.head.store(tail, Ordering::Release);
        if slot.state.fetch_and(!ROOM_WANTED, Ordering::Release) & ROOM_WANTED != 0 {
            self.slot.wake_batch();
        }
        (tail - head) as usize
    }

    /// The log probabilities of the prompt's tokens, if the request asked for them. They are complete from the first
    /// piece on, or from the end of a reply without pieces that ended well.
    pub fn prompt_scores(&self) -> Option<Vec<TokenLogprobs>> {
        let side = self.sides.prompt.as_ref()?;
        Some((0..side.rows()).map(|index| side.get(index as u64)).collect())
    }

    /// The token that ended the reply without being a piece, with its log probabilities, if the request asked for
    /// those. Valid after `Finished` was returned and all pieces are read.
    pub fn end_scores(&self) -> Option<(Token, TokenLogprobs)> {
        self.sides.pieces.as_ref()?.end(self.head)
    }

    /// Sleeps until the event `wish` has happened, or the deadline passes. Pieces come before the terminal: after
    /// `Finished` none is left to read. Only the thread that claimed the slot may wait.
    ///
    /// # Panics
    /// If another thread claimed the slot.
    pub fn wait(&mut self, deadline: Option<Instant>, wish: Wake) -> ReplyState {
        let sleeps = wish.flag();
        let mut state = self.slot.state.load(Ordering::Acquire);
        loop {
            if let Some(news) = self.news(state, wish) {
                return news;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return ReplyState::TimedOut;
            }
            assert!(current().id() == self.thread.id(), "the thread that claims a reply slot waits on it");
            match self.slot.state.compare_exchange(state, state | sleeps, Ordering::Relaxed, Ordering::Acquire) {
                Err(newer) => state = newer,
                Ok(_) => {
                    // `park` also returns early for an old unpark, for example of an earlier request; the loop then
                    // looks again.
                    park_for(left);
                    state = self.slot.state.fetch_and(!SLEEPS, Ordering::Acquire) & !SLEEPS;
                }
            }
        }
    }

    /// Publishes which tokens may follow the pieces read so far, and wakes the batching thread if it waits for that. To
    /// be called once before the first piece, then once after each piece, or after several pieces that were read
    /// together. A further call would overwrite a mask that the writer may be reading.
    ///
    /// # Panics
    /// If the mask behind the pieces read so far was published, or `mask` is of another size than the pool's.
    pub fn publish(&mut self, verdict: Verdict, mask: &TokenMask) {
        assert!(self.masks <= self.head, "one mask a piece");
        let slot = &*self.slot;
        assert!(verdict != Verdict::Allow || slot.mask.len() == mask.words().len(), "the pool has room for such masks");
        if verdict == Verdict::Allow {
            for (cell, word) in slot.mask.iter().zip(mask.words()) {
                cell.store(*word, Ordering::Relaxed);
            }
        }
        self.masks = self.head + 1;
        slot.masks.store(self.masks << VERDICT_BITS | verdict as u64, Ordering::Release);
        if slot.state.fetch_and(!MASK_WANTED, Ordering::Release) & MASK_WANTED != 0 {
            self.slot.wake_batch();
        }
    }

    /// Publishes how the text may go on behind the pieces read so far. To be called after `publish`, as often as there
    /// is a new path. Each token of the path must be allowed at its place.
    ///
    /// # Panics
    /// If the mask behind the pieces read so far wasn't published, or the path begins elsewhere.
    pub fn publish_path(&mut self, path: Box<Path>) {
        assert!(path.behind == self.head && self.masks > self.head, "a path follows the latest mask");
        self.slot.paths.give(path);
    }

    /// An empty path for the next `publish_path`, which begins behind the pieces read so far.
    pub fn new_path(&mut self) -> Box<Path> {
        let mut path = self.slot.paths.spare().unwrap_or_default();
        path.begin(self.head);
        path
    }

    /// What `wait` would return at once, if anything.
    pub fn poll(&self, wish: Wake) -> Option<ReplyState> {
        self.news(self.slot.state.load(Ordering::Acquire), wish)
    }

    /// Records that the thread sleeps, unless there is news. Returns whether it may sleep.
    fn lie_down(&self, wish: Wake) -> bool {
        let mut state = self.slot.state.load(Ordering::Acquire);
        while self.news(state, wish).is_none() {
            assert!(current().id() == self.thread.id(), "the thread that claims a reply slot waits on it");
            let asleep = state | wish.flag();
            match self.slot.state.compare_exchange(state, asleep, Ordering::Relaxed, Ordering::Acquire) {
                Ok(_) => return true,
                Err(newer) => state = newer,
            }
        }
        false
    }

    /// Clears the sleep flag. Returns whether there is news.
    fn get_up(&self, wish: Wake) -> bool {
        let state = self.slot.state.fetch_and(!SLEEPS, Ordering::Acquire) & !SLEEPS;
        self.news(state, wish).is_some()
    }

    /// Asks the batching thread to end the request, and wakes it. The terminal still comes: `Cancelled`, or an earlier
    /// reason.
    pub fn cancel(&self) {
        let before = self.slot.state.fetch_or(CANCELLED, Ordering::Relaxed);
        if before & (CANCELLED | FINISHED) == 0 {
            self.slot.wake_batch();
        }
    }

    /// Pieces published by the writer so far, read or not.
    pub fn published(&self) -> u64 {
        published(self.slot.state.load(Ordering::Relaxed))
    }

    /// A handle with which another thread cancels this request. It never cancels a later request in this slot.
    pub fn canceller(&self) -> Canceller {
        let this_use = use_of(self.slot.state.load(Ordering::Relaxed));
        Canceller::new(self.slot.unowned(), this_use)
    }

    /// The news that `state` holds for a reader that waits for `wish`, if any.
    fn news(&self, state: u64, wish: Wake) -> Option<ReplyState> {
        let unread = published(state) - self.head;
        let enough = match wish {
            _ if state & FINISHED != 0 => 1,
            Wake::EachPiece => 1,
            Wake::AtEnd => self.slot.many(),
        };
        if unread >= enough {
            return Some(ReplyState::Pieces);
        }
        (state & FINISHED != 0).then(|| {
            let words = std::array::from_fn(|i| self.slot.terminal[i].load(Ordering::Relaxed));
            ReplyState::Finished(unpack_terminal(words))
        })
    }
}

impl Drop for ReplyReader {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl fmt::Debug for ReplyReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyReader").field("head", &self.head).finish_non_exhaustive()
    }
}
