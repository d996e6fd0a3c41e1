//! `/api/embed` and the older `/api/embeddings`: texts in, a vector for each out. What is too long for the model is cut, unless
//! `truncate` is false.

use serde_json::{Value, json};
use tiny_http::{Request, ResponseBox};

use crate::http::ask::fields::{Fields, wrong_type};
use crate::http::ask::notes::note;
use crate::http::ask::warnings::{self, warn};
use crate::http::caller::Caller;
use crate::http::dialect::Dialect;
use crate::http::fault::json_response;
use crate::http::run::submit::Inputs;
use crate::http::service::Service;
use crate::types::RequestError;
use crate::types::limits::EMBED_INPUTS_MAX;

/// A request of either route.
#[derive(Debug)]
pub struct EmbedRequest {
    inputs: Vec<String>,
    truncate: bool,
    /// Numbers of each vector; `None`: all.
    dimensions: Option<usize>,
}

impl EmbedRequest {
    /// `is_old`: of `/api/embeddings`, whose one text is `prompt`. `n_embd`: numbers of the model's vectors.
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
    /// `/api/embed`, or `/api/embeddings` where `is_old`.
    pub(in crate::http) fn ollama_embed(&self, request: Request, caller: &Caller, is_old: bool) {
        let started_us = self.now_us();
        match self.ollama_vectors(&request, caller, is_old, started_us) {
            Ok(response) => {
                self.respond(request, caller, response);
                self.parts.metrics.http.e2e_latency.record_us(self.now_us().saturating_sub(started_us));
            }
            Err(error) => self.refuse(request, caller, &error),
        }
    }

    fn ollama_vectors(
        &self,
        request: &Request,
        caller: &Caller,
        is_old: bool,
        arrived_us: u64,
    ) -> Result<ResponseBox, RequestError> {
        self.check_running()?;
        let (n_ctx, n_embd) = (self.parts.model.n_ctx, self.parts.model.embedding.map_or(0, |model| model.n_embd));
        let body = EmbedRequest::parse(request.body(), is_old, n_embd)?;
        let name = if is_old { "prompt" } else { "input" };
        let (mut inputs, mut n_cut) = (Inputs::default(), 0);
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
        let n_tokens = inputs.n_tokens();
        if n_tokens == 0 {
            return Ok(json_response(200, &json!({"model": self.parts.model.name, "embeddings": []})));
        }
        let deadline_ms = self.parts.defaults.deadline_ms;
        let accepted = match self.numbers_of(request, caller, inputs, n_embd, arrived_us, deadline_ms)? {
            Ok(accepted) => accepted,
            Err(failure) => return Ok(json_response(failure.status, &Dialect::Ollama.failure_body(&failure))),
        };
        let vectors = accepted.vectors.numbers().unwrap_or_default();
        let shown = body.dimensions.unwrap_or(n_embd);
        let mut embeddings = vectors.chunks(n_embd.max(1)).map(|vector| of_length_one(&vector[..shown]));
        let body = if is_old {
            json!({"embedding": embeddings.next()})
        } else {
            json!({
                "model": self.parts.model.name,
                "embeddings": embeddings.collect::<Vec<_>>(),
                "total_duration": self.now_us().saturating_sub(arrived_us).saturating_mul(1_000),
                "load_duration": 0,
                "prompt_eval_count": n_tokens,
            })
        };
        // Its place is free before the client knows: the next request may come at once.
        drop(accepted);
        Ok(json_response(200, &body))
    }
}

/// The vector in its direction, 1 long; nothing but zeros stay zeros.
fn of_length_one(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
    vector.iter().map(|x| (f64::from(*x) * scale) as f32).collect()
}
