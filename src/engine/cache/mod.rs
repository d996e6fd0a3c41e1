//! The KV cache: the decoder, which has the cells, and a record of what they hold. This file alone calls the decoder, and each
//! operation changes both, so that they cannot disagree. Batching thread only.
//!
//! ```text
//! cache     decodes, cuts, copies, saves and restores
//! kv        what each sequence holds, which slot uses it, which one to use next
//! ledger    how many sequences hold each cell of a shared buffer
//! ```
//!
//! A step with guesses is the one exception: until `drop_guesses`, the decoder has cells of guesses that the record lacks.

mod kv;
mod ledger;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use kv::{Kv, Prefix, common_prefix};

use super::checkpoints::Checkpoints;
use crate::types::seams::{Capacity, Decoder, Outcome, Row};
use crate::types::{Owner, Pos, SeqId, SlotId, Token};

/// The decoder and the record of its cells.
pub struct Cache<D> {
    decoder: D,
    kv: Kv,
}

/// A sequence that has lost tokens which it should hold.
#[derive(Debug)]
#[must_use]
pub struct Lost {
    /// The sequence.
    pub seq: SeqId,
    /// What it held before.
    pub tokens: Vec<Token>,
}

/// Whether row `i` is not its sequence's first in the step.
pub fn follows(rows: &[Row], i: usize) -> bool {
    i > 0 && rows[i - 1].seq == rows[i].seq
}

impl<D: Decoder> Cache<D> {
    /// Takes a decoder without any cells.
    pub fn new(decoder: D) -> Cache<D> {
        let capacity = decoder.capacity();
        let checkpoints = |rule| Box::new(Checkpoints::new(rule, usize::from(capacity.seqs)));
        Cache { kv: Kv::new(&capacity, decoder.checkpoint_rule().map(checkpoints)), decoder }
    }

    /// The record of the tokens that the cells hold.
    pub fn kv(&self) -> &Kv {
        &self.kv
    }

    /// The decoder, for reading only.
    pub fn decoder(&self) -> &D {
        &self.decoder
    }

    /// See `Decoder::capacity`.
    pub fn capacity(&self) -> Capacity {
        self.decoder.capacity()
    }

    /// Decodes `rows`, sorted by sequence and position, whose sequences have owners. After `Outcome::Done` their tokens are in the
    /// cache; after `Outcome::Partial` each of their sequences needs a `resync`; after any other nothing has changed.
    ///
    /// `guesses`: only the first row of each sequence is certain. Those behind it are guesses: those that come true are accepted
    /// in their order, and then `drop_guesses` removes the others.
    pub fn decode(&mut self, rows: &[Row], guesses: bool) -> Outcome {
        let outcome = self.decoder.decode(rows);
        if outcome == Outcome::Done {
            for (i, row) in rows.iter().enumerate() {
                if !(guesses && follows(rows, i)) {
                    self.kv.commit(row.seq, row.token);
                }
            }
        }
        outcome
    }

    /// See `Decoder::logits`.
    pub fn logits(&mut self, row: usize) -> &mut [f32] {
        self.decoder.logits(row)
    }

    /// The guess in `row` of the latest step is right, so its sequence keeps it. Returns `false` if a guess before it wasn't accepted;
    /// then nothing has changed.
    pub fn accept_guess(&mut self, row: Row) -> bool {
        let is_next = self.kv.next_pos(row.seq) == row.pos;
        if is_next {
            self.kv.commit(row.seq, row.token);
        }
        is_next
    }

    /// Removes the rejected guesses of the latest step, which had `rows`. If the decoder can't cut a sequence, all its
    /// cells are removed, and the sequence is returned with the tokens that it held.
    pub fn drop_guesses(&mut self, rows: &[Row]) -> Vec<Lost> {
        let mut lost = Vec::new();
        for guessed in rows.chunk_by(|a, b| a.seq == b.seq).filter(|chunk| chunk.len() > 1) {
            let seq = guessed[0].seq;
            let end = self.kv.next_pos(seq);
            if self.decoder.seq_pos_max(seq).is_none_or(|last| last < end) {
                continue;
            }
            if !self.decoder.seq_remove(seq, end..Pos::MAX) {
                lost.push(Lost { seq, tokens: self.kv.tokens(seq).to_vec() });
                self.clear(seq);
            }
        }
        lost
    }

    /// After a step that failed midway: cuts `seq` back to the tokens that it held before the step. If the decoder has
    /// lost some of them, or can't cut `seq`, the sequence keeps what is left, and the tokens that it held before are
    /// returned.
    pub fn resync(&mut self, seq: SeqId) -> Option<Lost> {
        let before = self.kv.tokens(seq).len();
        let now = self.decoder_holds(seq);
        let is_cut =
            now == before || (now > before && before > 0 && self.decoder.seq_remove(seq, Pos(before as u32)..Pos::MAX));
        if is_cut {
            return None;
        }
        let lost = Lost { seq, tokens: self.kv.tokens(seq).to_vec() };
        // The state must be dropped before its checkpoint can be: bytes are counted by its last owner.
        let kept = self.kv.state_before(seq, now.min(before));
        let kept = kept.and_then(|(at, state)| self.decoder.resume(seq, seq, at, &state).then_some(at));
        match kept {
            Some(at) => self.kv.truncate(seq, at),
            None => self.clear(seq),
        }
        Some(lost)
    }

