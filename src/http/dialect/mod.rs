//! Whose names and shapes an answer has: the one place that knows which route speaks which dialect, and how each says an error.
//! A path that leads nowhere is answered like its neighbours. Pure, but for counting refusals.

pub mod anthropic;
pub mod llama_server;
mod native;
pub mod ollama;
pub mod openai;
pub mod responses;

use serde_json::Value;
use tiny_http::{Request, ResponseBox};

use crate::http::caller::Caller;
use crate::http::fault::{fault_body, header, json_response, with_retry_after};
use crate::http::route::{NoRoute, absence, found, path_of, plain};
use crate::http::run::answer::Failure;
use crate::http::service::Service;
use crate::types::RequestError;

/// The names and shapes that a family of clients reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `{"success", "error", "code"}`.
    Native,
    /// `{"error": {"message", "type", "param", "code"}}`; llama-server's errors are the same.
    OpenAi,
    /// `{"type": "error", "error": {"type", "message"}}`.
    Anthropic,
    /// `{"error": MESSAGE}`.
    Ollama,
}

impl Dialect {
    /// The dialect of the route that `url` leads to.
    pub fn at(url: &str) -> Dialect {
        let path = plain(path_of(url));
        match found(&path) {
            Some((_, _, route, _)) => route.dialect(),
            None if path.starts_with("/v1/messages/") => Dialect::Anthropic,
            None if path.starts_with("/v1/") => Dialect::OpenAi,
            None if path.starts_with("/api/") => Dialect::Ollama,
            None => Dialect::Native,
        }
    }

    /// The body of an error. `extra`: an object of further fields, which the native dialect alone has; its `field` is the
    /// request's field that is to blame.
    pub fn error_body(self, status: u16, message: &str, code: &str, extra: Value) -> Value {
        match self {
            Dialect::Native => fault_body(message, code, extra),
            Dialect::OpenAi => openai::body(status, message, extra["field"].as_str(), code),
            Dialect::Anthropic => anthropic::body(status, message),
            Dialect::Ollama => ollama::body(message),
        }
    }

    /// An error as an answer.
    pub fn fault(self, status: u16, message: &str, code: &str, extra: Value) -> ResponseBox {
        json_response(status, &self.error_body(status, message, code, extra))
    }

    /// A path or method that leads nowhere.
    pub fn no_route(self, why: NoRoute, url: &str) -> ResponseBox {
        match why {
            NoRoute::NotFound => self.fault(404, &absence(url), "not_found", Value::Null),
            NoRoute::WrongMethod { allow } => self
                .fault(405, &format!("this path takes {allow}"), "method_not_allowed", Value::Null)
                .with_header(header("Allow", allow)),
        }
    }

    /// A refused request.
    pub fn refusal(self, error: &RequestError) -> ResponseBox {
        let mut extra = extra_of(error);
        if let (Dialect::OpenAi, RequestError::TooLong { .. }) = (self, error) {
            extra["field"] = "messages".into();
        }
        let message = match (self, error) {
            // Anthropic's words, by which its clients know that they must shorten the conversation.
            (Dialect::Anthropic, RequestError::TooLong { n_prompt_tokens, n_ctx }) => format!(
                "prompt is too long: {n_prompt_tokens} tokens > {n_ctx} maximum. Shorten the conversation, or serve with a \
                 larger -c or a smaller -np"
            ),
            (_, error) => error.to_string(),
        };
        with_retry_after(self.fault(error.status(), &message, error.code(), extra), error)
    }

    /// The body that says why a generation ended otherwise than it should.
    pub fn failure_body(self, failure: &Failure) -> Value {
        let extra = failure.field.as_ref().map_or(Value::Null, |field| serde_json::json!({"field": field}));
        self.error_body(failure.status, &failure.message, failure.code, extra)
    }

    /// Its schema in the OpenAPI document.
    pub fn error_schema(self) -> &'static str {
        match self {
            Dialect::Native => "Error",
            Dialect::OpenAi => "OpenAIError",
            Dialect::Anthropic => "AnthropicError",
            Dialect::Ollama => "OllamaError",
        }
    }
}

/// What a native error says besides its message.
fn extra_of(error: &RequestError) -> Value {
    use serde_json::json;
    match error {
        RequestError::TooLong { n_prompt_tokens, n_ctx } => {
            json!({"n_prompt_tokens": n_prompt_tokens, "n_ctx": n_ctx})
        }
        RequestError::Field { field, .. } => json!({"field": field}),
        RequestError::Json { line, column, .. } => json!({"line": line, "column": column}),
        RequestError::Unsupported(_) | RequestError::QueueFull { .. } | RequestError::ShuttingDown => Value::Null,
    }
}

impl Service {
    /// Answers a refused request: every refusal of every route comes through here or through `refusal`.
    pub(in crate::http) fn refuse(&self, request: Request, caller: &Caller, error: &RequestError) {
        let response = self.refusal(request.url(), caller, error);
        self.respond(request, caller, response);
    }

    /// A refusal as an answer: the log line has its code, and it is counted once.
    pub(in crate::http) fn refusal(&self, url: &str, caller: &Caller, error: &RequestError) -> ResponseBox {
        self.note_refusal(caller, error.code());
        Dialect::at(url).refusal(error)
    }

    /// Notes that a request is refused with this code.
    pub(in crate::http) fn note_refusal(&self, caller: &Caller, code: &'static str) {
        caller.line.refused(code);
        self.parts.metrics.http.rejected(code).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_shape_of_their_route() {
        for (url, dialect) in [
            ("/generate", Dialect::Native),
            ("/nowhere", Dialect::Native),
            ("/v1/chat/completions?x=1", Dialect::OpenAi),
            ("/v1/nowhere", Dialect::OpenAi),
            ("/completion", Dialect::OpenAi),
            ("/props", Dialect::OpenAi),
            ("/chat/completions", Dialect::OpenAi),
            ("//v1/messages/", Dialect::Anthropic),
            ("/v1/messages", Dialect::Anthropic),
            ("/v1/messages/count_tokens", Dialect::Anthropic),
            ("/v1/messages/batches", Dialect::Anthropic),
            ("/metrics", Dialect::Native),
            ("/api/chat", Dialect::Ollama),
            ("/api/nowhere", Dialect::Ollama),
        ] {
            assert_eq!(Dialect::at(url), dialect, "{url}");
        }
    }
}
