//! Anthropic's routes: `/v1/messages` and `/v1/messages/count_tokens`. The same chat as OpenAI's, told in another shape.
//!
//! ```text
//! request  the body, made the chat request that the other routes have
//! answer   blocks of a whole answer, and what both kinds of answers say of their end
//! stream   the same as named events
//! error    errors in Anthropic's shape
//! ```

mod answer;
mod error;
mod request;
mod stream;

pub(in crate::http) use error::body;
pub(in crate::http) use request::MessagesRequest;
