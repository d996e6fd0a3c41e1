//! The traits that a dialect implements for this room: a parser, and the two ways of telling an answer. A dialect knows
//! only names and formats.
//!
//! The traits are here and not in the dialects, so that arrows go one way: `ask` <- `run` <- `dialect`.

use serde_json::Value;

use super::choices::Listener;
use super::failure::GenerationFailure;
use super::refuse::ErrorShape;
use crate::http::ask::generation::{Defaults, Generation};
use crate::http::service::Service;
use crate::types::{RequestError, RequestId, Terminal, Token};

/// The names and formats that a family of clients uses for a generation. A value of it holds what an answer must know
/// of its request.
pub trait Speaks: Sized {
    /// The format in which its clients read errors.
    const ERRORS: &'static ErrorShape;
    /// The field that bounds an answer's tokens, for the warning when the bound is lowered.
    const MAX_TOKENS: &'static str = "max_tokens";

    /// Collects a whole answer.
    type Whole<'a>: Whole;
    /// Sends an answer in events.
    type Events<'a>: Events;

    /// Parses a body. `fresh_seed` is used if neither the request nor the settings have a seed.
    ///
    /// # Errors
    /// No useful answer is possible; the error names the field as the client wrote it.
    fn parse(body: &[u8], defaults: &Defaults, fresh_seed: u64) -> Result<(Generation, Self), RequestError>;

    /// Makes the listener of a whole answer.
    fn whole(self, told: Told<'_>) -> Self::Whole<'_>;

    /// Makes the listener of a stream. Events that it makes at once are sent with the head.
    fn events(self, told: Told<'_>) -> Self::Events<'_>;

    /// Converts an error of this room to the dialect's names of fields.
    fn in_own_words(error: RequestError) -> RequestError {
        error
    }
}

/// What an answer is told of its request after the engine has accepted it.
pub struct Told<'a> {
    /// The service, for the model and the tokenizer.
    pub service: &'a Service,
    /// The request's number.
    pub id: RequestId,
    /// The prompts, one for each input.
    pub prompts: Vec<Prompted>,
    /// The request as it was parsed; its inputs were moved to `prompts`.
    pub generation: Generation,
}

/// A prompt of a generation.
#[derive(Clone, Debug, Default)]
pub struct Prompted {
    /// Its number of tokens.
    pub n_tokens: usize,
    /// Most tokens of its answer.
    pub max_tokens: usize,
    /// Whether the request asked for more tokens than that.
    pub is_cut: bool,
    /// The prompt's text, if the generation `shows_prompts`; otherwise empty.
    pub text: String,
    /// The prompt's tokens, if the generation `shows_prompts`; otherwise empty.
    pub tokens: Vec<Token>,
}

/// A listener that collects a whole answer.
pub trait Whole: Listener {
    /// The body of an answer that ended well; `ends` has the terminal of each choice.
    fn object(self, ends: &[Terminal]) -> Value;

    /// The body if a generation failed; `error` is the dialect's error for that.
    fn failed(self, _ends: &[Terminal], _failure: &GenerationFailure, error: Value) -> Value
    where
        Self: Sized,
    {
        error
    }
}

/// A listener that makes events.
pub trait Events: Listener {
    /// The content type of the stream.
    fn content_type(&self) -> &'static str {
        "text/event-stream"
    }

    /// Events that weren't sent yet.
    fn buffer(&mut self) -> &mut Vec<u8>;

    /// Writes a keep-alive: an event that clients ignore. By default a comment, which readers of server-sent events
    /// skip.
    fn sign(&mut self) {
        self.buffer().extend_from_slice(b": working\n\n");
    }

    /// All generations have ended well.
    fn close(&mut self, _ends: &[Terminal]) {}

    /// A generation failed after the head was sent; `error` is the dialect's error for that.
    fn fail(&mut self, ends: &[Terminal], failure: &GenerationFailure, error: &Value);
}
