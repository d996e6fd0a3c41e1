//! The routes that don't generate.

use serde_json::{Value, json};
use tiny_http::{Request, Response, ResponseBox};

use crate::handoff::Stage;
use crate::http::ask::fields::{Fields, wrong_type};
use crate::http::ask::notes::note;
use crate::http::ask::warnings;
use crate::http::caller::Caller;
use crate::http::dialect::native::ERRORS;
use crate::http::fault::{header, json_response};
use crate::http::route::{ROUTES, RouteRow};
use crate::http::service::{ModelInfo, Service};
use crate::metrics::{CONTENT_TYPE, OPEN_METRICS_TYPE, open_metrics, render_keys};
use crate::types::limits::STALLED_US_MIN;
use crate::types::{RequestError, SamplingParams, Token};

/// An example request for people to paste, narrow enough for a terminal. Every model that generates can answer it.
pub fn first_request(url: &str, model: &ModelInfo) -> String {
    if model.embedding.is_some() {
        return format!("curl {url}/v1/embeddings -d '{{\"input\": \"What can you do?\"}}'");
    }
    format!(
        "curl {url}/generate -d '{{\"temperature\": 0,\n  \"messages\": [{{\"role\": \"user\", \"content\": \"What can you do?\"}}]}}'"
    )
}

/// The default sampling parameters as JSON.
fn sampling(usual: &SamplingParams) -> Value {
    // The decimal number as the user wrote it, not the nearest f64.
    let exact = |number: f32| number.to_string().parse::<f64>().unwrap_or_default();
    let mut all = json!({
        "temperature": exact(usual.temperature),
        "top_k": usual.top_k,
        "top_p": exact(usual.top_p),
        "min_p": exact(usual.min_p),
        "repetition_penalty": exact(usual.repetition_penalty),
    });
    if usual.xtc_probability > 0.0 {
        all["xtc_probability"] = json!(exact(usual.xtc_probability));
        all["xtc_threshold"] = json!(exact(usual.xtc_threshold));
    }
    if let Some(mirostat) = usual.mirostat {
        all["mirostat"] = json!(2);
        all["mirostat_tau"] = json!(exact(mirostat.tau));
        all["mirostat_eta"] = json!(exact(mirostat.eta));
    }
    all
}

impl Service {
    pub(in crate::http) fn encode(&self, request: &Request, caller: &Caller) -> ResponseBox {
        self.data_or_refusal(caller, self.encode_data(request.body()))
    }

    pub(in crate::http) fn encode_data(&self, body: &[u8]) -> Result<Value, RequestError> {
        let mut fields = Fields::parse(body)?;
        let text = fields.string("text")?.ok_or_else(|| RequestError::field("text", "is missing"))?;
        let add_special = fields.bool("add_special")?.unwrap_or(false);
        let parse_special = fields.bool("parse_special")?.unwrap_or(false);
        warnings::ignored(&fields.unknown());
        let tokens = self.parts.tokenizer.encode(&text, add_special, parse_special)?;
        let ids: Vec<u32> = tokens.iter().map(|token| token.0).collect();
        Ok(json!({"length": ids.len(), "tokens": ids}))
    }

    pub(in crate::http) fn decode(&self, request: &Request, caller: &Caller) -> ResponseBox {
        self.data_or_refusal(caller, self.decode_data(request.body()))
    }

    pub(in crate::http) fn decode_data(&self, body: &[u8]) -> Result<Value, RequestError> {
        let mut fields = Fields::parse(body)?;
        let tokens = self.token_ids(&mut fields)?;
        warnings::ignored(&fields.unknown());
        Ok(json!({"text": self.parts.tokenizer.decode(&tokens, true)}))
    }

    /// Takes the field `tokens` and checks it against the vocabulary.
    pub(in crate::http) fn token_ids(&self, fields: &mut Fields) -> Result<Vec<Token>, RequestError> {
        let array = fields.take_noted("tokens", || json!({"type": "array"}));
        let value = array.ok_or_else(|| RequestError::field("tokens", "is missing"))?;
        let Value::Array(ids) = &value else { return Err(wrong_type("tokens", "an array of token ids", &value)) };
        let n_vocab = self.parts.tokenizer.n_vocab() as u64;
        note("tokens[]", || json!({"type": "integer", "minimum": 0, "maximum": n_vocab - 1}));
        let token = |(i, id): (usize, &Value)| match id.as_u64().filter(|id| *id < n_vocab) {
            Some(id) => Ok(Token(id as u32)),
            None => {
                let message = format!("must be a token id from 0 to {}, not {id}", n_vocab - 1);
                Err(RequestError::field(format!("tokens[{i}]"), message))
            }
        };
        ids.iter().enumerate().map(token).collect()
    }

