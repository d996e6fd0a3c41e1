//! Random operations over the fake decoder. After each one the decoder holds what the record says: the same number of tokens in each
//! sequence, the same number of cells, and, as the logits of each step show, the same tokens.

use super::*;
use crate::types::seams::CheckpointRule;

#[path = "../../../tests/support/fake_decoder.rs"]
#[allow(dead_code)]
mod fake_decoder;

use crate::dice::{self, Dice};
use fake_decoder::{EMPTY, FakeDecoder, Faults, VirtualClock, extend, fill_logits};

const SEQS: u16 = 4;
const CELLS_PER_SEQ: u32 = 24;
const N_VOCAB: usize = 11;

/// A cache over the fake decoder, and how often each operation had an effect.
struct Walk {
    cache: Cache<FakeDecoder>,
    dice: Dice,
    cut: usize,
    copied: usize,
    restored: usize,
    resynced: usize,
    accepted: usize,
    dropped: usize,
    checkpoints: usize,
}

impl Walk {
    fn new(cells_common: Option<u32>, faults: Faults, seed: u64) -> Walk {
        let mut dice = Dice::new(seed);
        let capacity =
            Capacity { seqs: SEQS, cells_per_seq: CELLS_PER_SEQ, cells_common, rows_max: 16, n_vocab: N_VOCAB };
        let decoder = FakeDecoder::new(capacity, faults, dice.fork(), VirtualClock::default());
        let cache = Cache::new(decoder);
        Walk { cache, dice, cut: 0, copied: 0, restored: 0, resynced: 0, accepted: 0, dropped: 0, checkpoints: 0 }
    }

    fn check(&self) {
        self.cache.check();
        assert_eq!(self.cache.kv().usage().0, self.cache.decoder().cells_used(), "cells are counted");
        assert_eq!(self.cache.decoder().violation, None);
    }

    fn any(&mut self) -> SeqId {
        SeqId(self.dice.below(usize::from(SEQS)) as u16)
    }

    fn len(&self, seq: SeqId) -> usize {
        self.cache.kv().tokens(seq).len()
    }

    fn is_owned(&self, seq: SeqId) -> bool {
        self.cache.kv().owner(seq).is_some()
    }

    /// One operation on a sequence chosen at random, where it is allowed.
    fn go(&mut self) {
        let seq = self.any();
        match self.dice.below(9) {
            0 if self.is_owned(seq) => self.cache.release(seq),
            0 | 1 if !self.is_owned(seq) => self.cache.acquire(seq, SlotId(seq.0)),
            2 if !self.is_owned(seq) => {
                self.cache.clear(seq);
                assert_eq!(self.len(seq), 0);
            }
            3 => {
                let len = self.dice.within(0..=self.len(seq));
                let at = self.cache.kv().checkpoints().and_then(|all| all.last_before(seq, len));
                let len = at.filter(|_| self.dice.chance(0.8)).unwrap_or(len);
                let before = self.cache.kv().tokens(seq).to_vec();
                self.cache.cut(seq, len);
                assert!(self.len(seq) == len || self.len(seq) == 0, "{len} tokens were wanted");
                assert!(before.starts_with(self.cache.kv().tokens(seq)));
                self.cut += usize::from(len > 0 && self.len(seq) == len && len < before.len());
            }
            4 => self.copy(seq),
            5 => self.restore(seq),
            6 if self.len(seq) > 0 => self.checkpoints += usize::from(self.cache.keep_checkpoint(seq)),
            _ => self.step(),
        }
    }

    fn copy(&mut self, from: SeqId) {
        let to = self.any();
        if self.len(from) == 0 || self.len(to) > 0 || !self.is_owned(to) {
            return;
        }
        let at = self.cache.kv().checkpoints().and_then(|all| all.last_before(from, CELLS_PER_SEQ as usize));
        let len = at.unwrap_or_else(|| self.dice.within(1..=self.len(from)));
        self.cache.copy(Prefix { seq: from, len }, to);
        assert!(self.cache.kv().tokens(from).starts_with(self.cache.kv().tokens(to)));
        assert!(self.len(to) == len || self.len(to) == 0);
        self.copied += usize::from(self.len(to) > 0);
    }

    fn restore(&mut self, from: SeqId) {
        let to = self.any();
        let (held, have) = (self.len(from), self.len(to));
        let fits = self.cache.kv().tokens(from).starts_with(self.cache.kv().tokens(to));
        if !self.is_owned(to) || !fits || held == have {
            return;
        }
        let mut bytes = Vec::new();
        let tokens = self.cache.kv().tokens(from)[have..].to_vec();
        if self.cache.save(from, have..held, &mut bytes) {
            let is_restored = self.cache.restore(to, &tokens, &bytes);
            assert_eq!(self.len(to), if is_restored { held } else { have });
            self.restored += usize::from(is_restored);
        }
    }

