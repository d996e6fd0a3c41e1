//! `cllm profile --out DIR -- BENCH`: runs a bench and writes where its time was spent.
//!
//! ```text
//! report.txt     what the bench printed
//! cpu.svg        flame graph of CPU time, to be opened in a browser; cpu.folded: its stacks as text
//! timeline.json  what each engine did when, for ui.perfetto.dev
//! ```
//!
//! The bench runs in this process. Another process, such as a server under `bench http`, isn't recorded.

pub mod cpu;

use std::fs;
use std::path::{Path, PathBuf};

use super::bench::witness::{Seen, Witness};
use super::bench::{self, BenchArgs};
use super::{Command, Parsed};
use crate::trace::write_timeline;
use crate::types::StartupError;

const FILES: [&str; 4] = ["report.txt", "cpu.svg", "cpu.folded", "timeline.json"];

/// Run a bench and draw where its time goes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cllm profile --out run -- stages --only 8
  cllm profile --out run -- stages -m model.gguf --only 0,8,9
  cllm profile --out run -- decode -m model.gguf
Then open run/cpu.svg in a browser and run/timeline.json in ui.perfetto.dev.")]
pub struct ProfileArgs {
    /// The folder for the results; made if it doesn't exist
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Samples of each second of CPU time
    #[arg(long, value_name = "HZ", default_value_t = 199, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub frequency: u16,
    /// stages, decode or http, and their flags
    #[arg(last = true, required = true, value_name = "BENCH")]
    pub bench: Vec<String>,
}

/// Runs the bench, then writes the files. If the bench fails, the files hold what was recorded until then.
///
/// # Errors
/// The folder can't be written, or the bench failed.
pub fn run(args: &ProfileArgs) -> Result<(), StartupError> {
    let unusable = |name: &str, reason: String| StartupError::Config { name: name.to_owned(), reason };
    let words = args.bench.iter().map(String::as_str).skip_while(|word| *word == "bench");
    let words = ["cllm", "bench"].into_iter().chain(words).map(str::to_owned);
    let what: BenchArgs = match super::parse(words) {
        Parsed::Command(Command::Bench(what)) => what,
        Parsed::Text(text) => return super::print(&format!("{}\n", text.trim_end())),
        Parsed::Command(_) => return Err(unusable("--", "that isn't a bench".to_owned())),
        Parsed::Refused(line) => return Err(unusable("the bench", line)),
    };
    let failed = |path: &Path, error: std::io::Error| unusable("--out", format!("{}: {error}", path.display()));
    fs::create_dir_all(&args.out).map_err(|error| failed(&args.out, error))?;
    for name in FILES {
        let path = args.out.join(name);
        fs::write(&path, "").map_err(|error| failed(&path, error))?;
    }
    let mut witness = Witness::sampling(args.frequency);
    let ran = bench::run_before(&what, &mut witness);
    let seen = witness.into_seen();
    let title = format!(
        "cllm bench {}",
        args.bench.iter().skip_while(|word| *word == "bench").cloned().collect::<Vec<_>>().join(" ")
    );
    let (contents, summary) = written(&seen, &title);
    for (name, content) in FILES.into_iter().zip(contents) {
        let path = args.out.join(name);
        match content {
            Some(content) => fs::write(&path, content).map_err(|error| failed(&path, error))?,
            None => fs::remove_file(&path).map_err(|error| failed(&path, error))?,
        }
    }
    ran?;
    super::print(&format!("\n{}: {summary}\n", args.out.display()))
}

/// The contents of `FILES`, and a summary in words. `None`: there is nothing to write into that file.
fn written(seen: &Seen, title: &str) -> ([Option<Vec<u8>>; 4], String) {
    let report = (!seen.report.is_empty()).then(|| seen.report.clone().into_bytes());
    let mut said = Vec::new();
    let (mut svg, mut folded) = (None, None);
    if let Some(samples) = &seen.samples {
        let threads: Vec<String> =
            samples.by_thread().iter().take(6).map(|(name, count)| format!("{name} {count}")).collect();
        let words = format!("{} samples of CPU time ({})", samples.count(), threads.join(", "));
        svg = samples.to_svg(title, &words);
        folded = svg.is_some().then(|| samples.to_folded().into_bytes());
        said.push(if svg.is_some() { format!("cpu.svg, {words}") } else { "no CPU time to sample".to_owned() });
    }
    let timeline = !(seen.marks.is_empty() && seen.tracks.is_empty());
    if timeline {
        let steps: usize = seen.tracks.iter().map(|track| track.steps.len()).sum();
        let lost: u64 = seen.tracks.iter().map(|track| track.lost).sum();
        let less = if lost > 0 { format!(", the first of {}", steps as u64 + lost) } else { String::new() };
        said.push(format!("timeline.json, {steps} steps{less}"));
    }
    let timeline = timeline.then(|| write_timeline(&seen.tracks, &seen.marks).into_bytes());
    ([report, svg, folded, timeline], said.join("; "))
}