    fn data_or_refusal(&self, caller: &Caller, data: Result<Value, RequestError>) -> ResponseBox {
        match data {
            Ok(data) => json_response(200, &json!({"success": true, "data": data})),
            Err(error) => self.refusal(caller, &ERRORS, &error),
        }
    }

    pub(in crate::http) fn model_info(&self) -> ResponseBox {
        let model = &self.parts.model;
        let mut data = json!({
            "name": model.name,
            "architecture": model.architecture,
            "quantisation": model.quantisation,
            "n_params": model.n_params,
            "size_bytes": model.size_bytes,
            "n_vocab": self.parts.tokenizer.n_vocab(),
            "n_ctx_train": model.n_ctx_train,
            "n_ctx": model.n_ctx,
            "slots": model.slots,
            "tokenizer": model.tokenizer,
            "chat_template": model.chat_template,
            "build": {"version": env!("CARGO_PKG_VERSION"), "commit": env!("CLLM_BUILD")},
        });
        if model.embedding.is_none() {
            data["exact"] = json!(model.exact);
            data["sampling"] = sampling(&self.parts.defaults.sampling);
        }
        if let Some(embedding) = model.embedding {
            data["embedding"] = json!({"n_embd": embedding.n_embd, "pooling": embedding.pooling.as_str()});
        }
        json_response(200, &json!({"success": true, "data": data}))
    }

    /// `/health`: the server is alive if it answers; the further fields are for people and dashboards.
    pub(in crate::http) fn health(&self) -> ResponseBox {
        let engine = &self.parts.metrics.engine;
        json_response(
            200,
            // The status stands outside of the data, too: there llama-server's clients look for it.
            &json!({"success": true, "status": "ok", "data": {
                "status": "ok",
                "running": engine.running.get(),
                "waiting": engine.waiting.get(),
                "last_step_age_s": engine.step_age_us(self.now_us()).map(|us| us as f64 / 1e6),
            }}),
        )
    }

    /// `/version`: for routers of vLLM and SGLang.
    pub(in crate::http) fn version(&self) -> ResponseBox {
        json_response(200, &json!({"version": env!("CARGO_PKG_VERSION"), "build": env!("CLLM_BUILD")}))
    }

    pub(in crate::http) fn ready(&self) -> ResponseBox {
        let engine = &self.parts.metrics.engine;
        let stalled = self.now_us().saturating_sub(engine.last_round_at_us.get()) > STALLED_US_MIN;
        match self.parts.shutdown.stage() {
            Stage::Running if stalled => {
                ERRORS.answer(503, "the batching thread has not moved for a minute", "stalled", Value::Null)
            }
            Stage::Running => json_response(200, &json!({"success": true, "data": {"status": "ready"}})),
            _ => ERRORS.answer(503, "the server is shutting down", "shutting_down", Value::Null),
        }
    }

    /// `/metrics`: in Prometheus' text format, or OpenMetrics if the client asks for it.
    pub(in crate::http) fn metrics(&self, request: &Request) -> ResponseBox {
        let mut text = self.parts.metrics.render(&self.parts.model.name, self.now_us());
        let accounts = self.parts.access.accounts();
        let keys: Vec<_> = accounts.iter().map(|account| (&*account.terms.name, account.counts())).collect();
        text += &render_keys(&keys);
        let accept = request.headers().iter().find(|header| header.field.equiv("Accept"));
        let is_open = accept.is_some_and(|accept| accept.value.as_str().contains("application/openmetrics-text"));
        let (text, kind) = if is_open { (open_metrics(&text), OPEN_METRICS_TYPE) } else { (text, CONTENT_TYPE) };
        Response::from_data(text).with_header(header("Content-Type", kind)).boxed()
    }

    /// `/`: the list of routes, with an example request.
    pub(in crate::http) fn index(&self, request: &Request) -> ResponseBox {
        let host = request.headers().iter().find(|header| header.field.equiv("Host"));
        let host = host.map_or("127.0.0.1:8080", |header| header.value.as_str());
        let scheme = if request.secure() { "https" } else { "http" };
        let mut text = format!("cllm {} serves {}\n\n", env!("CARGO_PKG_VERSION"), self.parts.model.name);
        for RouteRow { method, path, about, .. } in ROUTES {
            text += &format!("{method:<7}{path:<28}{about}\n");
        }
        text += &format!("\n{}\n", first_request(&format!("{scheme}://{host}"), &self.parts.model));
        Response::from_data(text).with_header(header("Content-Type", "text/plain; charset=utf-8")).boxed()
    }
}
