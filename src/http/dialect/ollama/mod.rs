//! Ollama's API, for programs that speak nothing else: `/api/...`. Streams are lines of JSON, and are what an answer is unless
//! the body says `"stream": false`.
//!
//! ```text
//! request  bodies of /api/chat and /api/generate, made the chat request that the other routes have
//! answer   from a body to its answer, whole or in lines
//! embed    /api/embed and /api/embeddings
//! about    /api/tags, /api/ps, /api/show, /api/version; and what this server doesn't do
//! ```

mod about;
mod answer;
mod embed;
mod request;

use serde_json::{Value, json};

pub(in crate::http) use embed::EmbedRequest;
pub(in crate::http) use request::OllamaRequest;

/// The body of an error.
pub fn body(message: &str) -> Value {
    json!({"error": message})
}
