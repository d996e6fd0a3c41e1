//! `/v1/messages`: from a body to its answer, whole or in events; and what its tokens count.

use serde_json::{Value, json};
use tiny_http::Request;

use super::request::MessagesRequest;
use super::stream::Stream;
use crate::chat::Said;
use crate::http::caller::Caller;
use crate::http::dialect::Dialect;
use crate::http::dialect::openai::chat::CallIds;
use crate::http::fault::json_response;
use crate::http::run::choices::{Listener, Scored};
use crate::http::service::Service;
use crate::types::{FinishReason, Terminal};

impl Service {
    pub(in crate::http) fn messages(&self, request: Request, caller: &Caller) {
        let started_us = self.now_us();
        let parsed = MessagesRequest::parse(request.body(), &self.parts.defaults, self.fresh_seed(caller.id));
        let begun = parsed.and_then(|body| Ok((self.begin_chat(caller, &body.chat, started_us)?, body)));
        let (begun, body) = match begun {
            Ok(begun) => begun,
            Err(error) => return self.refuse(request, caller, &error),
        };
        let (choices, n_prompt_tokens) = (begun.choices, begun.n_prompt_tokens);
        Service::cancel_on_disconnect(&request, &choices);
        let ids = self.call_ids(caller.id);
        let mut head = json!({
            "id": format!("msg_{:014x}", self.mixed(caller.id)),
            "type": "message",
            "role": "assistant",
            "model": self.parts.model.name,
        });
        if body.chat.options.stream {
            head["content"] = json!([]);
            head["stop_reason"] = Value::Null;
            head["stop_sequence"] = Value::Null;
            head["usage"] = json!({"input_tokens": n_prompt_tokens, "output_tokens": 0});
            let stream = Stream::new(head, ids, body.stop_sequences);
            self.answer_streamed(request, caller, choices, stream, Dialect::Anthropic);
        } else {
            self.answer_whole(request, caller, choices, Whole::default(), Dialect::Anthropic, |whole, ends| {
                whole.json(head, ids, &ends[0], &body.stop_sequences)
            });
        }
        self.parts.metrics.http.e2e_latency.record_us(self.now_us().saturating_sub(started_us));
    }

    pub(in crate::http) fn count_tokens(&self, request: Request, caller: &Caller) {
        let parsed = MessagesRequest::parse(request.body(), &self.parts.defaults, 0);
        match parsed.and_then(|body| self.prompt_of(&body.chat)) {
            Ok((_, tokens)) => {
                self.respond(request, caller, json_response(200, &json!({"input_tokens": tokens.len()})));
            }
            Err(error) => self.refuse(request, caller, &error),
        }
    }
}

/// `stop_reason` and `stop_sequence`, of an answer that ended well.
pub fn stop(end: &Terminal, n_calls: usize, stops: &[String]) -> Value {
    let (reason, sequence) = match end.reason {
        FinishReason::Eos | FinishReason::Stop if n_calls > 0 => ("tool_use", None),
        FinishReason::Stop => ("stop_sequence", end.stop.and_then(|which| stops.get(usize::from(which)))),
        FinishReason::Length => ("max_tokens", None),
        _ => ("end_turn", None),
    };
    json!({"stop_reason": reason, "stop_sequence": sequence})
}

/// What was counted: prompt tokens out of the cache stand apart from the others.
pub fn usage(end: &Terminal) -> Value {
    json!({
        "input_tokens": end.prompt_tokens - end.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": end.cached_tokens,
        "output_tokens": end.generated_tokens,
    })
}

/// One block of an answer.
enum Block {
    Text(String),
    Thinking(String),
    Call { name: String, arguments: String },
}

/// A whole answer, put together.
#[derive(Default)]
struct Whole {
    blocks: Vec<Block>,
    n_calls: usize,
}

/// Clients keep a thought's signature and send it back with the thought; it is not looked at.
pub const SIGNATURE: &str = "cllm";

impl Whole {
    fn json(&self, mut head: Value, ids: CallIds, end: &Terminal, stops: &[String]) -> Value {
        let mut calls = 0;
        let blocks = self.blocks.iter().map(|block| match block {
            Block::Text(text) => json!({"type": "text", "text": text}),
            Block::Thinking(text) => json!({"type": "thinking", "thinking": text, "signature": SIGNATURE}),
            Block::Call { name, arguments } => {
                calls += 1;
                // An input that `max_tokens` cut off is none.
                let input = serde_json::from_str(arguments).unwrap_or_else(|_| json!({}));
                json!({"type": "tool_use", "id": ids.of(0, calls - 1), "name": name, "input": input})
            }
        });
        head["content"] = blocks.collect();
        let stop = stop(end, self.n_calls, stops);
        head["stop_reason"] = stop["stop_reason"].clone();
        head["stop_sequence"] = stop["stop_sequence"].clone();
        head["usage"] = usage(end);
        head
    }
}

impl Listener for Whole {
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
