//! The traits that let the engine run without llama.cpp and without a wall clock.

use std::ops::Range;

use super::{Pos, SeqId, Token};

/// One token of one sequence in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub token: Token,
    pub pos: Pos,
    pub seq: SeqId,
    /// Whether the step must leave a row of logits for this token.
    pub wants_logits: bool,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every row is in the cache and the wanted logits are readable.
    Done,
    /// The KV cache has no room for these rows; nothing was written.
    NoRoom,
    /// It failed midway: of each sequence's rows a beginning may be in the cache, and cells may be lost. Ask
    /// `seq_pos_max`, trust nothing.
    Partial,
    /// The rows broke llama.cpp's rules; nothing was written. Our bug.
    Invalid,
    /// The context can't be used any more.
    Fatal,
}

/// Room in the KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Sequences, `SeqId(0)..SeqId(seqs)`.
    pub seqs: u16,
    /// Cells that one sequence can hold.
    pub cells_per_seq: u32,
    /// Cells that all sequences share; `None` when each has `cells_per_seq` of its own.
    pub cells_shared: Option<u32>,
    /// Rows one step may carry, at least 1.
    pub rows_max: usize,
    pub n_vocab: usize,
}

/// The engine's view of llama.cpp: rows in, logits out, cells moved about. One thread owns it.
pub trait Decoder {
    fn capacity(&self) -> Capacity;

    /// Decodes 1..=`rows_max` rows, sorted by sequence and position. For each sequence positions continue where its
    /// cells end, without a gap.
    fn decode(&mut self, rows: &[Row]) -> Outcome;

    /// The `n_vocab` logits of row `row` of the latest `decode`, which asked for them. May be written to freely.
    fn logits(&mut self, row: usize) -> &mut [f32];

    /// Frees the cells of `seq` at `range.start..range.end`; `Pos::MAX` as the end means all that follow.
    /// `false`: this cache can't remove a part (recurrent models); nothing changed.
    fn seq_remove(&mut self, seq: SeqId, range: Range<Pos>) -> bool;

    /// Makes `to`, which must be empty, hold the first `len` tokens of `from`.
    /// `false`: this cache can't share a part; `to` is still empty.
    fn seq_copy(&mut self, from: SeqId, to: SeqId, len: usize) -> bool;

    /// Nothing will be decoded for a moment: its threads let go of the cores on which they poll for the next step.
    fn rest(&mut self) {}

    /// Nothing will be decoded until someone comes: it gives back what it doesn't need for that, too.
    fn idle(&mut self) {
        self.rest();
    }

    /// The last position `seq` holds, `None` when empty. The truth to resync from.
    fn seq_pos_max(&self, seq: SeqId) -> Option<Pos>;
}

/// Room for inputs whose embeddings are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncoderCapacity {
    /// Inputs at once, `SeqId(0)..SeqId(seqs)`.
    pub seqs: u16,
    /// Rows one step may carry; at least `input_max` where inputs are read whole.
    pub rows_max: usize,
    /// Rows beyond which a step takes no further input that is read whole.
    pub rows_joined: usize,
    /// Tokens of one input.
    pub input_max: usize,
    /// Each token sees all others of its input, so one step must hold them all. Otherwise it may come in chunks.
    pub whole: bool,
    /// Numbers of an embedding.
    pub n_embd: usize,
}

/// The embedding engine's view of llama.cpp: rows in, one embedding a row out. One thread owns it.
pub trait Encoder {
    fn capacity(&self) -> EncoderCapacity;

    /// Reads 1..=`rows_max` rows, sorted by sequence and position. For each sequence positions continue where its rows
    /// of earlier steps end, and start at 0 after `seq_clear`.
    fn encode(&mut self, rows: &[Row]) -> Outcome;

    /// The `n_embd` numbers of row `row` of the latest `encode`; empty if there are none.
    fn embedding(&self, row: usize) -> &[f32];

    /// Forgets what `seq` has read.
    fn seq_clear(&mut self, seq: SeqId);
}

/// Monotonic time in microseconds, from outside so that a failing run replays.
pub trait Clock {
    fn now_us(&self) -> u64;
}
