//! A `tokenizer.json` that the user names, run by the `tokenizers` crate.
//!
//! Its BPE keeps a cache of words behind a lock; the crate only ever tries to take it, so threads don't wait for each
//! other, but they do share its cache line. Its expressions backtrack, so the text is bounded more tightly.

use std::path::Path;

use tokenizers::Tokenizer as HfTokenizer;

use super::byte_alphabet;
use super::vocab;
use crate::types::Token;

/// Longest text, in bytes.
const TEXT_BYTES_MAX: usize = 1 << 20;

pub struct JsonEngine {
    /// Finds special tokens in text.
    parsing: HfTokenizer,
    /// Takes their texts for text.
    plain: HfTokenizer,
    style: Style,
    n_vocab: usize,
}

/// How token texts spell bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    ByteLevel,
    Metaspace,
    WordPiece,
}

impl JsonEngine {
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
            Style::ByteLevel
        } else if parts[2].contains("\"WordPiece\"") {
            Style::WordPiece
        } else {
            Style::Metaspace
        };
        let n_vocab = parsing.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        Ok(JsonEngine { parsing, plain, style, n_vocab })
    }

    /// The largest id plus one.
    pub fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    pub fn encode(&self, text: &str, add: bool, parse: bool, out: &mut Vec<u32>) -> Result<(), String> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("{} bytes are more than a tokenizer.json takes ({TEXT_BYTES_MAX})", text.len()));
        }
        let tokenizer = if parse { &self.parsing } else { &self.plain };
        let encoding = tokenizer.encode_fast(text, add).map_err(|e| e.to_string().replace('\n', " "))?;
        out.extend_from_slice(encoding.get_ids());
        Ok(())
    }

    pub fn token_of(&self, text: &str) -> Option<Token> {
        self.parsing.token_to_id(text).map(Token)
    }

    /// Every token's bytes, in id order.
    pub fn pieces(&self) -> Vec<Vec<u8>> {
        let is_special = |id: u32| self.parsing.get_added_tokens_decoder().get(&id).is_some_and(|t| t.special);
        let specials: Vec<bool> = (0..self.n_vocab as u32).map(is_special).collect();
        (0..self.n_vocab as u32).map(|id| if specials[id as usize] { Vec::new() } else { self.shown(id) }).collect()
    }

    /// One token's bytes, special or not.
    pub fn shown(&self, id: u32) -> Vec<u8> {
        let Some(text) = self.parsing.id_to_token(id) else { return Vec::new() };
        if self.parsing.get_added_tokens_decoder().contains_key(&id) {
            return text.into_bytes();
        }
        match self.style {
            Style::ByteLevel => byte_alphabet::decode_lossy(text.as_bytes()),
            Style::WordPiece => match text.strip_prefix("##") {
                Some(rest) => rest.as_bytes().to_vec(),
                None => format!(" {text}").into_bytes(),
            },
            Style::Metaspace => {
                let byte = text.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'));
                match byte.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                    Some(byte) => vec![byte],
                    None => text.replace('\u{2581}', " ").into_bytes(),
                }
            }
        }
    }

    /// Tokens whose names end a generation.
    pub fn eog(&self) -> Vec<Token> {
        vocab::eog_names().filter_map(|name| self.token_of(name)).collect()
    }
}
