//! Events of `/generate_stream`: one for each piece of text, and a last one with the reason of the end.

use std::cell::Cell;
use std::thread::LocalKey;

use serde::Serialize;
use serde_json::Value;

use super::answer::{Timings, timings};
use crate::chat::Said;
use crate::http::run::choices::{Listener, Scored};
use crate::http::run::failure::GenerationFailure;
use crate::http::run::kept::{Keep, Kept};
use crate::http::run::speaks::Events;
use crate::types::limits::EVENTS_KEPT_BYTES_MAX;
use crate::types::{RequestId, Terminal};

/// Written after each token's text.
const NOT_DONE: &[u8] = b",\"done\":false}\n\n";

/// The content of the last event.
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
    /// Why the generation failed; `None`: it didn't.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    /// The code of that error.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
}

/// Writes the events of one answer.
pub struct TextEvents {
    id: String,
    seed: u64,
    own: Kept<Buffers>,
}

/// Buffers of a stream.
#[derive(Default)]
struct Buffers {
    /// The beginning of each event, up to the text.
    prefix: Vec<u8>,
    /// Events that weren't sent yet.
    events: Vec<u8>,
}

thread_local! {
    static BUFFERS: Cell<Buffers> = Cell::default();
}

impl Keep for Buffers {
    fn place() -> &'static LocalKey<Cell<Self>> {
        &BUFFERS
    }

    fn clear(&mut self) -> bool {
        self.prefix.clear();
        self.events.clear();
        self.events.capacity() <= EVENTS_KEPT_BYTES_MAX
    }
}

impl TextEvents {
    /// A stream for the request `id`. Its last event shows the seed.
    pub fn new(id: RequestId, seed: u64) -> TextEvents {
        let (mut own, id) = (Kept::<Buffers>::take(), id.to_string());
        for part in ["data: {\"id\":\"", &id, "\",\"token\":"] {
            own.prefix.extend_from_slice(part.as_bytes());
        }
        TextEvents { id, seed, own }
    }

    fn last(&mut self, end: &Terminal, failure: Option<&GenerationFailure>) {
        let last = Last {
            id: &self.id,
            token: "",
            done: true,
            generated_tokens: end.generated_tokens,
            prompt_tokens: end.prompt_tokens,
            finish_reason: end.reason.as_str(),
            seed: self.seed,
            timings: timings(end),
            code: failure.map(|failure| failure.code),
            error: failure.map(|failure| failure.message.as_str()),
        };
        self.own.events.extend_from_slice(b"data: ");
        let _ = serde_json::to_writer(&mut self.own.events, &last);
        self.own.events.extend_from_slice(b"\n\n");
    }
}

impl Listener for TextEvents {
    fn said(&mut self, _: usize, said: Said<'_>, _: &mut Vec<Scored>) {
        let Said::Content(text) = said else { return };
        let Buffers { prefix, events } = &mut *self.own;
        events.reserve(prefix.len() + text.len() + 2 + NOT_DONE.len());
        events.extend_from_slice(prefix);
        push_json(events, text);
        events.extend_from_slice(NOT_DONE);
    }

    fn ended(&mut self, _: usize, _: &Terminal, _: usize, _: &mut Vec<Scored>) {}
}

impl Events for TextEvents {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.own.events
    }

    fn close(&mut self, ends: &[Terminal]) {
        ends.iter().for_each(|end| self.last(end, None));
    }

    fn fail(&mut self, ends: &[Terminal], failure: &GenerationFailure, _: &Value) {
        ends.iter().for_each(|end| self.last(end, Some(failure)));
    }
}

/// Appends `text` as a JSON string. Most tokens have nothing to escape.
fn push_json(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|b| b >= b' ' && b != b'"' && b != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // Writing into a vector doesn't fail.
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
