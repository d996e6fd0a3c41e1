//! `cllm decode`: token ids to text. Needs only the vocabulary of a GGUF, not its weights.

use super::encode::text_or_stdin;
use crate::config::definition::scope::TEXT;
use crate::config::{Config, Flags};
use crate::console::print;
use crate::logging;
use crate::model_file::ModelFile;
use crate::server::{fetch, vocabulary};
use crate::types::{StartupError, Token};

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
    /// The settings given as flags.
    #[command(flatten)]
    pub flags: Flags<TEXT>,
}

/// Joins the tokens' bytes and prints the text.
///
/// # Errors
/// The model's vocabulary can't be used, or an id isn't in it.
pub fn run(args: &DecodeArgs) -> Result<(), StartupError> {
    let mut config = Config::load(&args.flags.0)?;
    logging::init(config.log_level, config.log_format);
    fetch::fetch(&mut config.model)?;
    let file = ModelFile::open(&config.model)?;
    let tokenizer = vocabulary::load(&config, &file, &file.gguf()?)?;
    let words = if args.ids == ["-"] { text_or_stdin("-")? } else { args.ids.join(" ") };
    let tokens = ids(&words, tokenizer.n_vocab())?;
    let text = tokenizer.decode(&tokens, args.special);
    print(&format!("{}\n", if args.json { serde_json::Value::from(text).to_string() } else { text }))
}

/// Reads ids that are separated by spaces, commas or the brackets of a JSON array.
fn ids(words: &str, n_vocab: usize) -> Result<Vec<Token>, StartupError> {
    words
        .split(|c: char| c.is_whitespace() || ",[]".contains(c))
        .filter(|word| !word.is_empty())
        .map(|word| match word.parse::<u32>() {
            Ok(id) if (id as usize) < n_vocab => Ok(Token(id)),
            _ => Err(StartupError::Config {
                name: "<ID>".into(),
                reason: format!("{word:?} is no token id, they go from 0 to {}", n_vocab - 1),
            }),
        })
        .collect()
}
