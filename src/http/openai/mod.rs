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
pub(super) mod chat;
pub(super) mod chat_request;
mod chunk;
mod completion;
pub(super) mod completion_request;
pub(super) mod embeddings;
mod error;
pub(super) mod logprobs;
pub(super) mod messages;
mod models;
pub(super) mod options;
pub(super) mod tools;
mod usage;

pub(super) use error::body;
