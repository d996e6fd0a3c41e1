//! `cllm bench`: measures this machine. One file for each subcommand.

pub mod decode;
pub mod http;
pub mod speculation;
pub mod stages;
pub mod witness;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::SIGINT;
use signal_hook::flag;

use crate::types::StartupError;
use witness::Witness;

/// Measure this machine
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    pub what: Bench,
}

/// What to measure.
#[derive(Debug, clap::Subcommand)]
pub enum Bench {
    Stages(stages::StagesArgs),
    Http(Box<http::HttpArgs>),
    Decode(decode::DecodeBenchArgs),
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
        Bench::Stages(args) => stages::run(args, witness),
        Bench::Http(args) => http::run(args, witness),
        Bench::Decode(args) => decode::run(args, witness),
        Bench::Speculation(args) => speculation::run(args, witness),
    }
}

/// A flag that Ctrl-C sets, so that a bench can still print its results. A second Ctrl-C ends the program.
///
/// # Errors
/// The system refuses the signal handler.
pub(super) fn stop_on_ctrl_c() -> Result<Arc<AtomicBool>, StartupError> {
    let stop = Arc::new(AtomicBool::new(false));
    let listening = flag::register_conditional_shutdown(SIGINT, 130, Arc::clone(&stop))
        .and_then(|_| flag::register(SIGINT, Arc::clone(&stop)));
    let failed =
        |error: std::io::Error| StartupError::System { doing: "listen for signals".into(), reason: error.to_string() };
    listening.map(|_| stop).map_err(failed)
}

/// The median of `values`; NaN if there are none.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[half],
        _ => (sorted[half - 1] + sorted[half]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0, 2.0, 1.0])), (2.0, 1.5));
        assert!(median(&[]).is_nan());
    }
}
