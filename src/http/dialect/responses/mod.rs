//! `POST /v1/responses`: OpenAI's newer form of a chat. Nothing is stored: each request brings its whole history.
//!
//! ```text
//! request  the body, made the chat request that the other routes have
//! answer   output items, whole or in events: both are made of the same
//! ```

mod answer;
mod request;

pub(in crate::http) use request::ResponsesRequest;
