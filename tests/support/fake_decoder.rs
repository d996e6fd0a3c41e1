//! A decoder without a model. It checks llama.cpp's rules about positions and room, and fails as llama.cpp can.
//!
//! Every cell holds a hash of its sequence's tokens up to it, and logits depend only on that hash. So a wrongly reused
//! prefix, or a token that is lost or written twice, changes the generated text.

use std::cell::Cell as StdCell;
use std::ops::Range;
use std::rc::Rc;

use cllm::types::limits::SCORED_ROWS_MAX;
use cllm::types::seams::{Capacity, CheckpointRule, Clock, Decoder, Outcome, Row};
use cllm::types::{Pos, SeqId, Token};

use super::dice::{Dice, mix};

/// A clock that advances only when a test says so.
#[derive(Clone, Debug, Default)]
pub struct VirtualClock(Rc<StdCell<u64>>);

impl VirtualClock {
    pub fn advance(&self, us: u64) {
        self.0.set(self.0.get() + us);
    }
}

impl Clock for VirtualClock {
    fn now_us(&self) -> u64 {
        self.0.get()
    }
}

/// The hash of the empty sequence.
pub const EMPTY: u64 = 0x00C0_FFEE;

/// The hash of a sequence with hash `history` and one more token.
pub fn extend(history: u64, token: Token) -> u64 {
    mix(history.rotate_left(7) ^ (u64::from(token.0) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// Fills `row` with the logits after `history`, spread over 0..8. If `rots`, one history in 512 gives NaN.
pub fn fill_logits(history: u64, rots: bool, row: &mut [f32]) {
    if rots && history % 512 == 3 {
        row.fill(f32::NAN);
        return;
    }
    for (id, logit) in row.iter_mut().enumerate() {
        *logit = (mix(history ^ (id as u64) << 32) >> 40) as f32 / (1u32 << 21) as f32;
    }
}

/// What a step takes, by its rows. Rows of a step go through the weights in groups of 16, up to 4 alone; each attends to the cells before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    pub step_us: u64,
    pub row_us: u64,
    /// For each row and cell before it.
    pub cell_ns: u64,
    /// What it takes to restore a block.
    pub restore_us: u64,
}

impl Pace {
    pub fn us(&self, rows: &[Row]) -> u64 {
        let in_groups = if rows.len() <= 4 { rows.len() } else { rows.len().next_multiple_of(16) };
        let cells: u64 = rows.iter().map(|row| row.pos.count_before() as u64).sum();
        self.step_us + in_groups as u64 * self.row_us + cells * self.cell_ns / 1_000
    }
}

/// How often each fault occurs, as probabilities of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// `NoRoom` although there is room; `no_room_again`: the probability after such a step.
    pub no_room: f64,
    pub no_room_again: f64,
    /// A step fails midway; `partial_again`: the probability after such a step.
    pub partial: f64,
    pub partial_again: f64,
    /// The probability that a step that fails midway also loses cells of one sequence.
    pub loses: f64,
    pub invalid: f64,
    pub fatal: f64,
    /// `seq_copy` returns false.
    pub copy_refused: f64,
    /// `save` returns false, and so does `restore`.
    pub save_refused: f64,
    /// A part of a sequence can be neither removed nor copied, as in a recurrent model.
    pub recurrent: bool,
    /// Where nothing can be cut: how often a state is kept.
    pub checkpoints: Option<CheckpointRule>,
    /// Where there are checkpoints beside cells: what the latest step added can be removed.
    pub cuts_latest: bool,
    /// `checkpoint` gives nothing, and `resume` returns false.
    pub checkpoint_refused: f64,
    /// Some rows of logits are NaN.
    pub rots: bool,
    /// What steps take; `None`: anything.
    pub pace: Option<Pace>,
}

/// What happened in the latest step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Happened {
    pub outcome: Outcome,
    /// Whether the outcome was injected.
    pub injected: bool,
    pub rows: usize,
    pub seqs: usize,
    /// How many of `seqs` have failed midway in at least four steps in a row.
    pub seqs_hopeless: usize,
    /// Cells in use before the step.
    pub cells_before: usize,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    history: u64,
    /// Its number in the shared buffer.
    id: u32,
}

/// The buffer that all sequences share. A cell is free when no sequence refers to it.
#[derive(Debug)]
struct Shared {
    refs: Vec<u16>,
    free: Vec<u32>,
}

impl Shared {
    fn release(&mut self, id: u32) {
        let refs = &mut self.refs[id as usize];
        *refs -= 1;
        if *refs == 0 {
            self.free.push(id);
        }
    }
}

