//! Errors as OpenAI's clients read them: `{"error":{"message","type","param","code"}}`, with a true status.

use serde_json::{Value, json};

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
