//! The reply slot: the batching thread writes pieces and exactly one terminal (`writer`), an HTTP thread reads them
//! (`reader`).
//!
//! One word, `state`, decides everything: how many pieces were published, whether the terminal was, whether the reader
//! cancelled, whether it sleeps (and for which event), and whether the writer waits for room. Both sides change it only
//! by read-modify-write operations, so that the reader's "nothing new, I sleep" and the writer's "here is something
//! new" can't miss each other.
//!
//! Publishing a piece costs one atomic addition; the reader is unparked (a futex call) only if it sleeps for this
//! event.
//!
//! For a constrained request data also flows back: the reader publishes which tokens may come after the pieces it has
//! read, one mask a piece. The slot has room for one mask. That is enough, because the writer has taken mask `n` before
//! it publishes piece `n`, and the reader has read piece `n` before it makes mask `n + 1`. If the reader has also given
//! a path (`paths.rs`), the writer follows it for several pieces without a mask from the slot; the reader then reads
//! them together and publishes the mask behind the last.
//!
//! Log probabilities of tokens, for requests that ask for them, go into a second array beside `cells` (`side.rs`),
//! written before the same addition.

use crossbeam::utils::CachePadded;

use super::paths::Paths;
use super::sync::{AtomicU8, AtomicU64, Ordering};
use super::words::TERMINAL_WORDS;

/// The terminal is in place and no piece follows.
pub(super) const FINISHED: u64 = 1;
/// The reader cancelled the request.
pub(super) const CANCELLED: u64 = 1 << 1;
/// The reader sleeps until the next piece or the end.
pub(super) const SLEEPS_FOR_PIECE: u64 = 1 << 2;
/// The reader sleeps until the end, or until the buffer of pieces is more than half full.
pub(super) const SLEEPS_FOR_END: u64 = 1 << 3;
pub(super) const SLEEPS: u64 = SLEEPS_FOR_PIECE | SLEEPS_FOR_END;
/// The writer found the buffer of pieces full and wants to be woken when there is room.
pub(super) const ROOM_WANTED: u64 = 1 << 4;
/// The writer found no mask and wants to be woken when there is one.
pub(super) const MASK_WANTED: u64 = 1 << 5;
/// One published piece: the count takes 32 bits, as many as `Piece::text_end`.
pub(super) const ONE_PIECE: u64 = 1 << COUNT_SHIFT;
const COUNT_SHIFT: u32 = 8;
/// One use of the slot; the upper 24 bits count uses. A [`Canceller`] of an earlier use finds another number here.
const ONE_USE: u64 = 1 << USE_SHIFT;
const USE_SHIFT: u32 = 40;

pub(super) fn published(state: u64) -> u64 {
    (state >> COUNT_SHIFT) & u64::from(u32::MAX)
}

pub(super) fn use_of(state: u64) -> u64 {
    state >> USE_SHIFT
}

/// The state that both halves share. Positions count pieces from the start of the reply; a piece's cell is its position
/// modulo `cells.len()`, a power of two. Pieces `head..published` are unread and never more than there are cells.
pub(super) struct ReplySlot {
    /// ORDERING: written by the writer, read by the reader, all Relaxed. A cell is published by the addition to
    /// `state` (Release, read with Acquire) and may be written again after `head` has passed it (Release, Acquire).
    pub(super) cells: Box<[AtomicU64]>,
    /// The flags above and the count of published pieces.
    ///
    /// ORDERING: written and read by both, by read-modify-writes except for the reset in `begin`.
    /// - Writer: `fetch_add` of a piece and `fetch_or` of `FINISHED` Release cells and terminal to the reader's loads,
    ///   which Acquire. The writer's `fetch_or` of `ROOM_WANTED` Acquires what the reader's `fetch_and` Released: `head`.
    /// - Reader: going to sleep is a compare-exchange against the value it last saw, so a piece published since makes
    ///   it fail; it hands nothing over and is Relaxed. So is `CANCELLED`: it is all the news there is.
    pub(super) state: CachePadded<AtomicU64>,
    /// Pieces the reader has taken.
    ///
    /// ORDERING: written by the reader with Release after it read the cells; the writer's load Acquires, so that it
    /// reuses a cell only after that.
    pub(super) head: CachePadded<AtomicU64>,
    /// The terminal as packed words.
    ///
    /// ORDERING: written by the writer, read by the reader, both Relaxed; published by `FINISHED`.
    pub(super) terminal: [AtomicU64; TERMINAL_WORDS],
    /// The words of the latest mask; none in a pool without masks.
    ///
    /// ORDERING: written by the reader, read by the writer, all Relaxed. Published by the store to `masks` (Release, read
    /// with Acquire); written again only after a piece was read that the writer published (Release, Acquire) behind its
    /// reading of these.
    pub(super) mask: Box<[AtomicU64]>,
    /// The number of masks published, and the verdict of the latest: `count << VERDICT_BITS | verdict`.
    ///
    /// ORDERING: written by the reader with Release after `mask`; the writer's load Acquires.
    pub(super) masks: CachePadded<AtomicU64>,
    /// Guessed tokens further on, with their masks, from the reader.
    pub(super) paths: Paths,
    /// How many halves refer to the slot, 0 to 2.
    ///
    /// ORDERING: each half's drop subtracts with AcqRel: the last one sees all that the other did, and its push into
    /// the pool's queue passes the slot to the next user.
    pub(super) halves: AtomicU8,
}

impl ReplySlot {
    pub(super) fn new(cells: usize, mask_words: usize) -> Self {
        ReplySlot {
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

    /// Resets a free slot for two new halves, which the caller makes.
    pub(super) fn begin(&self) {
        // ORDERING: only the caller holds the slot. Cancellers of earlier uses may still refer to it, and change nothing in a later
        // use. The last users' writes came with the slot through the pool's queue.
        let last_use = use_of(self.state.load(Ordering::Relaxed));
        self.state.store(last_use.wrapping_add(1).wrapping_mul(ONE_USE), Ordering::Relaxed);
        self.head.store(0, Ordering::Relaxed);
        self.masks.store(0, Ordering::Relaxed);
        self.halves.store(2, Ordering::Relaxed);
    }

    /// How many unread pieces the slot can hold.
    pub(super) fn cells(&self) -> usize {
        self.cells.len()
    }

    /// Frees the paths of the readers: their masks take some 100 KiB.
    pub(super) fn forget_paths(&self) {
        self.paths.clear();
    }

    pub(super) fn cell(&self, position: u64) -> &AtomicU64 {
        &self.cells[position as usize & (self.cells.len() - 1)]
    }

    /// How many unread pieces wake a reader that sleeps for the end: more than half of the cells, and at most all.
    pub(super) fn many(&self) -> u64 {
        self.cells.len() as u64 / 2 + 1
    }
}
