//! Records when each step of the engine did what, for timelines. The batching thread writes; HTTP threads read.
//!
//! A circular buffer of the latest steps, one cache line for each. Writing is wait-free. A reader that is too slow misses steps and is
//! told how many. A reader that finds a cell overwritten while it read it drops that cell.
//!
//! `chrome` writes steps as the JSON that Perfetto and Chrome's `about:tracing` load.

mod chrome;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

pub use chrome::{Mark, Track, write_timeline};

use crate::types::limits::TRACE_STEPS_KEPT;

/// One step of the engine. Its times are microseconds of the server's clock, in ascending order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepTrace {
    /// When the round began: new requests are then taken out of the ring.
    pub begun_us: u64,
    /// When admission was done: waiting requests have got free slots.
    pub admitted_us: u64,
    /// When the rows were chosen and decoding began.
    pub planned_us: u64,
    /// When decoding ended.
    pub decoded_us: u64,
    /// When all tokens were in the reply slots.
    pub ended_us: u64,
    /// Microseconds of sampling between `decoded_us` and `ended_us`. The rest of that time is answering.
    pub sample_us: u64,
    /// Rows of the step.
    pub rows: u32,
    /// Generated tokens.
    pub tokens: u32,
    /// Requests without a slot when the step began.
    pub waiting: u32,
    /// Requests with a slot when the step began.
    pub running: u32,
    /// Rows that decoded guesses.
    pub guesses: u32,
}

const LOW_20: u32 = (1 << 20) - 1;

/// Words of 64 bits in a cell, which is a cache line.
const WORDS: usize = 8;

impl StepTrace {
    /// This step with its times moved by `ahead_us` microseconds, for a clock that is ahead by this much.
    pub fn shifted(mut self, ahead_us: i64) -> StepTrace {
        let times =
            [&mut self.begun_us, &mut self.admitted_us, &mut self.planned_us, &mut self.decoded_us, &mut self.ended_us];
        times.into_iter().for_each(|time| *time = time.saturating_add_signed(ahead_us));
        self
    }

    fn to_words(self) -> [u64; WORDS] {
        let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        [
            self.begun_us,
            self.admitted_us,
            self.planned_us,
            self.decoded_us,
            self.ended_us,
            self.sample_us,
            pair(self.rows, self.tokens),
            // 24 bits for waiting requests. 20 bits each are enough for all slots and for all guesses of a step.
            u64::from(self.waiting) << 40 | u64::from(self.running & LOW_20) << 20 | u64::from(self.guesses & LOW_20),
        ]
    }

    fn from_words(words: [u64; WORDS]) -> StepTrace {
        let [begun_us, admitted_us, planned_us, decoded_us, ended_us, sample_us, work, people] = words;
        let (high, low) = (|pair: u64| (pair >> 32) as u32, |pair: u64| pair as u32);
        StepTrace {
            begun_us,
            admitted_us,
            planned_us,
            decoded_us,
            ended_us,
            sample_us,
            rows: high(work),
            tokens: low(work),
            waiting: (people >> 40) as u32,
            running: (people >> 20) as u32 & LOW_20,
            guesses: people as u32 & LOW_20,
        }
    }
}

#[repr(align(64))]
#[derive(Default)]
struct Cell([AtomicU64; WORDS]);

struct Buffer {
    /// Step `i` lies in `cells[i % cells.len()]`.
    cells: Box<[Cell]>,
    /// The number of steps that are written or being written.
    ///
    /// ORDERING: the batching thread stores it before it writes the cell, with a Release fence after the store. Readers
    /// load it after reading the cell, with an Acquire fence before the load. So a reader that saw one new word of a cell
    /// sees the new count, too.
    begun: AtomicU64,
    /// The number of steps that are completely written.
    ///
    /// ORDERING: the batching thread stores it with Release, readers load it with Acquire: all words of a counted step can
    /// be read.
    done: AtomicU64,
}

/// The writing side, owned by the batching thread.
pub struct TraceWriter {
    buffer: Arc<Buffer>,
    next: u64,
}

/// The reading side; any thread may have a clone.
#[derive(Clone)]
pub struct TraceReader(Arc<Buffer>);

