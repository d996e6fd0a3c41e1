//! `/v1/embeddings`: texts in, a vector for each out.
//!
//! All inputs of a request go to the engine as one submission, which takes one place. What comes back is cut to the
//! `dimensions` that were asked for and brought to length 1 here, on the HTTP thread.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Value, json};
use tiny_http::{Request, Response, ResponseBox};

use super::completion_request::{Prompt, prompts};
use crate::http::ask::fields::{Fields, wrong_type};
use crate::http::ask::params::deadline_ms;
use crate::http::ask::warnings;
use crate::http::caller::Caller;
use crate::http::dialect::Dialect;
use crate::http::fault::{header, json_response};
use crate::http::run::submit::Inputs;
use crate::http::service::Service;
use crate::types::{RequestError, Token};

/// A request, checked as far as that goes without the vocabulary.
#[derive(Debug, PartialEq)]
pub struct EmbeddingsRequest {
    inputs: Vec<Prompt>,
    /// The field they stood in, and whether it was a list of them, for the names in errors.
    field: &'static str,
    is_list: bool,
    encoding: Encoding,
    /// Numbers of each vector.
    dimensions: usize,
    deadline_ms: Option<u64>,
}

/// How a vector is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Float,
    /// The numbers' four bytes each, least significant first, in base64.
    Base64,
}

impl EmbeddingsRequest {
    /// `n_embd`: numbers of the model's vectors; `longest_ms`: the longest deadline that may be asked for.
    pub fn parse(body: &[u8], n_embd: usize, longest_ms: Option<u64>) -> Result<EmbeddingsRequest, RequestError> {
        let mut fields = Fields::parse(body)?;
        for name in ["model", "user"] {
            fields.string(name)?;
        }
        let input = fields.take_noted("input", || json!({"type": "string", "minLength": 1}));
        let input = input.ok_or_else(|| RequestError::field("input", "is missing"))?;
        let is_list = input.as_array().and_then(|list| list.first()).is_some_and(|first| !first.is_number());
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
        Ok(EmbeddingsRequest { inputs, field: "input", is_list, encoding, dimensions, deadline_ms })
    }
}

impl EmbeddingsRequest {
    /// llama-server's `/embedding`: `content`, or `input` as OpenAI has it.
    pub fn parse_llama(body: &[u8], deadline_ms: Option<u64>) -> Result<EmbeddingsRequest, RequestError> {
        let mut fields = Fields::parse(body)?;
        let content = fields.take_noted("content", || json!({"type": ["string", "array"]}));
        let input = fields.take_noted("input", || json!({"type": ["string", "array"]}));
        let read = |value: Option<Value>, field: &'static str| {
            let is_list =
                |value: &Value| value.as_array().and_then(|list| list.first()).is_some_and(|first| !first.is_number());
            value.map(|value| Ok((is_list(&value), prompts(value, field)?, field))).transpose()
        };
        let (content, input) = (read(content, "content")?, read(input, "input")?);
        let (is_list, inputs, field) = content.or(input).ok_or_else(|| RequestError::field("content", "is missing"))?;
        fields.string("model")?;
        warnings::ignored(&fields.unknown());
        Ok(EmbeddingsRequest { inputs, field, is_list, encoding: Encoding::Float, dimensions: usize::MAX, deadline_ms })
    }
}

/// The answer; typed, because a JSON tree of a million numbers would take 70 MiB.
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
    embedding: Written,
}

/// llama-server's item: where nothing is pooled it has a vector for each token.
#[derive(Serialize)]
struct Nested {
    index: usize,
    embedding: [Vec<f32>; 1],
}

