//! The reply slot: the batching thread writes pieces and exactly one terminal, an HTTP thread reads them.
//!
//! One word, `state`, decides everything: how many pieces were published, whether the terminal was, whether the reader
//! cancelled, sleeps (and what for), and whether the writer waits for room. Both sides change it only by
//! read-modify-writes, so that "nothing new, I sleep" and "here is something new" can't miss each other.
//!
//! Publishing a piece costs one atomic addition; the reader is unparked (a futex call) only if it sleeps
//! and wished for what happened.
//!
//! A constrained request also has a way back: the reader publishes what may come after the pieces it has read, one
//! mask a piece. There is room for one, because the writer has taken mask `n` before it publishes piece `n`, and the reader
//! has read that before it makes mask `n + 1`. Where the reader has also given a path (`paths.rs`), the writer goes along it for
//! several pieces without a mask of the slot's; the reader then reads them together and publishes the one behind the last.
//!
//! Per-token log-probabilities, where wanted, go into a second array beside `cells` (`side.rs`), written before the same
//! addition.

use std::fmt;
use std::time::{Duration, Instant};

use crossbeam::utils::CachePadded;

use super::canceller::Canceller;
use super::paths::{Along, Paths};
use super::pool::Lease;
use super::side::Sides;
use super::sync::{AtomicU8, AtomicU64, Ordering, Thread, current, park, park_timeout};
use super::words::{
    TERMINAL_WORDS, VERDICT_BITS, pack_piece, pack_terminal, unpack_piece, unpack_terminal, unpack_verdict,
};
use crate::types::{FinishReason, Path, PathStep, Piece, Terminal, Token, TokenLogprobs, TokenMask, Verdict};

/// The terminal is in place and no piece follows.
pub(super) const FINISHED: u64 = 1;
/// The reader wants no more.
pub(super) const CANCELLED: u64 = 1 << 1;
/// The reader sleeps until the next piece or the end.
const SLEEPS_FOR_PIECE: u64 = 1 << 2;
/// The reader sleeps until the end, or until the ring is more than half full.
const SLEEPS_FOR_END: u64 = 1 << 3;
const SLEEPS: u64 = SLEEPS_FOR_PIECE | SLEEPS_FOR_END;
/// The writer found the ring full and wants to hear of room.
const ROOM_WANTED: u64 = 1 << 4;
/// The writer found no mask and wants to hear of one.
const MASK_WANTED: u64 = 1 << 5;
/// One published piece: the count takes 32 bits, as many as `Piece::text_end`.
const ONE_PIECE: u64 = 1 << COUNT_SHIFT;
const COUNT_SHIFT: u32 = 8;
/// Which use of the slot this is: the upper 24 bits. A [`Canceller`] of an earlier use finds another number here.
const ONE_USE: u64 = 1 << USE_SHIFT;
const USE_SHIFT: u32 = 40;

fn published(state: u64) -> u64 {
    (state >> COUNT_SHIFT) & u64::from(u32::MAX)
}

pub(super) fn use_of(state: u64) -> u64 {
    state >> USE_SHIFT
}

/// What both halves share. Positions count pieces from the start of the reply; a piece's cell is its position modulo
/// `cells.len()`, a power of two. Pieces `head..published` are unread and never more than there are cells.
pub(super) struct Slot {
    /// ORDERING: written by the writer, read by the reader, all Relaxed. A cell is published by the addition to
    /// `state` (Release, read with Acquire) and may be written again after `head` has passed it (Release, Acquire).
    cells: Box<[AtomicU64]>,
    /// The flags above and the count of published pieces.
    ///
    /// ORDERING: written and read by both, by read-modify-writes except for the reset in `halves`.
    /// - Writer: `fetch_add` of a piece and `fetch_or` of `FINISHED` Release cells and terminal to the reader's loads,
    ///   which Acquire. The writer's `fetch_or` of `ROOM_WANTED` Acquires what the reader's `fetch_and` Released: `head`.
    /// - Reader: going to sleep is a compare-exchange against the value it last saw, so a piece published since makes
    ///   it fail; it hands nothing over and is Relaxed. So is `CANCELLED`: it is all the news there is.
    pub(super) state: CachePadded<AtomicU64>,
    /// Pieces the reader has taken.
    ///
    /// ORDERING: written by the reader with Release after it read the cells; the writer's load Acquires, so that it
    /// reuses a cell only after that.
    head: CachePadded<AtomicU64>,
    /// The terminal, packed.
    ///
    /// ORDERING: written by the writer, read by the reader, both Relaxed; published by `FINISHED`.
    terminal: [AtomicU64; TERMINAL_WORDS],
    /// The words of the latest mask; none in a pool without masks.
    ///
    /// ORDERING: written by the reader, read by the writer, all Relaxed. Published by the store to `masks` (Release, read
    /// with Acquire); written again only after a piece was read that the writer published (Release, Acquire) behind its
    /// reading of these.
    mask: Box<[AtomicU64]>,
    /// Masks published, and what the latest says: `count << VERDICT_BITS | verdict`.
    ///
    /// ORDERING: written by the reader with Release behind `mask`; the writer's load Acquires.
    masks: CachePadded<AtomicU64>,
    /// What the reader says of tokens further on.
    paths: Paths,
    /// Halves that hold the slot, 0 to 2.
    ///
    /// ORDERING: each half's drop subtracts with AcqRel: the last one has seen all that the other did, and hands the
    /// slot on through the pool's queue.
    pub(super) halves: AtomicU8,
}