    /// Removes all of `seq`.
    pub fn clear(&mut self, seq: SeqId) {
        self.decoder.seq_remove(seq, Pos(0)..Pos::MAX);
        self.kv.truncate(seq, 0);
    }

    /// Cuts `seq` to its first `len` tokens, or to none if the decoder can't cut it there. Returns whether a checkpoint
    /// was used.
    pub fn cut(&mut self, seq: SeqId, len: usize) -> bool {
        if self.kv.tokens(seq).len() == len {
            return false;
        }
        let (is_cut, takes_checkpoint) = match self.kv.state(seq, len) {
            _ if len == 0 => (false, false),
            Some(state) => (self.decoder.resume(seq, seq, len, &state), true),
            None if self.kv.checkpoints().is_some() => (false, false),
            None => (self.decoder.seq_remove(seq, Pos(len as u32)..Pos::MAX), false),
        };
        if is_cut {
            self.kv.truncate(seq, len);
        } else {
            self.clear(seq);
        }
        takes_checkpoint
    }

    /// Makes the empty sequence `to`, which has an owner, hold `prefix`; `to` stays empty if the decoder can't copy the
    /// prefix. Returns whether a checkpoint was used.
    pub fn copy(&mut self, prefix: Prefix, to: SeqId) -> bool {
        let Prefix { seq: from, len } = prefix;
        let (is_copied, takes_checkpoint) = match self.kv.state(from, len) {
            Some(state) => (self.decoder.resume(from, to, len, &state), true),
            None => (self.decoder.seq_copy(from, to, len), false),
        };
        if is_copied {
            self.kv.copy_prefix(from, to, len);
        }
        takes_checkpoint
    }

    /// Keeps a checkpoint of `seq` as it is now. Returns `false` if the decoder gives none.
    pub fn keep_checkpoint(&mut self, seq: SeqId) -> bool {
        let state = self.kv.checkpoints().and_then(|_| self.decoder.checkpoint(seq));
        state.map(|state| self.kv.keep_state(seq, state)).is_some()
    }

    /// See `Decoder::keeps_blocks`.
    pub fn keeps_blocks(&self) -> bool {
        self.decoder.keeps_blocks()
    }

    /// Appends the state of the tokens `range` of `seq` to `into`. Returns `false` if the decoder can't give it; then nothing was
    /// appended.
    pub fn save(&mut self, seq: SeqId, range: Range<usize>, into: &mut Vec<u8>) -> bool {
        self.decoder.save(seq, Pos(range.start as u32)..Pos(range.end as u32), into)
    }

    /// Appends `tokens` to `seq`, which has an owner, with the state `from` that `save` gave for the same tokens at the same positions.
    /// Returns `false` if the decoder refuses it; then nothing has changed.
    pub fn restore(&mut self, seq: SeqId, tokens: &[Token], from: &[u8]) -> bool {
        let start = self.kv.next_pos(seq);
        let is_restored = self.decoder.restore(seq, start..start.plus(tokens.len()), from);
        if is_restored {
            tokens.iter().for_each(|token| self.kv.commit(seq, *token));
        }
        is_restored
    }

    /// See `Decoder::rest`.
    pub fn rest(&mut self) {
        self.decoder.rest();
    }

    /// See `Decoder::idle`.
    pub fn idle(&mut self) {
        self.decoder.idle();
    }

    /// `slot` begins to use the idle sequence `seq` with the tokens that it holds.
    pub fn acquire(&mut self, seq: SeqId, slot: SlotId) {
        self.kv.acquire(seq, slot);
    }

    /// Makes `seq` idle: its owner has ended. Its cells stay.
    pub fn release(&mut self, seq: SeqId) {
        self.kv.release(seq);
    }

    /// Assigns `seq`, which is empty or of this space, to requests of `space`.
    pub fn set_space(&mut self, seq: SeqId, space: Owner) {
        self.kv.set_space(seq, space);
    }

    /// The least number of tokens that `seq` has held since the last call: its first tokens, up to this number, are
    /// unchanged. For the publisher of KV events.
    pub fn take_least(&mut self, seq: SeqId) -> usize {
        self.kv.take_least(seq)
    }

    /// The least number of tokens that `seq` has held since the last call: its first tokens, up to this number, are
    /// unchanged. For saved blocks.
    pub fn intact(&mut self, seq: SeqId) -> usize {
        self.kv.intact(seq)
    }

    /// Checks that the record adds up and that the decoder holds what it says. Walks everything: for tests.
    pub fn check(&self) {
        self.kv.check();
        for seq in (0..self.capacity().seqs).map(SeqId) {
            assert_eq!(
                self.decoder_holds(seq),
                self.kv.tokens(seq).len(),
                "{seq:?}: the decoder and the record differ"
            );
        }
    }

    /// Tokens that `seq` has in the decoder.
    fn decoder_holds(&self, seq: SeqId) -> usize {
        self.decoder.seq_pos_max(seq).map_or(0, |pos| pos.plus(1).count_before())
    }
}
