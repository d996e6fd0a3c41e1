//! `cllm encode`: text to token ids. Needs only the vocabulary of a GGUF, not its weights.

use std::io::Read;

use crate::config::definition::scope::TEXT;
use crate::config::{Config, Flags};
use crate::console::print;
use crate::logging;
use crate::model_file::ModelFile;
use crate::server::{fetch, vocabulary};
use crate::types::{RequestError, StartupError};

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
    /// The settings given as flags.
    #[command(flatten)]
    pub flags: Flags<TEXT>,
}

/// Tokenises the text and prints the ids.
///
/// # Errors
/// The model's vocabulary or the text can't be used.
pub fn run(args: &EncodeArgs) -> Result<(), StartupError> {
    let mut config = Config::load(&args.flags.0)?;
    logging::init(config.log_level, config.log_format);
    fetch::fetch(&mut config.model)?;
    let file = ModelFile::open(&config.model)?;
    let tokenizer = vocabulary::load(&config, &file, &file.gguf()?)?;
    let text = text_or_stdin(&args.text)?;
    let refuse = |error: RequestError| StartupError::System { doing: "encode".into(), reason: error.to_string() };
    let tokens = tokenizer.encode(&text, args.add_special, args.parse_special).map_err(refuse)?;
    let ids: Vec<String> = tokens.iter().map(|token| token.0.to_string()).collect();
    print(&if args.json { format!("[{}]\n", ids.join(",")) } else { format!("{}\n", ids.join(" ")) })
}

/// `text`, or all of stdin if it is `-`. stdin must be UTF-8.
pub(super) fn text_or_stdin(text: &str) -> Result<String, StartupError> {
    if text != "-" {
        return Ok(text.to_owned());
    }
    let failed = |reason: String| StartupError::System { doing: "read stdin".into(), reason };
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
    Ok(text)
}
