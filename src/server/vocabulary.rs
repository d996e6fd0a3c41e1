//! Builds the tokenizer of a model for every subcommand: from the GGUF, from a named `tokenizer.json`, or llama.cpp's own.

use std::sync::Arc;

use crate::config::Config;
use crate::gguf::GgufFile;
use crate::llama::LlamaVocab;
use crate::model_file::ModelFile;
use crate::tokenizer::{OtherTokenizer, Tokenizer};
use crate::types::{RequestError, StartupError, Token};

/// Builds it, and logs if llama.cpp's own is used.
///
/// # Errors
/// The file can't be used, or holds no vocabulary.
pub fn load(config: &Config, file: &ModelFile, gguf: &GgufFile) -> Result<Tokenizer, StartupError> {
    let tokenizer = match &config.tokenizer {
        Some(path) => Tokenizer::from_json(path, Some(gguf)),
        None => Tokenizer::from_gguf(gguf, || LlamaVocab::open(&file.place()).map(fallback)),
    };
    let tokenizer = tokenizer.map_err(|error| file.blame(error))?;
    if let Some(reason) = tokenizer.fallback_reason() {
        tracing::warn!(reason, "this vocabulary is tokenised by llama.cpp itself: exact, but slower");
    }
    Ok(tokenizer)
}

fn fallback(vocab: LlamaVocab) -> OtherTokenizer {
    let vocab = Arc::new(vocab);
    let (tokenize, piece, is_eog) = (Arc::clone(&vocab), Arc::clone(&vocab), Arc::clone(&vocab));
    OtherTokenizer {
        n_vocab: vocab.n_vocab(),
        bos: vocab.bos(),
        eos: vocab.eos(),
        tokenize: Box::new(move |text, add, parse| -> Result<Vec<Token>, RequestError> {
            tokenize.tokenize(text, add, parse)
        }),
        piece: Box::new(move |token, special| piece.piece(token, special).unwrap_or_default()),
        is_eog: Box::new(move |token| is_eog.is_eog(token)),
    }
}
