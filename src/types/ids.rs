//! Index, count and position are different types: a `SlotId` never passes for a `SeqId`.

use std::fmt;

/// A token id of the model's vocabulary, `0..n_vocab`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Token(pub u32);

impl Token {
    /// The id as an index into rows of logits and token tables.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Whose requests these are: the beginning of an API key's SHA-256, or 0 on a server without keys. What one owner's requests said is nothing
/// to another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Owner(pub u128);

/// A position within one sequence, counted from 0. llama.cpp holds it as `i32`; ours never exceeds `Pos::MAX`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Pos(pub u32);

impl Pos {
    /// The last position llama.cpp can hold (`i32::MAX`) less one, so that `pos + 1` is still valid.
    pub const MAX: Pos = Pos(i32::MAX as u32 - 1);

    /// The position `n` tokens further.
    pub fn plus(self, n: usize) -> Pos {
        Pos(self.0 + n as u32)
    }

    /// How many tokens lie before this position.
    pub fn count_before(self) -> usize {
        self.0 as usize
    }
}

/// A llama.cpp sequence, `0..n_seq_max`: owner of cells in the KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct SeqId(pub u16);

impl SeqId {
    /// The id as an index into per-sequence tables.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A place in the engine where one request is being served, `0..slots`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct SlotId(pub u16);

impl SlotId {
    /// The id as an index into the slot table.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A request's number since start-up, from 1; shown to clients as `req-N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "req-{}", self.0)
    }
}
