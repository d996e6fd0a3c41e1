//! From a checked request to a reply slot: template, tokens, context check, claim, push.

use super::params::{Format, GenerateRequest, Input};
use super::service::{Place, Service};
use crate::constrain::GuidedReader;
use crate::handoff::{Refused, Stage, Submission};
use crate::types::{GenerateParams, RequestError, RequestId};

/// A request that the engine has accepted: it gets exactly one terminal.
pub struct Accepted {
    pub id: RequestId,
    pub reader: GuidedReader,
    /// Held until the answer is there.
    _place: Place,
    pub max_tokens: usize,
    pub seed: u64,
}

impl Service {
    /// Submits `request`, or says why not.
    pub(super) fn submit(&self, id: RequestId, request: GenerateRequest) -> Result<Accepted, RequestError> {
        let arrived_us = self.now_us();
        let parts = &self.parts;
        if parts.shutdown.stage() != Stage::Running {
            return Err(RequestError::ShuttingDown);
        }
        let (prompt, field) = match &request.input {
            Input::Prompt(text) => (parts.tokenizer.encode(text, true, true)?, "prompt"),
            Input::Messages(messages) => {
                let text = parts.template.render(messages)?;
                // A template that writes BOS itself must not get a second one.
                let add_special = !parts.template.starts_with_bos(&text);
                (parts.tokenizer.encode(&text, add_special, true)?, "messages")
            }
        };
        if prompt.is_empty() {
            return Err(RequestError::field(field, "has no tokens"));
        }
        let n_vocab = parts.tokenizer.n_vocab();
        if let Some((token, _)) = request.sampling.logit_bias.iter().find(|(token, _)| *token as usize >= n_vocab) {
            let message = format!("{token} is no token id, they go up to {}", n_vocab - 1);
            return Err(RequestError::field("logit_bias", message));
        }
        let n_ctx = parts.model.n_ctx;
        let room = n_ctx.saturating_sub(prompt.len());
        let max_tokens = request.max_tokens.unwrap_or(room.max(1));
        if max_tokens > room {
            return Err(RequestError::TooLong { n_prompt_tokens: prompt.len(), max_tokens, n_ctx });
        }
        let place = self.take_place().ok_or_else(|| self.queue_full())?;
        let constraint = match &request.format {
            None => None,
            Some(Format::JsonSchema(schema)) => Some(parts.constrainer.json_schema(schema, "json_schema")?),
            Some(Format::Regex(regex)) => Some(parts.constrainer.regex(regex, "regex")?),
            Some(Format::Grammar(grammar)) => Some(parts.constrainer.grammar(grammar, "grammar")?),
        };
        let constraint = constraint.map(|constraint| constraint.ignoring_eos(request.ignore_eos));
        let constrained = constraint.is_some();
        let (reply, reader) = parts.replies.claim().ok_or_else(|| self.queue_full())?;
        let reader = GuidedReader::new(reader, constraint);
        let seed = request.sampling.seed;
        let submission = Submission {
            id,
            prompt,
            params: GenerateParams {
                sampling: request.sampling,
                max_tokens,
                stop: request.stop,
                ignore_eos: request.ignore_eos,
                constrained,
            },
            arrived_us,
            deadline_us: Some(arrived_us.saturating_add(request.deadline_ms.saturating_mul(1_000))),
            reply,
        };
        parts.inbox.push(submission).map_err(|refused| match refused {
            Refused::Full(_) => self.queue_full(),
            Refused::Closed(_) => RequestError::ShuttingDown,
        })?;
        Ok(Accepted { id, reader, _place: place, max_tokens, seed })
    }

    /// Retry when about half of those in flight will be through: their number over the slots, times the mean time of
    /// one, halved; 1 to 60 s.
    fn queue_full(&self) -> RequestError {
        let metrics = &self.parts.metrics;
        metrics.http.ring_full.inc();
        let latency = &metrics.http.e2e_latency;
        let mean_us = latency.sum_us().checked_div(latency.count()).unwrap_or(0);
        let rounds = self.parts.in_flight_max.div_ceil(self.parts.model.slots.max(1)) as u64;
        let retry_after_s = (mean_us * rounds / 2_000_000).clamp(1, 60) as u32;
        RequestError::QueueFull { retry_after_s }
    }
}
