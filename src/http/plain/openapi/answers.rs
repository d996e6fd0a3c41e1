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
    let text = json!({"type": "string"});
    let maybe = json!({"type": ["string", "null"]});
    json!({
        "Error": object(&[("success", json!({"const": false})), ("error", text.clone()), ("code", text.clone())]),
        "OpenAIError": object(&[("error", object(&[
            ("message", text.clone()), ("type", text.clone()), ("param", maybe.clone()), ("code", maybe),
        ]))]),
        "OllamaError": object(&[("error", text.clone())]),
        "AnthropicError": object(&[
            ("type", json!({"const": "error"})),
            ("error", object(&[("type", text.clone()), ("message", text)])),
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

/// The schema of a success, by content type.
fn success(route: Route) -> Value {
    let (text, count, number) = (json!({"type": "string"}), json!({"type": "integer"}), json!({"type": "number"}));
    let list = json!({"type": "array"});
    let any = json!({"type": "object"});
    let data = |fields: &[(&str, Value)]| object(&[("success", json!({"const": true})), ("data", object(fields))]);
    let of_openai = |kind: &str| {
        let usage = object(&[
            ("prompt_tokens", count.clone()),
            ("completion_tokens", count.clone()),
            ("total_tokens", count.clone()),
        ]);
        object(&[
            ("id", text.clone()),
            ("object", json!({"const": kind})),
            ("created", count.clone()),
            ("model", text.clone()),
            ("choices", json!({"type": "array", "items": {"type": "object"}})),
            ("usage", usage),
        ])
    };
    let tokens = json!({"type": "array", "items": {"type": "integer"}});
    let rendered = object(&[
        ("request_id", text.clone()),
        ("model", text.clone()),
        ("token_ids", tokens),
        ("sampling_params", any.clone()),
    ]);
    let model = object(&[("id", text.clone()), ("object", json!({"const": "model"})), ("created", count.clone())]);
    let (schema, streams) = match route {
        Route::Generate => (
            data(&[
                ("id", text.clone()),
                ("text", text),
                ("finish_reason", json!({"enum": ["stop", "length"]})),
                ("generated_tokens", count.clone()),
                ("prompt_tokens", count.clone()),
                ("seed", count),
                ("timings", any),
            ]),
            true,
        ),
        Route::OllamaChat | Route::OllamaGenerate => {
            let said = if route == Route::OllamaChat { ("message", any) } else { ("response", text.clone()) };
            let one =
                object(&[("model", text.clone()), ("created_at", text), ("done", json!({"type": "boolean"})), said]);
            return json!({JSON: {"schema": one}, "application/x-ndjson": {}});
        }
        Route::OllamaTags | Route::OllamaPs => (object(&[("models", json!({"type": "array", "items": any}))]), false),
        Route::OllamaEmbed => (object(&[("model", text), ("embeddings", list)]), false),
        Route::OllamaEmbeddings => (object(&[("embedding", list)]), false),
        Route::OllamaShow => (object(&[("details", any.clone()), ("model_info", any), ("capabilities", list)]), false),
        Route::OllamaVersion => (object(&[("version", text)]), false),
        Route::GenerateStream => return json!({EVENTS: {}}),
        Route::ChatCompletions => (of_openai("chat.completion"), true),
        Route::Responses => (
            object(&[
                ("id", text.clone()),
                ("object", json!({"const": "response"})),
                ("status", json!({"enum": ["completed", "incomplete"]})),
                ("output", json!({"type": "array", "items": {"type": "object"}})),
                ("model", text),
                (
                    "usage",
                    object(&[
                        ("input_tokens", count.clone()),
                        ("output_tokens", count.clone()),
                        ("total_tokens", count),
                    ]),
                ),
            ]),
            true,
        ),
        Route::Completions => (of_openai("text_completion"), true),
        Route::RenderChat => (rendered, false),
        Route::RenderCompletion => (json!({"type": "array", "items": rendered}), false),
        Route::Embeddings => {
            let numbers = json!({"type": "array", "items": {"type": "number"}});
            let vector = object(&[
                ("object", json!({"const": "embedding"})),
                ("index", count.clone()),
                ("embedding", json!({"anyOf": [numbers, text.clone()]})),
            ]);
            let usage = object(&[("prompt_tokens", count.clone()), ("total_tokens", count)]);
            let data = json!({"type": "array", "items": vector});
            (object(&[("object", json!({"const": "list"})), ("data", data), ("model", text), ("usage", usage)]), false)
        }
        Route::Embedding => {
            let numbers = json!({"type": "array", "items": {"type": "number"}});
            let one = object(&[("index", count), ("embedding", json!({"type": "array", "items": numbers}))]);
            (json!({"type": "array", "items": one}), false)
        }
        Route::Rerank => {
            let number = json!({"type": "number"});
            let one = object(&[("index", count.clone()), ("relevance_score", number.clone())]);
            let scored = object(&[("index", count.clone()), ("score", number)]);
            let usage = object(&[("prompt_tokens", count.clone()), ("total_tokens", count)]);
            let list = object(&[
                ("object", json!({"const": "list"})),
                ("model", text),
                ("results", json!({"type": "array", "items": one})),
                ("usage", usage),
            ]);
            (json!({"anyOf": [list, {"type": "array", "items": scored}]}), false)
        }
        Route::Completion | Route::Infill => {
            let mut one = object(&[
                ("content", text),
                ("stop", json!({"const": true})),
                ("stop_type", json!({"enum": ["eos", "word", "limit"]})),
                ("tokens_predicted", count.clone()),
                ("tokens_evaluated", count),
                ("timings", any),
            ]);
            // `response_fields` of the request decides which fields there are.
            one["required"] = json!([]);
            (json!({"anyOf": [one, {"type": "array", "items": one}]}), true)
        }
        Route::Messages => (
            object(&[
                ("id", text),
                ("type", json!({"const": "message"})),
                ("role", json!({"const": "assistant"})),
                ("content", json!({"type": "array", "items": {"type": "object"}})),
                ("stop_reason", json!({"enum": ["end_turn", "max_tokens", "stop_sequence", "tool_use"]})),
                ("usage", any),
            ]),
            true,
        ),
        Route::CountTokens => (object(&[("input_tokens", count)]), false),
        Route::Models => {
            (object(&[("object", json!({"const": "list"})), ("data", json!({"type": "array", "items": model}))]), false)
        }
        Route::Model => (model, false),
        Route::Benchmark => {
            (data(&[("total_requests", count.clone()), ("successful_requests", count), ("total_time", number)]), false)
        }
        Route::Encode => (data(&[("tokens", list), ("length", count)]), false),
        Route::Decode => (data(&[("text", text)]), false),
        Route::Tokenize => (object(&[("tokens", list)]), false),
        Route::Detokenize => (object(&[("content", text)]), false),
        Route::ApplyTemplate => (object(&[("prompt", text)]), false),
        Route::Slots => (json!({"type": "array", "items": {"type": "object"}}), false),
        Route::ModelInfo => (data(&[("name", text), ("n_ctx", count.clone()), ("slots", count)]), false),
        Route::Health | Route::Ready => (data(&[("status", text)]), false),
        Route::Keys => (data(&[("keys", json!({"type": "array", "items": {"type": "object"}}))]), false),
        Route::KvBlocks => (data(&[("block_size", count), ("blocks", list)]), false),
        Route::Metrics => return json!({"text/plain": {}, "application/openmetrics-text": {}}),
        Route::Index => return json!({"text/plain": {}, "text/html": {}}),
        Route::Page => return json!({"text/html": {}, "text/css": {}, "text/javascript": {}, "image/svg+xml": {}}),
        _ => (any, false),
    };
    if streams { json!({JSON: {"schema": schema}, EVENTS: {}}) } else { json!({JSON: {"schema": schema}}) }
}
