//! Answers of `/api/chat` and `/api/generate`, whole or in lines of JSON.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use crate::chat::Said;
use crate::http::run::choices::{Listener, Scored};
use crate::http::run::failure::GenerationFailure;
use crate::http::run::speaks::{Events, Whole};
use crate::types::calendar::date_time;
use crate::types::{FinishReason, Terminal};

/// A time as RFC 3339, in UTC, to the microsecond.
pub fn timestamp(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    format!("{}.{:06}Z", date_time(since.as_secs()), since.subsec_micros())
}

/// An answer, collected or written as lines.
pub struct OllamaAnswer<'a> {
    model: &'a str,
    is_chat: bool,
    streams: bool,
    content: String,
    thinking: String,
    /// Names and arguments of calls; in a stream, only of calls not sent yet.
    calls: Vec<(String, String)>,
    /// Lines that weren't sent yet.
    buffer: Vec<u8>,
}

impl OllamaAnswer<'_> {
    /// An empty answer of `/api/chat`, or of `/api/generate` if not `is_chat`.
    pub fn new(model: &str, is_chat: bool, streams: bool) -> OllamaAnswer<'_> {
        let (content, thinking, calls, buffer) = (String::new(), String::new(), Vec::new(), Vec::new());
        OllamaAnswer { model, is_chat, streams, content, thinking, calls, buffer }
    }

    /// The fields of every line, with this text.
    fn line_of(&self, text: &str) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("model".to_owned(), json!(self.model));
        object.insert("created_at".to_owned(), json!(timestamp(SystemTime::now())));
        if self.is_chat {
            object.insert("message".to_owned(), json!({"role": "assistant", "content": text}));
        } else {
            object.insert("response".to_owned(), json!(text));
        }
        object.insert("done".to_owned(), json!(false));
        object
    }

    fn line(&mut self, object: &Map<String, Value>) {
        // Writing into a vector doesn't fail.
        let _ = serde_json::to_writer(&mut self.buffer, object);
        self.buffer.push(b'\n');
    }

    /// Sets a field of the message; in `/api/generate` it stands beside the text.
    fn set(&self, object: &mut Map<String, Value>, name: &str, value: Value) {
        match object.get_mut("message").and_then(Value::as_object_mut) {
            Some(message) => message.insert(name.to_owned(), value),
            None => object.insert(name.to_owned(), value),
        };
    }

    fn calls(&self) -> Value {
        let call = |(name, arguments): &(String, String)| {
            // Arguments that `num_predict` cut off become an empty object.
            let arguments = serde_json::from_str(arguments).unwrap_or_else(|_| json!({}));
            json!({"function": {"name": name, "arguments": arguments}})
        };
        self.calls.iter().map(call).collect()
    }

    /// Sends complete calls in a stream; clients expect each call whole.
    fn flush_calls(&mut self) {
        if self.streams && !self.calls.is_empty() {
            let mut object = self.line_of("");
            self.set(&mut object, "tool_calls", self.calls());
            self.line(&object);
            self.calls.clear();
        }
    }

    /// The answer to a request without a prompt.
    pub fn of_nothing(&self, reason: &str) -> Value {
        let mut object = self.line_of("");
        object.insert("done".to_owned(), json!(true));
        object.insert("done_reason".to_owned(), json!(reason));
        Value::Object(object)
    }
}

impl Whole for OllamaAnswer<'_> {
    fn object(self, ends: &[Terminal]) -> Value {
        let mut object = self.line_of(&self.content);
        if !self.thinking.is_empty() {
            self.set(&mut object, "thinking", json!(self.thinking));
        }
        if !self.calls.is_empty() {
            self.set(&mut object, "tool_calls", self.calls());
        }
        ends.iter().for_each(|end| object.extend(ending(end)));
        Value::Object(object)
    }
}

/// The fields of the last line: the reason of the end, counts, and times in nanoseconds.
fn ending(end: &Terminal) -> Map<String, Value> {
    let reason = if end.reason == FinishReason::Length { "length" } else { "stop" };
    let ns = |us: u64| us.saturating_mul(1_000);
    let fields = [
        ("done", json!(true)),
        ("done_reason", json!(reason)),
        ("total_duration", json!(ns(end.queue_us + end.prefill_us + end.decode_us))),
        // The model is always loaded, so `load_duration` is the time that the request waited for a slot.
        ("load_duration", json!(ns(end.queue_us))),
        ("prompt_eval_count", json!(end.prompt_tokens)),
        ("prompt_eval_duration", json!(ns(end.prefill_us))),
        ("eval_count", json!(end.generated_tokens)),
        ("eval_duration", json!(ns(end.decode_us))),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

impl Listener for OllamaAnswer<'_> {
    fn said(&mut self, _: usize, said: Said<'_>, _: &mut Vec<Scored>) {
        match said {
            Said::Content(text) if self.streams => {
                self.flush_calls();
                let object = self.line_of(text);
                self.line(&object);
            }
            Said::Reasoning(text) if self.streams => {
                let mut object = self.line_of("");
                self.set(&mut object, "thinking", json!(text));
                self.line(&object);
            }
            Said::Content(text) => self.content.push_str(text),
            Said::Reasoning(text) => self.thinking.push_str(text),
            Said::Call { name } => {
                self.flush_calls();
                self.calls.push((name.to_owned(), String::new()));
            }
            Said::Arguments(text) => {
                if let Some((_, arguments)) = self.calls.last_mut() {
                    arguments.push_str(text);
                }
            }
        }
    }

    fn ended(&mut self, _: usize, end: &Terminal, _: usize, _: &mut Vec<Scored>) {
        let is_good = matches!(end.reason, FinishReason::Eos | FinishReason::Stop | FinishReason::Length);
        if self.streams && is_good {
            self.flush_calls();
            let mut object = self.line_of("");
            object.extend(ending(end));
            self.line(&object);
        }
    }
}

impl Events for OllamaAnswer<'_> {
    fn content_type(&self) -> &'static str {
        "application/x-ndjson"
    }

    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// The keep-alive is a line with an empty text, because clients read each line as JSON.
    fn sign(&mut self) {
        let object = self.line_of("");
        self.line(&object);
    }

    fn fail(&mut self, _: &[Terminal], _: &GenerationFailure, error: &Value) {
        self.buffer.extend_from_slice(format!("{error}\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        for (s, us, text) in [
            (0, 0, "1970-01-01T00:00:00.000000Z"),
            (951_827_696, 7, "2000-02-29T12:34:56.000007Z"),
            (1_735_689_599, 999_999, "2024-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(timestamp(SystemTime::UNIX_EPOCH + Duration::new(s, us * 1_000)), text);
        }
    }
}
