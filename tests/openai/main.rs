//! OpenAI's routes through the front door: the real program, the built-in model, HTTP over loopback.

#[path = "../support/dice.rs"]
mod dice;
#[path = "../support/http.rs"]
#[allow(dead_code)]
mod http;
#[path = "../support/server.rs"]
#[allow(dead_code)]
mod server;

mod anthropic;
mod chat;
mod clients_send;
mod completions;
mod errors;
mod guarded;
mod infill;
mod llama_fields;
mod llama_server;
mod made;
mod openapi;
mod own_templates;
mod render;
mod responses;
mod routes;
mod same;
mod shaped;
mod styles;
mod thoughts;

use serde_json::{Value, json};

use http::Client;
use server::Server;

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

/// The answer to a request that must succeed.
fn ask(server: &Server, path: &str, body: &Value) -> Value {
    let answer = server.client().post(path, body);
    assert_eq!(answer.status, 200, "{body}: {}", answer.text());
    answer.json()
}

/// A stream's events before `[DONE]`.
fn stream(server: &Server, path: &str, body: &Value) -> Vec<Value> {
    let mut body = body.clone();
    body["stream"] = json!(true);
    let mut client = server.client();
    let answer = client.post(path, &body);
    assert_eq!((answer.status, answer.header("Content-Type")), (200, Some("text/event-stream")), "{}", answer.text());
    events(&answer.text())
}

/// The JSON of all events; the last must be `[DONE]`.
fn events(text: &str) -> Vec<Value> {
    let mut events: Vec<&str> = text
        .split_terminator("\n\n")
        // Comments are keep-alives.
        .filter(|event| !event.starts_with(':'))
        .map(|event| event.strip_prefix("data: ").unwrap_or_else(|| panic!("no data: {event:?}")))
        .collect();
    assert_eq!(events.pop(), Some("[DONE]"));
    events.iter().map(|event| serde_json::from_str(event).unwrap_or_else(|error| panic!("{error}: {event}"))).collect()
}

/// With this request the built-in model generates to the end of its context.
fn endless() -> Value {
    json!({"prompt": "Once upon a time", "temperature": 0, "ignore_eos": true})
}

fn user(text: &str) -> Value {
    json!([{"role": "user", "content": text}])
}

/// The tokens of a text.
fn tokens(server: &Server, text: &str) -> Vec<u64> {
    let data = server.client().post("/encode", &json!({"text": text, "parse_special": true})).data();
    data["tokens"].as_array().expect("tokens").iter().map(|id| id.as_u64().expect("an id")).collect()
}

/// Sends a request with an additional header.
fn with_header(client: &mut Client, path: &str, header: &str, body: &Value) -> http::Answer {
    let body = body.to_string();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: test\r\n{header}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    client.write(head.as_bytes()).expect("the request is taken");
    client.answer(false).expect("there is an answer")
}
