//! The head and the usage of an answer, for chat and completions.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::usage::Usage;
use crate::http::service::Service;
use crate::types::{RequestId, Terminal};

/// The usage of `ends`, the ends of all answers in the order of their prompts, `per_prompt` for each.
pub fn usage(ends: &[Terminal], per_prompt: usize) -> Usage {
    ends.chunks(per_prompt.max(1)).map(|of_one| Usage::of_prompt(of_one.iter())).fold(Usage::default(), Usage::plus)
}

impl Service {
    /// The fields that all objects of one answer have.
    pub(in crate::http) fn base(&self, kind: &str, object: &str, id: RequestId) -> Value {
        json!({
            "id": format!("{kind}-{:014x}", self.mixed(id)),
            "object": object,
            "created": SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            "model": self.parts.model.name,
            "system_fingerprint": concat!("cllm-", env!("CARGO_PKG_VERSION"), "-", env!("CLLM_BUILD")),
        })
    }
}
