//! A whole answer of `/v1/messages`, and the fields that whole answers and streams have at their end.

use serde_json::{Value, json};

use crate::chat::Said;
use crate::http::run::choices::{Listener, Scored};
use crate::http::run::speaks::{Told, Whole};
use crate::types::{FinishReason, Terminal};

/// `stop_reason` and `stop_sequence` of an answer that ended well.
pub fn stop(end: &Terminal, n_calls: usize, stops: &[Vec<u8>]) -> Value {
    let (reason, sequence) = match end.reason {
        FinishReason::Eos | FinishReason::Stop if n_calls > 0 => ("tool_use", None),
        FinishReason::Stop => ("stop_sequence", end.stop.and_then(|which| stops.get(usize::from(which)))),
        FinishReason::Length => ("max_tokens", None),
        _ => ("end_turn", None),
    };
    // Stop strings came as UTF-8.
    let sequence = sequence.map(|stop| String::from_utf8_lossy(stop));
    json!({"stop_reason": reason, "stop_sequence": sequence})
}

/// `usage`. Prompt tokens that were in the cache are counted apart from the others.
pub fn usage(end: &Terminal) -> Value {
    json!({
        "input_tokens": end.prompt_tokens - end.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": end.cached_tokens,
        "output_tokens": end.generated_tokens,
    })
}

/// One content block of an answer.
enum Block {
    Text(String),
    Thinking(String),
    Call { name: String, arguments: String },
}

/// Collects a whole answer.
pub struct AnthropicAnswer<'a> {
    told: Told<'a>,
    blocks: Vec<Block>,
    n_calls: usize,
}

/// The fields of an answer before it has any content.
pub fn head(told: &Told<'_>) -> Value {
    json!({
        "id": format!("msg_{:014x}", told.service.mixed(told.id)),
        "type": "message",
        "role": "assistant",
        "model": told.service.parts.model.name,
    })
}

/// The signature of every thought. Clients send it back with the thought, where it is ignored.
pub const SIGNATURE: &str = "cllm";

impl AnthropicAnswer<'_> {
    /// An empty answer.
    pub fn new(told: Told<'_>) -> AnthropicAnswer<'_> {
        AnthropicAnswer { told, blocks: Vec::new(), n_calls: 0 }
    }
}

impl Whole for AnthropicAnswer<'_> {
    fn object(self, ends: &[Terminal]) -> Value {
        let (mut answer, ids, mut calls) = (head(&self.told), self.told.service.call_ids(self.told.id), 0);
        let blocks = self.blocks.iter().map(|block| match block {
            Block::Text(text) => json!({"type": "text", "text": text}),
            Block::Thinking(text) => json!({"type": "thinking", "thinking": text, "signature": SIGNATURE}),
            Block::Call { name, arguments } => {
                calls += 1;
                // Arguments that `max_tokens` cut off become an empty object.
                let input = serde_json::from_str(arguments).unwrap_or_else(|_| json!({}));
                json!({"type": "tool_use", "id": ids.of(0, calls - 1), "name": name, "input": input})
            }
        });
        answer["content"] = blocks.collect();
        for end in ends {
            let mut stop = stop(end, self.n_calls, &self.told.generation.stop);
            answer["stop_reason"] = stop["stop_reason"].take();
            answer["stop_sequence"] = stop["stop_sequence"].take();
            answer["usage"] = usage(end);
        }
        answer
    }
}

impl Listener for AnthropicAnswer<'_> {
    fn said(&mut self, _: usize, said: Said<'_>, _: &mut Vec<Scored>) {
        match (said, self.blocks.last_mut()) {
            (Said::Content(more), Some(Block::Text(text))) => text.push_str(more),
            (Said::Reasoning(more), Some(Block::Thinking(text))) => text.push_str(more),
            (Said::Arguments(more), Some(Block::Call { arguments, .. })) => arguments.push_str(more),
            (Said::Content(text), _) => self.blocks.push(Block::Text(text.to_owned())),
            (Said::Reasoning(text), _) => self.blocks.push(Block::Thinking(text.to_owned())),
            (Said::Call { name }, _) => {
                self.blocks.push(Block::Call { name: name.to_owned(), arguments: String::new() });
            }
            (Said::Arguments(_), _) => {}
        }
    }

    fn ended(&mut self, _: usize, _: &Terminal, n_calls: usize, _: &mut Vec<Scored>) {
        self.n_calls = n_calls;
    }
}
