//! Decoders with one rule broken.

use std::ops::Range;

use cllm::types::seams::{Capacity, CheckpointRule, Decoder, Outcome, Row};
use cllm::types::{Pos, SeqId, Token};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    LosesARow,
    MixesLogitsUp,
    CountsRows,
    KeepsWhatWasOverwritten,
    CutsNothing,
    CutsTooMuch,
    EmptiesNothing,
    RefusesToEmptyTheEmpty,
    CopiesTooMuch,
    TakesCopiesAlong,
    WritesWithoutRoom,
    PaysForCopies,
    FreesCopies,
    ClosesGaps,
    ForgetsAtRest,
    EmptiesBystanders,
    RestoresNothing,
    RestoresSomething,
    ResumesNothing,
}

pub struct Fault {
    pub kind: Kind,
    /// The name of the rule.
    pub breaks: &'static str,
}

const fn fault(kind: Kind, breaks: &'static str) -> Fault {
    Fault { kind, breaks }
}

pub const FAULTS: &[Fault] = &[
    fault(Kind::LosesARow, "a step that is done holds its rows"),
    fault(Kind::MixesLogitsUp, "each row finds its own logits"),
    fault(Kind::CountsRows, "cutting a prompt into steps changes nothing"),
    fault(Kind::KeepsWhatWasOverwritten, "logits may be overwritten"),
    fault(Kind::CutsNothing, "the end of a sequence is removed, or nothing is"),
    fault(Kind::CutsTooMuch, "a cut far back loses nothing, or is refused"),
    fault(Kind::EmptiesNothing, "a sequence can always be emptied"),
    fault(Kind::RefusesToEmptyTheEmpty, "emptying an empty sequence succeeds"),
    fault(Kind::CopiesTooMuch, "a beginning is copied, or nothing is"),
    fault(Kind::TakesCopiesAlong, "a copy outlives its source"),
    fault(Kind::WritesWithoutRoom, "without room nothing is written"),
    fault(Kind::PaysForCopies, "a copy in a shared buffer takes no cells"),
    fault(Kind::FreesCopies, "what a copy holds stays taken"),
    fault(Kind::ClosesGaps, "a gap between positions is refused"),
    fault(Kind::ForgetsAtRest, "resting forgets nothing"),
    fault(Kind::EmptiesBystanders, "sequences beside those of a step keep what they hold"),
    fault(Kind::RestoresNothing, "a state that was saved is restored"),
    fault(Kind::RestoresSomething, "without room nothing is restored"),
    fault(Kind::ResumesNothing, "a checkpoint brings a sequence back"),
];

/// `inner`, with a fault.
pub struct Broken {
    inner: Box<dyn Decoder>,
    kind: Kind,
    /// Rows of the latest step that asked for logits, and the number of all its rows.
    wanted: Vec<usize>,
    n_rows: usize,
    /// The latest row of logits that was returned.
    kept: Vec<f32>,
    /// Copies made: (from, to).
    copies: Vec<(SeqId, SeqId)>,
}

impl Broken {
    pub fn new(inner: Box<dyn Decoder>, kind: Kind) -> Broken {
        Broken { inner, kind, wanted: Vec::new(), n_rows: 0, kept: Vec::new(), copies: Vec::new() }
    }

    fn next_pos(&self, seq: SeqId) -> Pos {
        self.inner.seq_pos_max(seq).map_or(Pos(0), |pos| pos.plus(1))
    }

    fn empty(&mut self, seq: SeqId) {
        self.inner.seq_remove(seq, Pos(0)..Pos::MAX);
    }
}

impl Decoder for Broken {
    fn capacity(&self) -> Capacity {
        self.inner.capacity()
    }