    /// A step of one to three rows of some owned sequences; in every other one the second and third are guesses.
    fn step(&mut self) {
        let guesses = self.dice.chance(0.5);
        let mut rows = Vec::new();
        for seq in (0..SEQS).map(SeqId).filter(|seq| self.is_owned(*seq)).collect::<Vec<_>>() {
            let from = self.cache.kv().next_pos(seq);
            let most = (CELLS_PER_SEQ as usize - from.count_before()).min(3);
            for i in 0..self.dice.within(0..=most) {
                let token = Token(self.dice.below(N_VOCAB) as u32);
                rows.push(Row { token, pos: from.plus(i), seq, wants_logits: true });
            }
        }
        if rows.is_empty() {
            return;
        }
        let before: Vec<Vec<Token>> = (0..SEQS).map(|seq| self.cache.kv().tokens(SeqId(seq)).to_vec()).collect();
        match self.cache.decode(&rows, guesses) {
            Outcome::Done => self.settle(&rows, guesses, &before),
            Outcome::Partial => {
                for rows in rows.chunk_by(|a, b| a.seq == b.seq) {
                    let seq = rows[0].seq;
                    if let Some(lost) = self.cache.resync(seq) {
                        assert_eq!((lost.seq, &lost.tokens), (seq, &before[seq.index()]));
                        self.resynced += 1;
                    } else {
                        assert_eq!(self.cache.kv().tokens(seq), before[seq.index()]);
                    }
                }
            }
            outcome => {
                assert_eq!(outcome, Outcome::NoRoom);
                if let Some(idle) = self.cache.kv().least_recently_used() {
                    self.cache.clear(idle);
                }
            }
        }
    }

    /// The logits of each row are those behind the tokens that its sequence holds up to there. Accepts some first guesses.
    fn settle(&mut self, rows: &[Row], guesses: bool, before: &[Vec<Token>]) {
        let mut expected = [0.0; N_VOCAB];
        let mut texts = before.to_vec();
        for (i, row) in rows.iter().enumerate() {
            let text = &mut texts[row.seq.index()];
            text.push(row.token);
            fill_logits(text.iter().fold(EMPTY, |hash, token| extend(hash, *token)), false, &mut expected);
            assert_eq!(self.cache.logits(i), expected, "row {i} of {rows:?} behind {before:?}");
        }
        for (i, row) in rows.iter().enumerate().filter(|(i, _)| guesses && follows(rows, *i)) {
            if self.dice.chance(0.5) {
                let is_accepted = self.cache.accept_guess(*row);
                assert_eq!(is_accepted, self.len(row.seq) == row.pos.count_before() + 1, "row {i}");
                self.accepted += usize::from(is_accepted);
            }
        }
        if guesses {
            let had =
                |cache: &Cache<FakeDecoder>| (0..SEQS).map(|seq| cache.kv().tokens(SeqId(seq)).to_vec()).collect();
            let had: Vec<Vec<Token>> = had(&self.cache);
            let lost = self.cache.drop_guesses(rows);
            self.dropped += texts.iter().zip(&had).filter(|(all, had)| all.len() > had.len()).count();
            for Lost { seq, tokens } in &lost {
                assert_eq!((&had[seq.index()], self.len(*seq)), (tokens, 0));
            }
        }
    }
}

fn faults() -> Faults {
    let rare =
        Faults { no_room: 0.05, partial: 0.1, loses: 0.5, copy_refused: 0.1, save_refused: 0.1, ..Faults::default() };
    Faults { checkpoint_refused: 0.1, ..rare }
}

fn walk(cells_common: Option<u32>, faults: Faults) -> Vec<Walk> {
    let walked = |seed| {
        let mut walk = Walk::new(cells_common, faults, seed);
        for _ in 0..300 {
            walk.go();
            walk.check();
        }
        walk
    };
    (0..100).map(walked).collect()
}

fn all_happened(walks: &[Walk], counts: &[fn(&Walk) -> usize]) {
    let sums: Vec<usize> = counts.iter().map(|count| walks.iter().map(count).sum()).collect();
    assert!(sums.iter().all(|sum| *sum > 20), "each operation must have had an effect: {sums:?}");
}

#[test]
fn decoder_and_record_agree_over_a_buffer_for_each_sequence() {
    let walks = walk(None, faults());
    all_happened(&walks, &[|w| w.cut, |w| w.copied, |w| w.restored, |w| w.resynced, |w| w.accepted, |w| w.dropped]);
}

#[test]
fn decoder_and_record_agree_over_one_buffer() {
    let walks = walk(Some(60), faults());
    all_happened(&walks, &[|w| w.cut, |w| w.copied, |w| w.restored, |w| w.resynced, |w| w.accepted, |w| w.dropped]);
}

#[test]
fn decoder_and_record_agree_where_nothing_can_be_cut() {
    let rule = CheckpointRule { every: 4, bytes_max: 80, is_whole: false };
    let with = walk(Some(60), Faults { recurrent: true, checkpoints: Some(rule), ..faults() });
    all_happened(&with, &[|w| w.cut, |w| w.copied, |w| w.restored, |w| w.resynced, |w| w.accepted, |w| w.checkpoints]);
    let without = walk(None, Faults { recurrent: true, ..faults() });
    all_happened(&without, &[|w| w.resynced, |w| w.accepted, |w| w.dropped]);
    assert!(without.iter().all(|walk| walk.cut + walk.copied + walk.checkpoints == 0));
}
