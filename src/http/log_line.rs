//! The log line of a request: its client, what it asked for, what it cost and how it ended. The HTTP thread that served
//! the request writes it when the last reference is dropped, after the answer.
//!
//! Requests that do work (POST) are logged at level info, others (GET) at debug, because dashboards send one twice a
//! second. A level that isn't shown costs only the collection of the numbers.

use std::cell::{Cell, OnceCell};
use std::time::Instant;

use tiny_http::Method;

use crate::http::route::{NoRoute, ROUTES, Route};
use crate::http::traceparent::TraceParent;
use crate::types::{FinishReason, Terminal};

/// The data of one request so far. Stays on its HTTP thread.
pub struct LogLine {
    /// `X-Request-Id` as it came, or `req-N`.
    pub name: String,
    /// The trace that the client named.
    trace: Option<TraceParent>,
    /// When the request arrived. `None`: it came over no connection and gets no log line.
    arrived: Option<Instant>,
    /// Method and path as in the list of routes. The URL as sent isn't logged, because it may contain secrets.
    route: Cell<(&'static str, &'static str)>,
    /// The answer's status; 0: none was sent.
    status: Cell<u16>,
    refused: Cell<Option<&'static str>>,
    prompt: OnceCell<String>,
    sums: Cell<Sums>,
}

/// The sums over all answers of one request.
#[derive(Clone, Copy, Default)]
struct Sums {
    accepted: u32,
    prompt_tokens: u32,
    cached_tokens: u32,
    restored_tokens: u32,
    generated_tokens: u32,
    /// Microseconds in the queue of the answer that waited longest.
    queue_us_max: u64,
    queue_us_min: Option<u64>,
    /// Microseconds from arrival to the first token of any answer.
    first_us: Option<u64>,
    /// Microseconds from arrival to the end of the last answer.
    last_us: u64,
    /// The worst reason of an end.
    reason: Option<FinishReason>,
}

impl LogLine {
    /// A line for the request `name`, which arrived at `arrived`.
    pub fn new(name: String, arrived: Option<Instant>) -> LogLine {
        LogLine {
            name,
            trace: None,
            arrived,
            route: Cell::new(("", "unknown")),
            status: Cell::new(0),
            refused: Cell::new(None),
            prompt: OnceCell::new(),
            sums: Cell::new(Sums::default()),
        }
    }

    /// Sets the trace.
    #[must_use]
    pub fn traced(mut self, trace: Option<TraceParent>) -> LogLine {
        self.trace = trace;
        self
    }

    /// Records the route, or that there is none.
    pub fn leads_to(&self, method: &Method, route: Result<Route, NoRoute>) {
        let known = ROUTES.iter().find(|row| Ok(row.route) == route);
        self.route.set(match (known, method) {
            (Some(row), _) => (row.method, row.path),
            (None, Method::Post) => ("POST", "unknown"),
            (None, _) => ("", "unknown"),
        });
    }

    /// Records that an answer with this status was sent, or has begun.
    pub fn answered(&self, status: u16) {
        self.status.set(status);
    }

    /// Records that the request was refused with this code.
    pub fn refused(&self, code: &'static str) {
        self.refused.set(Some(code));
    }

    /// Records the prompt, if `--log-prompts` is set. Of several prompts the first is kept.
    pub fn asked(&self, prompt: impl FnOnce() -> String) {
        if self.is_shown() {
            self.prompt.get_or_init(prompt);
        }
    }

    /// Records that a generation was accepted.
    pub(in crate::http) fn accepted(&self, prompt_tokens: usize) {
        self.add(|sums| {
            sums.accepted += 1;
            sums.prompt_tokens += prompt_tokens as u32;
        });
    }

    /// Records that a generation has ended.
    pub(in crate::http) fn ended(&self, end: &Terminal) {
        self.add(|sums| {
            sums.cached_tokens += end.cached_tokens;
            sums.restored_tokens += end.restored_tokens;
            sums.generated_tokens += end.generated_tokens;
            sums.queue_us_max = sums.queue_us_max.max(end.queue_us);
            sums.queue_us_min = Some(sums.queue_us_min.map_or(end.queue_us, |least| least.min(end.queue_us)));
            if end.generated_tokens > 0 {
                let first_us = end.queue_us + end.prefill_us;
                sums.first_us = Some(sums.first_us.map_or(first_us, |least| least.min(first_us)));
            }
            sums.last_us = sums.last_us.max(end.queue_us + end.prefill_us + end.decode_us);
            sums.reason = worse(sums.reason, end.reason);
        });
    }

    /// Records that the client left. `generated_tokens` is the number of tokens that an HTTP thread had seen.
    pub(in crate::http) fn left(&self, generated_tokens: usize) {
        self.add(|sums| {
            sums.generated_tokens += generated_tokens as u32;
            sums.reason = worse(sums.reason, FinishReason::Cancelled);
        });
    }

