//! `/v1/embeddings`: texts in, a vector for each out.
//!
//! All inputs of a request go to the engine as one submission, which takes one place. The HTTP thread cuts each vector
//! to `dimensions` numbers and scales it to length 1.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::json;
use tiny_http::Request;

use super::ERRORS;
use crate::http::ask::fields::{Fields, wrong_type};
use crate::http::ask::inputs::{TextOrTokens, is_list, prompts};
use crate::http::ask::sampling::deadline_ms;
use crate::http::ask::warnings;
use crate::http::caller::Caller;
use crate::http::run::numbers::{AskedNumbers, of_length_one};
use crate::http::service::Service;
use crate::types::RequestError;

/// A request, checked without the vocabulary.
#[derive(Debug, PartialEq)]
pub struct EmbeddingsRequest {
    inputs: Vec<TextOrTokens>,
    /// Whether the inputs are a list; errors then name the entry.
    is_list: bool,
    encoding: Encoding,
    /// Numbers of each vector.
    dimensions: usize,
    deadline_ms: Option<u64>,
}

/// The format of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Float,
    /// The numbers as 4-byte floats, least significant byte first, in base64.
    Base64,
}

impl EmbeddingsRequest {
    /// Parses a body. `n_embd`: numbers of the model's vectors; `longest_ms`: the longest allowed deadline.
    ///
    /// # Errors
    /// A field has the wrong type or is out of bounds.
    pub fn parse(body: &[u8], n_embd: usize, longest_ms: Option<u64>) -> Result<EmbeddingsRequest, RequestError> {
        let mut fields = Fields::parse(body)?;
        for name in ["model", "user"] {
            fields.string(name)?;
        }
        let input = fields.take_noted("input", || json!({"type": "string", "minLength": 1}));
        let input = input.ok_or_else(|| RequestError::field("input", "is missing"))?;
        let is_list = is_list(&input);
        let inputs = prompts(input, "input")?;
        let encoding = match fields.take_noted("encoding_format", || json!({"enum": ["float", "base64"]})) {
            None => Encoding::Float,
            Some(value) => match value.as_str() {
                Some("float") => Encoding::Float,
                Some("base64") => Encoding::Base64,
                Some(other) => {
                    let message = format!("must be \"float\" or \"base64\", not {other:?}");
                    return Err(RequestError::field("encoding_format", message));
                }
                None => return Err(wrong_type("encoding_format", "a string", &value)),
            },
        };
        let dimensions = fields.integer("dimensions", 1..=n_embd as u64)?.map_or(n_embd, |n| n as usize);
        let deadline_ms = deadline_ms(&mut fields, longest_ms)?;
        warnings::ignored(&fields.unknown());
        Ok(EmbeddingsRequest { inputs, is_list, encoding, dimensions, deadline_ms })
    }
}

/// The answer. It is typed, because a JSON tree of a million numbers would take 70 MiB.
#[derive(Serialize)]
struct Answer<'a> {
    object: &'static str,
    data: Vec<Item>,
    model: &'a str,
    usage: Used,
}

#[derive(Serialize)]
struct Item {
    object: &'static str,
    index: usize,
    embedding: WrittenVector,
}

#[derive(Serialize)]
#[serde(untagged)]
enum WrittenVector {
    Float(Vec<f32>),
    Base64(String),
}

#[derive(Serialize)]
struct Used {
    prompt_tokens: usize,
    total_tokens: usize,
}

impl Service {
    pub(in crate::http) fn embeddings(&self, request: Request, caller: &Caller) {
        let n_embd = self.n_embd();
        let read = |body: &[u8]| {
            let body = EmbeddingsRequest::parse(body, n_embd, self.parts.defaults.deadline_ms)?;
            let inputs = self.inputs_of(&body.inputs, "input", body.is_list)?;
            let deadline_ms = body.deadline_ms;
            Ok(AskedNumbers { body, inputs, width: n_embd, deadline_ms })
        };
        self.run_numbers(request, caller, &ERRORS, read, |body, numbers| {
            let write = |(index, vector): (usize, &[f32])| Item {
                object: "embedding",
                index,
                embedding: written(&of_length_one(&vector[..body.dimensions]), body.encoding),
            };
            Answer {
                object: "list",
                data: numbers.each().enumerate().map(write).collect(),
                model: &self.parts.model.name,
                usage: Used { prompt_tokens: numbers.n_tokens, total_tokens: numbers.n_tokens },
            }
        });
    }
}

