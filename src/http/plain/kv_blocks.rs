//! `GET /debug/kv-blocks`: the names of the blocks in the KV cache, from the batching thread itself. A subscriber of KV
//! events can compare them with the events. Available with `--kv-events`; on a server with keys only for
//! administrators.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tiny_http::ResponseBox;

use crate::handoff::BlockQuery;
use crate::http::caller::Caller;
use crate::http::dialect::native::ERRORS;
use crate::http::fault::json_response;
use crate::http::service::Service;
use crate::kv_events::hash::Root;
use crate::types::limits::KV_BLOCKS_WAIT_S_MAX;

impl Service {
    /// Answers with `block_size` in tokens and `blocks`: names as in the events, ascending, each once.
    pub(in crate::http) fn kv_blocks(&self, caller: &Caller) -> ResponseBox {
        let Some(query) = &self.blocks else {
            self.note_refusal(caller, "kv_events_off");
            let message = "this server keeps no names of KV blocks; start it with --kv-events";
            return ERRORS.answer(403, message, "kv_events_off", Value::Null);
        };
        if caller.standing.account.as_ref().is_some_and(|account| !account.terms.is_admin) {
            self.note_refusal(caller, "admin_only");
            let message =
                "this route needs the key of an administrator: one with admin=yes behind it in --api-key-file";
            return ERRORS.answer(403, message, "admin_only", Value::Null);
        }
        let Ok(query) = query.try_lock() else {
            self.note_refusal(caller, "kv_blocks_running");
            return ERRORS.answer(429, "another request asks for the blocks", "kv_blocks_running", Value::Null);
        };
        match self.held(&query) {
            Some(names) => {
                let data = json!({"block_size": query.block_tokens(), "blocks": names});
                json_response(200, &json!({"success": true, "data": data}))
            }
            None => ERRORS.answer(503, "the engine didn't answer", "shutting_down", Value::Null),
        }
    }

    fn held(&self, query: &BlockQuery) -> Option<BTreeSet<u64>> {
        let held = query.ask(Duration::from_secs(KV_BLOCKS_WAIT_S_MAX))?;
        let root = Root::of(&self.parts.model.name);
        Some(held.iter().flat_map(|tokens| root.chain(tokens, query.block_tokens())).map(|name| name.0).collect())
    }
}
