//! Checkpoints of sequences whose cache can't be cut at any position: a recurrent model doesn't keep its earlier
//! states.
//!
//! After every `CheckpointRule::every` tokens, and at the end of a prompt, the decoder copies the part of its state
//! that can't be cut, and the copy is kept here. The next turn of a conversation starts from the last checkpoint before
//! the first difference. The end of the prompt is the most useful place, because a chat template often renders the
//! answer differently from what the model wrote.
//!
//! A checkpoint belongs to the tokens of its sequence: those beyond a cut are dropped (`Kv::truncate`), and copies of a
//! sequence share them. If prompts are kept outside the cells, each checkpoint also goes there (`memory/states.rs`),
//! with the cells since the checkpoint before it.

use std::sync::Arc;

use super::Engine;
use super::live::Phase;
use super::stats::Observer;
use crate::types::SeqId;
use crate::types::seams::{CheckpointRule, Clock, Decoder};

/// The checkpoints of all sequences. The least recently used are dropped when they take too many bytes.
#[derive(Debug)]
pub struct Checkpoints {
    rule: CheckpointRule,
    /// For each sequence its checkpoints, in the order of positions.
    seqs: Vec<Vec<Checkpoint>>,
    /// Bytes of all states; one that sequences share counts once.
    bytes: usize,
    /// The number of uses so far, the time of `Checkpoint::used`.
    uses: u64,
}

#[derive(Debug)]
struct Checkpoint {
    /// Tokens that the sequence held.
    len: usize,
    used: u64,
    state: Arc<[u8]>,
}

impl Checkpoints {
    /// No checkpoints, for `seqs` sequences.
    pub fn new(rule: CheckpointRule, seqs: usize) -> Checkpoints {
        assert!(rule.every > 0);
        Checkpoints { rule, seqs: (0..seqs).map(|_| Vec::new()).collect(), bytes: 0, uses: 0 }
    }

    /// Most rows of a prompt in a step, if the sequence holds `len` tokens: the step must end where a checkpoint is
    /// due.
    pub fn rows_until_due(&self, len: usize) -> usize {
        self.rule.every - len % self.rule.every
    }

    /// Whether a checkpoint is due at `len` tokens because of their number.
    pub fn is_due(&self, len: usize) -> bool {
        len > 0 && len.is_multiple_of(self.rule.every)
    }

    /// The last position up to `len` at which a checkpoint is due.
    pub fn due_before(&self, len: usize) -> usize {
        len - len % self.rule.every
    }

    /// The last checkpoint of `seq` with at most `len` tokens.
    pub fn last_before(&self, seq: SeqId, len: usize) -> Option<usize> {
        self.seqs[seq.index()].iter().rev().map(|one| one.len).find(|at| *at <= len)
    }

    /// Whether `seq` has a checkpoint at `len` tokens.
    pub fn has(&self, seq: SeqId, len: usize) -> bool {
        self.seqs[seq.index()].iter().any(|one| one.len == len)
    }

    /// The state of `seq` at `len` tokens, which counts as a use.
    pub fn state(&mut self, seq: SeqId, len: usize) -> Option<Arc<[u8]>> {
        self.uses += 1;
        let one = self.seqs[seq.index()].iter_mut().find(|one| one.len == len)?;
        one.used = self.uses;
        Some(Arc::clone(&one.state))
    }

    /// Keeps `state`, which `seq` has at `len` tokens. A state larger than the bound of all is not kept.
    pub fn keep(&mut self, seq: SeqId, len: usize, state: Box<[u8]>) {
        if state.len() > self.rule.bytes_max || self.has(seq, len) {
            return;
        }
        while self.bytes + state.len() > self.rule.bytes_max && self.drop_least_used() {}
        self.uses += 1;
        self.bytes += state.len();
        let of_seq = &mut self.seqs[seq.index()];
        let at = of_seq.partition_point(|one| one.len < len);
        of_seq.insert(at, Checkpoint { len, used: self.uses, state: state.into() });
    }

    /// `seq` now holds only `len` tokens: drops checkpoints beyond them.
    pub fn truncate(&mut self, seq: SeqId, len: usize) {
        let at = self.seqs[seq.index()].partition_point(|one| one.len <= len);
        let dropped = self.seqs[seq.index()].split_off(at);
        dropped.into_iter().for_each(|one| self.forget(one));
    }

    /// `to`, which was empty, now holds the first `len` tokens of `from`: it shares their checkpoints.
    pub fn share(&mut self, from: SeqId, to: SeqId, len: usize) {
        let shared = |one: &Checkpoint| Checkpoint { len: one.len, used: one.used, state: Arc::clone(&one.state) };
        self.seqs[to.index()] = self.seqs[from.index()].iter().filter(|one| one.len <= len).map(shared).collect();
    }

    /// Bytes of all states.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Drops the checkpoint that was used longest ago. Returns false if there is none.
    fn drop_least_used(&mut self) -> bool {
        let all = self
            .seqs
            .iter()
            .enumerate()
            .flat_map(|(seq, of_seq)| of_seq.iter().map(move |one| (one.used, one.len, seq)));
        let Some((_, len, seq)) = all.min() else { return false };
        let of_seq = &mut self.seqs[seq];
        let at = of_seq.partition_point(|one| one.len < len);
        let one = of_seq.remove(at);
        self.forget(one);
        true
    }

    fn forget(&mut self, one: Checkpoint) {
        if Arc::strong_count(&one.state) == 1 {
            self.bytes -= one.state.len();
        }
    }

