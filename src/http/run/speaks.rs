//! What a dialect gives to this room: a parser, and the two ways to tell an answer. A dialect knows names and shapes only.
//!
//! The trait stands here and not beside the dialects, so that arrows go one way: `ask` <- `run` <- `dialect`.

use serde_json::Value;

use super::choices::Listener;
use super::failure::Failure;
use super::refuse::ErrorShape;
use crate::http::ask::generation::{Defaults, Generation};
use crate::http::service::Service;
use crate::types::{RequestError, RequestId, Terminal, Token};

/// A family of clients' names and shapes for a generation. A value of it is what an answer must know of its request.
pub trait Speaks: Sized {
    /// How its clients read errors.
    const ERRORS: &'static ErrorShape;
    /// Its field that bounds an answer's tokens, for a warning where that is shortened.
    const MAX_TOKENS: &'static str = "max_tokens";

    /// Puts a whole answer together.
    type Whole<'a>: Whole;
    /// Tells an answer in events.
    type Events<'a>: Events;

    /// Reads a body. `fresh_seed` counts where neither the request nor the settings name one.
    ///
    /// # Errors
    /// No useful answer is possible: the field to blame is named as the client wrote it.
    fn parse(body: &[u8], defaults: &Defaults, fresh_seed: u64) -> Result<(Generation, Self), RequestError>;

    fn whole(self, told: Told<'_>) -> Self::Whole<'_>;

    /// The head of the stream leaves with what the events begin with.
    fn events(self, told: Told<'_>) -> Self::Events<'_>;

    /// An error of this room, with the dialect's own names for fields.
    fn in_own_words(error: RequestError) -> RequestError {
        error
    }
}

/// What an answer is told of its request once that has been accepted.
pub struct Told<'a> {
    pub service: &'a Service,
    pub id: RequestId,
    /// By input.
    pub prompts: Vec<Prompted>,
    /// As it was asked for; the inputs are in `prompts`.
    pub generation: Generation,
}

/// An input that was read.
#[derive(Clone, Debug, Default)]
pub struct Prompted {
    pub n_tokens: usize,
    /// Tokens that its answer may have.
    pub max_tokens: usize,
    /// More were asked for.
    pub is_cut: bool,
    /// Its text and tokens, of a generation that `shows_prompts`.
    pub text: String,
    pub tokens: Vec<Token>,
}

/// A listener that puts a whole answer together.
pub trait Whole: Listener {
    /// The body of an answer that ended well; `ends` by choice.
    fn object(self, ends: &[Terminal]) -> Value;

    /// The body where one has failed; `error` is the dialect's error for that.
    fn failed(self, _ends: &[Terminal], _failure: &Failure, error: Value) -> Value
    where
        Self: Sized,
    {
        error
    }
}

/// A listener that makes events.
pub trait Events: Listener {
    /// What kind of events.
    fn content_type(&self) -> &'static str {
        "text/event-stream"
    }

    /// Events that haven't left yet.
    fn buffer(&mut self) -> &mut Vec<u8>;

    /// Nothing was said for a while: an event that its client takes for a sign of life and for nothing else. By default a comment,
    /// of which no reader of server-sent events makes an event.
    fn sign(&mut self) {
        self.buffer().extend_from_slice(b": working\n\n");
    }

    /// All have ended, and ended well.
    fn close(&mut self, _ends: &[Terminal]) {}

    /// One has failed, after the head had left; `error` is the dialect's error for that.
    fn fail(&mut self, ends: &[Terminal], failure: &Failure, error: &Value);
}
