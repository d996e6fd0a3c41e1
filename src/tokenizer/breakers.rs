//! Finds the tokens that contain or spell a text at which DRY lets repetitions end.
//!
//! Runs on HTTP threads. A pass over the vocabulary takes some milliseconds, so the latest result is kept: nearly all
//! requests use the same texts. The method is llama.cpp's (`get_overlapping_token_sequences`).

use std::sync::{Arc, Mutex, PoisonError};

use super::Tokenizer;
use crate::types::limits::DRY_TAIL_MAX;
use crate::types::{SequenceBreakers, Token};

/// llama.cpp's own texts, for requests that name none.
const USUAL: [&str; 4] = ["\n", ":", "\"", "*"];

/// The latest breakers of one vocabulary, with their texts.
#[derive(Debug, Default)]
pub struct Breakers {
    last: Mutex<Option<(Vec<String>, Arc<SequenceBreakers>)>>,
}

impl Breakers {
    /// The breakers of `texts`, none of which is empty; with `None`, of the usual texts.
    pub fn of(&self, tokenizer: &Tokenizer, texts: Option<&[String]>) -> Arc<SequenceBreakers> {
        let texts = texts.map_or_else(|| USUAL.map(str::to_owned).to_vec(), <[String]>::to_vec);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((known, breakers)) if *known == texts => Arc::clone(breakers),
            _ => {
                let breakers = Arc::new(sequence_breakers(tokenizer, &texts));
                *last = Some((texts, Arc::clone(&breakers)));
                breakers
            }
        }
    }
}

/// Each token that contains one of `texts`, with an empty rest; and each token that ends with the beginning of one, with
/// the tokens of the rest.
fn sequence_breakers(tokenizer: &Tokenizer, texts: &[String]) -> SequenceBreakers {
    let mut spelt = Vec::new();
    for id in 0..tokenizer.n_vocab() as u32 {
        let word = tokenizer.piece(Token(id), true);
        for text in texts {
            let bytes = text.as_bytes();
            if word.windows(bytes.len()).any(|part| part == bytes) {
                spelt.push((Token(id), Vec::new()));
                continue;
            }
            for len in (1..bytes.len().min(word.len() + 1)).filter(|len| word.ends_with(&bytes[..*len])) {
                // `get` returns `None` if the rest begins inside a character: such bytes can't be tokenised.
                let tail = text.get(len..).and_then(|rest| tokenizer.encode(rest, false, false).ok());
                if let Some(mut tail) = tail {
                    tail.truncate(DRY_TAIL_MAX);
                    spelt.push((Token(id), tail));
                }
            }
        }
    }
    SequenceBreakers::new(spelt)
}
