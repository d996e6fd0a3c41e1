//! The eleven stages, from raw llama.cpp to HTTP: `cargo bench --bench stages -- [flags of cllm bench stages]`.
//!
//! The bench is `cllm bench stages` (src/measure/stages), so that users have it, too.

use std::process::ExitCode;

use cllm::cli::{self, Command, ParsedArgs};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let flags = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let words = ["cllm", "bench", "stages"].map(String::from).into_iter().chain(flags);
    let line = match cli::parse(words) {
        ParsedArgs::Command(Command::Bench(args)) => match cli::bench::run(&args) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => error.to_string(),
        },
        ParsedArgs::Command(_) => "no other command".to_owned(),
        ParsedArgs::Text(text) => {
            println!("{}", text.trim_end());
            return ExitCode::SUCCESS;
        }
        ParsedArgs::Refused(line) => line,
    };
    eprintln!("stages: {line}");
    ExitCode::FAILURE
}
