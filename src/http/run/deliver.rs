//! Sends answers to their clients: as a whole at the end, or in events while they are generated. The listener decides
//! their format.
//!
//! The head of a stream is sent with its first event, or without one `STREAM_HEAD_MS` after the engine has accepted the
//! request. Until then a failure has a true status, and a short answer is one write. From then on a silent stream sends
//! keep-alives: while its request waits in the queue, while its prompt is prefilled, and while text is held back that
//! may become a stop string or a call. tiny_http watches the connection all the time; when the client leaves, the
//! request is cancelled.

use tiny_http::{Request, ResponseBox};

use super::choices::Choices;
use super::refuse::ErrorShape;
use super::speaks::{Events, Whole};
use crate::handoff::Pace;
use crate::http::caller::Caller;
use crate::http::fault::{header, json_response};
use crate::http::service::Service;
use crate::types::Terminal;

impl Service {
    /// Sends one JSON answer at the end.
    pub(super) fn whole_answer<L: Whole>(
        &self,
        mut choices: Choices,
        mut listener: L,
        errors: &ErrorShape,
    ) -> ResponseBox {
        while !choices.wait_for_end(self, &mut listener, None) {}
        let ends: Vec<Terminal> = choices.ends().copied().collect();
        let response = match choices.failure() {
            Some(failure) => {
                let body = listener.failed(&ends, &failure, errors.failure(&failure));
                json_response(failure.status, &body)
            }
            None => json_response(200, &listener.object(&ends)),
        };
        // The places are freed before the client gets the answer, because its next request may come at once.
        drop(choices);
        response
    }

    /// Sends events while they come. Data that is already in the listener's buffer is sent with the head.
    pub(super) fn answer_in_events<L: Events>(
        &self,
        request: Request,
        caller: &Caller,
        mut choices: Choices,
        mut listener: L,
        errors: &ErrorShape,
    ) {
        let http = &self.parts.metrics.http;
        let mut pace = Pace::new(self.parts.stream_ping);
        let opening = listener.buffer().len();
        let mut ended = choices.wait_for_text(self, &mut pace, &mut listener);
        while !ended && listener.buffer().len() == opening && !pace.is_silent() {
            ended = choices.wait_for_text(self, &mut pace, &mut listener);
        }
        let has_text = listener.buffer().len() > opening;
        if let (true, false, Some(failure)) = (ended, has_text, choices.failure()) {
            drop(choices);
            let response = json_response(failure.status, &errors.failure(&failure));
            return self.respond(request, caller, response);
        }
        let of_stream = [header("Content-Type", listener.content_type()), header("Cache-Control", "no-store")];
        let headers = caller.headers().chain(of_stream).collect();
        if ended {
            last_events(choices, &mut listener, errors);
            http.stream_writes.inc();
            if request.respond_streamed(200, headers, listener.buffer()).is_ok() {
                caller.line.answered(200);
                http.answers(200).inc();
            }
            return;
        }
        match has_text {
            true => pace.writes(),
            false => pace.signs(),
        }
        let Ok(mut stream) = request.into_stream_with(200, headers, listener.buffer()) else { return };
        listener.buffer().clear();
        caller.line.answered(200);
        http.answers(200).inc();
        http.stream_writes.inc();
        // The last events are sent together with the end.
        while !choices.wait_for_text(self, &mut pace, &mut listener) {
            if !listener.buffer().is_empty() {
                pace.writes();
            } else if pace.is_silent() {
                pace.signs();
                listener.sign();
            } else {
                continue;
            }
            if stream.write_event(listener.buffer()).is_err() {
                // The client is gone. Dropping the readers cancels the generations.
                return;
            }
            http.stream_writes.inc();
            listener.buffer().clear();
        }
        last_events(choices, &mut listener, errors);
        http.stream_writes.inc();
        let _ = stream.finish_with(listener.buffer());
    }
}

/// The events that report how all answers ended. The places are freed before the client gets them.
fn last_events(choices: Choices, listener: &mut impl Events, errors: &ErrorShape) {
    let ends: Vec<Terminal> = choices.ends().copied().collect();
    match choices.failure() {
        Some(failure) => listener.fail(&ends, &failure, &errors.failure(&failure)),
        None => listener.close(&ends),
    }
}