/// A buffer of the latest `TRACE_STEPS_KEPT` steps.
pub fn trace_buffer() -> (TraceWriter, TraceReader) {
    with_room(TRACE_STEPS_KEPT)
}

fn with_room(steps: usize) -> (TraceWriter, TraceReader) {
    let cells = (0..steps).map(|_| Cell::default()).collect();
    let buffer = Arc::new(Buffer { cells, begun: AtomicU64::new(0), done: AtomicU64::new(0) });
    (TraceWriter { buffer: Arc::clone(&buffer), next: 0 }, TraceReader(buffer))
}

impl TraceWriter {
    /// Writes `step` over the oldest one.
    pub fn record(&mut self, step: StepTrace) {
        let buffer = &*self.buffer;
        let cell = &buffer.cells[self.next as usize % buffer.cells.len()];
        self.next += 1;
        buffer.begun.store(self.next, Ordering::Relaxed);
        fence(Ordering::Release);
        for (word, value) in cell.0.iter().zip(step.to_words()) {
            // ORDERING: Relaxed; `begun` and `done` say which cells are valid.
            word.store(value, Ordering::Relaxed);
        }
        buffer.done.store(self.next, Ordering::Release);
    }
}

impl TraceReader {
    /// The number of the next step, for `read`.
    pub fn now(&self) -> u64 {
        self.0.done.load(Ordering::Acquire)
    }

    /// Appends to `steps` the steps from number `from` on that are still in the buffer. Returns the number to continue
    /// from, and how many steps were overwritten before they could be read.
    pub fn read(&self, from: u64, steps: &mut Vec<StepTrace>) -> (u64, u64) {
        let (buffer, room) = (&*self.0, self.0.cells.len() as u64);
        let done = self.now();
        let first = from.max(done.saturating_sub(room));
        let before = steps.len();
        steps.extend((first..done).map(|i| {
            let cell = &buffer.cells[i as usize % buffer.cells.len()];
            // ORDERING: Relaxed; cells that the writer has begun to overwrite are dropped below.
            StepTrace::from_words(std::array::from_fn(|n| cell.0[n].load(Ordering::Relaxed)))
        }));
        fence(Ordering::Acquire);
        let intact = buffer.begun.load(Ordering::Relaxed).saturating_sub(room).clamp(first, done.max(first));
        steps.drain(before..before + (intact - first) as usize);
        (done.max(from), intact.saturating_sub(from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A step with its number in each word.
    fn step(n: u64) -> StepTrace {
        let small = n as u32;
        StepTrace {
            begun_us: n,
            admitted_us: n,
            planned_us: n,
            decoded_us: n,
            ended_us: n,
            sample_us: n,
            rows: small,
            tokens: small,
            waiting: small,
            running: small,
            guesses: small,
        }
    }

    #[test]
    fn the_latest_are_kept_and_the_lost_are_counted() {
        let (mut writer, reader) = with_room(4);
        let mut steps = Vec::new();
        assert_eq!(reader.read(0, &mut steps), (0, 0));
        (0..3).for_each(|n| writer.record(step(n)));
        assert_eq!(reader.read(1, &mut steps), (3, 0));
        assert_eq!(steps, [step(1), step(2)]);
        steps.clear();
        (3..9).for_each(|n| writer.record(step(n)));
        assert_eq!(reader.read(3, &mut steps), (9, 2));
        assert_eq!(steps, [step(5), step(6), step(7), step(8)]);
    }

    #[test]
    fn no_step_is_torn_and_each_is_read_or_counted_as_lost() {
        const STEPS: u64 = 300_000;
        let (mut writer, reader) = with_room(8);
        let writing = std::thread::spawn(move || (0..STEPS).for_each(|n| writer.record(step(n))));
        let (mut next, mut seen, mut lost, mut steps) = (0, 0, 0, Vec::new());
        while next < STEPS {
            steps.clear();
            let from = next;
            let (on, gone) = reader.read(from, &mut steps);
            for (i, found) in steps.iter().enumerate() {
                assert_eq!(*found, step(from + gone + i as u64));
            }
            assert_eq!(from + gone + steps.len() as u64, on);
            (next, lost, seen) = (on, lost + gone, seen + steps.len() as u64);
        }
        writing.join().unwrap();
        assert_eq!(seen + lost, STEPS);
    }
}
