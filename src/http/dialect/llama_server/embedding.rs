//! `/embedding`: texts in; out a list in which each vector stands in a list of its own.

use serde::Serialize;
use serde_json::{Value, json};
use tiny_http::Request;

use super::ERRORS;
use crate::http::ask::fields::Fields;
use crate::http::ask::inputs::{TextOrTokens, is_list, prompts};
use crate::http::ask::warnings;
use crate::http::caller::Caller;
use crate::http::run::numbers::{AskedNumbers, of_length_one};
use crate::http::service::Service;
use crate::types::RequestError;

/// A request: its inputs, their field, and whether the field is a list.
#[derive(Debug)]
pub struct EmbeddingRequest {
    inputs: Vec<TextOrTokens>,
    field: &'static str,
    is_list: bool,
}

impl EmbeddingRequest {
    /// Takes `content`, or `input` as in OpenAI's API.
    ///
    /// # Errors
    /// Both are absent; or the value has another form.
    pub fn parse(body: &[u8]) -> Result<EmbeddingRequest, RequestError> {
        let mut fields = Fields::parse(body)?;
        let mut given = None;
        for field in ["content", "input"] {
            let value = fields.take_noted(field, || json!({"type": ["string", "array"]}));
            let read =
                |value: Value| Ok(EmbeddingRequest { is_list: is_list(&value), inputs: prompts(value, field)?, field });
            let read = value.map(read).transpose()?;
            given = given.or(read);
        }
        fields.string("model")?;
        warnings::ignored(&fields.unknown());
        given.ok_or_else(|| RequestError::field("content", "is missing"))
    }
}

/// An item of the answer. Without pooling it has a vector for each token.
#[derive(Serialize)]
struct Item {
    index: usize,
    embedding: [Vec<f32>; 1],
}

impl Service {
    pub(in crate::http) fn llama_embedding(&self, request: Request, caller: &Caller) {
        let read = |body: &[u8]| {
            let body = EmbeddingRequest::parse(body)?;
            let inputs = self.inputs_of(&body.inputs, body.field, body.is_list)?;
            Ok(AskedNumbers { body: (), inputs, width: self.n_embd(), deadline_ms: self.parts.defaults.deadline_ms })
        };
        self.run_numbers(request, caller, &ERRORS, read, |(), numbers| {
            let one = |(index, vector)| Item { index, embedding: [of_length_one(vector)] };
            numbers.each().enumerate().map(one).collect::<Vec<Item>>()
        });
    }
}
