//! An answer as Anthropic's named events: the message begins, blocks begin, grow and end, the message ends.

use serde_json::{Value, json};

use super::answer::{SIGNATURE, head, stop, usage};
use crate::chat::Said;
use crate::http::run::call_ids::CallIds;
use crate::http::run::choices::{Listener, Scored};
use crate::http::run::failure::GenerationFailure;
use crate::http::run::speaks::{Events, Told};
use crate::types::{FinishReason, Terminal};

/// The content of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    Call,
}

/// Writes the events of one answer.
pub struct AnthropicStream {
    ids: CallIds,
    stops: Vec<Vec<u8>>,
    /// The kind of the block that is open.
    open: Option<Kind>,
    /// Blocks begun so far, and how many of them are calls.
    n_blocks: usize,
    n_calls: usize,
    /// Events that weren't sent yet.
    buffer: Vec<u8>,
}

impl AnthropicStream {
    /// A stream that begins with the message's head.
    pub fn new(told: Told<'_>) -> AnthropicStream {
        let ids = told.service.call_ids(told.id);
        let n_prompt_tokens = told.prompts.first().map_or(0, |prompt| prompt.n_tokens);
        let mut head = head(&told);
        head["content"] = json!([]);
        head["stop_reason"] = Value::Null;
        head["stop_sequence"] = Value::Null;
        head["usage"] = json!({"input_tokens": n_prompt_tokens, "output_tokens": 0});
        let stops = told.generation.stop;
        let mut stream = AnthropicStream { ids, stops, open: None, n_blocks: 0, n_calls: 0, buffer: Vec::new() };
        stream.event("message_start", &json!({"type": "message_start", "message": head}));
        stream
    }

    fn event(&mut self, name: &str, data: &Value) {
        self.buffer.extend_from_slice(format!("event: {name}\ndata: {data}\n\n").as_bytes());
    }

    fn close(&mut self) {
        let closed = self.open.take();
        if closed == Some(Kind::Thinking) {
            self.grow("signature_delta", "signature", SIGNATURE);
        }
        if closed.is_some() {
            let data = json!({"type": "content_block_stop", "index": self.n_blocks - 1});
            self.event("content_block_stop", &data);
        }
    }

    fn open(&mut self, kind: Kind, block: &Value) {
        self.close();
        let data = json!({"type": "content_block_start", "index": self.n_blocks, "content_block": block});
        self.event("content_block_start", &data);
        self.open = Some(kind);
        self.n_blocks += 1;
    }

    /// Adds `text` to the open block. It is written without a JSON tree for each token.
    fn grow(&mut self, kind: &str, field: &str, text: &str) {
        let index = self.n_blocks.saturating_sub(1);
        let open = format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":{index},\"delta\":{{\"type\":\"{kind}\",\"{field}\":"
        );
        self.buffer.extend_from_slice(open.as_bytes());
        // Writing into a vector doesn't fail.
        let _ = serde_json::to_writer(&mut self.buffer, text);
        self.buffer.extend_from_slice(b"}}\n\n");
    }
}

impl Listener for AnthropicStream {
    fn said(&mut self, _: usize, said: Said<'_>, _: &mut Vec<Scored>) {
        match said {
            Said::Content(text) => {
                if self.open != Some(Kind::Text) {
                    self.open(Kind::Text, &json!({"type": "text", "text": ""}));
                }
                self.grow("text_delta", "text", text);
            }
            Said::Reasoning(text) => {
                if self.open != Some(Kind::Thinking) {
                    self.open(Kind::Thinking, &json!({"type": "thinking", "thinking": "", "signature": ""}));
                }
                self.grow("thinking_delta", "thinking", text);
            }
            Said::Call { name } => {
                let id = self.ids.of(0, self.n_calls);
                self.n_calls += 1;
                self.open(Kind::Call, &json!({"type": "tool_use", "id": id, "name": name, "input": {}}));
            }
            Said::Arguments(text) if self.open == Some(Kind::Call) => {
                self.grow("input_json_delta", "partial_json", text)
            }
            Said::Arguments(_) => {}
        }
    }

    fn ended(&mut self, _: usize, end: &Terminal, n_calls: usize, _: &mut Vec<Scored>) {
        if !matches!(end.reason, FinishReason::Eos | FinishReason::Stop | FinishReason::Length) {
            // The stream ends with an error.
            return;
        }
        self.close();
        let delta = stop(end, n_calls, &self.stops);
        self.event("message_delta", &json!({"type": "message_delta", "delta": delta, "usage": usage(end)}));
        self.event("message_stop", &json!({"type": "message_stop"}));
    }
}

impl Events for AnthropicStream {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    fn sign(&mut self) {
        self.event("ping", &json!({"type": "ping"}));
    }

    fn fail(&mut self, _: &[Terminal], _: &GenerationFailure, error: &Value) {
        self.event("error", error);
    }
}