impl Slot {
    pub(super) fn new(cells: usize, mask_words: usize) -> Self {
        Slot {
            cells: (0..cells).map(|_| AtomicU64::new(0)).collect(),
            state: CachePadded::new(AtomicU64::new(0)),
            head: CachePadded::new(AtomicU64::new(0)),
            terminal: std::array::from_fn(|_| AtomicU64::new(0)),
            mask: (0..mask_words).map(|_| AtomicU64::new(0)).collect(),
            masks: CachePadded::new(AtomicU64::new(0)),
            paths: Paths::new(),
            halves: AtomicU8::new(0),
        }
    }

    /// Pieces it holds unread.
    pub(super) fn cells(&self) -> usize {
        self.cells.len()
    }

    /// Frees what readers have said of tokens further on: its masks take some 100 KiB.
    pub(super) fn forget_paths(&self) {
        self.paths.clear();
    }

    fn cell(&self, position: u64) -> &AtomicU64 {
        &self.cells[position as usize & (self.cells.len() - 1)]
    }

    /// Unread pieces that wake a reader which sleeps for the end: more than half, and at most all.
    fn many(&self) -> u64 {
        self.cells.len() as u64 / 2 + 1
    }
}

/// Makes a free slot new and gives out its halves. The calling thread is the reader's.
pub(super) fn halves(for_writer: Lease, for_reader: Lease, sides: Sides) -> (ReplyWriter, ReplyReader) {
    let slot = &*for_writer;
    // ORDERING: the caller alone holds the slot, cancellers of earlier uses apart, who change nothing in any use but
    // their own; its last users' writes came with it through the pool's queue.
    let last_use = use_of(slot.state.load(Ordering::Relaxed));
    slot.state.store(last_use.wrapping_add(1).wrapping_mul(ONE_USE), Ordering::Relaxed);
    slot.head.store(0, Ordering::Relaxed);
    slot.masks.store(0, Ordering::Relaxed);
    slot.halves.store(2, Ordering::Relaxed);
    let thread = current();
    (
        ReplyWriter {
            slot: for_writer,
            sides: sides.clone(),
            tail: 0,
            head_seen: 0,
            text_end: 0,
            along: Along::default(),
            finished: false,
            reader: thread.clone(),
        },
        ReplyReader { slot: for_reader, sides, head: 0, masks: 0, thread },
    )
}

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
    /// Whom to unpark. A reader that has moved on to another request re-checks and sleeps again.
    reader: Thread,
}

impl ReplyWriter {
    /// Publishes one piece and wakes the reader if it sleeps and wished for this. Gives the piece back when the
    /// reader must read first.
    pub fn push(&mut self, piece: Piece) -> Result<(), Piece> {
        self.push_scored(piece, None)
    }

    /// The same, with what was asked for beside it. Scores nobody asked for are left out.
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
                cached_tokens: 0,
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

/// What a reader sleeps for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Streaming: as soon as there is a piece.
    EachPiece,
    /// Not streaming: once, at the end. Earlier only if the ring is more than half full.
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

/// Sleeps until what `wish` names has happened to any of `readers`, which the calling thread claimed, or the deadline
/// passes. Returns whether it has happened; `poll` says to which. At once, if it has, or if there are none.
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
        // Each says that it sleeps before the thread does: whatever comes from then on unparks it.
        if !is_over && readers.clone().all(|reader| reader.lie_down(wish)) {
            park_for(left);
        }
        // Not `any`: all of them must be told.
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
pub enum State {
    /// There are pieces to read.
    Pieces,
    /// Every piece has been read and this is the last word. Waiting again says the same.
    Finished(Terminal),
    /// The deadline passed first.
    TimedOut,
}

/// The HTTP thread's half. Dropping it before the terminal cancels the request.
pub struct ReplyReader {
    slot: Lease,
    sides: Sides,
    /// Pieces taken.
    head: u64,
    /// Masks published.
    masks: u64,
    /// The thread that claimed the slot, which the writer unparks.
    thread: Thread,
}

impl ReplyReader {
    /// Appends the unread pieces to `out` and says how many. Never waits.
    pub fn read_into(&mut self, out: &mut Vec<Piece>) -> usize {
        self.read_scored_into(out, &mut Vec::new())
    }

