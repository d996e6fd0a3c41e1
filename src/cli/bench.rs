//! `cllm bench`: which bench to run.

use crate::measure::witness::Witness;
use crate::measure::{decode, http, speculation, stages};
use crate::types::StartupError;

/// Measure this machine
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// Which bench to run.
    #[command(subcommand)]
    pub what: BenchCommand,
}

/// What to measure.
#[derive(Debug, clap::Subcommand)]
pub enum BenchCommand {
    /// Show what each layer costs, from raw llama.cpp to HTTP
    Stages(stages::StagesArgs),
    /// Put load on a server and measure it: ours or any other
    Http(Box<http::HttpArgs>),
    /// Measure llama.cpp here: prompts, generation, bandwidth
    Decode(decode::DecodeBenchArgs),
    /// Show what guessing tokens brings: texts that repeat and texts that don't
    Speculation(speculation::SpeculationArgs),
}

/// Runs the bench.
///
/// # Errors
/// The bench can't be run, or its report can't be written.
pub fn run(args: &BenchArgs) -> Result<(), StartupError> {
    run_before(args, &mut Witness::absent())
}

/// Like `run`, with a witness that records the run.
///
/// # Errors
/// As `run`.
pub fn run_before(args: &BenchArgs, witness: &mut Witness) -> Result<(), StartupError> {
    match &args.what {
        BenchCommand::Stages(args) => stages::run(args, witness),
        BenchCommand::Http(args) => http::run(args, witness),
        BenchCommand::Decode(args) => decode::run(args, witness),
        BenchCommand::Speculation(args) => speculation::run(args, witness),
    }
}
