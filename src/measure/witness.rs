//! Records what happens while a bench measures. Used by `cllm profile`; otherwise absent.
//!
//! A bench says when measuring begins and ends, what it does meanwhile, and its results. If the witness is absent, the
//! results are printed and the rest costs nothing. Otherwise the CPU is sampled, and a thread collects the steps of running
//! engines as often as `GET /debug/trace` does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::clock::MonotonicClock;
use crate::measure::cpu::{CpuSampler, Samples};
use crate::trace::{Mark, TraceReader, Track};
use crate::types::StartupError;
use crate::types::limits::{PROFILE_STEPS_MAX, TRACE_LOOK_MS};
use crate::types::seams::Clock;

/// An engine with recorded steps.
#[derive(Clone)]
pub struct Traced {
    /// The engine's name in the timeline.
    pub name: &'static str,
    /// Reads its recorded steps.
    pub reader: TraceReader,
    /// The clock of its recorded times.
    pub clock: MonotonicClock,
}

/// The records of one run.
#[derive(Default)]
pub struct Seen {
    /// The text that the bench printed.
    pub report: String,
    /// The recorded steps of each engine.
    pub tracks: Vec<Track>,
    /// What the bench did when.
    pub marks: Vec<Mark>,
    /// Samples of the CPU; `None`: the bench ended before measuring began.
    pub samples: Option<Samples>,
}

/// Records a run, or does nothing if it is absent.
pub struct Witness {
    clock: MonotonicClock,
    /// Samples a second; `None`: the witness is absent.
    frequency: Option<u16>,
    measuring: Option<Measuring>,
    seen: Seen,
}

struct Measuring {
    sampler: CpuSampler,
    over: Arc<AtomicBool>,
    collector: JoinHandle<Vec<Track>>,
}

impl Witness {
    /// A witness that records nothing.
    pub fn absent() -> Witness {
        Witness { clock: MonotonicClock::start(), frequency: None, measuring: None, seen: Seen::default() }
    }

    /// A witness that samples the CPU `frequency` times a second.
    pub fn sampling(frequency: u16) -> Witness {
        Witness { frequency: Some(frequency), ..Witness::absent() }
    }

    /// Whether engines should record their steps.
    pub fn is_present(&self) -> bool {
        self.frequency.is_some()
    }

    /// Microseconds of the witness's clock.
    pub fn now_us(&self) -> u64 {
        self.clock.now_us()
    }

    /// Begins recording, when everything is loaded. `traced`: the engines that will run.
    ///
    /// # Errors
    /// The system refuses to sample.
    pub fn begin(&mut self, traced: Vec<Traced>) -> Result<(), StartupError> {
        let Some(frequency) = self.frequency else { return Ok(()) };
        let sampler = CpuSampler::start(frequency)?;
        let (over, clock) = (Arc::new(AtomicBool::new(false)), self.clock);
        let ends = Arc::clone(&over);
        let from = starts(&traced);
        let thread = std::thread::Builder::new().name("witness".to_owned());
        let collector = thread.spawn(move || collect(&traced, from, clock, &ends));
        let failed = |error: std::io::Error| StartupError::System {
            doing: "start a thread".to_owned(),
            reason: error.to_string(),
        };
        self.measuring = Some(Measuring { sampler, over, collector: collector.map_err(failed)? });
        Ok(())
    }

    /// Records what the bench did from `begun_us` to now.
    pub fn mark(&mut self, name: impl FnOnce() -> String, begun_us: u64) {
        if self.is_present() {
            let to_us = self.now_us();
            self.seen.marks.push(Mark { name: name(), from_us: begun_us, to_us });
        }
    }

    /// Ends recording.
    pub fn end(&mut self) {
        let Some(Measuring { sampler, over, collector }) = self.measuring.take() else { return };
        self.seen.samples = Some(sampler.stop());
        // ORDERING: Relaxed; no other data is published with the flag. The tracks are returned through `join`.
        over.store(true, Ordering::Relaxed);
        self.seen.tracks = collector.join().unwrap_or_default();
    }

    /// Prints the bench's results, or records them.
    ///
    /// # Errors
    /// stdout can't be written.
    pub fn print(&mut self, text: &str) -> Result<(), StartupError> {
        self.seen.report += text;
        crate::console::print(text)
    }

    /// All records, after the end.
    pub fn into_seen(mut self) -> Seen {
        self.end();
        self.seen
    }
}

/// The number of the next step of each engine.
fn starts(traced: &[Traced]) -> Vec<u64> {
    traced.iter().map(|traced| traced.reader.now()).collect()
}

/// Reads the steps of each engine from `next` on until `over`, at most `PROFILE_STEPS_MAX` of each. Further steps count as
/// lost.
fn collect(traced: &[Traced], mut next: Vec<u64>, clock: MonotonicClock, over: &AtomicBool) -> Vec<Track> {
    let mut tracks: Vec<Track> =
        traced.iter().map(|traced| Track { name: traced.name.to_owned(), ..Track::default() }).collect();
    let ahead_us: Vec<i64> = traced.iter().map(|traced| clock.now_us() as i64 - traced.clock.now_us() as i64).collect();
    let mut steps = Vec::new();
    loop {
        let last = over.load(Ordering::Relaxed);
        for (i, Traced { reader, .. }) in traced.iter().enumerate() {
            let (on, lost) = reader.read(next[i], &mut steps);
            let room = PROFILE_STEPS_MAX.saturating_sub(tracks[i].steps.len());
            next[i] = on;
            tracks[i].lost += lost + steps.len().saturating_sub(room) as u64;
            tracks[i].steps.extend(steps.drain(..).take(room).map(|step| step.shifted(ahead_us[i])));
        }
        if last {
            return tracks;
        }
        std::thread::sleep(Duration::from_millis(TRACE_LOOK_MS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{StepTrace, trace_buffer};

    #[test]
    fn steps_are_put_on_one_clock_and_bounded() {
        let clock = MonotonicClock::start();
        std::thread::sleep(Duration::from_millis(2));
        let (mut writer, reader) = trace_buffer();
        let traced = Traced { name: "batch", reader, clock: MonotonicClock::start() };
        let (over, recorded) = (Arc::new(AtomicBool::new(false)), PROFILE_STEPS_MAX + 5);
        let (ends, traced) = (Arc::clone(&over), vec![traced]);
        let from = starts(&traced);
        let collector = std::thread::spawn(move || collect(&traced, from, clock, &ends));
        for step in 0..recorded as u64 {
            writer.record(StepTrace { begun_us: step, ..StepTrace::default() });
            if step % 4_096 == 0 {
                std::thread::sleep(Duration::from_millis(TRACE_LOOK_MS));
            }
        }
        over.store(true, Ordering::Relaxed);
        let tracks = collector.join().unwrap();
        assert_eq!(tracks[0].steps.len() as u64 + tracks[0].lost, recorded as u64);
        assert!(tracks[0].steps.len() <= PROFILE_STEPS_MAX && tracks[0].lost >= 5);
        assert!(tracks[0].steps[0].begun_us >= 2_000, "not shifted");
    }

    #[test]
    fn without_a_witness_there_is_only_the_report() {
        let mut witness = Witness::absent();
        witness.begin(Vec::new()).unwrap();
        witness.mark(|| panic!("an absent witness asks nothing"), 0);
        let seen = witness.into_seen();
        assert!(seen.samples.is_none() && seen.marks.is_empty() && seen.tracks.is_empty());
    }
}
