//! `/slots`: which requests are running, and their progress. For dashboards; prompts and texts are never shown.

use serde_json::{Value, json};
use tiny_http::ResponseBox;

use crate::http::fault::json_response;
use crate::http::service::Service;
use crate::metrics::{SlotGauges, SlotPhase};

impl Service {
    /// Answers with one object for each slot. `state`, `n_past`, `tokens_per_step` and `age_s` are ours, the other fields llama-server's.
    pub(in crate::http) fn slots(&self) -> ResponseBox {
        let slots = self.parts.metrics.slots.iter().take(self.parts.model.slots).enumerate();
        json_response(200, &slots.map(|(id, slot)| self.slot(id, slot)).collect())
    }

    fn slot(&self, id: usize, slot: &SlotGauges) -> Value {
        let n_ctx = self.parts.model.n_ctx;
        let Some(phase) = SlotPhase::of(slot.phase.get()) else {
            return json!({"id": id, "n_ctx": n_ctx, "is_processing": false, "state": "idle"});
        };
        json!({
            "id": id,
            "id_task": slot.request.get(),
            "n_ctx": n_ctx,
            "is_processing": true,
            "state": match phase {
                SlotPhase::AwaitingPrefix => "waiting",
                SlotPhase::Prefill => "prefill",
                SlotPhase::Decoding => "decode",
                SlotPhase::Restoring => "restore",
            },
            "n_prompt_tokens": slot.n_prompt.get(),
            "n_prompt_tokens_processed": slot.n_past.get().min(slot.n_prompt.get()).saturating_sub(slot.n_cached.get()),
            "n_prompt_tokens_cache": slot.n_cached.get(),
            "n_past": slot.n_past.get(),
            // A list of one, as there.
            "next_token": [{
                "has_next_token": true,
                "n_decoded": slot.n_generated.get(),
                "n_remain": slot.max_tokens.get().saturating_sub(slot.n_generated.get()),
            }],
            "tokens_per_step": slot.tokens_per_step.get().max(100) as f64 / 100.0,
            "age_s": self.now_us().saturating_sub(slot.admitted_at_us.get()) as f64 / 1e6,
        })
    }
}
