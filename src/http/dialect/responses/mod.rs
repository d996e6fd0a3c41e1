//! `POST /v1/responses`: OpenAI's newer form of a chat. Nothing is stored: each request brings its whole history.
//!
//! ```text
//! request  the body
//! answer   output items, whole or in events: both are made of the same
//! ```

mod answer;
mod request;

use serde_json::{Map, Value};

use crate::http::ask::generation::{Defaults, Generation};
use crate::http::run::refuse::{ErrorShape, openai_body};
use crate::http::run::speaks::{Speaks, Told};
use crate::types::RequestError;

/// OpenAI's errors.
pub static ERRORS: ErrorShape =
    ErrorShape { schema: "OpenAIError", body: openai_body, prompt_field: Some("input"), too_long: None };

/// A request for a response.
#[derive(Debug)]
pub struct Responses {
    /// Fields that the answer repeats as they came.
    echo: Map<String, Value>,
}

impl Speaks for Responses {
    const ERRORS: &'static ErrorShape = &ERRORS;
    const MAX_TOKENS: &'static str = "max_output_tokens";
    type Whole<'a> = answer::ResponsesAnswer;
    type Events<'a> = answer::ResponsesAnswer;

    fn parse(body: &[u8], defaults: &Defaults, fresh_seed: u64) -> Result<(Generation, Responses), RequestError> {
        let (generation, echo) = request::parse(body, defaults, fresh_seed)?;
        Ok((generation, Responses { echo }))
    }

    fn whole(self, told: Told<'_>) -> answer::ResponsesAnswer {
        answer::ResponsesAnswer::new(&told, self.echo)
    }

    fn events(self, told: Told<'_>) -> answer::ResponsesAnswer {
        answer::ResponsesAnswer::new(&told, self.echo)
    }

    /// Errors about the conversation name the field `input`, which has it here.
    fn in_own_words(error: RequestError) -> RequestError {
        match error {
            RequestError::Field { field, message } if field == "messages" => RequestError::field("input", message),
            other => other,
        }
    }
}
