//! One question on each chat route, and what their answers have in common, whole and assembled from a stream.

use serde_json::{Map, Value, json};

use super::server::Server;

/// A route and its dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Chat,
    Responses,
    Messages,
    Ollama,
}

pub const ROUTES: [Route; 4] = [Route::Chat, Route::Responses, Route::Messages, Route::Ollama];

/// The user's text and the options of the request.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    pub seed: u64,
    pub max_tokens: usize,
    /// A schema for the text.
    pub schema: Option<Value>,
    /// Names of tools, and schemas of their arguments.
    pub tools: Vec<(&'static str, Value)>,
    /// Whether a tool must be called. There is at most one call.
    pub is_required: bool,
    pub stop: Option<String>,
    pub thought_tokens_max: Option<usize>,
}

/// The parts of an answer that every dialect has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub thought: String,
    pub content: String,
    /// Names and arguments of calls.
    pub calls: Vec<(String, Value)>,
    /// Tokens of the thought, if the dialect counts them.
    pub thought_tokens: Option<u64>,
    /// Why it ended, in the dialect's word.
    pub reason: String,
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Parses arguments given as text.
fn parsed(value: &Value) -> Value {
    serde_json::from_str(text(value)).unwrap_or_else(|error| panic!("{error}: {value}"))
}

impl Route {
    fn path(self) -> &'static str {
        match self {
            Route::Chat => "/v1/chat/completions",
            Route::Responses => "/v1/responses",
            Route::Messages => "/v1/messages",
            Route::Ollama => "/api/chat",
        }
    }

    fn body(self, ask: &Ask, streams: bool) -> Value {
        let mut body = Map::new();
        let mut set = |name: &str, value: Value| drop(body.insert(name.to_owned(), value));
        set("stream", json!(streams));
        let turns = json!([{"role": "user", "content": "Hi"}]);
        set(if self == Route::Responses { "input" } else { "messages" }, turns);
        match self {
            Route::Ollama => {
                let mut options = json!({"temperature": 1.0, "seed": ask.seed, "num_predict": ask.max_tokens});
                if let Some(stop) = &ask.stop {
                    options["stop"] = json!([stop]);
                }
                set("options", options);
            }
            _ => {
                set("temperature", json!(1.0));
                set("seed", json!(ask.seed));
                let of_tokens = if self == Route::Responses { "max_output_tokens" } else { "max_tokens" };
                set(of_tokens, json!(ask.max_tokens));
                let of_stops = if self == Route::Messages { "stop_sequences" } else { "stop" };
                ask.stop.iter().for_each(|stop| set(of_stops, json!([stop])));
            }
        }
        if let Some(schema) = &ask.schema {
            match self {
                Route::Chat => {
                    let named = json!({"name": "n", "schema": schema});
                    set("response_format", json!({"type": "json_schema", "json_schema": named}));
                }
                Route::Responses => {
                    set("text", json!({"format": {"type": "json_schema", "name": "n", "schema": schema}}))
                }
                Route::Messages => {
                    set("output_config", json!({"format": {"type": "json_schema", "schema": schema}}));
                }
                Route::Ollama => set("format", schema.clone()),
            }
        }
        if let Some(budget) = ask.thought_tokens_max {
            match self {
                Route::Messages => set("thinking", json!({"type": "enabled", "budget_tokens": budget})),
                _ => set("reasoning_budget_tokens", json!(budget)),
            }
        }
        if !ask.tools.is_empty() {
            let tool = |(name, schema): &(&str, Value)| match self {
                Route::Responses => json!({"type": "function", "name": name, "parameters": schema}),
                Route::Messages => json!({"name": name, "input_schema": schema}),
                _ => json!({"type": "function", "function": {"name": name, "parameters": schema}}),
            };
            set("tools", ask.tools.iter().map(tool).collect());
            match self {
                Route::Messages => {
                    let kind = if ask.is_required { "any" } else { "auto" };
                    set("tool_choice", json!({"type": kind, "disable_parallel_tool_use": true}));
                }
                _ => {
                    set("tool_choice", json!(if ask.is_required { "required" } else { "auto" }));
                    set("parallel_tool_calls", json!(false));
                }
            }
        }
        Value::Object(body)
    }

    /// Sends the request and reads a whole answer.
    pub fn whole(self, server: &Server, ask: &Ask) -> Answer {
        let body = self.body(ask, false);
        let answer = server.client().post(self.path(), &body);
        assert_eq!(answer.status, 200, "{self:?} {body}: {}", answer.text());
        self.read(&answer.json())
    }

    /// Sends the request and assembles the answer from a stream.
    pub fn streamed(self, server: &Server, ask: &Ask) -> Answer {
        let body = self.body(ask, true);
        let answer = server.client().post(self.path(), &body);
        assert_eq!(answer.status, 200, "{self:?} {body}: {}", answer.text());
        let text = answer.text();
        let data = text.lines().map(|line| line.strip_prefix("data: ").unwrap_or(line));
        let events: Vec<Value> = data
            .filter(|line| line.starts_with('{'))
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect();
        match self {
            Route::Chat => of_chunks(&events),
            Route::Responses => of_events(&events),
            Route::Messages => of_blocks(&events),
            Route::Ollama => of_lines(&events),
        }
    }

    fn read(self, answer: &Value) -> Answer {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut read = Answer::default();
        match self {
            Route::Chat => {
                let choice = &answer["choices"][0];
                let message = &choice["message"];
                read.thought = text(&message["reasoning_content"]).to_owned();
                read.content = text(&message["content"]).to_owned();
                read.calls = list(&message["tool_calls"])
                    .iter()
                    .map(|call| (text(&call["function"]["name"]).to_owned(), parsed(&call["function"]["arguments"])))
                    .collect();
                read.thought_tokens = answer["usage"]["completion_tokens_details"]["reasoning_tokens"].as_u64();
                read.reason = text(&choice["finish_reason"]).to_owned();
            }
            Route::Responses => {
                for item in list(&answer["output"]) {
                    match text(&item["type"]) {
                        "reasoning" => read.thought += text(&item["content"][0]["text"]),
                        "message" => read.content += text(&item["content"][0]["text"]),
                        _ => read.calls.push((text(&item["name"]).to_owned(), parsed(&item["arguments"]))),
                    }
                }
                read.thought_tokens = answer["usage"]["output_tokens_details"]["reasoning_tokens"].as_u64();
                read.reason = text(&answer["status"]).to_owned();
            }
            Route::Messages => {
                for block in list(&answer["content"]) {
                    match text(&block["type"]) {
                        "thinking" => {
                            assert!(!text(&block["signature"]).is_empty(), "{block}");
                            read.thought += text(&block["thinking"]);
                        }
                        "text" => read.content += text(&block["text"]),
                        _ => read.calls.push((text(&block["name"]).to_owned(), block["input"].clone())),
                    }
                }
                read.reason = text(&answer["stop_reason"]).to_owned();
            }
            Route::Ollama => {
                let message = &answer["message"];
                read.thought = text(&message["thinking"]).to_owned();
                read.content = text(&message["content"]).to_owned();
                read.calls = list(&message["tool_calls"])
                    .iter()
                    .map(|call| (text(&call["function"]["name"]).to_owned(), call["function"]["arguments"].clone()))
                    .collect();
                read.reason = text(&answer["done_reason"]).to_owned();
            }
        }
        read
    }
}

