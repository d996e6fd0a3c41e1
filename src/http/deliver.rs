//! Answers that are on their way, brought to their client: whole at the end, or in events as they come. What they look
//! like is the listener's business.

use serde_json::Value;
use tiny_http::Request;

use super::caller::Caller;
use super::choices::{Choices, Listener};
use super::dialect::Dialect;
use super::fault::{header, json_response};
use super::service::Service;
use crate::handoff::Pace;
use crate::types::Terminal;

/// A listener that makes events.
pub trait Streamer: Listener {
    /// What kind of events.
    fn content_type(&self) -> &'static str {
        "text/event-stream"
    }

    /// Events that haven't left yet.
    fn buffer(&mut self) -> &mut Vec<u8>;

    /// All have ended, and ended well.
    fn close(&mut self, ends: &[Terminal]);

    /// One has failed, after the head had left.
    fn fail(&mut self, body: &Value);
}

impl Service {
    /// Ends all answers when the client leaves.
    pub(super) fn cancel_on_disconnect(request: &Request, choices: &Choices) {
        let cancellers = choices.cancellers();
        request.watch().on_disconnect(Box::new(move || cancellers.iter().for_each(|canceller| canceller.cancel())));
    }

    /// One JSON answer at the end, `object` of how they ended.
    pub(super) fn answer_whole<L: Listener>(
        &self,
        request: Request,
        caller: &Caller,
        mut choices: Choices,
        mut listener: L,
        dialect: Dialect,
        object: impl FnOnce(L, &[Terminal]) -> Value,
    ) {
        while !choices.wait_for_end(self, &mut listener) {}
        let ends: Vec<Terminal> = choices.ends().copied().collect();
        let response = match choices.failure() {
            Some(failure) => json_response(failure.status, &dialect.failure_body(&failure)),
            None => json_response(200, &object(listener, &ends)),
        };
        // Their places are free before the client knows: the next request may come at once.
        drop(choices);
        self.respond(request, caller, response);
    }

    /// Server-sent events. The head goes out with the first one, so that what fails before it has a true status.
    pub(super) fn answer_streamed(
        &self,
        request: Request,
        caller: &Caller,
        mut choices: Choices,
        mut listener: impl Streamer,
        dialect: Dialect,
    ) {
        let mut pace = Pace::default();
        let mut ended = choices.wait_for_text(self, &mut pace, &mut listener);
        while !ended && listener.buffer().is_empty() {
            ended = choices.wait_for_text(self, &mut pace, &mut listener);
        }
        if let (true, Some(failure)) = (ended, choices.failure()) {
            drop(choices);
            return self.respond(request, caller, json_response(failure.status, &dialect.failure_body(&failure)));
        }
        let of_stream = [header("Content-Type", listener.content_type()), header("Cache-Control", "no-store")];
        let headers = caller.headers().chain(of_stream).collect();
        if ended {
            let ends: Vec<Terminal> = choices.ends().copied().collect();
            listener.close(&ends);
            drop(choices);
            self.parts.metrics.http.stream_writes.inc();
            if request.respond_streamed(200, headers, listener.buffer()).is_ok() {
                caller.line.answered(200);
                self.parts.metrics.http.answers(200).inc();
            }
            return;
        }
        pace.writes();
        let Ok(mut stream) = request.into_stream_with(200, headers, listener.buffer()) else { return };
        listener.buffer().clear();
        caller.line.answered(200);
        self.parts.metrics.http.answers(200).inc();
        self.parts.metrics.http.stream_writes.inc();
        while !ended {
            ended = choices.wait_for_text(self, &mut pace, &mut listener);
            let buffer = listener.buffer();
            // The last of them leave with the end.
            if !ended && !buffer.is_empty() {
                pace.writes();
                if stream.write_event(buffer).is_err() {
                    // The client is gone, and dropping the readers cancels.
                    return;
                }
                self.parts.metrics.http.stream_writes.inc();
                buffer.clear();
            }
        }
        let ends: Vec<Terminal> = choices.ends().copied().collect();
        match choices.failure() {
            Some(failure) => listener.fail(&dialect.failure_body(&failure)),
            None => listener.close(&ends),
        }
        drop(choices);
        self.parts.metrics.http.stream_writes.inc();
        let _ = stream.finish_with(listener.buffer());
    }
}
