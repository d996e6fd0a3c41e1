//! What routes answer: the fields that are always present, and the possible statuses.

use serde_json::{Map, Value, json};

use crate::http::route::Dialect;
use crate::http::route::Route;

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

/// Statuses that every route may answer with: its own refusals, a missing key, and refusals of the HTTP layer.
const ALWAYS: [(u16, &str); 10] = [
    (400, "The request can't be understood, or a field isn't what it must be; the error names it."),
    (401, "The server needs an API key."),
    (408, "The request came too slowly, or its deadline passed."),
    (413, "The body is larger than this server accepts."),
    (417, "The only expectation met here is 100-continue."),
    (431, "The head is larger than this server accepts."),
    (500, "A fault of the server."),
    (501, "A transfer coding that isn't known here."),
    (503, "The server is shutting down, or has no room for another connection or body."),
    (505, "Neither HTTP/1.0 nor HTTP/1.1."),
];

/// All responses of an operation.
pub fn of(method: &str, path: &str, dialect: Dialect, route: Route) -> Value {
    let error = dialect.errors().schema;
    let mut statuses = ALWAYS.to_vec();
    if method == "POST" {
        statuses.push((411, "A body over HTTP/1.0 needs a Content-Length."));
        statuses.push((429, "The queue is full, or a limit of the key is reached."));
    }
    if route == Route::Trace {
        statuses.push((403, "The server was started without --trace."));
        statuses.push((429, "Another trace is being recorded."));
    }
    if route == Route::Keys {
        statuses.push((403, "The key has no admin=yes."));
    }
    if route.uses_model() {
        statuses.push((403, "The key may not use this model."));
    }
    if route == Route::KvBlocks {
        statuses.push((403, "The server was started without --kv-events."));
        statuses.push((429, "Another request asks for them."));
    }
    if path.ends_with("{id}") {
        statuses.push((404, "Nothing has this name."));
    }
    statuses.sort_unstable();
    let mut responses = Map::new();
    let names = json!({"X-Request-Id": {"schema": {"type": "string"}}});
    responses.insert("200".to_owned(), json!({"description": "Done.", "headers": names, "content": success(route)}));
    for (status, what) in statuses {
        let schema = json!({"$ref": format!("#/components/schemas/{error}")});
        let content = json!({JSON: {"schema": schema}});
        responses.insert(status.to_string(), json!({"description": what, "content": content}));
    }
    Value::Object(responses)
}

/// The schemas of all dialects' errors.
pub fn error_schemas() -> Value {
    let maybe = || json!({"type": ["string", "null"]});
    json!({
        "Error": object(&[("success", is(false)), ("error", text()), ("code", text())]),
        "OpenAIError": object(&[("error", object(&[
            ("message", text()), ("type", text()), ("param", maybe()), ("code", maybe()),
        ]))]),
        "OllamaError": object(&[("error", text())]),
        "AnthropicError": object(&[
            ("type", is("error")),
            ("error", object(&[("type", text()), ("message", text())])),
        ]),
    })
}

/// The schema of an object that has at least these fields.
fn object(fields: &[(&str, Value)]) -> Value {
    let properties: Map<String, Value> =
        fields.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    json!({"type": "object", "properties": properties, "required": names})
}

/// An object with `success: true` and these fields in `data`.
fn data(fields: &[(&str, Value)]) -> Value {
    object(&[("success", is(true)), ("data", object(fields))])
}

fn text() -> Value {
    json!({"type": "string"})
}

fn count() -> Value {
    json!({"type": "integer"})
}

fn number() -> Value {
    json!({"type": "number"})
}

/// An object of any fields.
fn any() -> Value {
    json!({"type": "object"})
}

/// A list of anything.
fn list() -> Value {
    json!({"type": "array"})
}