#[derive(Serialize)]
#[serde(untagged)]
enum Written {
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
        let started_us = self.now_us();
        match self.embed_openai(&request, caller, started_us) {
            Ok(response) => {
                self.respond(request, caller, response);
                self.parts.metrics.http.e2e_latency.record_us(self.now_us().saturating_sub(started_us));
            }
            // What takes no time must not make clients come again too soon: `Retry-After` is computed from the latency.
            Err(error) => self.refuse(request, caller, &error),
        }
    }

    /// llama-server's `POST /embedding`: a list, each of whose vectors stands in a list of its own.
    pub(in crate::http) fn llama_embedding(&self, request: Request, caller: &Caller) {
        let started_us = self.now_us();
        let parsed = EmbeddingsRequest::parse_llama(request.body(), self.parts.defaults.deadline_ms);
        let nested = |vectors: &[f32], n_embd: usize, _: usize| {
            let one = |(index, vector)| Nested { index, embedding: [of_length_one(vector)] };
            let list: Vec<Nested> = vectors.chunks(n_embd.max(1)).enumerate().map(one).collect();
            serde_json::to_vec(&list).unwrap_or_default()
        };
        match parsed.and_then(|body| self.embed(&request, caller, started_us, &body, nested)) {
            Ok(response) => {
                self.respond(request, caller, response);
                self.parts.metrics.http.e2e_latency.record_us(self.now_us().saturating_sub(started_us));
            }
            Err(error) => self.refuse(request, caller, &error),
        }
    }

    fn embed_openai(&self, request: &Request, caller: &Caller, arrived_us: u64) -> Result<ResponseBox, RequestError> {
        let n_embd = self.parts.model.embedding.map_or(0, |embedding| embedding.n_embd);
        let body = EmbeddingsRequest::parse(request.body(), n_embd, self.parts.defaults.deadline_ms)?;
        self.embed(request, caller, arrived_us, &body, |vectors, n_embd, n_tokens| {
            let write = |(index, vector): (usize, &[f32])| Item {
                object: "embedding",
                index,
                embedding: written(&of_length_one(&vector[..body.dimensions]), body.encoding),
            };
            let answer = Answer {
                object: "list",
                data: vectors.chunks(n_embd.max(1)).enumerate().map(write).collect(),
                model: &self.parts.model.name,
                usage: Used { prompt_tokens: n_tokens, total_tokens: n_tokens },
            };
            serde_json::to_vec(&answer).unwrap_or_default()
        })
    }

    /// Has the inputs of `body` read; `write` makes the answer of their vectors, the numbers of one and the tokens of all.
    fn embed(
        &self,
        request: &Request,
        caller: &Caller,
        arrived_us: u64,
        body: &EmbeddingsRequest,
        write: impl FnOnce(&[f32], usize, usize) -> Vec<u8>,
    ) -> Result<ResponseBox, RequestError> {
        self.check_running()?;
        let n_embd = self.parts.model.embedding.map_or(0, |embedding| embedding.n_embd);
        let mut inputs = Inputs::default();
        for (i, input) in body.inputs.iter().enumerate() {
            let path = if body.is_list { format!("{}[{i}]", body.field) } else { body.field.to_owned() };
            inputs.push(self.input_tokens(input, &path)?);
        }
        let n_tokens = inputs.n_tokens();
        let accepted = match self.numbers_of(request, caller, inputs, n_embd, arrived_us, body.deadline_ms)? {
            Ok(accepted) => accepted,
            Err(failure) => return Ok(json_response(failure.status, &Dialect::OpenAi.failure_body(&failure))),
        };
        let vectors = accepted.vectors.numbers().unwrap_or_default();
        let mut bytes = write(vectors, n_embd, n_tokens);
        // Its place is free before the client knows: the next request may come at once.
        drop(accepted);
        bytes.push(b'\n');
        Ok(Response::from_data(bytes).with_header(header("Content-Type", "application/json")).boxed())
    }

    /// The tokens of one input, which stands at `path`.
    fn input_tokens(&self, input: &Prompt, path: &str) -> Result<Vec<Token>, RequestError> {
        let (tokenizer, n_ctx) = (&self.parts.tokenizer, self.parts.model.n_ctx);
        let too_long = |n: usize, at_least: &str| {
            RequestError::field(path, format!("has {at_least}{n} tokens, at most {n_ctx} fit"))
        };
        let tokens = match input {
            Prompt::Text(text) => {
                let n_min = tokenizer.n_tokens_min(text);
                if n_min > n_ctx {
                    return Err(too_long(n_min, "at least "));
                }
                tokenizer.encode(text, true, true).map_err(|error| match error {
                    RequestError::Field { message, .. } => RequestError::field(path, message),
                    other => other,
                })?
            }
            Prompt::Tokens(tokens) => {
                let n_vocab = tokenizer.n_vocab();
                if let Some(i) = tokens.iter().position(|token| token.index() >= n_vocab) {
                    let message = format!("must be a token id from 0 to {}, not {}", n_vocab - 1, tokens[i].0);
                    return Err(RequestError::field(format!("{path}[{i}]"), message));
                }
                tokens.clone()
            }
        };
        match tokens.len() {
            0 => Err(RequestError::field(path, "has no tokens")),
            n if n > n_ctx => Err(too_long(n, "")),
            _ => Ok(tokens),
        }
    }
}

/// The vector in its direction, 1 long; nothing but zeros stay zeros.
fn of_length_one(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
    vector.iter().map(|x| (f64::from(*x) * scale) as f32).collect()
}

fn written(vector: &[f32], encoding: Encoding) -> Written {
    match encoding {
        Encoding::Float => Written::Float(vector.to_vec()),
        Encoding::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
            Written::Base64(STANDARD.encode(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let (text, ids) = (Prompt::Text("a".into()), Prompt::Tokens(vec![Token(3), Token(4)]));
        for (input, inputs, is_list) in [
            (json!("a"), vec![text.clone()], false),
            (json!(["a", "a"]), vec![text.clone(), text], true),
            (json!([3, 4]), vec![ids.clone()], false),
            (json!([[3, 4], [3, 4]]), vec![ids.clone(), ids], true),
        ] {
            let request = EmbeddingsRequest {
                inputs,
                field: "input",
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
        let Written::Base64(text) = written(&vector, Encoding::Base64) else { panic!("base64") };
        // Python: base64.b64encode(struct.pack("<3f", 0.6, 0.8, 0.0))
        assert_eq!(text, "mpkZP83MTD8AAAAA");
    }
}
