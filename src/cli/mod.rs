//! The command line: one thin file for each subcommand; `main` matches on the subcommand.
//!
//! An error in the arguments becomes one line on stderr and exit code 1, in `main`.

pub mod bench;
pub mod bundle;
pub mod completions;
pub mod decode;
pub mod encode;
pub mod generate;
pub mod info;
pub mod install;
pub mod profile;
pub mod prompts;
pub mod pull;
pub mod serve;
pub mod synth;
mod warm;

use std::io::IsTerminal;

use clap::builder::Styles;
use clap::builder::styling::{AnsiColor, Style};
use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::appliance;
use crate::config::flags::expand_two_letter_flags;
use crate::measure::tune;

const STYLES: Styles = Styles::styled()
    .header(Style::new().bold())
    .usage(Style::new().bold())
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(Style::new());

/// Serves a GGUF language model over HTTP: what llama.cpp can decode, the socket delivers.
#[derive(Debug, Parser)]
#[command(
    name = "cllm",
    version,
    styles = STYLES,
    max_term_width = 100,
    after_help = "\
Examples:
  cllm serve                              The built-in model on 127.0.0.1:8080
  cllm serve -m qwen3-0.6b-q4_k_m.gguf    Your own model
  cllm serve -hf Qwen/Qwen3-0.6B-GGUF     A model from Hugging Face
  cllm generate \"Tell me a story\"        One answer, in the terminal

Without -m, commands use cllm-tiny, the model inside this program. It answers
questions about cllm and tells short stories."
)]
pub struct Cli {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve a model over HTTP
    Serve(serve::ServeArgs),
    /// Generate text from one prompt and stream it to the terminal
    Generate(generate::GenerateArgs),
    /// Print the token ids of a text, on one line
    Encode(encode::EncodeArgs),
    /// Print the text of token ids
    Decode(decode::DecodeArgs),
    /// Print what a GGUF file holds
    Info(info::InfoArgs),
    /// Download a model from Hugging Face and print its path
    Pull(pull::PullArgs),
    /// Write a model of a real shape with random weights, for benchmarks
    Synth(synth::SynthArgs),
    /// Write a hardened systemd service that serves a model
    Install(install::InstallArgs),
    /// Measure this machine
    Bench(bench::BenchArgs),
    /// Find the settings that serve a model fastest here, and write them down
    Tune(tune::TuneArgs),
    /// Write one executable that carries a model and its configuration
    Bundle(bundle::BundleArgs),
    /// Write out the model and the configuration that this appliance carries
    Extract(bundle::ExtractArgs),
    /// Run a bench and draw where its time goes
    Profile(profile::ProfileArgs),
    /// List, check or remove the prompts in a folder of --prompt-disk
    Prompts(prompts::PromptsArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

/// The result of reading the arguments.
#[derive(Debug)]
pub enum ParsedArgs {
    /// A command to run.
    Command(Command),
    /// A text to print before exit code 0: help or the version.
    Text(String),
    /// A line to print before exit code 1.
    Refused(String),
}

/// Reads the arguments. The first one is the program's name.
pub fn parse(argv: impl IntoIterator<Item = String>) -> ParsedArgs {
    let mut argv = expand_two_letter_flags(argv);
    match appliance::own() {
        Ok(Some(_)) => serve_by_itself(&mut argv),
        Ok(None) => {}
        Err(error) => return ParsedArgs::Refused(error.to_string()),
    }
    let colour = std::io::stdout().is_terminal();
    let shown = |text: clap::builder::StyledStr| if colour { text.ansi().to_string() } else { text.to_string() };
    if argv.len() <= 1 {
        return ParsedArgs::Text(shown(Cli::command().render_help()));
    }
    match Cli::command().try_get_matches_from(argv).and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => ParsedArgs::Command(cli.command),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => ParsedArgs::Text(shown(error.render())),
            _ => ParsedArgs::Refused(one_line(&error.render().to_string())),
        },
    }
}

/// Adds `serve` to the arguments of an appliance that was called with no subcommand.
fn serve_by_itself(argv: &mut Vec<String>) {
    const OWN_FLAGS: &[&str] = &["-h", "--help", "-V", "--version"];
    let is_flag = |word: &String| word.starts_with('-') && !OWN_FLAGS.contains(&word.as_str());
    if argv.get(1).is_none_or(is_flag) {
        argv.insert(argv.len().min(1), "serve".to_owned());
    }
}

/// The first paragraph of clap's message on one line, without prefix, tips and usage.
fn one_line(message: &str) -> String {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let lines = message.lines().map(str::trim).take_while(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        std::iter::once("cllm").chain(line.split_whitespace()).map(String::from).collect()
    }

    #[test]
    fn the_declaration_holds() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_refusal_is_one_line_that_names_the_argument() {
        for (line, named) in [
            ("serve --prot 1", "--prot"),
            ("serve --kv-type f17", "--kv-type"),
            ("serve --port", "--port"),
            ("swim", "swim"),
            ("serve extra", "extra"),
            ("completions", "<SHELL>"),
        ] {
            match parse(words(line)) {
                ParsedArgs::Refused(text) => assert!(text.contains(named) && !text.contains('\n'), "{line}: {text}"),
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn no_help_line_is_wider_than_a_terminal() {
        let mut command = Cli::command().term_width(80);
        command.build();
        let mut commands = vec![command];
        while let Some(mut command) = commands.pop() {
            commands.extend(command.get_subcommands().cloned());
            for line in command.render_help().to_string().lines() {
                assert!(line.chars().count() <= 80, "{}: {line}", command.get_name());
            }
        }
    }
}
