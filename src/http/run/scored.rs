//! Log probabilities as JSON numbers.

use serde_json::{Value, json};

use super::choices::Scored;
use crate::tokenizer::Tokenizer;
use crate::types::Token;

/// The value for the logarithm of 0, which JSON can't express.
const IMPOSSIBLE: f32 = -9999.0;

/// A log probability as JSON.
pub fn number(logprob: f32) -> Value {
    json!(if logprob.is_finite() { logprob } else { IMPOSSIBLE })
}

/// A token's text; bytes that aren't UTF-8 become U+FFFD.
pub fn text(tokenizer: &Tokenizer, token: Token) -> String {
    String::from_utf8_lossy(&tokenizer.piece(token, true)).into_owned()
}

/// The mean log probability of an answer's tokens, by which `best_of` ranks answers.
pub fn mean(scored: &[Scored]) -> f64 {
    let sum: f64 = scored.iter().map(|scored| f64::from(scored.scores.chosen)).sum();
    if scored.is_empty() { f64::NEG_INFINITY } else { sum / scored.len() as f64 }
}
