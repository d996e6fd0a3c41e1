//! The names and shapes that families of clients read: a room for each. No room names another; all give what `run` asks of them.
//!
//! ```text
//! native        cllm's own routes
//! openai        chat, completions, embeddings, models
//! responses     OpenAI's newer form of a chat
//! anthropic     messages
//! llama_server  completions, gaps, embeddings, ranking, with llama-server's fields
//! ollama        Ollama's API
//! refused       what the layer below refuses, in the shape of the route that was asked for
//! ```

pub mod anthropic;
pub mod llama_server;
pub mod native;
pub mod ollama;
pub mod openai;
mod refused;
pub mod responses;

use super::route::Dialect;
use super::run::refuse::ErrorShape;

impl Dialect {
    /// The format in which its clients read errors.
    pub fn errors(self) -> &'static ErrorShape {
        match self {
            Dialect::Native => &native::ERRORS,
            Dialect::OpenAi => &openai::ERRORS,
            Dialect::Responses => &responses::ERRORS,
            Dialect::Anthropic => &anthropic::ERRORS,
            Dialect::LlamaServer => &llama_server::ERRORS,
            Dialect::Ollama => &ollama::ERRORS,
        }
    }
}
