//! `/v1/responses`: the answer. Output items grow while the text is generated. A stream sends an event for each change;
//! a whole answer shows the items at the end.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::chat::Said;
use crate::http::run::call_ids::CallIds;
use crate::http::run::choices::{Listener, Scored};
use crate::http::run::failure::GenerationFailure;
use crate::http::run::speaks::{Events, Told, Whole};
use crate::types::{FinishReason, Terminal};

/// The fields of a response before it has any output.
fn head(told: &Told<'_>, echo: Map<String, Value>) -> Map<String, Value> {
    let created_at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let head = json!({
        "id": format!("resp_{:014x}", told.service.mixed(told.id)),
        "object": "response",
        "created_at": created_at,
        "status": "in_progress",
        "background": false,
        "error": null,
        "incomplete_details": null,
        "instructions": null,
        "model": told.service.parts.model.name,
        "output": [],
        "previous_response_id": null,
        "service_tier": "default",
        "store": false,
        "truncation": "disabled",
        "usage": null,
        "user": null,
    });
    let mut head = match head {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    head.extend(echo);
    head
}

/// One item of a response's output so far.
enum Item {
    Message { text: String },
    Reasoning { text: String },
    Call { name: String, arguments: String },
}

impl Item {
    fn prefix(&self) -> &'static str {
        match self {
            Item::Message { .. } => "msg",
            Item::Reasoning { .. } => "rs",
            Item::Call { .. } => "fc",
        }
    }

    /// The content part that grows; calls have none.
    fn part(&self) -> Option<Value> {
        match self {
            Item::Message { text } => {
                Some(json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []}))
            }
            Item::Reasoning { text } => Some(json!({"type": "reasoning_text", "text": text})),
            Item::Call { .. } => None,
        }
    }
}

/// An answer, for both ways of delivery.
pub struct ResponsesAnswer {
    /// The fields of the response except its output.
    head: Map<String, Value>,
    /// A number from which the items' ids are made.
    number: u64,
    ids: CallIds,
    streams: bool,
    items: Vec<Item>,
    /// Whether the last item still grows.
    is_open: bool,
    n_calls: usize,
    /// `sequence_number` of the next event.
    sequence: u64,
    /// Events that weren't sent yet.
    buffer: Vec<u8>,
}

impl ResponsesAnswer {
    /// `echo`: fields of the request that the answer repeats. A stream begins with the events that every response has.
    pub fn new(told: &Told<'_>, echo: Map<String, Value>) -> ResponsesAnswer {
        let mut answer = ResponsesAnswer {
            head: head(told, echo),
            number: told.service.mixed(told.id),
            ids: told.service.call_ids(told.id),
            streams: told.generation.stream,
            items: Vec::new(),
            is_open: false,
            n_calls: 0,
            sequence: 0,
            buffer: Vec::new(),
        };
        for name in ["response.created", "response.in_progress"] {
            let response = Value::Object(answer.head.clone());
            answer.event(name, json!({"response": response}));
        }
        answer
    }

    /// Writes an event with these fields, its type and its number. Does nothing for a whole answer.
    fn event(&mut self, name: &str, mut fields: Value) {
        if !self.streams {
            return;
        }
        fields["type"] = json!(name);
        fields["sequence_number"] = json!(self.sequence);
        self.sequence += 1;
        self.buffer.extend_from_slice(format!("event: {name}\ndata: {fields}\n\n").as_bytes());
    }

    /// Writes an event with more text of the last item, without a JSON tree for each token.
    fn delta(&mut self, name: &str, content: &str, delta: &str) {
        if !self.streams {
            return;
        }
        let (index, sequence) = (self.items.len().saturating_sub(1), self.sequence);
        let id = self.item_id(index);
        self.sequence += 1;
        let open = format!(
            "event: {name}\ndata: {{\"type\":\"{name}\",\"sequence_number\":{sequence},\"item_id\":\"{id}\",\"output_index\":{index},{content}\"delta\":"
        );
        self.buffer.extend_from_slice(open.as_bytes());
        // Writing into a vector doesn't fail.
        let _ = serde_json::to_writer(&mut self.buffer, delta);
        self.buffer.extend_from_slice(b"}\n\n");
    }

    fn item_id(&self, index: usize) -> String {
        let prefix = self.items.get(index).map_or("msg", Item::prefix);
        format!("{prefix}_{:014x}_{index}", self.number)
    }

    fn item(&self, index: usize, status: &str) -> Value {
        let id = self.item_id(index);
        let part = |item: &Item| if status == "in_progress" { json!([]) } else { json!([item.part()]) };
        match self.items.get(index) {
            Some(item @ Item::Message { .. }) => {
                json!({"id": id, "type": "message", "role": "assistant", "status": status, "content": part(item)})
            }
            Some(item @ Item::Reasoning { .. }) => {
                json!({"id": id, "type": "reasoning", "summary": [], "content": part(item), "status": status})
            }
            Some(Item::Call { name, arguments }) => {
                let before = self.items[..index].iter().filter(|item| matches!(item, Item::Call { .. })).count();
                json!({
                    "id": id,
                    "type": "function_call",
                    "call_id": self.ids.of(0, before),
                    "name": name,
                    "arguments": arguments,
                    "status": status,
                })
            }
            None => Value::Null,
        }
    }

