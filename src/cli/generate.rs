//! `cllm generate`: one prompt, streamed to the terminal.

use crate::config::Flags;
use crate::config::settings::scope::GENERATE;

/// Generate text from one prompt and stream it to the terminal
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cllm generate \"How do I change the port?\"
  cllm generate --raw -n 100 \"Once upon a time\"
  git diff | cllm generate -m model.gguf - --temp 0")]
pub struct GenerateArgs {
    /// The prompt; `-` reads it from stdin
    pub prompt: String,
    /// Use the prompt as it is, without the model's chat template
    #[arg(long)]
    pub raw: bool,
    /// Do not stop at the model's end-of-text token
    #[arg(long)]
    pub ignore_eos: bool,
    /// Stop before this text; may be given more than once
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    #[command(flatten)]
    pub flags: Flags<GENERATE>,
}
