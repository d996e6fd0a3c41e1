//! `cllm encode`: text to token ids. Needs only the vocabulary of a GGUF, not its weights.

use crate::config::Flags;
use crate::config::settings::scope::TEXT;

/// Print the token ids of a text, on one line
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cllm encode -m model.gguf \"Hello, world\"
  cat book.txt | cllm encode --json -")]
pub struct EncodeArgs {
    /// The text; `-` reads it from stdin
    #[arg(allow_hyphen_values = true)]
    pub text: String,
    /// Add the tokens that the model wants around a text, such as BOS
    #[arg(long)]
    pub add_special: bool,
    /// Read special tokens such as <|im_start|> as such, not as text
    #[arg(long)]
    pub parse_special: bool,
    /// Print a JSON array
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub flags: Flags<TEXT>,
}
