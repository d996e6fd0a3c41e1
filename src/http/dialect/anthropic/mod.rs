//! Anthropic's routes: `/v1/messages` and `/v1/messages/count_tokens`.
//!
//! ```text
//! request  the body
//! answer   blocks of a whole answer, and the fields of an end that whole answers and streams share
//! stream   answers as named events
//! ```

mod answer;
mod request;
mod stream;

use serde_json::{Value, json};
use tiny_http::Request;

use crate::http::ask::generation::{Defaults, Generation, Input};
use crate::http::caller::Caller;
use crate::http::fault::json_response;
use crate::http::run::refuse::{ErrorShape, Fault};
use crate::http::run::speaks::{Speaks, Told};
use crate::http::service::Service;
use crate::types::RequestError;

/// Anthropic's errors: `{"type": "error", "error": {"type", "message"}}`.
pub static ERRORS: ErrorShape =
    ErrorShape { schema: "AnthropicError", body, prompt_field: None, too_long: Some(too_long) };

fn body(fault: &Fault<'_>) -> Value {
    let kind = match fault.status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 => "timeout_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        400..500 => "invalid_request_error",
        _ => "api_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": fault.message}})
}

/// Anthropic's wording, by which its clients recognise that they must shorten the conversation.
fn too_long(n_prompt_tokens: usize, n_ctx: usize) -> String {
    format!(
        "prompt is too long: {n_prompt_tokens} tokens > {n_ctx} maximum. Shorten the conversation, or serve with a larger -c or a \
         smaller -np"
    )
}

/// Anthropic's messages.
#[derive(Debug)]
pub struct Messages;

impl Speaks for Messages {
    const ERRORS: &'static ErrorShape = &ERRORS;
    type Whole<'a> = answer::AnthropicAnswer<'a>;
    type Events<'a> = stream::AnthropicStream;

    fn parse(body: &[u8], defaults: &Defaults, fresh_seed: u64) -> Result<(Generation, Messages), RequestError> {
        Ok((request::parse(body, defaults, fresh_seed)?, Messages))
    }

    fn whole(self, told: Told<'_>) -> answer::AnthropicAnswer<'_> {
        answer::AnthropicAnswer::new(told)
    }

    fn events(self, told: Told<'_>) -> stream::AnthropicStream {
        stream::AnthropicStream::new(told)
    }
}

impl Service {
    /// `/v1/messages/count_tokens`.
    pub(in crate::http) fn count_tokens(&self, request: Request, caller: &Caller) {
        match self.counted(request.body()) {
            Ok(n) => self.respond(request, caller, json_response(200, &json!({"input_tokens": n}))),
            Err(error) => self.refuse(request, caller, &ERRORS, &error),
        }
    }

    fn counted(&self, body: &[u8]) -> Result<usize, RequestError> {
        let mut generation = request::parse(body, &self.parts.defaults, 0)?;
        match generation.inputs.pop() {
            Some(Input::Chat(messages)) => Ok(self.prompt_of(messages, &generation)?.1.len()),
            _ => Ok(0),
        }
    }
}
