//! A `tokenizer.json` that the user names, run by the `tokenizers` crate.
//!
//! The crate's BPE has a cache of words behind a lock. It only tries to take the lock, so threads don't wait for each
//! other, but they share the lock's cache line. Its regular expressions backtrack, so the bound of a text's length is lower
//! here.

use std::path::Path;

use tokenizers::Tokenizer as HfTokenizer;

use super::byte_alphabet;
use super::vocab;
use crate::types::Token;
use crate::types::limits::JSON_TOKENIZED_BYTES_MAX;

/// The tokenizer of one `tokenizer.json`.
pub struct JsonEngine {
    /// Turns the texts of special tokens into these tokens.
    parsing: HfTokenizer,
    /// Treats the texts of special tokens as ordinary text.
    plain: HfTokenizer,
    style: ByteStyle,
    n_vocab: usize,
}

/// How the texts of tokens stand for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByteStyle {
    ByteLevel,
    Metaspace,
    WordPiece,
}

impl JsonEngine {
    /// Reads the file.
    ///
    /// # Errors
    /// The file can't be read, or isn't a tokenizer.
    pub fn open(path: &Path) -> Result<JsonEngine, String> {
        let one_line = |e: tokenizers::Error| e.to_string().replace('\n', " ");
        std::fs::metadata(path).map_err(|e| e.to_string())?;
        let mut parsing = HfTokenizer::from_file(path).map_err(one_line)?;
        parsing.with_padding(None);
        parsing.with_truncation(None).map_err(one_line)?;
        let mut plain = parsing.clone();
        plain.set_encode_special_tokens(true);
        let written = serde_json::to_value(&parsing).map_err(|e| e.to_string())?;
        let parts = ["pre_tokenizer", "decoder", "model"].map(|part| written[part].to_string());
        let style = if parts[..2].iter().any(|part| part.contains("\"ByteLevel\"")) {
            ByteStyle::ByteLevel
        } else if parts[2].contains("\"WordPiece\"") {
            ByteStyle::WordPiece
        } else {
            ByteStyle::Metaspace
        };
        let n_vocab = parsing.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        Ok(JsonEngine { parsing, plain, style, n_vocab })
    }

    /// The largest id plus one.
    pub fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    /// Appends the ids of `text`. `add`: add special tokens around it; `parse`: find special tokens in it.
    ///
    /// # Errors
    /// The text is too long, or the crate fails.
    pub fn encode(&self, text: &str, add: bool, parse: bool, out: &mut Vec<u32>) -> Result<(), String> {
        if text.len() > JSON_TOKENIZED_BYTES_MAX {
            return Err(format!(
                "the text has {} bytes, a tokenizer.json takes at most {JSON_TOKENIZED_BYTES_MAX}",
                text.len()
            ));
        }
        let tokenizer = if parse { &self.parsing } else { &self.plain };
        let encoding = tokenizer.encode_fast(text, add).map_err(|e| e.to_string().replace('\n', " "))?;
        out.extend_from_slice(encoding.get_ids());
        Ok(())
    }

    /// The token with exactly this text.
    pub fn token_of(&self, text: &str) -> Option<Token> {
        self.parsing.token_to_id(text).map(Token)
    }

    /// The bytes of all tokens in the order of ids. Special tokens have none.
    pub fn pieces(&self) -> Vec<Vec<u8>> {
        let is_special = |id: u32| self.parsing.get_added_tokens_decoder().get(&id).is_some_and(|t| t.special);
        let specials: Vec<bool> = (0..self.n_vocab as u32).map(is_special).collect();
        (0..self.n_vocab as u32).map(|id| if specials[id as usize] { Vec::new() } else { self.shown(id) }).collect()
    }

    /// The bytes of one token. A special token gives its text.
    pub fn shown(&self, id: u32) -> Vec<u8> {
        let Some(text) = self.parsing.id_to_token(id) else { return Vec::new() };
        if self.parsing.get_added_tokens_decoder().contains_key(&id) {
            return text.into_bytes();
        }
        match self.style {
            ByteStyle::ByteLevel => byte_alphabet::decode_lossy(text.as_bytes()),
            ByteStyle::WordPiece => match text.strip_prefix("##") {
                Some(rest) => rest.as_bytes().to_vec(),
                None => format!(" {text}").into_bytes(),
            },
            ByteStyle::Metaspace => {
                let byte = text.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'));
                match byte.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                    Some(byte) => vec![byte],
                    None => text.replace('\u{2581}', " ").into_bytes(),
                }
            }
        }
    }

    /// The tokens that end a generation, known by their names.
    pub fn eog(&self) -> Vec<Token> {
        vocab::eog_names().filter_map(|name| self.token_of(name)).collect()
    }
}
