//! `/generate` and `/generate_stream`: submit, wait, write. One HTTP thread stays with a request to its end.

use std::cell::Cell;
use std::io::Write;

use serde::Serialize;
use serde_json::{Value, json};
use tiny_http::{Header, Request, ResponseBox, ResponseStream};

use crate::handoff::{Pace, State, Wake};
use crate::http::ask::params::GenerateRequest;
use crate::http::ask::warnings;
use crate::http::caller::Caller;
use crate::http::fault::{fault, header, json_response};
use crate::http::run::answer::{Failure, Timings, failure_of, generation, timings};
use crate::http::run::deliver::COMMENT;
use crate::http::run::submit::Accepted;
use crate::http::service::Service;
use crate::tokenizer::TextAssembler;
use crate::types::{Piece, RequestError, Terminal};

/// Behind each token's text.
const NOT_DONE: &[u8] = b",\"done\":false}\n\n";

impl Service {
    /// Serves one generation; `stream` when the path says so, whatever the body says.
    pub(in crate::http) fn generate(&self, request: Request, caller: &Caller, stream: bool) {
        let started_us = self.now_us();
        let begun = match self.begin(caller, request.body()) {
            Err(error) => return self.refuse(request, caller, &error),
            Ok(begun) => begun,
        };
        let canceller = begun.accepted.reader.canceller();
        request.watch().on_disconnect(Box::new(move || canceller.cancel()));
        if stream || begun.stream {
            self.answer_in_events(request, caller, begun.accepted);
        } else {
            let response = self.whole(begun);
            self.respond(request, caller, response);
        }
        self.parts.metrics.http.e2e_latency.record_us(self.now_us().saturating_sub(started_us));
    }

    /// JSON in, JSON out: the answer to `body`, without a connection that could be lost. Never streams.
    pub fn generate_json(&self, body: &[u8]) -> ResponseBox {
        warnings::forget();
        self.generate_for(&Caller::nobody(self.next_id()), body)
    }

    pub(in crate::http) fn generate_for(&self, caller: &Caller, body: &[u8]) -> ResponseBox {
        let started_us = self.now_us();
        match self.begin(caller, body) {
            Err(error) => self.refusal("/generate", caller, &error),
            Ok(begun) => {
                let response = self.whole(begun);
                self.parts.metrics.http.e2e_latency.record_us(self.now_us().saturating_sub(started_us));
                response
            }
        }
    }

    /// Parses `body` and submits it.
    fn begin(&self, caller: &Caller, body: &[u8]) -> Result<Begun, RequestError> {
        let body = GenerateRequest::parse(body, &self.parts.defaults, self.fresh_seed(caller.id))?;
        let stream = body.stream;
        Ok(Begun { stream, accepted: self.submit(caller, body)? })
    }

    /// One JSON answer at the end.
    fn whole(&self, begun: Begun) -> ResponseBox {
        let Begun { mut accepted, .. } = begun;
        let table = self.parts.tokenizer.table();
        let (mut pieces, mut text, mut out) = (Vec::new(), TextAssembler::default(), String::new());
        let end = loop {
            match accepted.reader.wait(None, Wake::AtEnd) {
                State::Finished(end) => break end,
                State::Pieces | State::TimedOut => {
                    accepted.reader.read_into(&mut pieces);
                    pieces.drain(..).for_each(|piece| text.push(piece, table, &mut out));
                }
            }
        };
        accepted.ended(&end);
        text.finish(end.text_end, &mut out);
        let data = generation(&accepted, &out, &end);
        let response = match failure_of(end.reason, accepted.constrained_by.as_deref()) {
            None => json_response(200, &json!({"success": true, "data": data})),
            Some(failure) => {
                let mut extra = blamed(&failure);
                extra["data"] = data;
                fault(failure.status, &(failure.message + "; data holds what was generated"), failure.code, extra)
            }
        };
        // Its place is free before the client knows: the next request may come at once.
        drop(accepted);
        response
    }

