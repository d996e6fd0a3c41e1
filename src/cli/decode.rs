//! `cllm decode`: token ids to text. Needs only the vocabulary of a GGUF, not its weights.

use crate::config::Flags;
use crate::config::settings::scope::TEXT;

/// Print the text of token ids
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cllm decode -m model.gguf 9707 11 1879
  cllm encode \"Hello\" | cllm decode -")]
pub struct DecodeArgs {
    /// Token ids; `-` reads them from stdin, separated by spaces or as JSON
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<String>,
    /// Print special tokens such as <|im_start|> too
    #[arg(long)]
    pub special: bool,
    /// Print a JSON string
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub flags: Flags<TEXT>,
}
