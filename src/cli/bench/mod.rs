//! `cllm bench`: what this machine does, measured. One subcommand a file.

pub mod decode;
pub mod http;
pub mod stages;

use crate::types::StartupError;

/// Measure this machine
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    pub what: Bench,
}

/// What is measured.
#[derive(Debug, clap::Subcommand)]
pub enum Bench {
    Stages(stages::StagesArgs),
    Http(Box<http::HttpArgs>),
    Decode(decode::DecodeBenchArgs),
}

/// # Errors
/// Whatever keeps the bench from being run or its report from being written.
pub fn run(args: &BenchArgs) -> Result<(), StartupError> {
    match &args.what {
        Bench::Stages(args) => stages::run(args),
        Bench::Http(args) => http::run(args),
        Bench::Decode(args) => decode::run(args),
    }
}
