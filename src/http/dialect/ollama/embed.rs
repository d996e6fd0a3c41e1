//! `/api/embed` and the older `/api/embeddings`: texts in, a vector for each out. Texts that are too long for the model
//! are cut, unless `truncate` is false.

use serde_json::{Value, json};
use tiny_http::Request;

use super::ERRORS;
use crate::http::ask::fields::{Fields, wrong_type};
use crate::http::ask::notes::note;
use crate::http::ask::warnings::{self, warn};
use crate::http::caller::Caller;
use crate::http::run::numbers::{AskedNumbers, Inputs, of_length_one};
use crate::http::service::Service;
use crate::types::RequestError;
use crate::types::limits::EMBED_INPUTS_MAX;

/// A request of either route.
#[derive(Debug)]
pub struct EmbedRequest {
    inputs: Vec<String>,
    truncate: bool,
    /// Numbers of each vector; `None`: all of the model's.
    dimensions: Option<usize>,
}

impl EmbedRequest {
    /// Parses a body. `is_old`: it is of `/api/embeddings`, whose single text is `prompt`. `n_embd`: numbers of the
    /// model's vectors.
    ///
    /// # Errors
    /// A field has the wrong type or is out of bounds.
    pub fn parse(body: &[u8], is_old: bool, n_embd: usize) -> Result<EmbedRequest, RequestError> {
        let mut fields = Fields::parse(body)?;
        fields.string("model")?;
        fields.take("keep_alive");
        let options = fields.object("options")?.unwrap_or_default();
        let mut ignored: Vec<String> = options.keys().map(|name| format!("options.{name}")).collect();
        let name = if is_old { "prompt" } else { "input" };
        if !is_old {
            note(name, || json!({"type": "array", "maxItems": EMBED_INPUTS_MAX, "items": {"type": "string"}}));
        }
        let inputs = match fields.take_noted(name, || json!({"type": "string"})) {
            None => return Err(RequestError::field(name, "is missing")),
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(list)) if !is_old && list.len() <= EMBED_INPUTS_MAX => {
                let text = |(i, entry): (usize, Value)| match entry {
                    Value::String(text) => Ok(text),
                    other => Err(wrong_type(&format!("input[{i}]"), "a string", &other)),
                };
                list.into_iter().enumerate().map(text).collect::<Result<_, _>>()?
            }
            Some(Value::Array(list)) if !is_old => {
                let message = format!("has {} entries, at most {EMBED_INPUTS_MAX}", list.len());
                return Err(RequestError::field(name, message));
            }
            Some(other) => return Err(wrong_type(name, "a text", &other)),
        };
        let (mut truncate, mut dimensions) = (true, None);
        if !is_old {
            truncate = fields.bool("truncate")?.unwrap_or(true);
            dimensions = fields.integer("dimensions", 1..=n_embd.max(1) as u64)?.map(|n| n as usize);
        }
        ignored.extend(fields.unknown());
        warnings::ignored(&ignored);
        Ok(EmbedRequest { inputs, truncate, dimensions })
    }
}

impl Service {
    /// Answers `/api/embed`, or `/api/embeddings` if `is_old`.
    pub(in crate::http) fn ollama_embed(&self, request: Request, caller: &Caller, is_old: bool) {
        let n_embd = self.n_embd();
        let read = |body: &[u8]| {
            let body = EmbedRequest::parse(body, is_old, n_embd)?;
            let inputs = self.cut_inputs(&body, if is_old { "prompt" } else { "input" })?;
            Ok(AskedNumbers { body, inputs, width: n_embd, deadline_ms: self.parts.defaults.deadline_ms })
        };
        self.run_numbers(request, caller, &ERRORS, read, |body, numbers| {
            let shown = body.dimensions.unwrap_or(n_embd);
            let mut embeddings = numbers.each().map(|vector| of_length_one(&vector[..shown]));
            match is_old {
                true => json!({"embedding": embeddings.next()}),
                false => json!({
                    "model": self.parts.model.name,
                    "embeddings": embeddings.collect::<Vec<_>>(),
                    "total_duration": numbers.took_us.saturating_mul(1_000),
                    "load_duration": 0,
                    "prompt_eval_count": numbers.n_tokens,
                }),
            }
        });
    }

    /// The inputs of a body, from its field `name`. Inputs that are too long are cut, unless the body forbids that.
    fn cut_inputs(&self, body: &EmbedRequest, name: &str) -> Result<Inputs, RequestError> {
        let (n_ctx, mut inputs, mut n_cut) = (self.parts.model.n_ctx, Inputs::default(), 0);
        for text in &body.inputs {
            let mut tokens = self.parts.tokenizer.encode(text, true, false)?;
            if tokens.is_empty() {
                return Err(RequestError::field(name, "has a text without tokens"));
            }
            if tokens.len() > n_ctx {
                if !body.truncate {
                    let message = format!("has {} tokens, at most {n_ctx} fit, and truncate is false", tokens.len());
                    return Err(RequestError::field(name, message));
                }
                tokens.truncate(n_ctx);
                n_cut += 1;
            }
            inputs.push(tokens);
        }
        if n_cut > 0 {
            warn(format!("{name}: {n_cut} cut to {n_ctx} tokens"));
        }
        Ok(inputs)
    }
}
