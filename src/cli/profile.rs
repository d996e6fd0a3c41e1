//! `cllm profile --out DIR -- BENCH`: runs a bench and writes where its time was spent.

use std::path::PathBuf;

use super::bench::{self, BenchArgs};
use super::{Command, ParsedArgs};
use crate::console::print;
use crate::measure::profile::ProfileFolder;
use crate::measure::witness::Witness;
use crate::types::StartupError;

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
    let words: Vec<String> = args.bench.iter().skip_while(|word| *word == "bench").cloned().collect();
    let line = ["cllm", "bench"].into_iter().map(str::to_owned).chain(words.iter().cloned());
    let what: BenchArgs = match super::parse(line) {
        ParsedArgs::Command(Command::Bench(what)) => what,
        ParsedArgs::Text(text) => return print(&format!("{}\n", text.trim_end())),
        ParsedArgs::Command(_) => return Err(unusable("--", "that isn't a bench".to_owned())),
        ParsedArgs::Refused(line) => return Err(unusable("the bench", line)),
    };
    let folder = ProfileFolder::make(&args.out)?;
    let mut witness = Witness::sampling(args.frequency);
    let ran = bench::run_before(&what, &mut witness);
    let summary = folder.write(&witness.into_seen(), &format!("cllm bench {}", words.join(" ")))?;
    ran?;
    print(&format!("\n{}: {summary}\n", args.out.display()))
}
