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

use super::path::{path_of, plain};
use super::route::found;
use super::run::refuse::ErrorShape;

/// A room of names and shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Native,
    OpenAi,
    Responses,
    Anthropic,
    LlamaServer,
    Ollama,
}

impl Dialect {
    /// The dialect of the route that `url` leads to. A path that leads nowhere is answered like its neighbours.
    pub fn at(url: &str) -> Dialect {
        let path = plain(path_of(url));
        match found(&path) {
            Some(row) => row.dialect,
            None if path.starts_with("/v1/messages/") => Dialect::Anthropic,
            None if path.starts_with("/v1/") => Dialect::OpenAi,
            None if path.starts_with("/api/") => Dialect::Ollama,
            None => Dialect::Native,
        }
    }

    /// How its clients read errors.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_shape_of_their_route() {
        for (url, dialect) in [
            ("/generate", Dialect::Native),
            ("/nowhere", Dialect::Native),
            ("/v1/chat/completions?x=1", Dialect::OpenAi),
            ("/v1/responses", Dialect::Responses),
            ("/v1/nowhere", Dialect::OpenAi),
            ("/completion", Dialect::LlamaServer),
            ("/props", Dialect::LlamaServer),
            ("/chat/completions", Dialect::OpenAi),
            ("//v1/messages/", Dialect::Anthropic),
            ("/v1/messages", Dialect::Anthropic),
            ("/v1/messages/count_tokens", Dialect::Anthropic),
            ("/v1/messages/batches", Dialect::Anthropic),
            ("/metrics", Dialect::Native),
            ("/api/chat", Dialect::Ollama),
            ("/api/nowhere", Dialect::Ollama),
        ] {
            assert_eq!(Dialect::at(url), dialect, "{url}");
        }
    }
}