fn list_of(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

/// This value and no other.
fn is(value: impl Into<Value>) -> Value {
    json!({"const": value.into()})
}

/// One of these words.
fn one_of(words: &[&str]) -> Value {
    json!({"enum": words})
}

/// An answer in JSON.
fn whole(schema: Value) -> Value {
    json!({JSON: {"schema": schema}})
}

/// An answer in JSON, or a stream of events if the request asks for one.
fn or_events(schema: Value) -> Value {
    json!({JSON: {"schema": schema}, EVENTS: {}})
}

/// The schema of a success, by content type.
fn success(route: Route) -> Value {
    let of_dialects = [native, openai, openai_lists, ollama, llama_server, anthropic, pages];
    of_dialects.iter().find_map(|of| of(route)).unwrap_or_else(|| whole(any()))
}

/// The project's own routes.
fn native(route: Route) -> Option<Value> {
    Some(match route {
        Route::Generate => or_events(data(&[
            ("id", text()),
            ("text", text()),
            ("finish_reason", one_of(&["stop", "length"])),
            ("generated_tokens", count()),
            ("prompt_tokens", count()),
            ("seed", count()),
            ("timings", any()),
        ])),
        Route::GenerateStream => json!({EVENTS: {}}),
        Route::Benchmark => {
            whole(data(&[("total_requests", count()), ("successful_requests", count()), ("total_time", number())]))
        }
        Route::Encode => whole(data(&[("tokens", list()), ("length", count())])),
        Route::Decode => whole(data(&[("text", text())])),
        Route::ModelInfo => whole(data(&[("name", text()), ("n_ctx", count()), ("slots", count())])),
        Route::Health | Route::Ready => whole(data(&[("status", text())])),
        Route::Keys => whole(data(&[("keys", list_of(any()))])),
        Route::KvBlocks => whole(data(&[("block_size", count()), ("blocks", list())])),
        _ => return None,
    })
}

/// OpenAI's routes that generate, and the prompts as vLLM renders them.
fn openai(route: Route) -> Option<Value> {
    let usage = |names: [&'static str; 3]| object(&names.map(|name| (name, count())));
    let choices = |kind: &str| {
        object(&[
            ("id", text()),
            ("object", is(kind)),
            ("created", count()),
            ("model", text()),
            ("choices", list_of(any())),
            ("usage", usage(["prompt_tokens", "completion_tokens", "total_tokens"])),
        ])
    };
    let rendered = || {
        object(&[
            ("request_id", text()),
            ("model", text()),
            ("token_ids", list_of(count())),
            ("sampling_params", any()),
        ])
    };
    Some(match route {
        Route::ChatCompletions => or_events(choices("chat.completion")),
        Route::Completions => or_events(choices("text_completion")),
        Route::Responses => or_events(object(&[
            ("id", text()),
            ("object", is("response")),
            ("status", one_of(&["completed", "incomplete"])),
            ("output", list_of(any())),
            ("model", text()),
            ("usage", usage(["input_tokens", "output_tokens", "total_tokens"])),
        ])),
        Route::RenderChat => whole(rendered()),
        Route::RenderCompletion => whole(list_of(rendered())),
        _ => return None,
    })
}

/// Lists: OpenAI's embeddings and models, and a reranker's scores.
fn openai_lists(route: Route) -> Option<Value> {
    let model = || object(&[("id", text()), ("object", is("model")), ("created", count())]);
    let usage = || object(&[("prompt_tokens", count()), ("total_tokens", count())]);
    Some(match route {
        Route::Embeddings => {
            let vector = object(&[
                ("object", is("embedding")),
                ("index", count()),
                ("embedding", json!({"anyOf": [list_of(number()), text()]})),
            ]);
            whole(object(&[("object", is("list")), ("data", list_of(vector)), ("model", text()), ("usage", usage())]))
        }
        Route::Rerank => {
            let one = object(&[("index", count()), ("relevance_score", number())]);
            let scored = object(&[("index", count()), ("score", number())]);
            let list =
                object(&[("object", is("list")), ("model", text()), ("results", list_of(one)), ("usage", usage())]);
            whole(json!({"anyOf": [list, list_of(scored)]}))
        }
        Route::Models => whole(object(&[("object", is("list")), ("data", list_of(model()))])),
        Route::Model => whole(model()),
        _ => return None,
    })
}

/// Ollama's routes.
fn ollama(route: Route) -> Option<Value> {
    let piece = |said: (&str, Value)| {
        let one = object(&[("model", text()), ("created_at", text()), ("done", json!({"type": "boolean"})), said]);
        json!({JSON: {"schema": one}, "application/x-ndjson": {}})
    };
    Some(match route {
        Route::OllamaChat => piece(("message", any())),
        Route::OllamaGenerate => piece(("response", text())),
        Route::OllamaTags | Route::OllamaPs => whole(object(&[("models", list_of(any()))])),
        Route::OllamaEmbed => whole(object(&[("model", text()), ("embeddings", list())])),
        Route::OllamaEmbeddings => whole(object(&[("embedding", list())])),
        Route::OllamaShow => whole(object(&[("details", any()), ("model_info", any()), ("capabilities", list())])),
        Route::OllamaVersion => whole(object(&[("version", text())])),
        _ => return None,
    })
}

/// llama-server's routes.
fn llama_server(route: Route) -> Option<Value> {
    Some(match route {
        Route::Completion | Route::Infill => {
            let mut one = object(&[
                ("content", text()),
                ("stop", is(true)),
                ("stop_type", one_of(&["eos", "word", "limit"])),
                ("tokens_predicted", count()),
                ("tokens_evaluated", count()),
                ("timings", any()),
            ]);
            // `response_fields` of the request decides which fields there are.
            one["required"] = json!([]);
            or_events(json!({"anyOf": [one, list_of(one.clone())]}))
        }
        Route::Embedding => {
            let vectors = list_of(list_of(number()));
            whole(list_of(object(&[("index", count()), ("embedding", vectors)])))
        }
        Route::Tokenize => whole(object(&[("tokens", list())])),
        Route::Detokenize => whole(object(&[("content", text())])),
        Route::ApplyTemplate => whole(object(&[("prompt", text())])),
        Route::Slots => whole(list_of(any())),
        _ => return None,
    })
}

/// Anthropic's routes.
fn anthropic(route: Route) -> Option<Value> {
    Some(match route {
        Route::Messages => or_events(object(&[
            ("id", text()),
            ("type", is("message")),
            ("role", is("assistant")),
            ("content", list_of(any())),
            ("stop_reason", one_of(&["end_turn", "max_tokens", "stop_sequence", "tool_use"])),
            ("usage", any()),
        ])),
        Route::CountTokens => whole(object(&[("input_tokens", count())])),
        _ => return None,
    })
}

/// Pages, and the metrics.
fn pages(route: Route) -> Option<Value> {
    Some(match route {
        Route::Metrics => json!({"text/plain": {}, "application/openmetrics-text": {}}),
        Route::Index => json!({"text/plain": {}, "text/html": {}}),
        Route::Page => json!({"text/html": {}, "text/css": {}, "text/javascript": {}, "image/svg+xml": {}}),
        _ => return None,
    })
}
