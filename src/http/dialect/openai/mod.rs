//! OpenAI's routes, for the clients that everyone has.
//!
//! ```text
//! options      what chat and completions both accept: sampling, limits, stream
//! chat_request, messages, tools     the body of /v1/chat/completions
//! chat         /v1/chat/completions
//! completion_request, completion    /v1/completions
//! embeddings   /v1/embeddings
//! answer       what both say: the head of an answer, its usage
//! chunk        one event of a stream, without a JSON tree
//! logprobs     tokens with their scores; usage: what was counted
//! models       /v1/models
//! error        errors in OpenAI's shape
//! ```

mod answer;
pub(in crate::http) mod chat;
pub(in crate::http) mod chat_request;
mod chunk;
mod completion;
pub(in crate::http) mod completion_request;
pub(in crate::http) mod embeddings;
mod error;
pub(in crate::http) mod logprobs;
pub(in crate::http) mod messages;
mod models;
pub(in crate::http) mod options;
pub(in crate::http) mod tools;
mod usage;

pub(in crate::http) use error::body;
