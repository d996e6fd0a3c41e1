//! Routes that tell Ollama's clients about the server and its models, and routes that this server doesn't support.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tiny_http::ResponseBox;

use super::ERRORS;
use super::answer::timestamp;
use crate::http::caller::Caller;
use crate::http::fault::json_response;
use crate::http::service::Service;

/// Seconds until the model is unloaded, for `expires_at`. It never is, so this is a hundred years.
const FOREVER_S: u64 = 3_155_760_000;

impl Service {
    pub(in crate::http) fn ollama_version(&self) -> ResponseBox {
        json_response(200, &json!({"version": env!("CARGO_PKG_VERSION")}))
    }

    /// `/api/tags`: the models that the caller's key may use, at most one.
    pub(in crate::http) fn ollama_tags(&self, caller: &Caller) -> ResponseBox {
        let models = caller.may_use(&self.parts.model.name).then(|| self.ollama_model());
        json_response(200, &json!({"models": models.as_slice()}))
    }

    /// `/api/ps`: the models that the caller's key may use and that are in memory. The served model always is.
    pub(in crate::http) fn ollama_ps(&self, caller: &Caller) -> ResponseBox {
        if !caller.may_use(&self.parts.model.name) {
            return json_response(200, &json!({"models": []}));
        }
        let mut model = self.ollama_model();
        let until = UNIX_EPOCH + Duration::from_secs(self.started_at_s + FOREVER_S);
        model["expires_at"] = json!(timestamp(until));
        model["size_vram"] = json!(0);
        model["context_length"] = json!(self.parts.model.n_ctx);
        json_response(200, &json!({"models": [model]}))
    }

    /// `/api/show`: the only model, whatever name is asked for.
    pub(in crate::http) fn ollama_show(&self) -> ResponseBox {
        let model = &self.parts.model;
        let architecture = &model.architecture;
        let mut info = json!({
            "general.architecture": architecture,
            "general.basename": model.name,
            "general.parameter_count": model.n_params,
            "tokenizer.ggml.model": model.tokenizer,
        });
        info[format!("{architecture}.context_length")] = json!(model.n_ctx_train);
        if let Some(embedding) = model.embedding {
            info[format!("{architecture}.embedding_length")] = json!(embedding.n_embd);
        }
        let style = self.parts.template.style();
        let capabilities: Vec<&str> = match model.embedding {
            Some(_) => vec!["embedding"],
            None => {
                let able = [("tools", style.takes_tools), ("thinking", style.thinks())];
                std::iter::once("completion").chain(able.iter().filter(|able| able.1).map(|able| able.0)).collect()
            }
        };
        let body = json!({
            "modelfile": format!("FROM {}", model.name),
            "parameters": "",
            "template": self.parts.template.text(),
            "details": self.ollama_details(),
            "model_info": info,
            "capabilities": capabilities,
            "modified_at": self.ollama_modified_at(),
        });
        json_response(200, &body)
    }

    /// Pull, push, create, copy, delete: 501.
    pub(in crate::http) fn ollama_unsupported(&self) -> ResponseBox {
        let message = "this server serves one model and changes none: cllm pull gets another, cllm serve -m serves it";
        ERRORS.answer(501, message, "not_implemented", Value::Null)
    }

    fn ollama_model(&self) -> Value {
        let model = &self.parts.model;
        // Ollama's digest is that of the model's manifest. Clients only compare it.
        let digest = Sha256::digest(format!("{} {}", model.name, model.size_bytes));
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        json!({
            "name": model.name,
            "model": model.name,
            "modified_at": self.ollama_modified_at(),
            "size": model.size_bytes,
            "digest": digest,
            "details": self.ollama_details(),
        })
    }

    /// When the server started, because the file's own time isn't known here.
    fn ollama_modified_at(&self) -> String {
        timestamp(UNIX_EPOCH + Duration::from_secs(self.started_at_s))
    }

    fn ollama_details(&self) -> Value {
        let model = &self.parts.model;
        let millions = model.n_params as f64 / 1e6;
        let size = if millions >= 1e3 { format!("{:.1}B", millions / 1e3) } else { format!("{millions:.1}M") };
        json!({
            "parent_model": "",
            "format": "gguf",
            "family": model.architecture,
            "families": [model.architecture],
            "parameter_size": size,
            "quantization_level": model.quantisation,
        })
    }
}
