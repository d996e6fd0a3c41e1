//! One log line for each request, on every route that generates, however it ends; and never the prompt.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::http::Client;
use super::server::Server;
use super::{endless, exactly};

const SECRET: &str = "xyzzy-plugh";

fn named(server: &Server, path: &str, name: &str, body: &Value) -> (u16, Vec<u8>) {
    let body = body.to_string();
    let head = format!(
        "POST {path}?q=1 HTTP/1.1\r\nHost: test\r\nX-Request-Id: {name}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut client = server.client();
    client.write(&[head.as_bytes(), body.as_bytes()].concat()).unwrap();
    let answer = client.answer(false).unwrap();
    (answer.status, answer.body)
}

#[test]
fn every_generation_leaves_one_line_with_its_numbers() {
    let server = Server::start("");
    let messages = json!([{"role": "user", "content": format!("Say {SECRET}")}]);
    let chat = json!({"messages": messages, "max_tokens": 7, "temperature": 0, "ignore_eos": true});
    let prompt = json!({"prompt": SECRET, "max_tokens": 7, "temperature": 0, "ignore_eos": true});
    let anthropic = json!({"messages": messages, "max_tokens": 7, "temperature": 0, "ignore_eos": true});
    let streamed = |body: &Value| {
        let mut body = body.clone();
        body["stream"] = json!(true);
        body
    };
    let cases = [
        ("/generate", prompt.clone()),
        ("/generate_stream", prompt.clone()),
        ("/v1/completions", prompt.clone()),
        ("/v1/completions", streamed(&prompt)),
        ("/v1/chat/completions", chat.clone()),
        ("/v1/chat/completions", streamed(&chat)),
        ("/v1/messages", anthropic.clone()),
        ("/v1/messages", streamed(&anthropic)),
    ];
    for (i, (path, body)) in cases.iter().enumerate() {
        let name = format!("case-{i}");
        assert_eq!(named(&server, path, &name, body).0, 200, "{path}");
        let line = server.request_line(&name);
        assert_eq!(
            (&line["level"], &line["route"], &line["status"]),
            (&json!("INFO"), &json!(path), &json!(200)),
            "{line}"
        );
        assert_eq!((&line["outcome"], &line["generated_tokens"]), (&json!("length"), &json!(7)), "{line}");
        let number = |key: &str| line[key].as_f64().unwrap_or_else(|| panic!("no {key}: {line}"));
        assert!(number("prompt_tokens") > number("cached_tokens") && number("tokens_per_s") > 0.0, "{line}");
        assert!(number("ttft_ms") >= number("queue_ms") && number("total_ms") > 0.0, "{line}");
        assert!(!line.to_string().contains(SECRET) && line["choices"].is_null(), "{line}");
    }
    // The prompt is sent once more: all but its last token came from the cache.
    named(&server, "/generate", "again", &prompt);
    let line = server.request_line("again");
    assert_eq!(line["cached_tokens"].as_u64().unwrap() + 1, line["prompt_tokens"].as_u64().unwrap());
    // Two answers of one request share one line.
    let mut two = chat.clone();
    two["n"] = json!(2);
    named(&server, "/v1/chat/completions", "two", &two);
    let line = server.request_line("two");
    assert_eq!((&line["choices"], &line["generated_tokens"]), (&json!(2), &json!(14)), "{line}");
}

#[test]
fn refusals_and_left_requests_have_their_outcome() {
    let server = Server::start("-np 1 --queue 1 -c 65536");
    assert_eq!(named(&server, "/generate", "bad", &json!({"prompt": SECRET, "top_p": 7})).0, 400);
    let line = server.request_line("bad");
    assert_eq!((&line["outcome"], &line["status"]), (&json!("invalid_field"), &json!(400)), "{line}");
    assert!(line["prompt_tokens"].is_null() && !line.to_string().contains(SECRET), "{line}");
    assert_eq!(named(&server, &format!("/{SECRET}"), "lost", &json!({})).0, 404);
    let line = server.request_line("lost");
    assert_eq!((&line["outcome"], &line["route"]), (&json!("refused"), &json!("unknown")), "{line}");

    let leaver = |path: &str, name: &str| -> Client {
        let body = endless().to_string();
        let mut client = server.client();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: t\r\nX-Request-Id: {name}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        client.write(&[head.as_bytes(), body.as_bytes()].concat()).unwrap();
        client
    };
    let running = leaver("/generate_stream", "running");
    server.wait_for(1, 0);
    let waiting = leaver("/generate", "waiting");
    server.wait_for(1, 1);
    assert_eq!(named(&server, "/generate", "full", &exactly(1)).0, 429);
    assert_eq!(server.request_line("full")["outcome"], "queue_full");
    waiting.leave();
    let line = server.request_line("waiting");
    assert_eq!((&line["outcome"], &line["generated_tokens"]), (&json!("cancelled"), &json!(0)), "{line}");
    running.leave();
    let line = server.request_line("running");
    assert_eq!(line["outcome"], "cancelled");
    assert!(line["generated_tokens"].as_u64().unwrap() > 0, "{line}");
}

#[test]
fn looks_are_told_at_debug_and_prompts_on_demand() {
    let server = Server::start("--log-level debug --log-prompts");
    server.client().get("/health");
    let line = server.request_line("req-1");
    assert_eq!((&line["level"], &line["route"], &line["status"]), (&json!("DEBUG"), &json!("/health"), &json!(200)));
    let body = json!({"messages": [{"role": "user", "content": SECRET}], "max_tokens": 1});
    named(&server, "/v1/chat/completions", "shown", &body);
    let prompt = server.request_line("shown")["prompt"].as_str().unwrap().to_owned();
    assert!(prompt.contains(SECRET) && prompt.contains("<|im_start|>"), "{prompt}");
}

#[test]
fn a_line_of_text_has_the_same_for_people() {
    let server = Server::start("--log-format text");
    named(&server, "/generate", "seen", &exactly(3));
    let line = server.logged("request id=seen");
    assert!(line.contains("route=/generate status=200 outcome=length prompt_tokens=4 cached_tokens=0"), "{line}");
}

/// If the log's reader goes away, all requests are still answered.
#[test]
fn a_log_without_a_reader_ends_nothing() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_cllm"))
        .args(["serve", "--port", "0", "--log-format", "json", "--http-threads", "2", "--log-level", "debug"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    let addr = loop {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "it ended");
        if let Some((_, rest)) = line.split_once("http://") {
            break rest.split('"').next().unwrap().parse().unwrap();
        }
    };
    drop(log.into_inner().take(0));
    for _ in 0..8 {
        assert_eq!(Client::connect(addr).post("/generate", &exactly(2)).status, 200);
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// SIGHUP reads the configuration again only for the level of the log.
#[test]
fn the_level_changes_while_it_runs() {
    let path = std::env::temp_dir().join(format!("cllm-level-{}.toml", std::process::id()));
    let level = |text: &str| std::fs::write(&path, text).unwrap();
    level("log-level = \"info\"\nalias = \"one\"\n");
    let server = Server::start(&format!("--config {}", path.display()));
    level("log-level = \"debug\"\nalias = \"two\"\n");
    server.signal("HUP");
    server.logged("log level reloaded");
    assert_eq!(server.client().get("/model/info").data()["name"], "one");
    assert_eq!(server.request_line("req-1")["level"], "DEBUG");

    level("log-level = \"loud\"\n");
    server.signal("HUP");
    server.logged("log level not reloaded");
    server.client().get("/health");
    assert_eq!(server.request_line("req-2")["level"], "DEBUG", "the old one stays");

    level("log-level = \"warn\"\n");
    server.signal("HUP");
    server.logged("log level reloaded");
    // A level that can't be used is reported, and the next one is applied.
    level("log-level = \"loud\"\n");
    server.signal("HUP");
    server.logged("log level not reloaded");
    named(&server, "/generate", "quiet", &exactly(1));
    level("log-level = \"info\"\n");
    server.signal("HUP");
    server.logged("log level reloaded");
    named(&server, "/generate", "after", &exactly(1));
    server.request_line("after");
    assert!(!server.request_was_passed("quiet"));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn the_trace_of_a_request_is_in_its_line() {
    let server = Server::start("");
    let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let mut client = server.client();
    for (name, header) in [("traced", format!("00-{trace}-{span}-01")), ("broken", format!("00-{trace}-{SECRET}-01"))] {
        let body = exactly(1).to_string();
        let head = format!(
            "POST /generate HTTP/1.1\r\nHost: test\r\nX-Request-Id: {name}\r\nTraceparent: {header}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        client.write(head.as_bytes()).unwrap();
        assert_eq!(client.answer(false).unwrap().status, 200);
    }
    let line = server.request_line("traced");
    assert_eq!((&line["trace_id"], &line["parent_span_id"]), (&json!(trace), &json!(span)), "{line}");
    let line = server.request_line("broken");
    assert!(line["trace_id"].is_null() && line["parent_span_id"].is_null(), "{line}");
    assert!(!line.to_string().contains(SECRET), "{line}");
}
