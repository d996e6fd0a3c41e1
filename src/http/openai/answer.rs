//! What chat and completions say alike: the head of an answer, its usage, a refusal.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tiny_http::Request;

use super::error::refusal;
use super::usage::Usage;
use crate::http::caller::Caller;
use crate::http::service::Service;
use crate::types::{RequestError, RequestId, Terminal};

/// The usage of answers in the order of their prompts, `per_prompt` each.
pub fn usage(ends: &[Terminal], per_prompt: usize) -> Usage {
    ends.chunks(per_prompt.max(1)).map(|of_one| Usage::of_prompt(of_one.iter())).fold(Usage::default(), Usage::plus)
}

impl Service {
    /// What all objects of one answer have in common.
    pub(super) fn base(&self, kind: &str, object: &str, id: RequestId) -> Value {
        json!({
            "id": format!("{kind}-{:014x}", self.mixed(id)),
            "object": object,
            "created": SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            "model": self.parts.model.name,
            "system_fingerprint": concat!("cllm-", env!("CARGO_PKG_VERSION"), "-", env!("CLLM_BUILD")),
        })
    }

    /// A number for names that differ between requests and runs; not the seed's.
    pub(in crate::http) fn mixed(&self, id: RequestId) -> u64 {
        self.fresh_seed(RequestId(!id.0))
    }

    /// # Errors
    /// There could never be a place for so many.
    pub(in crate::http) fn check_places(&self, n: usize, field: &str) -> Result<(), RequestError> {
        let max = self.parts.in_flight_max;
        if n <= max {
            return Ok(());
        }
        Err(RequestError::field(field, format!("asks for {n} answers at once, this server has places for {max}")))
    }

    pub(super) fn refuse_openai(&self, request: Request, caller: &Caller, error: &RequestError) {
        caller.line.refused(error);
        self.parts.metrics.http.count_rejected(error);
        self.respond(request, caller, refusal(error));
    }

    /// Ends all answers when the client leaves.
    pub(in crate::http) fn cancel_on_disconnect(request: &Request, choices: &Choices) {
        let cancellers = choices.cancellers();
        request.watch().on_disconnect(Box::new(move || cancellers.iter().for_each(|canceller| canceller.cancel())));
    }

    /// One JSON answer at the end, `object` of how they ended.
    pub(super) fn answer_all<L: Listener>(
        &self,
        request: Request,
        caller: &Caller,
        mut choices: Choices,
        mut listener: L,
        object: impl FnOnce(L, &[Terminal]) -> Value,
    ) {
        while !choices.wait(self, Wake::AtEnd, &mut listener) {}
        let ends: Vec<Terminal> = choices.ends().copied().collect();
        let response = match choices.failure().and_then(of_reason) {
            Some((status, body)) => json_response(status, &body),
            None => json_response(200, &object(listener, &ends)),
        };
        // Their places are free before the client knows: the next request may come at once.
        drop(choices);
        self.respond(request, caller, response);
    }

    /// Server-sent events. The head goes out with the first one, so that what fails before it has a true status.
    pub(super) fn answer_in_chunks(
        &self,
        request: Request,
        caller: &Caller,
        mut choices: Choices,
        mut listener: impl Streamer,
        how: &StreamEnd,
    ) {
        let mut ended = choices.wait(self, Wake::EachPiece, &mut listener);
        while !ended && listener.chunks().buffer.is_empty() {
            ended = choices.wait(self, Wake::EachPiece, &mut listener);
        }
        if let (true, Some((status, body))) = (ended, choices.failure().and_then(of_reason)) {
            drop(choices);
            return self.respond(request, caller, json_response(status, &body));
        }
        let of_stream = [header("Content-Type", "text/event-stream"), header("Cache-Control", "no-store")];
        let headers = caller.headers().chain(of_stream).collect();
        let first = std::mem::take(&mut listener.chunks().buffer);
        let Ok(mut stream) = request.into_stream_with(200, headers, &first) else { return };
        caller.line.answered(200);
        self.parts.metrics.http.answers(200).inc();
        while !ended {
            ended = choices.wait(self, Wake::EachPiece, &mut listener);
            let buffer = &mut listener.chunks().buffer;
            // The last of them leave with the end.
            if !ended && !buffer.is_empty() {
                if stream.write_event(buffer).is_err() {
                    // The client is gone, and dropping the readers cancels.
                    return;
                }
                buffer.clear();
            }
        }
        let ends: Vec<Terminal> = choices.ends().copied().collect();
        let chunks = listener.chunks();
        match choices.failure().and_then(of_reason) {
            Some((_, body)) => chunks.event(&body),
            None => {
                if how.with_usage {
                    chunks.usage(&how.base, usage(&ends, how.per_prompt).json());
                }
                chunks.done();
            }
        }
        drop(choices);
        let _ = stream.finish_with(&listener.chunks().buffer);
    }
    pub(in crate::http) fn refuse_openai(&self, request: Request, caller: &Caller, error: &RequestError) {
        self.parts.metrics.http.count_rejected(error);
        self.respond(request, caller, refusal(error));
    }
}