    /// Server-sent events. The head leaves as `deliver` has it.
    fn answer_in_events(&self, request: Request, caller: &Caller, mut accepted: Accepted) {
        let mut headers: Vec<Header> = caller.headers().collect();
        headers.push(header("Content-Type", "text/event-stream"));
        headers.push(header("Cache-Control", "no-store"));
        let mut events = Events::new(self, accepted.id.to_string());
        let first = match events.wait(&mut accepted) {
            Wait::Text | Wait::Silence => None,
            Wait::End(end) => Some(end),
        };
        let nothing_came = events.own.events.is_empty();
        let failure = first.and_then(|end| failure_of(end.reason, accepted.constrained_by.as_deref()));
        if let (true, Some(failure)) = (nothing_came, failure) {
            drop(accepted);
            let response = fault(failure.status, &failure.message, failure.code, blamed(&failure));
            return self.respond(request, caller, response);
        }
        let http = &self.parts.metrics.http;
        if let Some(end) = first {
            events.last(accepted, &end);
            http.stream_writes.inc();
            if request.respond_streamed(200, headers, &events.own.events).is_ok() {
                caller.line.answered(200);
                http.answers(200).inc();
            }
            return;
        }
        match nothing_came {
            true => events.pace.signs(),
            false => events.pace.writes(),
        }
        let Ok(mut stream) = request.into_stream_with(200, headers, &events.own.events) else { return };
        events.own.events.clear();
        caller.line.answered(200);
        http.answers(200).inc();
        http.stream_writes.inc();
        let Some(end) = pump(&mut events, &mut accepted, &mut stream) else { return };
        events.last(accepted, &end);
        http.stream_writes.inc();
        let _ = stream.finish_with(&events.own.events);
    }
}

/// The field to blame, in an error's body.
fn blamed(failure: &Failure) -> Value {
    failure.field.as_ref().map_or(json!({}), |field| json!({"field": field}))
}

/// A generation that the engine has accepted.
struct Begun {
    stream: bool,
    accepted: Accepted,
}

/// Writes events until the end, which leaves with the last of them. `None`: the client is gone, and dropping the reader
/// cancels.
fn pump(events: &mut Events<'_>, accepted: &mut Accepted, stream: &mut ResponseStream) -> Option<Terminal> {
    loop {
        match events.wait(accepted) {
            Wait::End(end) => return Some(end),
            Wait::Text => events.pace.writes(),
            Wait::Silence => {
                events.pace.signs();
                events.own.events.extend_from_slice(COMMENT);
            }
        }
        stream.write_event(&events.own.events).ok()?;
        events.service.parts.metrics.http.stream_writes.inc();
        events.own.events.clear();
    }
}

/// What the last event says.
#[derive(Serialize)]
struct Last<'a> {
    id: &'a str,
    token: &'a str,
    done: bool,
    generated_tokens: u32,
    prompt_tokens: u32,
    finish_reason: &'a str,
    seed: u64,
    timings: Timings,
    /// Why it ended otherwise than it should, as in the body of an error: message and code.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
}

/// Pieces that wait together become events that leave in one write.
struct Events<'a> {
    service: &'a Service,
    id: String,
    pace: Pace,
    own: Buffers,
}

/// What a stream works with. Its thread keeps it for the next.
#[derive(Default)]
struct Buffers {
    /// What each event begins with, up to the text.
    prefix: Vec<u8>,
    pieces: Vec<Piece>,
    text: TextAssembler,
    shown: String,
    /// Events that haven't left yet.
    events: Vec<u8>,
}

thread_local! {
    static BUFFERS: Cell<Buffers> = Cell::default();
}

impl Buffers {
    /// Of any of them; what has grown beyond isn't kept.
    const KEPT_BYTES_MAX: usize = 16 << 10;

    fn take() -> Buffers {
        BUFFERS.take()
    }

    fn keep(mut self) {
        let bytes = [self.events.capacity(), self.text.capacity(), self.pieces.capacity() * size_of::<Piece>()];
        if bytes.into_iter().all(|bytes| bytes <= Buffers::KEPT_BYTES_MAX) {
            self.prefix.clear();
            self.pieces.clear();
            self.text.clear();
            self.shown.clear();
            self.events.clear();
            BUFFERS.set(self);
        }
    }

