//! The program: one match on the subcommand. Success is 0; whatever keeps a command from starting is one line and 1.

use std::process::ExitCode;

use cllm::cli::{self, Command, ParsedArgs};
use cllm::types::StartupError;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let done = match cli::parse(std::env::args_os().map(|word| word.to_string_lossy().into_owned())) {
        ParsedArgs::Command(command) => run(command),
        ParsedArgs::Text(text) => cllm::console::print(&format!("{}\n", text.trim_end())),
        ParsedArgs::Refused(line) => return refuse(line),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(error),
    }
}

fn run(command: Command) -> Result<(), StartupError> {
    match command {
        Command::Serve(args) => cli::serve::run(&args),
        Command::Generate(args) => cli::generate::run(&args),
        Command::Encode(args) => cli::encode::run(&args),
        Command::Decode(args) => cli::decode::run(&args),
        Command::Info(args) => cli::info::run(&args),
        Command::Pull(args) => cli::pull::run(&args),
        Command::Synth(args) => cli::synth::run(&args),
        Command::Install(args) => cli::install::run(&args),
        Command::Bench(args) => cli::bench::run(&args),
        Command::Tune(args) => cllm::measure::tune::run(&args),
        Command::Bundle(args) => cli::bundle::run(&args),
        Command::Extract(args) => cli::bundle::extract(&args),
        Command::Prompts(args) => cli::prompts::run(&args),
        Command::Profile(args) => cli::profile::run(&args),
        Command::Completions(args) => cli::completions::run(&args),
    }
}

fn refuse(line: impl std::fmt::Display) -> ExitCode {
    eprintln!("cllm: {}", line.to_string().replace('\n', " "));
    ExitCode::FAILURE
}
