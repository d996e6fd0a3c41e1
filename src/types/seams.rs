//! The traits through which the engine calls llama.cpp and the clock, so that tests can run it without either.

use std::ops::Range;

use super::{Pos, SeqId, Token};

/// One token of one sequence in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The token's id in the vocabulary.
    pub token: Token,
    /// Its position in the sequence.
    pub pos: Pos,
    /// The sequence whose cells it extends.
    pub seq: SeqId,
    /// Whether the step must compute logits for this token.
    pub wants_logits: bool,
}

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All rows are in the KV cache, and the logits that rows asked for can be read.
    Done,
    /// The KV cache has no room for these rows. Nothing was written.
    NoRoom,
    /// The step failed midway. Some first rows of each sequence may be in the cache, and cells may be lost: the caller must
    /// ask `seq_pos_max` for what each sequence holds.
    Partial,
    /// The rows broke a rule of llama.cpp, which is a fault of cllm. Nothing was written.
    Invalid,
    /// The context can't be used any more.
    Fatal,
}

/// The size of the KV cache and of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Number of sequences: `SeqId(0)..SeqId(seqs)`.
    pub seqs: u16,
    /// Cells that one sequence can hold.
    pub cells_per_seq: u32,
    /// Cells of the one buffer that all sequences have in common, whether or not each is sure of a share. `None`: each sequence has a
    /// buffer of `cells_per_seq` of its own.
    pub cells_common: Option<u32>,
    /// Most rows of one step, at least 1.
    pub rows_max: usize,
    /// Tokens of the vocabulary: the length of a row of logits.
    pub n_vocab: usize,
}

/// How often a sequence's state is kept where a cache can't be cut at any position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointRule {
    /// Tokens from one to the next, at least 1.
    pub every: usize,
    /// Most bytes that all checkpoints take together.
    pub bytes_max: usize,
    /// Whether a checkpoint is all that a sequence has (recurrent models). Otherwise it has cells too (hybrid models).
    pub is_whole: bool,
}

/// What the engine calls of llama.cpp: it gives rows, reads logits, and copies and removes KV cells. One thread owns it.
pub trait Decoder {
    /// The sizes of its cache and steps. They don't change.
    fn capacity(&self) -> Capacity;

    /// Decodes 1..=`rows_max` rows, sorted by sequence and position. The positions of each sequence continue where its
    /// cells end, without a gap.
    fn decode(&mut self, rows: &[Row]) -> Outcome;

    /// The `n_vocab` logits of row `row` of the latest `decode`. That row must have asked for them. The caller may
    /// overwrite them.
    fn logits(&mut self, row: usize) -> &mut [f32];

    /// Frees the cells of `seq` at the positions `range.start..range.end`; `Pos::MAX` as the end means all that follow.
    /// Returns `false` if this cache can't remove a part (recurrent models); then nothing has changed.
    fn seq_remove(&mut self, seq: SeqId, range: Range<Pos>) -> bool;

    /// Makes `to`, which must be empty, hold the first `len` tokens of `from`. Returns `false` if this cache can't copy a
    /// part; then `to` is still empty.
    fn seq_copy(&mut self, from: SeqId, to: SeqId, len: usize) -> bool;

    /// Whether `save` and `restore` can work at all.
    fn keeps_blocks(&self) -> bool {
        false
    }

    /// Appends the state of the cells of `seq` at the positions `range`, which must all be in the cache, to `into`. Where there is a
    /// `checkpoint_rule`, the range ends with the sequence and what can't be cut is appended too; where that is all, the range begins at 0.
    /// Returns `false` if that can't be done; then nothing was appended.
    fn save(&mut self, _seq: SeqId, _range: Range<Pos>, _into: &mut Vec<u8>) -> bool {
        false
    }

    /// Fills cells with a state that `save` made of the same positions of a sequence with the same tokens, and appends them to `seq`,
    /// whose cells end before `range.start`. Returns `false` if the cache has no room or the bytes aren't such a state; then nothing has
    /// changed.
    fn restore(&mut self, _seq: SeqId, _range: Range<Pos>, _from: &[u8]) -> bool {
        false
    }

    /// How often `checkpoint` is worth its cost, for a cache that can't be cut at any position: of recurrent and hybrid models, and of
    /// layers with a sliding window that have cells for that alone. `None`: the cache can be cut anywhere, or has no checkpoints. What the
    /// latest step added can be removed, unless the model is recurrent.
    fn checkpoint_rule(&self) -> Option<CheckpointRule> {
        None
    }

    /// A copy of the part of the state of `seq` that can't be cut, as of now. `None`: it can't be read.
    fn checkpoint(&mut self, _seq: SeqId) -> Option<Box<[u8]>> {
        None
    }

    /// Makes `to` hold the first `len` tokens of `from`. `to` is `from` itself, or empty. `state` is the checkpoint
    /// taken when a sequence held exactly these tokens. Returns `false` if that can't be done; then `to` is empty.
    fn resume(&mut self, _from: SeqId, _to: SeqId, _len: usize, _state: &[u8]) -> bool {
        false
    }

    /// Called when no step follows at once: the compute threads stop polling, so that other threads can use their cores.
    fn rest(&mut self) {}

    /// Called when no step follows until a request arrives. Does what `rest` does, and gives back memory that is needed
    /// only for decoding.
    fn idle(&mut self) {
        self.rest();
    }

    /// The last position that `seq` holds, read from the cache; `None`: it is empty.
    fn seq_pos_max(&self, seq: SeqId) -> Option<Pos>;
}

/// The size of an encoder's steps, for embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncoderCapacity {
    /// Inputs in one step: `SeqId(0)..SeqId(seqs)`.
    pub seqs: u16,
    /// Most rows of one step. At least `input_max` if `whole`.
    pub rows_max: usize,
    /// If `whole`, a step that already has this many rows takes no further input.
    pub rows_joined: usize,
    /// Most tokens of one input.
    pub input_max: usize,
    /// Whether each token attends to all others of its input, so that one step must hold the whole input. Otherwise an
    /// input may be cut into chunks.
    pub whole: bool,
    /// Length of an embedding, in numbers.
    pub n_embd: usize,
}

/// What the embedding engine calls of llama.cpp: it gives rows and reads one embedding for each. One thread owns it.
pub trait Encoder {
    /// The sizes of its steps. They don't change.
    fn capacity(&self) -> EncoderCapacity;

    /// Reads 1..=`rows_max` rows, sorted by sequence and position. The positions of each sequence continue where its rows
    /// of earlier steps end; after `seq_clear` they start at 0.
    fn encode(&mut self, rows: &[Row]) -> Outcome;

    /// The `n_embd` numbers of row `row` of the latest `encode`; empty if it has none.
    fn embedding(&self, row: usize) -> &[f32];

    /// Removes all tokens of `seq`.
    fn seq_clear(&mut self, seq: SeqId);
}

/// Monotonic time in microseconds. A trait, so that a simulated run can be repeated exactly.
pub trait Clock {
    /// Microseconds since some fixed point; never less than an earlier reading.
    fn now_us(&self) -> u64;
}
