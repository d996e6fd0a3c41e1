//! Errors as OpenAI's clients read them: `{"error":{"message","type","param","code"}}`, with a true status.

use serde_json::{Value, json};
use tiny_http::ResponseBox;

use crate::http::answer::Failure;
use crate::http::fault::{header, json_response, with_retry_after};
use crate::http::route::{NoRoute, path_of};
use crate::types::RequestError;

/// Whether a path belongs to these routes, so that errors there have this shape.
pub fn is_path(url: &str) -> bool {
    let of_llama_server = ["/completion", "/tokenize", "/detokenize", "/apply-template", "/props", "/slots"];
    url.starts_with("/v1/") || of_llama_server.contains(&path_of(url))
}

/// An error that no request's content made.
pub fn fault(status: u16, message: &str, code: &str) -> ResponseBox {
    json_response(status, &body(status, message, None, code))
}

/// The body of an error.
pub fn body(status: u16, message: &str, param: Option<&str>, code: &str) -> Value {
    let kind = match status {
        401 | 403 => "authentication_error",
        429 => "rate_limit_error",
        400..500 => "invalid_request_error",
        _ => "server_error",
    };
    json!({"error": {"message": message, "type": kind, "param": param, "code": code}})
}

/// A refused request.
pub fn refusal(error: &RequestError) -> ResponseBox {
    let param = match error {
        RequestError::Field { field, .. } => Some(field.as_str()),
        RequestError::TooLong { .. } => Some("max_tokens"),
        _ => None,
    };
    let body = body(error.status(), &error.to_string(), param, error.code());
    with_retry_after(json_response(error.status(), &body), error)
}

/// A generation that ended otherwise than it should.
pub fn failure_body(failure: &Failure) -> Value {
    body(failure.status, &failure.message, failure.field.as_deref(), failure.code)
}

/// A path or method that leads nowhere.
pub fn no_route(why: NoRoute) -> ResponseBox {
    match why {
        NoRoute::NotFound => {
            json_response(404, &body(404, "there is nothing here; GET / lists the routes", None, "not_found"))
        }
        NoRoute::WrongMethod { allow } => {
            let message = format!("this path takes {allow}");
            json_response(405, &body(405, &message, None, "method_not_allowed")).with_header(header("Allow", allow))
        }
    }
}
