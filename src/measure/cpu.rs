//! Where CPU time is spent: a timer on the process's CPU time (`SIGPROF`) samples stacks, which become folded lines and a
//! flame graph.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::hint::black_box;
use std::time::{Duration, Instant};

use pprof::flamegraph::{self, Options};
use pprof::{ProfilerGuard, ProfilerGuardBuilder};

use crate::types::StartupError;

/// How long to wait for the first sample.
const FIRST_SAMPLE: Duration = Duration::from_millis(100);

/// A running sampler. A process can have one.
pub struct CpuSampler {
    guard: ProfilerGuard<'static>,
}

/// The samples of one run.
#[derive(Default)]
pub struct Samples {
    /// The number of samples of each stack, `thread;outermost;...;innermost`.
    stacks: BTreeMap<String, u64>,
}

impl CpuSampler {
    /// Starts sampling, `frequency` times in each second of CPU time.
    ///
    /// # Errors
    /// The system refuses, or a sampler is already running.
    pub fn start(frequency: u16) -> Result<CpuSampler, StartupError> {
        let failed =
            |error: pprof::Error| StartupError::System { doing: "sample the CPU".into(), reason: error.to_string() };
        let guard = ProfilerGuardBuilder::default().frequency(i32::from(frequency)).build().map_err(failed)?;
        // The unwinder reads its tables at its first sample, inside the signal handler, which must not interrupt an
        // allocation then. So this thread waits for the first sample in a loop that allocates nothing, before anything else
        // runs.
        first_sample();
        Ok(CpuSampler { guard })
    }

    /// Ends sampling and looks up the names of functions.
    pub fn stop(self) -> Samples {
        let mut stacks = BTreeMap::new();
        for (frames, count) in self.guard.report().build().map(|report| report.data).unwrap_or_default() {
            let names = frames.frames.iter().rev().flat_map(|frame| frame.iter().rev()).map(|symbol| symbol.name());
            if let Some(line) = folded(&frames.thread_name_or_id(), names) {
                *stacks.entry(line).or_default() += u64::try_from(count).unwrap_or(0);
            }
        }
        Samples { stacks }
    }
}

impl Samples {
    /// The number of all samples.
    pub fn count(&self) -> u64 {
        self.stacks.values().sum()
    }

    /// The number of samples of each thread, in descending order.
    pub fn by_thread(&self) -> Vec<(&str, u64)> {
        let mut threads: BTreeMap<&str, u64> = BTreeMap::new();
        for (line, count) in &self.stacks {
            *threads.entry(line.split(';').next().unwrap_or_default()).or_default() += count;
        }
        let mut threads: Vec<_> = threads.into_iter().collect();
        threads.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        threads
    }

    /// One line for each stack, in the format of flame graph tools.
    pub fn to_folded(&self) -> String {
        self.stacks.iter().fold(String::new(), |mut out, (line, count)| {
            // Writing to a `String` can't fail.
            let _ = writeln!(out, "{line} {count}");
            out
        })
    }

    /// The flame graph as SVG; `None`: there are no samples.
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

#[inline(never)]
fn first_sample() {
    let began = Instant::now();
    let mut n = 0_u64;
    while began.elapsed() < FIRST_SAMPLE {
        n = black_box(n.wrapping_mul(3).wrapping_add(1));
    }
}

/// Functions that are not counted: the wait for the first sample, and making prompts before the clock starts.
const UNMEASURED: [&str; 2] = ["first_sample", "prompts"];

/// Functions at the beginning of each thread, which are left out of stacks.
const BOILERPLATE: [&str; 9] = [
    "clone3",
    "start_thread",
    "thread_start",
    "call_once",
    "catch_unwind",
    "do_call",
    "__rust_begin_short_backtrace",
    "spawn_unchecked",
    "spawn_unchecked_",
];

/// The function of ggml's compute threads, which have no name of their own.
const GGML_WORKER: &str = "ggml_graph_compute_secondary_thread";

/// The folded line of a sample: the thread and its functions, the outermost first. `None`: the sample isn't counted.
fn folded(thread: &str, names: impl Iterator<Item = String>) -> Option<String> {
    let names: Vec<String> = names.map(|name| short(&name)).collect();
    let last = |name: &str| name.rsplit("::").find(|part| !part.starts_with('{')).unwrap_or_default().to_owned();
    if names.iter().any(|name| UNMEASURED.contains(&last(name).as_str())) {
        return None;
    }
    let mut line = match names.iter().any(|name| name == GGML_WORKER) {
        // ggml's threads have the name of the thread that made them: the program's name, if that was the main thread.
        true if thread == env!("CARGO_PKG_NAME") => "ggml-worker".to_owned(),
        true => format!("{} ggml-worker", kind_of(thread)),
        false => kind_of(thread).to_owned(),
    };
    let begins = names.iter().position(|name| !BOILERPLATE.contains(&last(name).as_str())).unwrap_or(0);
    for name in &names[begins..] {
        line.push(';');
        line += name;
    }
    Some(line)
}

/// A function's name without type parameters in angle brackets (unless it begins with them), without a Rust name's hash,
/// and without characters that have a meaning in the folded format.
fn short(name: &str) -> String {
    let name = without_hash(name);
    let (mut out, mut depth) = (String::new(), 0_usize);
    let opens = name.starts_with('<');
    for (i, c) in name.char_indices() {
        match c {
            '<' if !(opens && i == 0) => depth += 1,
            '>' if depth > 0 => depth -= 1,
            ';' | '\n' if depth == 0 => out.push(':'),
            c if depth == 0 => out.push(c),
            _ => {}
        }
    }
    out
}

/// The common name of threads of one kind: `http` for `http-7`.
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
    fn a_line_has_what_is_measured_without_what_starts_a_thread() {
        let line = |thread: &str, names: &[&str]| folded(thread, names.iter().map(|name| (*name).to_owned()));
        let begin =
            ["clone3", "start_thread", "<std::sys::thread::unix::Thread>::new::thread_start", "call_once<(), F>"];
        let batch = [&begin[..], &["cllm::engine::Engine<D, C, O>::run::h0123456789abcdef", "decode<D>"]].concat();
        assert_eq!(line("batch", &batch).as_deref(), Some("batch;cllm::engine::Engine::run;decode"));
        let worker = [&begin[..2], &[GGML_WORKER, "a::operator()(x) const;y"]].concat();
        assert_eq!(line("cllm", &worker), Some(format!("ggml-worker;{GGML_WORKER};a::operator()(x) const:y")));
        assert_eq!(line("stage-0", &worker[..3]), Some(format!("stage-0 ggml-worker;{GGML_WORKER}")));
        assert_eq!(line("cllm", &["main", "cllm::measure::stages::workload::Workload::prompts", "encode"]), None);
        assert_eq!(line("cllm", &["clone3"]).as_deref(), Some("cllm;clone3"));
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