    /// Checks that no checkpoint lies beyond its sequence's tokens and that the bytes are counted right. `held`: tokens
    /// by sequence.
    pub fn check(&self, held: impl Fn(usize) -> usize) {
        let mut states = std::collections::BTreeMap::new();
        for (seq, of_seq) in self.seqs.iter().enumerate() {
            assert!(of_seq.is_sorted_by(|a, b| a.len < b.len), "sequence {seq} has two checkpoints at one place");
            assert!(of_seq.iter().all(|one| one.len <= held(seq)), "sequence {seq} has a checkpoint of tokens it lost");
            states.extend(of_seq.iter().map(|one| (Arc::as_ptr(&one.state).addr(), one.state.len())));
        }
        assert_eq!(states.values().sum::<usize>(), self.bytes, "the bytes of checkpoints are off");
        assert!(self.bytes <= self.rule.bytes_max);
    }
}

impl<D: Decoder, C: Clock, O: Observer> Engine<D, C, O> {
    /// Takes a checkpoint of each sequence that is due for one after this step, before anything else is done to it:
    /// after a number of tokens, and at the end of a prompt. Called once a step if the cache can't be cut.
    pub(super) fn keep_checkpoints(&mut self) {
        let Some(all) = self.cache.kv().checkpoints() else { return };
        // After a guess the state includes tokens that may be wrong.
        let ends_here =
            |i: usize| self.rows.get(i + 1).is_none_or(|next| next.seq != self.rows[i].seq) && !self.is_guess(i);
        let due: Vec<SeqId> = (0..self.rows.len())
            .filter(|i| ends_here(*i))
            .map(|i| self.rows[i].seq)
            .filter(|seq| {
                let held = self.cache.kv().next_pos(*seq).count_before();
                let live = self.cache.kv().owner(*seq).and_then(|slot| self.slots.get(slot));
                let ends = live.is_some_and(|live| live.phase == Phase::Prefill && live.request.tokens.len() == held);
                (ends || all.is_due(held)) && !all.has(*seq, held)
            })
            .collect();
        for seq in due {
            if self.cache.keep_checkpoint(seq) {
                self.stats.checkpoints_kept += 1;
                self.stats.checkpoint_bytes = self.cache.kv().checkpoints().map_or(0, Checkpoints::bytes);
            }
            if self.memory.is_some() {
                self.store_state(seq);
            }
        }
    }

    /// Keeps the state of `seq`, which came from outside the cells, so that others with the same beginning can start from it.
    pub(super) fn keep_restored(&mut self, seq: SeqId) {
        let held = self.cache.kv().next_pos(seq).count_before();
        if held == 0 || self.cache.kv().checkpoints().is_none_or(|all| all.has(seq, held)) {
            return;
        }
        if self.cache.keep_checkpoint(seq) {
            self.stats.checkpoint_bytes = self.cache.kv().checkpoints().map_or(0, Checkpoints::bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SeqId = SeqId(0);
    const B: SeqId = SeqId(1);

    fn checkpoints(bytes_max: usize) -> Checkpoints {
        Checkpoints::new(CheckpointRule { every: 10, bytes_max, is_whole: true }, 2)
    }

    fn state(byte: u8) -> Box<[u8]> {
        vec![byte; 4].into()
    }

    #[test]
    fn the_last_one_before_a_difference_is_found_and_what_is_cut_off_is_dropped() {
        let mut all = checkpoints(100);
        [10, 20, 25].into_iter().for_each(|len| all.keep(A, len, state(len as u8)));
        assert_eq!([9, 10, 24, 90].map(|len| all.last_before(A, len)), [None, Some(10), Some(20), Some(25)]);
        assert_eq!(all.last_before(B, 90), None);
        assert_eq!(all.state(A, 20).as_deref(), Some(&[20; 4][..]));
        all.truncate(A, 20);
        assert_eq!((all.last_before(A, 90), all.bytes()), (Some(20), 8));
        all.check(|seq| if seq == 0 { 20 } else { 0 });
    }

    #[test]
    fn a_copy_shares_what_it_begins_with() {
        let mut all = checkpoints(100);
        [10, 20].into_iter().for_each(|len| all.keep(A, len, state(1)));
        all.share(A, B, 15);
        assert_eq!((all.last_before(B, 90), all.bytes()), (Some(10), 8));
        all.truncate(A, 0);
        assert_eq!((all.last_before(A, 90), all.last_before(B, 90), all.bytes()), (None, Some(10), 4));
        all.check(|seq| [0, 15][seq]);
    }

    #[test]
    fn those_used_longest_ago_make_room() {
        let mut all = checkpoints(12);
        [10, 20, 30].into_iter().for_each(|len| all.keep(A, len, state(1)));
        all.state(A, 10);
        all.keep(A, 40, state(1));
        assert!(all.has(A, 10) && !all.has(A, 20) && all.has(A, 30) && all.has(A, 40));
        all.keep(B, 10, vec![0; 13].into());
        assert_eq!((all.has(B, 10), all.bytes()), (false, 12));
        // A state that both share takes its bytes until neither has it.
        all.share(A, B, 90);
        all.keep(A, 50, state(1));
        assert!(all.bytes() <= 12);
        all.check(|_| 90);
    }

    #[test]
    fn steps_end_where_one_is_due() {
        let all = checkpoints(12);
        assert_eq!([0, 3, 9, 10].map(|len| all.rows_until_due(len)), [10, 7, 1, 10]);
        assert_eq!([0, 9, 10, 19, 20].map(|len| all.due_before(len)), [0, 0, 10, 10, 20]);
        assert!(!all.is_due(0) && all.is_due(10) && !all.is_due(11));
    }
}
