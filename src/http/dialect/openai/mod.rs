//! OpenAI's chat, completions, embeddings and models: the API that most clients speak.
//!
//! ```text
//! options      what chat and completions both accept: sampling, limits, stream, the text's shape
//! chat_request, messages, tools     the body of /v1/chat/completions
//! chat         its answers
//! completion_request, completion    /v1/completions
//! embeddings   /v1/embeddings
//! answer       what both say: the head of an answer, its usage
//! chunk        one event of a stream, without a JSON tree
//! logprobs     tokens with their scores; usage: what was counted
//! models       /v1/models
//! render       the prompt of a chat or a completion as tokens, for routers
//! ```

mod answer;
mod chat;
mod chat_request;
mod chunk;
mod completion;
mod completion_request;
pub mod embeddings;
mod logprobs;
mod messages;
mod models;
mod options;
mod render;
mod tools;
mod usage;

pub use chat::Chat;
pub use chat_request::parse as chat_body;
pub use completion::Completions;

use crate::http::run::refuse::{ErrorShape, openai_body};

/// OpenAI's errors.
pub static ERRORS: ErrorShape =
    ErrorShape { schema: "OpenAIError", body: openai_body, prompt_field: Some("messages"), too_long: None };
