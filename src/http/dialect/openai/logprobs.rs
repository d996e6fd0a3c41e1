//! Tokens with their log probabilities, in the formats of OpenAI's chat and completions.

use serde_json::{Map, Value, json};

use crate::http::run::choices::Scored;
use crate::http::run::scored::{number, text};
use crate::tokenizer::Tokenizer;
use crate::types::{Token, TokenLogprobs};

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

/// `logprobs` of a completion's choice: of its prompt's tokens, if they are shown, then of its own tokens, whose
/// offsets are `echo.chars` larger.
pub fn of_completion(tokenizer: &Tokenizer, echo: Option<(&Echo, &[TokenLogprobs])>, own: &[Scored]) -> Value {
    let mut all: Vec<(Token, usize, Option<&TokenLogprobs>)> = Vec::new();
    if let Some((echo, scores)) = echo {
        let scores = std::iter::once(None).chain(scores.iter().map(Some));
        all.extend(
            echo.tokens.iter().zip(&echo.offsets).zip(scores).map(|((token, at), scores)| (*token, *at, scores)),
        );
    }
    all.extend(own.iter().map(|own| (own.token, own.text_offset, Some(&own.scores))));
    json!({
        "tokens": all.iter().map(|(token, ..)| text(tokenizer, *token)).collect::<Vec<_>>(),
        "token_logprobs": all.iter().map(|(.., scores)| scores.map(|scores| number(scores.chosen))).collect::<Vec<_>>(),
        "top_logprobs": all.iter().map(|(token, _, scores)| scores.map(|scores| top(tokenizer, *token, scores)))
            .collect::<Vec<_>>(),
        "text_offset": all.iter().map(|(_, offset, _)| offset).collect::<Vec<_>>(),
    })
}

/// The most likely tokens and the chosen one, by their text. Of several tokens with equal text the most likely counts.
fn top(tokenizer: &Tokenizer, chosen: Token, scores: &TokenLogprobs) -> Value {
    let mut map = Map::new();
    for (token, logprob) in scores.top.iter().copied().chain([(chosen, scores.chosen)]) {
        map.entry(text(tokenizer, token)).or_insert_with(|| number(logprob));
    }
    Value::Object(map)
}

/// A prompt that is shown at the beginning of its answers.
pub struct Echo {
    /// The prompt's text.
    pub text: String,
    /// The prompt's tokens.
    pub tokens: Vec<Token>,
    /// Characters of `text`.
    pub chars: usize,
    /// For each token, the number of characters of `text` before it.
    offsets: Vec<usize>,
}

impl Echo {
    /// A prompt with this text and these tokens.
    pub fn new(tokenizer: &Tokenizer, text: String, tokens: Vec<Token>) -> Echo {
        let mut end = 0;
        let mut offsets: Vec<usize> = Vec::with_capacity(tokens.len());
        for token in &tokens {
            offsets.push(end);
            // A character counts for the token with its first byte.
            end += tokenizer.piece(*token, true).iter().filter(|byte| **byte & 0xC0 != 0x80).count();
        }
        let chars = text.chars().count();
        // Text of tokens that `text` doesn't have is at its beginning: BOS, and the space that some vocabularies add.
        let unseen = end.saturating_sub(chars);
        offsets.iter_mut().for_each(|offset| *offset = offset.saturating_sub(unseen));
        Echo { text, tokens, chars, offsets }
    }
}