fn written(vector: &[f32], encoding: Encoding) -> WrittenVector {
    match encoding {
        Encoding::Float => WrittenVector::Float(vector.to_vec()),
        Encoding::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
            WrittenVector::Base64(STANDARD.encode(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Token;
    use serde_json::Value;

    fn parse(body: Value) -> Result<EmbeddingsRequest, RequestError> {
        EmbeddingsRequest::parse(body.to_string().as_bytes(), 8, Some(60_000))
    }

    #[test]
    fn every_refusal_names_its_param() {
        for (body, param) in [
            (json!({}), "input"),
            (json!({"input": ""}), "input"),
            (json!({"input": []}), "input"),
            (json!({"input": 3}), "input"),
            (json!({"input": {"text": "a"}}), "input"),
            (json!({"input": ["a", ""]}), "input[1]"),
            (json!({"input": ["a", null]}), "input[1]"),
            (json!({"input": ["a", 3]}), "input[1]"),
            (json!({"input": [3, "a"]}), "input[1]"),
            (json!({"input": [3, -1]}), "input[1]"),
            (json!({"input": [[3], [4, 1.5]]}), "input[1][1]"),
            (json!({"input": [[3], []]}), "input[1]"),
            (json!({"input": vec!["a"; 2_049]}), "input"),
            (json!({"input": "a", "encoding_format": "hex"}), "encoding_format"),
            (json!({"input": "a", "encoding_format": 3}), "encoding_format"),
            (json!({"input": "a", "dimensions": 0}), "dimensions"),
            (json!({"input": "a", "dimensions": 9}), "dimensions"),
            (json!({"input": "a", "dimensions": "8"}), "dimensions"),
            (json!({"input": "a", "deadline_ms": 0}), "deadline_ms"),
            (json!({"input": "a", "model": 3}), "model"),
            (json!({"input": "a", "user": 3}), "user"),
        ] {
            match parse(body.clone()) {
                Err(RequestError::Field { field, .. }) => assert_eq!(field, param, "{body}"),
                other => panic!("{body}: {other:?}"),
            }
        }
    }

    #[test]
    fn inputs_come_in_four_shapes_and_the_rest_has_defaults() {
        let (text, ids) = (TextOrTokens::Text("a".into()), TextOrTokens::Tokens(vec![Token(3), Token(4)]));
        for (input, inputs, is_list) in [
            (json!("a"), vec![text.clone()], false),
            (json!(["a", "a"]), vec![text.clone(), text], true),
            (json!([3, 4]), vec![ids.clone()], false),
            (json!([[3, 4], [3, 4]]), vec![ids.clone(), ids], true),
        ] {
            let request = EmbeddingsRequest {
                inputs,
                is_list,
                encoding: Encoding::Float,
                dimensions: 8,
                deadline_ms: Some(60_000),
            };
            assert_eq!(parse(json!({"input": input})), Ok(request));
        }
    }

    #[test]
    fn vectors_are_one_long_and_base64_holds_the_same_bits() {
        let vector = of_length_one(&[3.0, 4.0, 0.0]);
        assert_eq!(vector, [0.6, 0.8, 0.0]);
        assert_eq!(of_length_one(&[0.0, 0.0]), [0.0, 0.0]);
        let WrittenVector::Base64(text) = written(&vector, Encoding::Base64) else { panic!("base64") };
        // Python: base64.b64encode(struct.pack("<3f", 0.6, 0.8, 0.0))
        assert_eq!(text, "mpkZP83MTD8AAAAA");
    }
}
