//! `GET /debug/trace`: a timeline of the steps in the next seconds. One at a time; only with `--trace`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tiny_http::{Request, Response, ResponseBox};

use crate::handoff::Stage;
use crate::http::caller::Caller;
use crate::http::dialect::native::ERRORS;
use crate::http::fault::header;
use crate::http::service::Service;
use crate::trace::{TraceReader, Track, write_timeline};
use crate::types::RequestError;
use crate::types::limits::{TRACE_LOOK_MS, TRACE_SECONDS_MAX, TRACE_STEPS_MAX};

/// Seconds of a trace if the request names no number.
const SECONDS: f64 = 5.0;

impl Service {
    /// Records steps for some seconds and answers with their timeline.
    pub(in crate::http) fn trace(&self, request: Request, caller: &Caller) {
        let response = match (&self.parts.trace, seconds(request.url())) {
            (None, _) => {
                self.note_refusal(caller, "tracing_off");
                ERRORS.answer(403, "this server records no steps; start it with --trace", "tracing_off", Value::Null)
            }
            (_, Err(error)) => self.refusal(caller, &ERRORS, &error),
            // ORDERING: AcqRel, so that a trace begins after the previous one has ended.
            (Some(_), Ok(_)) if self.tracing.swap(true, Ordering::AcqRel) => {
                self.note_refusal(caller, "trace_running");
                ERRORS
                    .answer(429, "another trace is being recorded", "trace_running", Value::Null)
                    .with_header(header("Retry-After", "5"))
            }
            (Some(reader), Ok(seconds)) => {
                let left = Arc::new(AtomicBool::new(false));
                let leaves = Arc::clone(&left);
                // ORDERING: Relaxed, here and where it is read; no other data is published with the flag.
                request.watch().on_disconnect(Box::new(move || leaves.store(true, Ordering::Relaxed)));
                let response = self.listen(reader, seconds, &left);
                self.tracing.store(false, Ordering::Release);
                response
            }
        };
        self.respond(request, caller, response);
    }

    /// Ends early if the client leaves, the server stops or the answer is full.
    fn listen(&self, reader: &TraceReader, seconds: Duration, left: &AtomicBool) -> ResponseBox {
        let (until, mut next, mut lost, mut steps) = (Instant::now() + seconds, reader.now(), 0, Vec::new());
        loop {
            let rest = until.saturating_duration_since(Instant::now());
            std::thread::sleep(rest.min(Duration::from_millis(TRACE_LOOK_MS)));
            let (on, gone) = reader.read(next, &mut steps);
            (next, lost) = (on, lost + gone);
            let over = rest.is_zero() || left.load(Ordering::Relaxed);
            if over || steps.len() >= TRACE_STEPS_MAX || self.parts.shutdown.stage() != Stage::Running {
                break;
            }
        }
        steps.truncate(TRACE_STEPS_MAX);
        let track = Track { name: "batch".to_owned(), steps, lost };
        Response::from_data(write_timeline(&[track], &[]).into_bytes())
            .with_header(header("Content-Type", "application/json"))
            .with_header(header("Content-Disposition", "attachment; filename=\"cllm-trace.json\""))
            .boxed()
    }
}

/// The parameter `seconds` of a URL.
fn seconds(url: &str) -> Result<Duration, RequestError> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let given = query.split('&').find_map(|pair| pair.strip_prefix("seconds="));
    let seconds = given.map_or(Some(SECONDS), |text| text.parse().ok());
    let fits = seconds.filter(|seconds| *seconds > 0.0 && *seconds <= TRACE_SECONDS_MAX);
    let complaint =
        || RequestError::field("seconds", format!("must be a number above 0 and up to {TRACE_SECONDS_MAX}"));
    fits.map(Duration::from_secs_f64).ok_or_else(complaint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_bounded() {
        assert_eq!(seconds("/debug/trace"), Ok(Duration::from_secs(5)));
        assert_eq!(seconds("/debug/trace?x=1&seconds=0.25"), Ok(Duration::from_millis(250)));
        assert_eq!(seconds("/debug/trace?seconds=60"), Ok(Duration::from_secs(60)));
        for bad in ["0", "-1", "60.1", "1e300", "inf", "NaN", "", "five"] {
            assert!(seconds(&format!("/debug/trace?seconds={bad}")).is_err(), "{bad}");
        }
    }
}