    /// The same, and to `scores` what stands beside each of them, if it was asked for.
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

    /// How likely the prompt's tokens were, where that was asked for: there from the first piece on, and where
    /// none came, at the end of a reply that ended well.
    pub fn prompt_scores(&self) -> Option<Vec<TokenLogprobs>> {
        let side = self.sides.prompt.as_ref()?;
        Some((0..side.rows()).map(|index| side.get(index as u64)).collect())
    }

    /// The token that ended the reply and is no piece, where scores were asked for: once `Finished` was seen and all
    /// pieces are read.
    pub fn end_scores(&self) -> Option<(Token, TokenLogprobs)> {
        self.sides.pieces.as_ref()?.end(self.head)
    }

    /// Sleeps until what `wish` names has happened, or the deadline passes. Pieces come before the terminal: with
    /// `Finished` none is left to read. Only the thread that claimed the slot may wait.
    pub fn wait(&mut self, deadline: Option<Instant>, wish: Wake) -> State {
        let sleeps = wish.flag();
        let mut state = self.slot.state.load(Ordering::Acquire);
        loop {
            if let Some(news) = self.news(state, wish) {
                return news;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return State::TimedOut;
            }
            assert!(current().id() == self.thread.id(), "the thread that claims a reply slot waits on it");
            match self.slot.state.compare_exchange(state, state | sleeps, Ordering::Relaxed, Ordering::Acquire) {
                Err(newer) => state = newer,
                Ok(_) => {
                    // Returns early for a stale unpark, of an earlier request for one: we look again in any case.
                    park_for(left);
                    state = self.slot.state.fetch_and(!SLEEPS, Ordering::Acquire) & !SLEEPS;
                }
            }
        }
    }

    /// Says what may come after the pieces read so far, and wakes the batching thread if it waits for that. Once before the
    /// first piece, then once after each, or after several that were read together: another would overwrite what the writer may be
    /// reading.
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

    /// Says how the text may go on behind the pieces read so far, after `publish` and as often as there is something new to say. Each
    /// token must be one that is allowed where it stands.
    pub fn publish_path(&mut self, path: Box<Path>) {
        assert!(path.behind == self.head && self.masks > self.head, "a path follows the latest mask");
        self.slot.paths.give(path);
    }

    /// A path for the next `publish_path`, which begins behind the pieces read so far.
    pub fn new_path(&mut self) -> Box<Path> {
        let mut path = self.slot.paths.spare().unwrap_or_default();
        path.begin(self.head);
        path
    }

    /// What `wait` would return at once, if anything.
    pub fn poll(&self, wish: Wake) -> Option<State> {
        self.news(self.slot.state.load(Ordering::Acquire), wish)
    }

    /// Says that the thread sleeps, unless there is news. Returns whether it may.
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

    /// Takes that back. Returns whether there is news.
    fn get_up(&self, wish: Wake) -> bool {
        let state = self.slot.state.fetch_and(!SLEEPS, Ordering::Acquire) & !SLEEPS;
        self.news(state, wish).is_some()
    }

    /// Asks the batching thread to stop, and wakes it. The terminal still comes, `Cancelled` or whatever was earlier.
    pub fn cancel(&self) {
        let before = self.slot.state.fetch_or(CANCELLED, Ordering::Relaxed);
        if before & (CANCELLED | FINISHED) == 0 {
            self.slot.wake_batch();
        }
    }

    /// Pieces written so far, read or not.
    pub fn published(&self) -> u64 {
        published(self.slot.state.load(Ordering::Relaxed))
    }

    /// A handle with which another thread cancels this request, and never a later one in the same slot.
    pub fn canceller(&self) -> Canceller {
        let this_use = use_of(self.slot.state.load(Ordering::Relaxed));
        Canceller::new(self.slot.unowned(), this_use)
    }

    /// What `state` holds for a reader with this wish, if anything.
    fn news(&self, state: u64, wish: Wake) -> Option<State> {
        let unread = published(state) - self.head;
        let enough = match wish {
            _ if state & FINISHED != 0 => 1,
            Wake::EachPiece => 1,
            Wake::AtEnd => self.slot.many(),
        };
        if unread >= enough {
            return Some(State::Pieces);
        }
        (state & FINISHED != 0).then(|| {
            let words = std::array::from_fn(|i| self.slot.terminal[i].load(Ordering::Relaxed));
            State::Finished(unpack_terminal(words))
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
