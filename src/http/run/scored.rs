//! Log-probabilities, as JSON can hold them.

use serde_json::{Value, json};

use super::choices::Scored;
use crate::tokenizer::Tokenizer;
use crate::types::Token;

/// What stands for the logarithm of 0, which JSON can't hold.
const IMPOSSIBLE: f32 = -9999.0;

/// A log-probability.
pub fn number(logprob: f32) -> Value {
    json!(if logprob.is_finite() { logprob } else { IMPOSSIBLE })
}

/// A token's text, as far as it is UTF-8.
pub fn text(tokenizer: &Tokenizer, token: Token) -> String {
    String::from_utf8_lossy(&tokenizer.piece(token, true)).into_owned()
}

/// The mean over an answer's tokens; what `best_of` ranks by.
pub fn mean(scored: &[Scored]) -> f64 {
    let sum: f64 = scored.iter().map(|scored| f64::from(scored.scores.chosen)).sum();
    if scored.is_empty() { f64::NEG_INFINITY } else { sum / scored.len() as f64 }
}