    /// Moves what is shown into one event, if it is anything.
    fn event(&mut self) {
        if self.shown.is_empty() {
            return;
        }
        self.events.reserve(self.prefix.len() + self.shown.len() + 2 + NOT_DONE.len());
        self.events.extend_from_slice(&self.prefix);
        push_json(&mut self.events, &self.shown);
        self.events.extend_from_slice(NOT_DONE);
        self.shown.clear();
    }
}

impl Drop for Events<'_> {
    fn drop(&mut self) {
        std::mem::take(&mut self.own).keep();
    }
}

enum Wait {
    /// `Buffers::events` holds events.
    Text,
    /// There is nothing to write, and a sign of life is due.
    Silence,
    /// The last events are in `Buffers::events`.
    End(Terminal),
}

impl<'a> Events<'a> {
    fn new(service: &'a Service, id: String) -> Events<'a> {
        let mut own = Buffers::take();
        // Writing into a vector doesn't fail.
        let _ = write!(own.prefix, "data: {{\"id\":\"{id}\",\"token\":");
        Events { service, id, pace: Pace::new(service.parts.stream_ping), own }
    }

    /// Sleeps until there is text to show, or the end, or a sign of life is due.
    fn wait(&mut self, accepted: &mut Accepted) -> Wait {
        let table = self.service.parts.tokenizer.table();
        loop {
            let reader = &mut accepted.reader;
            self.pace.wait(|until, wish| reader.wait(until, wish) != State::TimedOut);
            self.pace.look_on(|| reader.published());
            reader.read_into(&mut self.own.pieces);
            let mut pieces = std::mem::take(&mut self.own.pieces);
            for piece in pieces.drain(..) {
                self.own.text.push(piece, table, &mut self.own.shown);
                self.own.event();
            }
            self.own.pieces = pieces;
            // It often stands right behind the last pieces, and leaves with them.
            if let Some(State::Finished(end)) = reader.poll(Wake::EachPiece) {
                accepted.ended(&end);
                self.own.text.finish(end.text_end, &mut self.own.shown);
                self.own.event();
                return Wait::End(end);
            }
            if !self.own.events.is_empty() {
                return Wait::Text;
            }
            if self.pace.is_silent() {
                return Wait::Silence;
            }
        }
    }

    /// Behind all others, the one that says how it ended. The request's place is free before its client knows.
    fn last(&mut self, accepted: Accepted, end: &Terminal) {
        let failure = failure_of(end.reason, accepted.constrained_by.as_deref());
        let last = Last {
            id: &self.id,
            token: "",
            done: true,
            generated_tokens: end.generated_tokens,
            prompt_tokens: end.prompt_tokens,
            finish_reason: end.reason.as_str(),
            seed: accepted.seed,
            timings: timings(end),
            code: failure.as_ref().map(|failure| failure.code),
            error: failure.map(|failure| failure.message),
        };
        self.own.events.extend_from_slice(b"data: ");
        let _ = serde_json::to_writer(&mut self.own.events, &last);
        self.own.events.extend_from_slice(b"\n\n");
    }
}

/// `text` as a JSON string. Most tokens have nothing to escape.
fn push_json(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|b| b >= b' ' && b != b'"' && b != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // Writing a string into a vector doesn't fail.
        let _ = serde_json::to_writer(out, text);
    }
}

#[cfg(test)]
mod tests {
    use super::push_json;

    #[test]
    fn text_reads_back_from_its_json_string() {
        for code in (0..0x250).chain([0x2028, 0xfffd, 0x1f680]) {
            let Some(c) = char::from_u32(code) else { continue };
            for text in [format!("{c}"), format!("a{c}\u{e9}"), format!("{c}{c}z")] {
                let mut out = b"x".to_vec();
                push_json(&mut out, &text);
                assert_eq!(
                    serde_json::from_slice::<String>(&out[1..]).ok().as_deref(),
                    Some(text.as_str()),
                    "{code:x}"
                );
            }
        }
    }
}
