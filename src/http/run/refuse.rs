//! All refusals of all routes: each is logged with its code, counted once, and sent in the format that its client
//! reads.

use serde_json::{Value, json};
use tiny_http::{Request, ResponseBox};

use super::failure::GenerationFailure;
use crate::http::access::Denied;
use crate::http::caller::Caller;
use crate::http::fault::{header, json_response, with_retry_after};
use crate::http::service::Service;
use crate::types::RequestError;

/// An error, before it has a format.
#[derive(Debug)]
pub struct Fault<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The message for people.
    pub message: &'a str,
    /// A word for programs, such as `queue_full`.
    pub code: &'a str,
    /// An object with further facts; its `field` is the request's field to blame. Null: none.
    pub extra: Value,
}

/// The format in which a family of clients reads errors.
#[derive(Debug)]
pub struct ErrorShape {
    /// The name of its schema in the OpenAPI document.
    pub schema: &'static str,
    /// The body of an error.
    pub body: fn(&Fault<'_>) -> Value,
    /// The field to blame for a prompt that doesn't fit the context.
    pub prompt_field: Option<&'static str>,
    /// The wording by which clients recognise that they must shorten the prompt, from its tokens and the most that fit.
    /// `None`: the error's own message.
    pub too_long: Option<fn(usize, usize) -> String>,
}

/// OpenAI's format of an error, which several dialects share: `{"error": {"message", "type", "param", "code"}}`. For a prompt that is too
/// long it also has llama-server's `n_prompt_tokens` and `n_ctx`.
pub fn openai_body(fault: &Fault<'_>) -> Value {
    let kind = match fault.status {
        401 | 403 => "authentication_error",
        429 => "rate_limit_error",
        400..500 => "invalid_request_error",
        _ => "server_error",
    };
    let param = &fault.extra["field"];
    let mut error = json!({"message": fault.message, "type": kind, "param": param, "code": fault.code});
    for name in ["n_prompt_tokens", "n_ctx"] {
        if let Some(tokens) = fault.extra.get(name) {
            error[name] = tokens.clone();
        }
    }
    json!({"error": error})
}

impl ErrorShape {
    /// The answer for an error.
    pub fn answer(&self, status: u16, message: &str, code: &str, extra: Value) -> ResponseBox {
        json_response(status, &(self.body)(&Fault { status, message, code, extra }))
    }

    /// The answer 401 for a request without a valid key.
    pub fn denial(&self, denied: Denied) -> ResponseBox {
        let message = match denied {
            Denied::NoKey => "this server wants an API key: Authorization: Bearer KEY, or x-api-key: KEY",
            Denied::WrongKey => "this API key isn't known here",
        };
        let response = self.answer(401, message, "invalid_api_key", Value::Null);
        response.with_header(header("WWW-Authenticate", "Bearer"))
    }

    /// The answer for a refused request.
    pub fn refusal(&self, error: &RequestError) -> ResponseBox {
        let (mut message, mut extra) = (error.to_string(), extra_of(error));
        if let RequestError::TooLong { n_prompt_tokens, n_ctx } = error {
            if let Some(too_long) = self.too_long {
                message = too_long(*n_prompt_tokens, *n_ctx);
            }
            if let Some(field) = self.prompt_field {
                extra["field"] = field.into();
            }
        }
        with_retry_after(self.answer(error.status(), &message, error.code(), extra), error)
    }

    /// The body of the error for a failed generation.
    pub fn failure(&self, failure: &GenerationFailure) -> Value {
        let extra = failure.field.as_ref().map_or(Value::Null, |field| json!({"field": field}));
        let GenerationFailure { status, message, code, .. } = failure;
        (self.body)(&Fault { status: *status, message, code, extra })
    }
}

/// Further facts of a refusal, besides its message.
fn extra_of(error: &RequestError) -> Value {
    match error {
        RequestError::TooLong { n_prompt_tokens, n_ctx } => {
            json!({"n_prompt_tokens": n_prompt_tokens, "n_ctx": n_ctx})
        }
        RequestError::Field { field, .. } => json!({"field": field}),
        RequestError::Json { line, column, .. } => json!({"line": line, "column": column}),
        RequestError::ModelDenied { .. } => json!({"field": "model"}),
        RequestError::Unsupported(_)
        | RequestError::QueueFull { .. }
        | RequestError::RateLimited { .. }
        | RequestError::ShuttingDown => Value::Null,
    }
}

impl Service {
    /// Sends the refusal of a request, and counts it.
    pub(in crate::http) fn refuse(&self, request: Request, caller: &Caller, shape: &ErrorShape, error: &RequestError) {
        let response = self.refusal(caller, shape, error);
        self.respond(request, caller, response);
    }

    /// The answer for a refusal, which is counted.
    pub(in crate::http) fn refusal(&self, caller: &Caller, shape: &ErrorShape, error: &RequestError) -> ResponseBox {
        self.note_refusal(caller, error.code());
        shape.refusal(error)
    }

    /// Counts a refusal, and records its code for the log.
    pub(in crate::http) fn note_refusal(&self, caller: &Caller, code: &'static str) {
        caller.line.refused(code);
        self.parts.metrics.http.rejected(code).inc();
    }
}
