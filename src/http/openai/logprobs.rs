//! Tokens with their scores, as OpenAI's two routes and llama-server's show them.

use serde_json::{Map, Value, json};

use crate::http::choices::Scored;
use crate::tokenizer::Tokenizer;
use crate::types::Token;

/// What stands for the logarithm of 0, which JSON can't hold.
const IMPOSSIBLE: f32 = -9999.0;

fn number(logprob: f32) -> Value {
    json!(if logprob.is_finite() { logprob } else { IMPOSSIBLE })
}

fn text(tokenizer: &Tokenizer, token: Token) -> String {
    String::from_utf8_lossy(&tokenizer.piece(token, true)).into_owned()
}

/// `logprobs` of a chat's choice.
pub fn of_chat(tokenizer: &Tokenizer, scored: &[Scored]) -> Value {
    let entry = |token: Token, logprob: f32| {
        let bytes = tokenizer.piece(token, true);
        json!({"token": String::from_utf8_lossy(&bytes), "logprob": number(logprob), "bytes": bytes})
    };
    let entries = scored.iter().map(|scored| {
        let mut chosen = entry(scored.token, scored.scores.chosen);
        chosen["top_logprobs"] = scored.scores.top.iter().map(|(token, logprob)| entry(*token, *logprob)).collect();
        chosen
    });
    json!({"content": entries.collect::<Vec<_>>(), "refusal": null})
}

/// `logprobs` of a completion's choice.
pub fn of_completion(tokenizer: &Tokenizer, scored: &[Scored]) -> Value {
    let top = |scored: &Scored| -> Value {
        let entries = scored.scores.top.iter().map(|(token, logprob)| (text(tokenizer, *token), number(*logprob)));
        Value::Object(entries.collect::<Map<_, _>>())
    };
    json!({
        "tokens": scored.iter().map(|scored| text(tokenizer, scored.token)).collect::<Vec<_>>(),
        "token_logprobs": scored.iter().map(|scored| number(scored.scores.chosen)).collect::<Vec<_>>(),
        "top_logprobs": scored.iter().map(top).collect::<Vec<_>>(),
        "text_offset": scored.iter().map(|scored| scored.text_offset).collect::<Vec<_>>(),
    })
}

/// `completion_probabilities` of llama-server.
pub fn of_llama_server(tokenizer: &Tokenizer, scored: &[Scored]) -> Value {
    let entry = |token: Token, logprob: f32| {
        let bytes = tokenizer.piece(token, true);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        json!({"id": token.0, "token": text, "bytes": bytes, "logprob": number(logprob)})
    };
    let entries = scored.iter().map(|scored| {
        let mut chosen = entry(scored.token, scored.scores.chosen);
        chosen["top_logprobs"] = scored.scores.top.iter().map(|(token, logprob)| entry(*token, *logprob)).collect();
        chosen
    });
    entries.collect()
}

/// The mean over an answer's tokens; what `best_of` ranks by.
pub fn mean(scored: &[Scored]) -> f64 {
    let sum: f64 = scored.iter().map(|scored| f64::from(scored.scores.chosen)).sum();
    if scored.is_empty() { f64::NEG_INFINITY } else { sum / scored.len() as f64 }
}
