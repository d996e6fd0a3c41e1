//! Answers that are on their way, brought to their client: whole at the end, or in events as they come. What they look
//! like is the listener's business.
//!
//! The head of a stream leaves with its first event, or without one `STREAM_HEAD_MS` after the engine has accepted the request:
//! until then a failure has a true status, and a short answer is one write. A silent stream gives signs of life from then on,
//! while its request waits in the queue, while its prompt is read, and while a text is held back that may become a stop string
//! or a call. A client that leaves is seen all the time: tiny_http watches the connection, and the cancelled request ends.

use serde_json::Value;
use tiny_http::Request;

use crate::handoff::Pace;
use crate::http::caller::Caller;
use crate::http::dialect::Dialect;
use crate::http::fault::{header, json_response};
use crate::http::run::choices::{Choices, Listener};
use crate::http::service::Service;
use crate::types::Terminal;

/// A sign of life that no reader of server-sent events makes an event of.
pub const COMMENT: &[u8] = b": working\n\n";

/// A listener that makes events.
pub trait Streamer: Listener {
    /// What kind of events.
    fn content_type(&self) -> &'static str {
        "text/event-stream"
    }

    /// Events that haven't left yet.
    fn buffer(&mut self) -> &mut Vec<u8>;

    /// Nothing was said for a while: an event that its client takes for a sign of life and for nothing else.
    fn sign(&mut self);

    /// All have ended, and ended well.
    fn close(&mut self, ends: &[Terminal]);

    /// One has failed, after the head had left.
    fn fail(&mut self, body: &Value);
}

impl Service {
    /// Ends all answers when the client leaves.
    pub(in crate::http) fn cancel_on_disconnect(request: &Request, choices: &Choices) {
        let cancellers = choices.cancellers();
        request.watch().on_disconnect(Box::new(move || cancellers.iter().for_each(|canceller| canceller.cancel())));
    }

    /// One JSON answer at the end, `object` of how they ended.
    pub(in crate::http) fn answer_whole<L: Listener>(
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

    /// Events as they come. What stands in the listener's buffer already leaves with the head.
    pub(in crate::http) fn answer_streamed(
        &self,
        request: Request,
        caller: &Caller,
        mut choices: Choices,
        mut listener: impl Streamer,
        dialect: Dialect,
    ) {
        let mut pace = Pace::new(self.parts.stream_ping);
        let opening = listener.buffer().len();
        let mut ended = choices.wait_for_text(self, &mut pace, &mut listener);
        while !ended && listener.buffer().len() == opening && !pace.is_silent() {
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
        match listener.buffer().len() == opening {
            true => pace.signs(),
            false => pace.writes(),
        }
        let Ok(mut stream) = request.into_stream_with(200, headers, listener.buffer()) else { return };
        listener.buffer().clear();
        caller.line.answered(200);
        self.parts.metrics.http.answers(200).inc();
        self.parts.metrics.http.stream_writes.inc();
        while !ended {
            ended = choices.wait_for_text(self, &mut pace, &mut listener);
            if ended {
                // The last events leave with the end.
                break;
            }
            if !listener.buffer().is_empty() {
                pace.writes();
            } else if pace.is_silent() {
                pace.signs();
                listener.sign();
            } else {
                continue;
            }
            if stream.write_event(listener.buffer()).is_err() {
                // The client is gone, and dropping the readers cancels.
                return;
            }
            self.parts.metrics.http.stream_writes.inc();
            listener.buffer().clear();
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