pub struct FakeDecoder {
    capacity: Capacity,
    faults: Faults,
    dice: Dice,
    clock: VirtualClock,
    seqs: Vec<Vec<Cell>>,
    shared: Option<Shared>,
    /// For each sequence of the latest step, where it began.
    begun: Vec<Option<usize>>,
    /// For each sequence, the number of steps in a row that failed midway.
    partials: Vec<u32>,
    /// The outcome of the latest step, if it was injected.
    injected: Option<Outcome>,
    /// The rows of the latest step that have logits; `logits`: these logits, one row after the other.
    wanted: Vec<usize>,
    logits: Vec<f32>,
    /// While set, the outcome of every step. For tests that choose outcomes by hand.
    forced: Rc<StdCell<Option<Outcome>>>,
    pub happened: Option<Happened>,
    /// The first rule that a step broke.
    pub violation: Option<String>,
    pub copies: u64,
    pub saves: u64,
    pub restores: u64,
    /// Of those, and beside them, how often a sequence went on from a checkpoint: its own, and another's.
    pub resumed: [u64; 2],
}

/// The longest time of a step, in microseconds.
pub const STEP_US_MAX: u64 = 3_000;

impl FakeDecoder {
    pub fn new(capacity: Capacity, faults: Faults, dice: Dice, clock: VirtualClock) -> FakeDecoder {
        FakeDecoder {
            capacity,
            faults,
            dice,
            clock,
            seqs: vec![Vec::new(); usize::from(capacity.seqs)],
            shared: capacity
                .cells_common
                .map(|total| Shared { refs: vec![0; total as usize], free: (0..total).rev().collect() }),
            begun: vec![None; usize::from(capacity.seqs)],
            partials: vec![0; usize::from(capacity.seqs)],
            injected: None,
            wanted: Vec::new(),
            logits: Vec::new(),
            forced: Rc::default(),
            happened: None,
            violation: None,
            copies: 0,
            saves: 0,
            restores: 0,
            resumed: [0; 2],
        }
    }

    /// Sets the outcome of steps that break no rule.
    pub fn forced(&self) -> Rc<StdCell<Option<Outcome>>> {
        Rc::clone(&self.forced)
    }

    pub fn cells_used(&self) -> usize {
        match &self.shared {
            Some(shared) => shared.refs.len() - shared.free.len(),
            None => self.seqs.iter().map(Vec::len).sum(),
        }
    }

    /// The rule that `rows` break, if any: one of llama.cpp's, or the engine's own that rows are sorted.
    fn broken_rule(&self, rows: &[Row]) -> Option<String> {
        if rows.is_empty() || rows.len() > self.capacity.rows_max {
            return Some(format!("{} rows of at most {}", rows.len(), self.capacity.rows_max));
        }
        let wanted = rows.iter().filter(|row| row.wants_logits).count();
        if wanted > self.seqs.len() + SCORED_ROWS_MAX {
            return Some(format!("{wanted} rows want logits, of {} sequences", self.seqs.len()));
        }
        let mut expected: Option<(SeqId, usize)> = None;
        for row in rows {
            if row.token.index() >= self.capacity.n_vocab || row.seq.index() >= self.seqs.len() {
                return Some(format!("no such token or sequence: {row:?}"));
            }
            let pos = match expected {
                Some((seq, pos)) if seq == row.seq => pos,
                Some((seq, _)) if seq > row.seq => return Some(format!("{row:?} comes after {seq:?}")),
                _ => self.seqs[row.seq.index()].len(),
            };
            if row.pos.count_before() != pos {
                return Some(format!("{row:?} where position {pos} is next"));
            }
            expected = Some((row.seq, pos + 1));
        }
        None
    }

    fn has_room(&self, rows: &[Row]) -> bool {
        rows.iter().all(|row| row.pos.0 < self.capacity.cells_per_seq)
            && self.shared.as_ref().is_none_or(|shared| rows.len() <= shared.free.len())
    }

    fn write(&mut self, row: &Row) -> u64 {
        let seq = &mut self.seqs[row.seq.index()];
        let history = extend(seq.last().map_or(EMPTY, |cell| cell.history), row.token);
        let id = self.shared.as_mut().map_or(0, |shared| {
            let id = shared.free.pop().expect("`has_room` said so");
            shared.refs[id as usize] = 1;
            id
        });
        seq.push(Cell { history, id });
        history
    }

    fn share(&mut self, from: SeqId, to: SeqId, len: usize) {
        let cells = self.seqs[from.index()][..len].to_vec();
        if let Some(shared) = &mut self.shared {
            cells.iter().for_each(|cell| shared.refs[cell.id as usize] += 1);
        }
        self.seqs[to.index()] = cells;
    }

