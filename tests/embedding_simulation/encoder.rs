//! An encoder without a model. It checks llama.cpp's rules about positions and room, and fails as llama.cpp can.
//!
//! A token's embedding depends on its input's tokens: on those up to it, or on all. So a token that is lost, read twice or
//! read for another input changes the result.

use std::cell::Cell;
use std::rc::Rc;

use cllm::types::seams::{Clock, Encoder, EncoderCapacity, Outcome, Row};
use cllm::types::{Pooling, SeqId, Token};

use crate::dice::{Dice, mix};

/// A clock that advances only when a test says so.
#[derive(Clone, Debug, Default)]
pub struct VirtualClock(Rc<Cell<u64>>);

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

/// How often each fault occurs, as probabilities of a step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub no_room: f64,
    pub partial: f64,
    pub invalid: f64,
    pub fatal: f64,
    /// Some embeddings are NaN, infinite or missing.
    pub rots: bool,
}

/// The longest time of a step, in microseconds.
pub const STEP_US_MAX: u64 = 3_000;

pub struct FakeEncoder {
    capacity: EncoderCapacity,
    faults: Faults,
    dice: Dice,
    clock: VirtualClock,
    /// The tokens that each sequence has read.
    held: Vec<Vec<Token>>,
    embeddings: Vec<Vec<f32>>,
    /// The latest step's outcome and rows.
    pub happened: Option<(Outcome, Vec<Row>)>,
}

impl FakeEncoder {
    pub fn new(capacity: EncoderCapacity, faults: Faults, dice: Dice, clock: VirtualClock) -> FakeEncoder {
        let held = vec![Vec::new(); usize::from(capacity.seqs)];
        FakeEncoder { capacity, faults, dice, clock, held, embeddings: Vec::new(), happened: None }
    }

    /// The number of tokens that all sequences hold.
    pub fn held(&self) -> usize {
        self.held.iter().map(Vec::len).sum()
    }

    fn check(&self, rows: &[Row]) {
        assert!((1..=self.capacity.rows_max).contains(&rows.len()), "{} rows", rows.len());
        assert!(rows.is_sorted_by_key(|row| (row.seq, row.pos)));
        for of_seq in rows.chunk_by(|a, b| a.seq == b.seq) {
            let held = self.held[of_seq[0].seq.index()].len();
            let continues = of_seq.iter().enumerate().all(|(i, row)| row.pos.count_before() == held + i);
            assert!(continues, "a gap: {held} held, then {of_seq:?}");
            assert!(held + of_seq.len() <= self.capacity.input_max, "too long");
        }
    }

    fn read(&mut self, rows: &[Row]) {
        self.embeddings.clear();
        for of_seq in rows.chunk_by(|a, b| a.seq == b.seq) {
            let held = &mut self.held[of_seq[0].seq.index()];
            let before = held.len();
            held.extend(of_seq.iter().map(|row| row.token));
            let (whole, n_embd, rots) = (self.capacity.whole, self.capacity.n_embd, self.faults.rots);
            let embedding = |i| embedding(if whole { held } else { &held[..=i] }, i, n_embd, rots);
            self.embeddings.extend((before..held.len()).map(embedding));
        }
    }
}

impl Encoder for FakeEncoder {
    fn capacity(&self) -> EncoderCapacity {
        self.capacity
    }

    fn encode(&mut self, rows: &[Row]) -> Outcome {
        self.clock.advance(1 + self.dice.below(STEP_US_MAX as usize) as u64);
        self.check(rows);
        let Faults { no_room, partial, invalid, fatal, .. } = self.faults;
        let chances = [
            (Outcome::Fatal, fatal),
            (Outcome::Invalid, invalid),
            (Outcome::NoRoom, no_room),
            (Outcome::Partial, partial),
        ];
        let injected = chances.into_iter().find(|(_, chance)| self.dice.chance(*chance));
        let outcome = injected.map_or(Outcome::Done, |(outcome, _)| outcome);
        match outcome {
            Outcome::Done => self.read(rows),
            Outcome::Partial => {
                let some = self.dice.below(rows.len() + 1);
                self.read(&rows[..some]);
            }
            _ => {}
        }
        self.happened = Some((outcome, rows.to_vec()));
        outcome
    }

    fn embedding(&self, row: usize) -> &[f32] {
        self.embeddings.get(row).map_or(&[], Vec::as_slice)
    }

    fn seq_clear(&mut self, seq: SeqId) {
        self.held[seq.index()].clear();
    }
}

/// The embedding of token `at`, which attends to `seen`.
fn embedding(seen: &[Token], at: usize, n_embd: usize, rots: bool) -> Vec<f32> {
    let history = seen.iter().fold(7, |history: u64, token| mix(history.rotate_left(5) ^ u64::from(token.0)));
    if rots {
        match mix(history ^ 99) % 512 {
            0 => return vec![f32::NAN; n_embd],
            1 => return vec![f32::INFINITY; n_embd],
            2 => return Vec::new(),
            _ => {}
        }
    }
    let number = |i| (mix(history ^ (i as u64) << 40 ^ (at as u64) << 20) >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
    (0..n_embd).map(number).collect()
}

/// The embedding of an input that is alone; `None`: it isn't finite.
pub fn alone(tokens: &[Token], pooling: Pooling, capacity: &EncoderCapacity, rots: bool) -> Option<Vec<f32>> {
    let mut sum = vec![0.0; capacity.n_embd];
    for at in (0..tokens.len()).filter(|at| pooling.counts(*at, tokens.len())) {
        let seen = if capacity.whole { tokens } else { &tokens[..=at] };
        let embedding = embedding(seen, at, capacity.n_embd, rots);
        if embedding.len() != capacity.n_embd {
            return None;
        }
        pooling.add(&mut sum, &embedding, tokens.len());
    }
    sum.iter().all(|x| x.is_finite()).then_some(sum)
}
