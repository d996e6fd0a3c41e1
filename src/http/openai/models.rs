//! `/v1/models`: the one model there is.

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tiny_http::ResponseBox;

use super::error::body;
use crate::http::fault::json_response;
use crate::http::route::{path_of, plain};
use crate::http::service::Service;

impl Service {
    pub(in crate::http) fn models(&self) -> ResponseBox {
        let name = &self.parts.model.name;
        // Anthropic's client reads the last three, to ask for a next page.
        let list = json!({
            "object": "list",
            "data": [self.model_object()],
            "first_id": name,
            "last_id": name,
            "has_more": false,
        });
        json_response(200, &list)
    }

    /// `/v1/models/{id}`. An id may have slashes, plain or escaped.
    pub(in crate::http) fn model(&self, url: &str) -> ResponseBox {
        let path = plain(path_of(url));
        let id = path.split_once("/models/").map_or("", |(_, id)| id);
        let id = percent_decode_str(id).decode_utf8_lossy();
        if id == self.parts.model.name {
            return json_response(200, &self.model_object());
        }
        let message = format!("there is no model {id:?} here; GET /v1/models names the one there is");
        json_response(404, &body(404, &message, Some("model"), "model_not_found"))
    }

    /// `root` and `max_model_len` are what vLLM's clients look for, `meta` what llama-server's do, `type`, `display_name` and
    /// `created_at` what Anthropic's do.
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
            "created_at": rfc3339(self.started_at_s),
            "max_model_len": model.n_ctx,
            "meta": {
                "architecture": model.architecture,
                "quantisation": model.quantisation,
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

/// Seconds since 1970 as `2026-11-29T04:22:08Z`. The day is counted by Howard Hinnant's `civil_from_days`.
fn rfc3339(seconds: u64) -> String {
    let (days, in_day) = (seconds / 86_400, seconds % 86_400);
    // Days since 1 March of the year 0, in eras of 400 years.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (in_day / 3_600, in_day / 60 % 60, in_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn seconds_become_dates() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_926_128, "2026-11-29T04:22:08Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), date);
        }
    }
}