/// Arguments that came in pieces.
fn whole_calls(calls: Vec<(String, String)>) -> Vec<(String, Value)> {
    calls.into_iter().map(|(name, arguments)| (name, parsed(&json!(arguments)))).collect()
}

/// `/v1/chat/completions`: deltas.
fn of_chunks(events: &[Value]) -> Answer {
    let (mut read, mut calls) = (Answer::default(), Vec::<(String, String)>::new());
    for choice in events.iter().filter_map(|event| event["choices"].get(0)) {
        let delta = &choice["delta"];
        read.thought += text(&delta["reasoning_content"]);
        read.content += text(&delta["content"]);
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            if call["index"] == calls.len() {
                calls.push((text(&call["function"]["name"]).to_owned(), String::new()));
            }
            calls.last_mut().expect("a call").1 += text(&call["function"]["arguments"]);
        }
        read.reason += text(&choice["finish_reason"]);
    }
    Answer { calls: whole_calls(calls), ..read }
}

/// `/v1/responses`: deltas of items; the last event has them all, too.
fn of_events(events: &[Value]) -> Answer {
    let (mut read, mut calls) = (Answer::default(), Vec::<(String, String)>::new());
    for event in events {
        match text(&event["type"]) {
            "response.reasoning_text.delta" => read.thought += text(&event["delta"]),
            "response.output_text.delta" => read.content += text(&event["delta"]),
            "response.output_item.added" if event["item"]["type"] == "function_call" => {
                calls.push((text(&event["item"]["name"]).to_owned(), String::new()));
            }
            "response.function_call_arguments.delta" => calls.last_mut().expect("a call").1 += text(&event["delta"]),
            _ => {}
        }
    }
    let last = Route::Responses.read(&events.last().expect("an event")["response"]);
    read =
        Answer { calls: whole_calls(calls), thought_tokens: last.thought_tokens, reason: last.reason.clone(), ..read };
    assert_eq!(read, last);
    read
}

/// `/v1/messages`: blocks.
fn of_blocks(events: &[Value]) -> Answer {
    let (mut read, mut calls, mut is_signed) = (Answer::default(), Vec::<(String, String)>::new(), false);
    for event in events {
        match text(&event["type"]) {
            "content_block_start" if event["content_block"]["type"] == "tool_use" => {
                calls.push((text(&event["content_block"]["name"]).to_owned(), String::new()));
            }
            "content_block_delta" => {
                let delta = &event["delta"];
                read.thought += text(&delta["thinking"]);
                read.content += text(&delta["text"]);
                is_signed |= delta["type"] == "signature_delta";
                if delta["type"] == "input_json_delta" {
                    calls.last_mut().expect("a call").1 += text(&delta["partial_json"]);
                }
            }
            "message_delta" => read.reason += text(&event["delta"]["stop_reason"]),
            _ => {}
        }
    }
    assert!(is_signed != read.thought.is_empty(), "a thought is signed: {:?}", read.thought);
    Answer { calls: whole_calls(calls), ..read }
}

/// `/api/chat`: lines.
fn of_lines(events: &[Value]) -> Answer {
    let mut read = Answer::default();
    for event in events {
        let line = Route::Ollama.read(event);
        read.thought += &line.thought;
        read.content += &line.content;
        read.calls.extend(line.calls);
        read.reason += &line.reason;
    }
    read
}