    fn remove_from(&mut self, seq: SeqId, len: usize) {
        for cell in self.seqs[seq.index()].drain(len..) {
            if let Some(shared) = &mut self.shared {
                shared.release(cell.id);
            }
        }
    }

    /// Writes the first rows of the step, or equally many first rows of each sequence, and no logits.
    fn write_some(&mut self, rows: &[Row]) {
        let end = self.dice.within(0..=rows.len());
        if self.dice.chance(0.5) {
            for row in &rows[..end] {
                self.write(row);
            }
        } else {
            for chunk in rows.chunk_by(|a, b| a.seq == b.seq) {
                for row in chunk.iter().take(end) {
                    self.write(row);
                }
            }
        }
        if self.dice.chance(self.faults.loses) {
            let seq = self.dice.pick(rows).seq;
            let left = self.dice.below(self.seqs[seq.index()].len() + 1);
            let left = if self.faults.recurrent { 0 } else { left };
            self.remove_from(seq, left);
        }
    }

    /// A fault for this step, or none.
    fn inject(&mut self) -> Option<Outcome> {
        if let Some(outcome) = self.forced.get() {
            return Some(outcome);
        }
        let faults = self.faults;
        let after = |outcome, first, again| if self.injected == Some(outcome) { again } else { first };
        let chances = [
            (Outcome::Fatal, faults.fatal),
            (Outcome::Invalid, faults.invalid),
            (Outcome::NoRoom, after(Outcome::NoRoom, faults.no_room, faults.no_room_again)),
            (Outcome::Partial, after(Outcome::Partial, faults.partial, faults.partial_again)),
        ];
        self.injected = chances.into_iter().find(|(_, chance)| self.dice.chance(*chance)).map(|(outcome, _)| outcome);
        self.injected
    }

    fn write_all(&mut self, rows: &[Row]) {
        let n_vocab = self.capacity.n_vocab;
        for (i, row) in rows.iter().enumerate() {
            let history = self.write(row);
            if row.wants_logits {
                self.wanted.push(i);
                let start = self.logits.len();
                self.logits.resize(start + n_vocab, 0.0);
                fill_logits(history, self.faults.rots, &mut self.logits[start..]);
            }
        }
    }
}

impl Decoder for FakeDecoder {
    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn decode(&mut self, rows: &[Row]) -> Outcome {
        let drawn_us = 1 + self.dice.below(STEP_US_MAX as usize) as u64;
        self.clock.advance(self.faults.pace.map_or(drawn_us, |pace| pace.us(rows)));
        self.wanted.clear();
        self.logits.clear();
        let cells_before = self.cells_used();
        let (outcome, injected) = if let Some(rule) = self.broken_rule(rows) {
            self.violation.get_or_insert(rule);
            (Outcome::Invalid, false)
        } else {
            match self.inject() {
                _ if !self.has_room(rows) => (Outcome::NoRoom, false),
                Some(outcome) => (outcome, true),
                None => (Outcome::Done, false),
            }
        };
        self.begun.fill(None);
        for row in rows.iter().rev().filter(|_| outcome != Outcome::Invalid) {
            self.begun[row.seq.index()] = Some(row.pos.count_before());
        }
        match outcome {
            Outcome::Done => self.write_all(rows),
            Outcome::Partial => self.write_some(rows),
            Outcome::NoRoom | Outcome::Invalid | Outcome::Fatal => {}
        }
        let (mut seqs, mut seqs_hopeless) = (0, 0);
        for chunk in rows.chunk_by(|a, b| a.seq == b.seq) {
            let Some(partials) = self.partials.get_mut(chunk[0].seq.index()) else { continue };
            match outcome {
                Outcome::Partial => *partials += 1,
                Outcome::Done => *partials = 0,
                _ => {}
            }
            seqs += 1;
            seqs_hopeless += usize::from(outcome == Outcome::Partial && *partials >= 4);
        }
        self.happened = Some(Happened { outcome, injected, rows: rows.len(), seqs, seqs_hopeless, cells_before });
        outcome
    }

    fn logits(&mut self, row: usize) -> &mut [f32] {
        let place = self.wanted.iter().position(|&wanted| wanted == row).expect("the row asked for logits");
        let n_vocab = self.capacity.n_vocab;
        &mut self.logits[place * n_vocab..(place + 1) * n_vocab]
    }

    fn seq_remove(&mut self, seq: SeqId, range: Range<Pos>) -> bool {
        assert_eq!(range.end, Pos::MAX, "a hole would be a position gap");
        let start = range.start.count_before();
        if start >= self.seqs[seq.index()].len() {
            return true;
        }
        let is_latest = self.faults.cuts_latest && self.begun[seq.index()].is_some_and(|begun| begun <= start);
        if start > 0 && self.faults.recurrent && !is_latest {
            return false;
        }
        self.remove_from(seq, start);
        true
    }

