//! Answers of generations on the native routes: `{"success", "data"}`.

use serde::Serialize;
use serde_json::{Value, json};

use crate::chat::Said;
use crate::http::run::choices::{Listener, Scored};
use crate::http::run::failure::GenerationFailure;
use crate::http::run::speaks::{Told, Whole};
use crate::types::Terminal;

/// Collects a whole answer.
pub struct TextAnswer<'a> {
    told: Told<'a>,
    text: String,
}

impl TextAnswer<'_> {
    /// An empty answer.
    pub fn new(told: Told<'_>) -> TextAnswer<'_> {
        TextAnswer { told, text: String::new() }
    }

    /// The `data` of a finished generation.
    fn data(&self, end: &Terminal) -> Value {
        json!({
            "id": self.told.id.to_string(),
            "text": self.text,
            "response_time": seconds(end.queue_us + end.prefill_us + end.decode_us),
            "tokens_per_second": rate(end.generated_tokens, seconds(end.prefill_us + end.decode_us)),
            "generated_tokens": end.generated_tokens,
            "prompt_tokens": end.prompt_tokens,
            "max_tokens": self.told.prompts.first().map(|prompt| prompt.max_tokens),
            "finish_reason": end.reason.as_str(),
            "seed": self.told.generation.sampling.seed,
            "timings": timings(end),
        })
    }
}

impl Listener for TextAnswer<'_> {
    fn said(&mut self, _: usize, said: Said<'_>, _: &mut Vec<Scored>) {
        if let Said::Content(text) = said {
            self.text.push_str(text);
        }
    }

    fn ended(&mut self, _: usize, _: &Terminal, _: usize, _: &mut Vec<Scored>) {}
}

impl Whole for TextAnswer<'_> {
    fn object(self, ends: &[Terminal]) -> Value {
        json!({"success": true, "data": ends.first().map(|end| self.data(end))})
    }

    /// The error contains the text so far.
    fn failed(self, ends: &[Terminal], _: &GenerationFailure, mut error: Value) -> Value {
        let message = error["error"].as_str().unwrap_or_default();
        error["error"] = json!(format!("{message}; data holds what was generated"));
        error["data"] = json!(ends.first().map(|end| self.data(end)));
        error
    }
}

/// How long each part of a generation took.
#[derive(Serialize)]
pub struct Timings {
    queue_s: f64,
    prefill_s: f64,
    decode_s: f64,
    cached_prompt_tokens: u32,
    /// How many of the cached tokens came from outside the KV cells.
    #[serde(skip_serializing_if = "is_zero")]
    restored_prompt_tokens: u32,
    /// Tokens that were guessed, and how many of the guesses were right.
    guesses: u32,
    guesses_accepted: u32,
    prompt_tokens_per_second: f64,
    decode_tokens_per_second: f64,
}

/// The timings of an answer that ended with `end`.
pub fn timings(end: &Terminal) -> Timings {
    let (prefill, decode) = (seconds(end.prefill_us), seconds(end.decode_us));
    Timings {
        queue_s: seconds(end.queue_us),
        prefill_s: prefill,
        decode_s: decode,
        cached_prompt_tokens: end.cached_tokens,
        restored_prompt_tokens: end.restored_tokens,
        guesses: end.guesses,
        guesses_accepted: end.guesses_accepted,
        prompt_tokens_per_second: rate(end.prompt_tokens - end.cached_tokens, prefill),
        // The first token comes with the prefill; only the others count for the decode time.
        decode_tokens_per_second: rate(end.generated_tokens.saturating_sub(1), decode),
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

fn rate(tokens: u32, s: f64) -> f64 {
    if s > 0.0 { (f64::from(tokens) / s * 100.0).round() / 100.0 } else { 0.0 }
}