    fn decode(&mut self, rows: &[Row]) -> Outcome {
        let mut rows = rows.to_vec();
        if self.kind == Kind::ClosesGaps {
            let first = self.next_pos(rows[0].seq);
            for (i, row) in rows.iter_mut().enumerate() {
                row.pos = first.plus(i);
            }
        }
        self.wanted = (0..rows.len()).filter(|i| rows[*i].wants_logits).collect();
        self.n_rows = rows.len();
        if self.kind == Kind::PaysForCopies && !self.copies.is_empty() {
            return Outcome::NoRoom;
        }
        let outcome = self.inner.decode(&rows);
        if self.kind == Kind::WritesWithoutRoom && outcome == Outcome::NoRoom {
            self.inner.decode(&rows[..1]);
        }
        if self.kind == Kind::EmptiesBystanders {
            let (first, last) = (rows[0].seq.0, rows[rows.len() - 1].seq.0);
            (first + 1..last).for_each(|seq| self.empty(SeqId(seq)));
        }
        outcome
    }

    fn logits(&mut self, row: usize) -> &mut [f32] {
        let other =
            self.wanted.iter().copied().find(|other| *other != row).filter(|_| self.kind == Kind::MixesLogitsUp);
        let logits = self.inner.logits(other.unwrap_or(row));
        match self.kind {
            Kind::CountsRows => {
                logits[0] += 5.0 * (self.n_rows - 1) as f32;
                logits
            }
            Kind::KeepsWhatWasOverwritten => {
                if self.kept.is_empty() {
                    self.kept = logits.to_vec();
                }
                &mut self.kept
            }
            _ => logits,
        }
    }

    fn seq_remove(&mut self, seq: SeqId, range: Range<Pos>) -> bool {
        let is_whole = range.start == Pos(0);
        match self.kind {
            Kind::CutsNothing if !is_whole => return true,
            Kind::CutsTooMuch if !is_whole => return self.inner.seq_remove(seq, Pos(range.start.0 - 1)..range.end),
            Kind::EmptiesNothing if is_whole => return true,
            Kind::RefusesToEmptyTheEmpty if self.inner.seq_pos_max(seq).is_none() => return false,
            Kind::TakesCopiesAlong | Kind::FreesCopies if is_whole => {
                let copies: Vec<SeqId> =
                    self.copies.iter().filter(|(from, _)| *from == seq).map(|(_, to)| *to).collect();
                copies.into_iter().for_each(|copy| self.empty(copy));
            }
            _ => {}
        }
        self.inner.seq_remove(seq, range)
    }

    fn seq_copy(&mut self, from: SeqId, to: SeqId, len: usize) -> bool {
        let len = if self.kind == Kind::CopiesTooMuch { self.next_pos(from).count_before() } else { len };
        let was_copied = self.inner.seq_copy(from, to, len);
        if was_copied {
            self.copies.push((from, to));
        }
        // With this fault it claims to have copied where nothing can be copied.
        was_copied || self.kind == Kind::CopiesTooMuch
    }

    fn keeps_blocks(&self) -> bool {
        self.inner.keeps_blocks()
    }

    fn save(&mut self, seq: SeqId, range: Range<Pos>, into: &mut Vec<u8>) -> bool {
        self.inner.save(seq, range, into)
    }

    fn restore(&mut self, seq: SeqId, range: Range<Pos>, from: &[u8]) -> bool {
        if self.kind == Kind::RestoresNothing {
            return true;
        }
        let restored = self.inner.restore(seq, range, from);
        if !restored && self.kind == Kind::RestoresSomething {
            let row = Row { token: Token(0), pos: self.next_pos(seq), seq, wants_logits: false };
            self.inner.decode(&[row]);
        }
        restored
    }

    fn checkpoint_rule(&self) -> Option<CheckpointRule> {
        self.inner.checkpoint_rule()
    }

    fn checkpoint(&mut self, seq: SeqId) -> Option<Box<[u8]>> {
        self.inner.checkpoint(seq)
    }

    fn resume(&mut self, from: SeqId, to: SeqId, len: usize, state: &[u8]) -> bool {
        self.kind == Kind::ResumesNothing || self.inner.resume(from, to, len, state)
    }

    fn rest(&mut self) {
        self.inner.rest();
    }

    fn idle(&mut self) {
        self.inner.idle();
        if self.kind == Kind::ForgetsAtRest {
            self.empty(SeqId(0));
        }
    }

    fn seq_pos_max(&self, seq: SeqId) -> Option<Pos> {
        let last = self.inner.seq_pos_max(seq)?;
        if self.kind == Kind::LosesARow { last.0.checked_sub(1).map(Pos) } else { Some(last) }
    }
}
