//! One type for each kind of index, count and position, so that the compiler refuses a `SlotId` where a `SeqId` belongs.

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

/// The owner of a request: the beginning of its API key's SHA-256, or 0 on a server without keys. Text of one owner's
/// requests is never used for another owner's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Owner(pub u128);

/// An account whose requests share their turns: an API key, a client's address, or 0 where all requests are of one account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct AccountId(pub u64);

/// A position within one sequence, counted from 0. llama.cpp stores positions as `i32`; this one never exceeds `Pos::MAX`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Pos(pub u32);

impl Pos {
    /// The largest position: one less than llama.cpp's largest (`i32::MAX`), so that `pos + 1` is still valid.
    pub const MAX: Pos = Pos(i32::MAX as u32 - 1);

    /// The position `n` tokens further.
    pub fn plus(self, n: usize) -> Pos {
        Pos(self.0 + n as u32)
    }

    /// The number of tokens before this position.
    pub fn count_before(self) -> usize {
        self.0 as usize
    }
}

/// A sequence of llama.cpp, `0..n_seq_max`. Each cell of the KV cache belongs to one or more sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct SeqId(pub u16);

impl SeqId {
    /// The id as an index into per-sequence tables.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A slot of the engine, which holds one running request, `0..slots`.
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
