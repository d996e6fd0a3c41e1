//! `/v1/models`: the only model, if the caller's key may use it.

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tiny_http::ResponseBox;

use super::ERRORS;
use crate::http::caller::Caller;
use crate::http::fault::json_response;
use crate::http::path::{path_of, plain};
use crate::http::service::Service;
use crate::types::calendar::date_time;

impl Service {
    pub(in crate::http) fn models(&self, caller: &Caller) -> ResponseBox {
        let name = Some(&self.parts.model.name).filter(|name| caller.may_use(name));
        // Anthropic's client reads the last three fields, to ask for a next page.
        let list = json!({
            "object": "list",
            "data": name.iter().map(|_| self.model_object()).collect::<Vec<_>>(),
            "first_id": name,
            "last_id": name,
            "has_more": false,
        });
        json_response(200, &list)
    }

    /// `/v1/models/{id}`. An id may contain slashes, plain or escaped.
    pub(in crate::http) fn model(&self, url: &str, caller: &Caller) -> ResponseBox {
        let path = plain(path_of(url));
        let id = path.split_once("/models/").map_or("", |(_, id)| id);
        let id = percent_decode_str(id).decode_utf8_lossy();
        if id == self.parts.model.name && caller.may_use(&id) {
            return json_response(200, &self.model_object());
        }
        let message = format!("there is no model {id:?} here; GET /v1/models names the model that is served");
        ERRORS.answer(404, &message, "model_not_found", json!({"field": "model"}))
    }

    /// `root` and `max_model_len` are for vLLM's clients, `meta` for llama-server's, `type`, `display_name` and
    /// `created_at` for Anthropic's.
    fn model_object(&self) -> Value {
        let model = &self.parts.model;
        let mut object = json!({
            "id": model.name,
            "object": "model",
            "created": self.started_at_s,
            "owned_by": "cllm",
            "root": model.name,
            "type": "model",
            "display_name": model.name,
            "created_at": format!("{}Z", date_time(self.started_at_s)),
            "max_model_len": model.n_ctx,
            "meta": {
                "architecture": model.architecture,
                "quantisation": model.quantisation,
                "ftype": model.quantisation,
                "n_params": model.n_params,
                "size": model.size_bytes,
                "n_vocab": self.parts.tokenizer.n_vocab(),
                "n_ctx": model.n_ctx,
                "n_ctx_train": model.n_ctx_train,
            },
        });
        if let Some(embedding) = model.embedding {
            object["meta"]["n_embd"] = json!(embedding.n_embd);
            object["meta"]["pooling"] = json!(embedding.pooling.as_str());
        }
        object
    }
}