    fn add(&self, add: impl FnOnce(&mut Sums)) {
        let mut sums = self.sums.get();
        add(&mut sums);
        self.sums.set(sums);
    }

    fn is_work(&self) -> bool {
        self.route.get().0 == "POST"
    }

    fn is_shown(&self) -> bool {
        let is_shown = if self.is_work() {
            tracing::enabled!(tracing::Level::INFO)
        } else {
            tracing::enabled!(tracing::Level::DEBUG)
        };
        is_shown && self.arrived.is_some()
    }

    fn outcome(&self, sums: &Sums) -> Option<&'static str> {
        let refused = (self.status.get() >= 400 && sums.accepted == 0).then_some("refused");
        self.refused.get().or(sums.reason.map(FinishReason::as_str)).or(refused)
    }
}

/// The worse of two reasons; they are numbered from good to bad.
fn worse(one: Option<FinishReason>, other: FinishReason) -> Option<FinishReason> {
    one.into_iter().chain([other]).max_by_key(|reason| *reason as u8)
}

fn ms(us: u64) -> f64 {
    us as f64 / 1e3
}

impl Drop for LogLine {
    fn drop(&mut self) {
        let Some(arrived) = self.arrived.filter(|_| self.is_shown()) else { return };
        let sums = self.sums.get();
        let is_accepted = sums.accepted > 0 && self.refused.get().is_none();
        let has_ended = is_accepted && sums.queue_us_min.is_some();
        let slot_us = sums.last_us.saturating_sub(sums.queue_us_min.unwrap_or(0));
        let rate = f64::from(sums.generated_tokens) * 1e6 / slot_us as f64;
        macro_rules! write_line {
            ($level:ident) => {
                tracing::$level!(
                    id = %self.name,
                    route = %self.route.get().1,
                    status = Some(self.status.get()).filter(|status| *status > 0),
                    outcome = self.outcome(&sums).map(tracing::field::display),
                    choices = Some(sums.accepted).filter(|n| is_accepted && *n > 1),
                    prompt_tokens = is_accepted.then_some(sums.prompt_tokens),
                    cached_tokens = has_ended.then_some(sums.cached_tokens),
                    restored_tokens = Some(sums.restored_tokens).filter(|n| has_ended && *n > 0),
                    generated_tokens = is_accepted.then_some(sums.generated_tokens),
                    queue_ms = has_ended.then(|| ms(sums.queue_us_max)),
                    ttft_ms = sums.first_us.map(ms),
                    tokens_per_s = (has_ended && slot_us > 0).then(|| (rate * 10.0).round() / 10.0),
                    total_ms = ms(arrived.elapsed().as_micros() as u64),
                    trace_id = self.trace.as_ref().map(|trace| trace.trace_id.as_str()),
                    parent_span_id = self.trace.as_ref().map(|trace| trace.span_id.as_str()),
                    prompt = self.prompt.get(),
                    "request"
                )
            };
        }
        if self.is_work() { write_line!(info) } else { write_line!(debug) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::RequestError;

    fn end(reason: FinishReason, queue_us: u64, prefill_us: u64, decode_us: u64) -> Terminal {
        Terminal {
            reason,
            text_end: 0,
            stop: None,
            generated_tokens: 5,
            thought_tokens: 0,
            guesses: 0,
            guesses_accepted: 0,
            gave_way: 0,
            prompt_tokens: 7,
            cached_tokens: 2,
            restored_tokens: 1,
            queue_us,
            prefill_us,
            decode_us,
        }
    }

    #[test]
    fn answers_of_one_request_add_up_and_the_worst_end_counts() {
        let line = LogLine::new("a".to_owned(), None);
        (0..3).for_each(|_| line.accepted(7));
        line.ended(&end(FinishReason::Length, 10, 20, 30));
        line.ended(&end(FinishReason::Eos, 40, 10, 50));
        let sums = line.sums.get();
        assert_eq!((sums.prompt_tokens, sums.cached_tokens, sums.generated_tokens), (21, 4, 10));
        assert_eq!((sums.queue_us_max, sums.queue_us_min, sums.first_us, sums.last_us), (40, Some(10), Some(30), 100));
        assert_eq!(line.outcome(&sums), Some("length"));
        line.left(3);
        assert_eq!((line.outcome(&line.sums.get()), line.sums.get().generated_tokens), (Some("cancelled"), 13));
        line.refused(RequestError::ShuttingDown.code());
        assert_eq!(line.outcome(&line.sums.get()), Some("shutting_down"));
    }

    #[test]
    fn what_was_sent_to_nowhere_is_a_refusal_without_its_path() {
        let line = LogLine::new("a".to_owned(), None);
        line.leads_to(&Method::Post, Err(NoRoute::NotFound));
        line.answered(404);
        assert_eq!((line.route.get(), line.outcome(&line.sums.get())), (("POST", "unknown"), Some("refused")));
        line.leads_to(&Method::Head, Ok(Route::Model));
        assert_eq!(line.route.get(), ("GET", "/v1/models/{id}"));
    }
}