    /// Begins the next item.
    fn open(&mut self, item: Item) {
        self.close_item("completed");
        let part = item.part();
        self.items.push(item);
        self.is_open = true;
        let index = self.items.len() - 1;
        let shown = self.item(index, "in_progress");
        self.event("response.output_item.added", json!({"output_index": index, "item": shown}));
        if let Some(part) = part {
            let id = self.item_id(index);
            let place = json!({"item_id": id, "output_index": index, "content_index": 0, "part": part});
            self.event("response.content_part.added", place);
        }
    }

    /// Ends the last item, if it is open.
    fn close_item(&mut self, status: &str) {
        if !std::mem::take(&mut self.is_open) || !self.streams {
            return;
        }
        let index = self.items.len() - 1;
        let id = self.item_id(index);
        let place = json!({"item_id": id, "output_index": index});
        let done = |extra: Value| match (place.clone(), extra) {
            (Value::Object(mut place), Value::Object(extra)) => {
                place.extend(extra);
                Value::Object(place)
            }
            (place, _) => place,
        };
        let (name, fields) = match &self.items[index] {
            Item::Message { text } => {
                ("response.output_text.done", done(json!({"content_index": 0, "text": text, "logprobs": []})))
            }
            Item::Reasoning { text } => {
                ("response.reasoning_text.done", done(json!({"content_index": 0, "text": text})))
            }
            Item::Call { name, arguments } => {
                ("response.function_call_arguments.done", done(json!({"name": name, "arguments": arguments})))
            }
        };
        let part = self.items[index].part();
        self.event(name, fields);
        if let Some(part) = part {
            self.event("response.content_part.done", done(json!({"content_index": 0, "part": part})));
        }
        let item = self.item(index, status);
        self.event("response.output_item.done", json!({"output_index": index, "item": item}));
    }

    /// The response with its output so far.
    fn shown(&self) -> Value {
        let mut response = self.head.clone();
        let is_cut = response.get("status") == Some(&json!("incomplete"));
        let last = self.items.len().saturating_sub(1);
        let status = |index: usize| if is_cut && index == last { "incomplete" } else { "completed" };
        let output = (0..self.items.len()).map(|index| self.item(index, status(index)));
        response.insert("output".to_owned(), output.collect());
        Value::Object(response)
    }
}

impl Listener for ResponsesAnswer {
    fn said(&mut self, _: usize, said: Said<'_>, _: &mut Vec<Scored>) {
        let is_open = self.is_open;
        match said {
            Said::Content(text) => {
                if !matches!(self.items.last(), Some(Item::Message { .. }) if is_open) {
                    self.open(Item::Message { text: String::new() });
                }
                if let Some(Item::Message { text: all }) = self.items.last_mut() {
                    all.push_str(text);
                }
                self.delta("response.output_text.delta", "\"content_index\":0,\"logprobs\":[],", text);
            }
            Said::Reasoning(text) => {
                if !matches!(self.items.last(), Some(Item::Reasoning { .. }) if is_open) {
                    self.open(Item::Reasoning { text: String::new() });
                }
                if let Some(Item::Reasoning { text: all }) = self.items.last_mut() {
                    all.push_str(text);
                }
                self.delta("response.reasoning_text.delta", "\"content_index\":0,", text);
            }
            Said::Call { name } => {
                self.n_calls += 1;
                self.open(Item::Call { name: name.to_owned(), arguments: String::new() });
            }
            Said::Arguments(text) => {
                if let Some(Item::Call { arguments, .. }) = self.items.last_mut() {
                    arguments.push_str(text);
                    self.delta("response.function_call_arguments.delta", "", text);
                }
            }
        }
    }

    fn ended(&mut self, _: usize, end: &Terminal, _: usize, _: &mut Vec<Scored>) {
        let (input, output) = (u64::from(end.prompt_tokens), u64::from(end.generated_tokens));
        let usage = json!({
            "input_tokens": input,
            "input_tokens_details": {"cached_tokens": end.cached_tokens},
            "output_tokens": output,
            "output_tokens_details": {"reasoning_tokens": end.thought_tokens},
            "total_tokens": input + output,
        });
        self.head.insert("usage".to_owned(), usage);
        let (status, event) = match end.reason {
            FinishReason::Length => {
                self.head.insert("incomplete_details".to_owned(), json!({"reason": "max_output_tokens"}));
                ("incomplete", "response.incomplete")
            }
            FinishReason::Eos | FinishReason::Stop => ("completed", "response.completed"),
            // The stream ends with an error.
            _ => return,
        };
        self.head.insert("status".to_owned(), json!(status));
        // An answer without text still has a message.
        if self.items.is_empty() {
            self.open(Item::Message { text: String::new() });
        }
        self.close_item(status);
        let response = self.shown();
        self.event(event, json!({"response": response}));
    }
}

impl Whole for ResponsesAnswer {
    fn object(self, _: &[Terminal]) -> Value {
        self.shown()
    }
}

impl Events for ResponsesAnswer {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// The keep-alive is an event that repeats the response's state. Codex ends a stream without an event for five
    /// minutes, and comments aren't events.
    fn sign(&mut self) {
        let response = self.shown();
        self.event("response.in_progress", json!({"response": response}));
    }

    fn fail(&mut self, _: &[Terminal], _: &GenerationFailure, error: &Value) {
        let error = &error["error"];
        self.head.insert("status".to_owned(), json!("failed"));
        self.head.insert("error".to_owned(), json!({"code": error["code"], "message": error["message"]}));
        let response = self.shown();
        self.event("response.failed", json!({"response": response}));
    }
}
