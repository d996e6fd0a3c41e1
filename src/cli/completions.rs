//! `cllm completions`: prints a script with which a shell completes cllm's arguments.

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;
use crate::types::StartupError;

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cllm completions bash > ~/.local/share/bash-completion/completions/cllm
  cllm completions fish > ~/.config/fish/completions/cllm.fish")]
pub struct CompletionsArgs {
    /// The shell to complete for
    pub shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// stdout can't be written to.
pub fn run(args: &CompletionsArgs) -> Result<(), StartupError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "cllm", &mut script);
    crate::console::print(&String::from_utf8_lossy(&script))
}
