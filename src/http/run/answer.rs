//! What a generation says on the wire.

use serde::Serialize;
use serde_json::{Value, json};

use crate::http::run::submit::Accepted;
use crate::types::{FinishReason, Terminal};

/// The `data` of a finished generation.
pub fn generation(accepted: &Accepted, text: &str, end: &Terminal) -> Value {
    json!({
        "id": accepted.id.to_string(),
        "text": text,
        "response_time": seconds(end.queue_us + end.prefill_us + end.decode_us),
        "tokens_per_second": rate(end.generated_tokens, seconds(end.prefill_us + end.decode_us)),
        "generated_tokens": end.generated_tokens,
        "prompt_tokens": end.prompt_tokens,
        "max_tokens": accepted.max_tokens,
        "finish_reason": end.reason.as_str(),
        "seed": accepted.seed,
        "timings": timings(end),
    })
}

/// Where a generation's time went.
#[derive(Serialize)]
pub struct Timings {
    queue_s: f64,
    prefill_s: f64,
    decode_s: f64,
    cached_prompt_tokens: u32,
    prompt_tokens_per_second: f64,
    decode_tokens_per_second: f64,
}

pub fn timings(end: &Terminal) -> Timings {
    let (prefill, decode) = (seconds(end.prefill_us), seconds(end.decode_us));
    Timings {
        queue_s: seconds(end.queue_us),
        prefill_s: prefill,
        decode_s: decode,
        cached_prompt_tokens: end.cached_tokens,
        prompt_tokens_per_second: rate(end.prompt_tokens - end.cached_tokens, prefill),
        // The first token comes with the prefill; the others take the decode time.
        decode_tokens_per_second: rate(end.generated_tokens.saturating_sub(1), decode),
    }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

fn rate(tokens: u32, s: f64) -> f64 {
    if s > 0.0 { (f64::from(tokens) / s * 100.0).round() / 100.0 } else { 0.0 }
}

/// Why a generation ended otherwise than it should, for its client.
#[derive(Debug)]
pub struct Failure {
    pub status: u16,
    pub message: String,
    pub code: &'static str,
    /// The field that is to blame.
    pub field: Option<String>,
}

/// What `reason` tells a client; `None`: it ended well. `constrained_by` is the field whose grammar the text followed.
pub fn failure_of(reason: FinishReason, constrained_by: Option<&str>) -> Option<Failure> {
    let (status, message, code) = match reason {
        FinishReason::Eos | FinishReason::Stop | FinishReason::Length | FinishReason::Embedded => return None,
        FinishReason::Deadline => (408, "the deadline passed", "deadline_exceeded"),
        FinishReason::Cancelled => (499, "the client went away", "cancelled"),
        FinishReason::Shutdown => (503, "the server is shutting down", "shutting_down"),
        FinishReason::EngineError => (500, "the engine could not go on with this request", "engine_error"),
        FinishReason::Grammar => {
            let field = constrained_by.unwrap_or("grammar").to_owned();
            let message = format!("{field}: the text got to where this can't be followed: too ambiguous, or no way on");
            return Some(Failure { status: 400, message, code: "invalid_field", field: Some(field) });
        }
    };
    Some(Failure { status, message: message.to_owned(), code, field: None })
}