    fn seq_copy(&mut self, from: SeqId, to: SeqId, len: usize) -> bool {
        assert!(from != to && self.seqs[to.index()].is_empty(), "{to:?} isn't empty");
        assert!(len > 0 && len <= self.seqs[from.index()].len(), "{from:?} doesn't hold {len} tokens");
        let is_whole = self.faults.checkpoints.is_some() && len == self.seqs[from.index()].len();
        if (self.faults.recurrent && !is_whole) || self.dice.chance(self.faults.copy_refused) {
            return false;
        }
        self.share(from, to, len);
        self.copies += 1;
        true
    }

    fn keeps_blocks(&self) -> bool {
        true
    }

    /// A number for each cell: the hash of its history.
    fn save(&mut self, seq: SeqId, range: Range<Pos>, into: &mut Vec<u8>) -> bool {
        if (self.faults.recurrent && self.faults.checkpoints.is_none()) || self.dice.chance(self.faults.save_refused) {
            return false;
        }
        let held = self.seqs[seq.index()].len();
        let mut range = range.start.count_before()..range.end.count_before();
        if let Some(rule) = self.faults.checkpoints {
            assert_eq!(range.end, held, "a state is that of all tokens");
            if rule.is_whole {
                assert_eq!(range.start, 0, "a state has no parts");
                range.start = held - 1;
            }
        }
        let cells = &self.seqs[seq.index()][range];
        into.extend(cells.iter().flat_map(|cell| cell.history.to_le_bytes()));
        self.saves += 1;
        self.clock.advance(20);
        true
    }

    fn restore(&mut self, seq: SeqId, range: Range<Pos>, from: &[u8]) -> bool {
        let len = range.end.count_before() - range.start.count_before();
        assert_eq!(self.seqs[seq.index()].len(), range.start.count_before(), "{seq:?} would have a hole");
        assert!(range.end.0 <= self.capacity.cells_per_seq, "{seq:?} has no room");
        let has_room = self.shared.as_ref().is_none_or(|shared| len <= shared.free.len());
        let states_alone = self.faults.checkpoints.is_some_and(|rule| rule.is_whole);
        let is_whole = from.len() == if states_alone { 1 } else { len } * size_of::<u64>();
        let refused = self.faults.recurrent && self.faults.checkpoints.is_none();
        if !has_room || !is_whole || refused || self.dice.chance(self.faults.save_refused) {
            return false;
        }
        // Of a state alone nothing is known but its end: whatever is made of the cells before is wrong.
        let before = if states_alone { len - 1 } else { 0 };
        let histories = std::iter::repeat_n(&[0xEE; 8], before).chain(from.as_chunks().0);
        for history in histories {
            let id = self.shared.as_mut().map_or(0, |shared| {
                let id = shared.free.pop().expect("there is room");
                shared.refs[id as usize] = 1;
                id
            });
            self.seqs[seq.index()].push(Cell { history: u64::from_le_bytes(*history), id });
        }
        self.restores += 1;
        self.clock.advance(self.faults.pace.map_or(20, |pace| pace.restore_us));
        true
    }

    fn checkpoint_rule(&self) -> Option<CheckpointRule> {
        self.faults.checkpoints
    }

    /// The hash of all tokens, which is all that a recurrent model has.
    fn checkpoint(&mut self, seq: SeqId) -> Option<Box<[u8]>> {
        if self.dice.chance(self.faults.checkpoint_refused) {
            return None;
        }
        let last = self.seqs[seq.index()].last().expect("a checkpoint of something");
        Some(last.history.to_le_bytes().into())
    }

    fn resume(&mut self, from: SeqId, to: SeqId, len: usize, state: &[u8]) -> bool {
        assert!(from == to || self.seqs[to.index()].is_empty(), "{to:?} isn't empty");
        let at = self.seqs[from.index()][len - 1].history;
        assert_eq!(at.to_le_bytes(), state, "the state of other tokens");
        if self.dice.chance(self.faults.checkpoint_refused) {
            self.remove_from(to, 0);
            return false;
        }
        if from == to {
            self.remove_from(to, len);
        } else {
            self.share(from, to, len);
        }
        self.resumed[usize::from(from != to)] += 1;
        true
    }

    fn seq_pos_max(&self, seq: SeqId) -> Option<Pos> {
        self.seqs[seq.index()].len().checked_sub(1).map(|pos| Pos(pos as u32))
    }
}
