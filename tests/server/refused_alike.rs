//! A refusal is recorded in the same way on every route: one log line with its code, one count, and no latency.

use serde_json::json;

use super::server::Server;

/// The sum of a metric's samples whose line begins with `name`.
fn metric(server: &Server, name: &str) -> f64 {
    let text = server.client().get("/metrics").text();
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

const COUNT: &str = "cllm_requests_rejected_total{";
const LATENCY: &str = "vllm:e2e_request_latency_seconds_count";

fn ask(server: &Server, method: &str, path: &str, name: &str, body: &str) -> u16 {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: t\r\nX-Request-Id: {name}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut client = server.client();
    client.write(&[head.as_bytes(), body.as_bytes()].concat()).unwrap();
    client.answer(false).unwrap().status
}

fn refused(server: &Server, method: &str, path: &str, body: &str, status: u16, code: &str) {
    let name = format!("refused-{}-{}", path.replace(|c: char| !c.is_ascii_alphanumeric(), "-"), body.len());
    let before = (metric(server, COUNT), metric(server, LATENCY));
    assert_eq!(ask(server, method, path, &name, body), status, "{path}");
    let line = server.request_line(&name);
    assert_eq!((&line["outcome"], &line["status"]), (&json!(code), &json!(status)), "{path}: {line}");
    assert_eq!((metric(server, COUNT), metric(server, LATENCY)), (before.0 + 1.0, before.1), "{path}");
}

#[test]
fn on_every_route() {
    let server = Server::start("-np 1 --log-level debug");
    let document = server.client().get("/openapi.json").json();
    let routes = document["paths"].as_object().expect("paths").iter();
    let takers: Vec<&String> =
        routes.filter(|(_, methods)| methods["post"]["requestBody"].is_object()).map(|(path, _)| path).collect();
    assert!(takers.len() >= 20, "{takers:?}");
    for path in takers {
        match path.as_str() {
            // The built-in model generates, and its vocabulary has no tokens for a gap.
            path if path.contains("embed") || path.contains("rerank") || path == "/infill" => {
                refused(&server, "POST", path, "{}", 400, "not_supported");
            }
            path => refused(&server, "POST", path, "{", 400, "invalid_json"),
        }
    }
    refused(&server, "GET", "/debug/trace", "", 403, "tracing_off");
}

#[test]
fn of_embeddings_too() {
    let server = Server::start("-np 1 --embeddings");
    for path in ["/v1/embeddings", "/embedding"] {
        refused(&server, "POST", path, "{}", 400, "invalid_field");
    }
    for path in ["/generate", "/infill", "/v1/rerank"] {
        refused(&server, "POST", path, "{}", 400, "not_supported");
    }
}

#[test]
fn a_key_that_is_wrong_is_a_refusal() {
    let server = Server::start("-np 1 --api-key right --log-level debug");
    assert_eq!(ask(&server, "POST", "/generate", "locked", "{}"), 401);
    assert_eq!(server.request_line("locked")["outcome"], "invalid_api_key");
}

#[test]
fn completion_has_a_deadline_and_all_streams_count_their_writes() {
    let server = Server::start("-np 1 -c 65536");
    let body = json!({"prompt": "Once", "ignore_eos": true, "n_predict": -1, "deadline_ms": 20});
    assert_eq!(server.client().post("/completion", &body).status, 408);
    for path in ["/generate", "/completion", "/v1/completions", "/v1/chat/completions", "/v1/messages"] {
        let before = metric(&server, "cllm_stream_writes_total");
        let mut body = json!({"max_tokens": 4, "stream": true});
        match path {
            "/v1/chat/completions" | "/v1/messages" => body["messages"] = json!([{"role": "user", "content": "Hi"}]),
            _ => body["prompt"] = json!("Once"),
        }
        assert_eq!(server.client().post(path, &body).status, 200, "{path}");
        assert!(metric(&server, "cllm_stream_writes_total") > before, "{path}");
    }
}
