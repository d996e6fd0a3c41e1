//! Where CPU time goes: stacks sampled by a timer that counts the process's CPU time (`SIGPROF`), as folded lines and as a
//! flame graph.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::hint::black_box;
use std::time::{Duration, Instant};

use pprof::flamegraph::{self, Options};
use pprof::{Frames, ProfilerGuard, ProfilerGuardBuilder};

use crate::types::StartupError;

/// How long the first sample may take to come.
const FIRST_SAMPLE: Duration = Duration::from_millis(100);

/// A running sampler; there can be one in a process.
pub struct Sampler {
    guard: ProfilerGuard<'static>,
}

/// What was sampled.
#[derive(Default)]
pub struct Samples {
    /// `thread;outermost;...;innermost` and how often.
    stacks: BTreeMap<String, u64>,
}

impl Sampler {
    /// # Errors
    /// The system doesn't let us, or one is running.
    pub fn start(frequency: u16) -> Result<Sampler, StartupError> {
        let failed =
            |error: pprof::Error| StartupError::System { doing: "sample the CPU".into(), reason: error.to_string() };
        let guard = ProfilerGuardBuilder::default().frequency(i32::from(frequency)).build().map_err(failed)?;
        // The unwinder reads its tables at its first sample, inside the signal handler. It must not interrupt an allocation
        // then: while nothing else runs, this thread takes it, in a loop that allocates nothing.
        let began = Instant::now();
        let mut n = 0_u64;
        while began.elapsed() < FIRST_SAMPLE {
            n = black_box(n.wrapping_mul(3) + 1);
        }
        Ok(Sampler { guard })
    }

    /// Ends it and gives names to what was sampled.
    pub fn stop(self) -> Samples {
        let mut stacks = BTreeMap::new();
        for (frames, count) in self.guard.report().build().map(|report| report.data).unwrap_or_default() {
            let line = folded(&frames);
            // Our own wait for the first sample.
            if !line.contains("Sampler::start") {
                *stacks.entry(line).or_default() += u64::try_from(count).unwrap_or(0);
            }
        }
        Samples { stacks }
    }
}

impl Samples {
    pub fn count(&self) -> u64 {
        self.stacks.values().sum()
    }

    /// Samples by thread, most first.
    pub fn by_thread(&self) -> Vec<(&str, u64)> {
        let mut threads: BTreeMap<&str, u64> = BTreeMap::new();
        for (line, count) in &self.stacks {
            *threads.entry(line.split(';').next().unwrap_or_default()).or_default() += count;
        }
        let mut threads: Vec<_> = threads.into_iter().collect();
        threads.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        threads
    }

    /// A line a stack, as flame graph tools read them.
    pub fn to_folded(&self) -> String {
        self.stacks.iter().fold(String::new(), |mut out, (line, count)| {
            // Writing to a `String` can't fail.
            let _ = writeln!(out, "{line} {count}");
            out
        })
    }

    /// The flame graph; `None` without samples.
    pub fn to_svg(&self, title: &str, subtitle: &str) -> Option<Vec<u8>> {
        if self.stacks.is_empty() {
            return None;
        }
        let mut options = Options::default();
        options.title = title.to_owned();
        options.subtitle = Some(subtitle.to_owned());
        let (folded, mut svg) = (self.to_folded(), Vec::new());
        flamegraph::from_lines(&mut options, folded.lines(), &mut svg).ok().map(|()| svg)
    }
}

/// Thread and functions from the outermost in.
fn folded(frames: &Frames) -> String {
    let mut line = kind_of(&frames.thread_name_or_id()).to_owned();
    for symbol in frames.frames.iter().rev().flat_map(|frame| frame.iter().rev()) {
        line.push(';');
        line += &without_hash(&symbol.name()).replace([';', '\n'], ":");
    }
    line
}

/// Threads of one kind are shown as one: `http` for `http-7`.
fn kind_of(thread: &str) -> &str {
    let stem = thread.trim_end_matches(|c: char| c.is_ascii_digit());
    match stem.strip_suffix('-') {
        Some("stage") | None => thread,
        Some(kind) => kind,
    }
}

/// A Rust name without the `::h0123456789abcdef` at its end.
fn without_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => name,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_a_kind_are_one_but_for_stages() {
        let kinds = ["http-12", "batch", "stage-3", "client-0", "8080"].map(kind_of);
        assert_eq!(kinds, ["http", "batch", "stage-3", "client", "8080"]);
        assert_eq!(without_hash("a::b::h0123456789abcdef"), "a::b");
        assert_eq!(without_hash("a::hello"), "a::hello");
    }

    #[test]
    fn stacks_become_lines_and_a_picture() {
        let stacks = [("batch;main;decode", 7), ("batch;main;plan", 2), ("http;serve", 1)];
        let samples = Samples { stacks: stacks.map(|(line, count)| (line.to_owned(), count)).into() };
        assert_eq!((samples.count(), samples.by_thread()), (10, vec![("batch", 9), ("http", 1)]));
        assert_eq!(samples.to_folded().lines().next(), Some("batch;main;decode 7"));
        let svg = String::from_utf8(samples.to_svg("a run", "10 samples").unwrap()).unwrap();
        assert!(svg.contains("<svg") && svg.contains("decode (7 samples, 70.00%)"), "{svg}");
        assert!(Samples::default().to_svg("", "").is_none());
    }
}
