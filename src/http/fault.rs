//! Headers and JSON bodies of answers.

use serde_json::Value;
use tiny_http::{Header, Response, ResponseBox};

use crate::types::RequestError;

/// A header; name and value must be valid.
pub fn header(name: &str, value: &str) -> Header {
    // Names are constants, and values are digits, ids and sanitised text.
    Header::from_bytes(name, value).unwrap_or_else(|()| empty_header())
}

fn empty_header() -> Header {
    Header::from_bytes("X-Cllm-Warning", "a header could not be written").unwrap_or_else(|()| unreachable!())
}

/// A JSON answer with this status.
pub fn json_response(status: u16, body: &Value) -> ResponseBox {
    let mut bytes = body.to_string().into_bytes();
    bytes.push(b'\n');
    Response::from_data(bytes).with_status_code(status).with_header(header("Content-Type", "application/json")).boxed()
}

/// Adds `Retry-After` if a later attempt may succeed.
pub fn with_retry_after(response: ResponseBox, error: &RequestError) -> ResponseBox {
    match error {
        RequestError::QueueFull { retry_after_s } | RequestError::RateLimited { retry_after_s, .. } => {
            response.with_header(header("Retry-After", &retry_after_s.to_string()))
        }
        RequestError::ShuttingDown => response.with_header(header("Retry-After", "5")),
        _ => response,
    }
}
