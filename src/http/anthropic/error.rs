//! Errors as Anthropic's clients read them: `{"type":"error","error":{"type","message"}}`, with a true status.

use serde_json::{Value, json};
use tiny_http::ResponseBox;

use crate::http::answer::Failure;
use crate::http::fault::{header, json_response, with_retry_after};
use crate::http::route::{NoRoute, path_of};
use crate::types::RequestError;

/// Whether a path belongs to these routes, so that errors there have this shape.
pub fn is_path(url: &str) -> bool {
    let path = path_of(url);
    path == "/v1/messages" || path.starts_with("/v1/messages/")
}

pub fn body(status: u16, message: &str) -> Value {
    let kind = match status {
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
    json!({"type": "error", "error": {"type": kind, "message": message}})
}

/// An error that no request's content made.
pub fn fault(status: u16, message: &str) -> ResponseBox {
    json_response(status, &body(status, message))
}

/// A refused request.
pub fn refusal(error: &RequestError) -> ResponseBox {
    with_retry_after(fault(error.status(), &error.to_string()), error)
}

/// A generation that ended otherwise than it should.
pub fn failure_body(failure: &Failure) -> Value {
    body(failure.status, &failure.message)
}

/// A path or method that leads nowhere.
pub fn no_route(why: NoRoute) -> ResponseBox {
    match why {
        NoRoute::NotFound => fault(404, "there is nothing here; GET / lists the routes"),
        NoRoute::WrongMethod { allow } => {
            fault(405, &format!("this path takes {allow}")).with_header(header("Allow", allow))
        }
    }
}
