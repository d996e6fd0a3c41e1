//! Streams without text for a while: their head is sent, keep-alives follow, and an error is an event of their dialect.
//!
//! The server's longest silence is `PING_MS` here. The tests wait for events and measure no times.

use serde_json::{Value, json};

use super::endless;
use super::http::Events;
use super::server::Server;

const PING_MS: u64 = 20;

/// Each streaming route, and the keep-alive of its streams.
fn routes() -> [(&'static str, Value, &'static str); 6] {
    let messages = json!([{"role": "user", "content": "Once upon a time"}]);
    [
        ("/generate_stream", json!({"prompt": "Once"}), ": working"),
        ("/completion", json!({"prompt": "Once", "stream": true}), ": working"),
        ("/v1/completions", json!({"prompt": "Once", "stream": true}), ": working"),
        ("/v1/chat/completions", json!({"messages": messages, "stream": true}), ": working"),
        ("/v1/messages", json!({"messages": messages, "max_tokens": 9, "stream": true}), "event: ping\n"),
        ("/v1/responses", json!({"input": "Once", "stream": true}), "event: response.in_progress\n"),
    ]
}

/// Reads until `n` keep-alives have come. Returns the other events.
fn signs(events: &mut Events, sign: &str, n: usize) -> Vec<String> {
    let (mut seen, mut other) = (0, Vec::new());
    while seen < n {
        let block = events.block().expect("the stream goes on");
        match block.starts_with(sign) {
            true => seen += 1,
            false => other.push(block),
        }
    }
    other
}

/// A server with one slot, which an endless stream occupies.
fn busy(more: &str) -> (Server, Events) {
    let server = Server::start(&format!("-np 1 --queue 4 -c 65536 --stream-ping-ms {PING_MS} {more}"));
    let mut running = server.stream(&endless());
    assert!(running.next().is_some());
    (server, running)
}

#[test]
fn a_stream_in_the_queue_has_its_head_and_signs_of_life_until_its_turn_or_its_client_leaves() {
    let (server, running) = busy("");
    for (path, body, sign) in routes() {
        let mut waiting = server.client().events(path, &body);
        let other = signs(&mut waiting, sign, 4);
        let opening = other.iter().all(|block| block.contains("message_start") || block.contains("response.created"));
        assert!(opening && other.len() < 2, "{path}: {other:?}");
        server.wait_for(1, 1);
        waiting.leave();
        server.wait_for(1, 0);
    }
    assert_eq!(server.metric("cllm_requests_finished_total{reason=\"cancelled\"}"), 6);

    let mut streams: Vec<Events> = routes()
        .iter()
        .take(4)
        .map(|(path, body, _)| {
            let mut body = body.clone();
            body["max_tokens"] = json!(3);
            server.client().events(path, &body)
        })
        .collect();
    running.leave();
    for stream in &mut streams {
        let mut blocks = Vec::new();
        while let Some(block) = stream.block() {
            blocks.push(block);
        }
        let last = blocks.last().expect("it said something");
        assert!(last.contains("\"done\":true") || last.contains("\"stop\":true") || last.contains("[DONE]"), "{last}");
    }
}

/// Each step of this decoder takes a second, and the prompt takes several.
#[test]
fn a_stream_whose_prompt_is_long_gives_signs_of_life() {
    let line = format!("-np 1 --decoder null --null-step-us 1000000 -c 65536 --stream-ping-ms {PING_MS}");
    let server = Server::start(&line);
    let mut stream = server.stream(&json!({"prompt": "once upon a time ".repeat(4_000), "max_tokens": 2}));
    for _ in 0..5 {
        assert_eq!(stream.block().as_deref(), Some(": working"));
    }
    server.wait_for(1, 0);
    stream.leave();
    server.wait_for(0, 0);
}

#[test]
fn an_error_behind_the_head_is_an_event_of_the_dialect() {
    let (server, _running) = busy("--deadline-ms 3600000");
    for (path, mut body, sign) in routes() {
        body["deadline_ms"] = json!(40 * PING_MS);
        let mut waiting = server.client().events(path, &body);
        let mut blocks = signs(&mut waiting, sign, 1);
        blocks.extend(std::iter::from_fn(|| waiting.block()));
        let last = blocks.last().expect("it ends with an event");
        let data = last.lines().last().and_then(|line| line.strip_prefix("data: ")).expect("data");
        let data: Value = serde_json::from_str(data).expect("JSON");
        match path {
            "/generate_stream" => assert_eq!(
                (&data["done"], &data["finish_reason"], &data["error"], &data["code"]),
                (&json!(true), &json!("deadline"), &json!("the deadline passed"), &json!("deadline_exceeded"))
            ),
            "/v1/messages" => {
                assert!(last.starts_with("event: error\n"), "{last}");
                assert_eq!(
                    (&data["type"], &data["error"]["message"]),
                    (&json!("error"), &json!("the deadline passed"))
                );
            }
            "/v1/responses" => {
                assert!(last.starts_with("event: response.failed\n"), "{last}");
                let response = &data["response"];
                assert_eq!(
                    (&response["status"], &response["error"]["code"]),
                    (&json!("failed"), &json!("deadline_exceeded"))
                );
            }
            _ => assert_eq!(data["error"]["code"], "deadline_exceeded", "{path}"),
        }
    }
}

/// The whole text may be the beginning of a stop string, until it is longer than such a string.
#[test]
fn a_text_that_is_held_back_gives_signs_of_life() {
    let line = format!("-np 1 --decoder null --null-step-us 10000 -c 8192 --stream-ping-ms {PING_MS}");
    let server = Server::start(&line);
    let request = json!({"prompt": "a", "temperature": 0, "ignore_eos": true, "max_tokens": 40});
    let text = server.generate(&request).data()["text"].as_str().expect("a text").to_owned();
    let mut held = request.clone();
    held["stop"] = json!(format!("{}\u{1}", text.chars().take(60).collect::<String>()));
    let mut stream = server.stream(&held);
    let other = signs(&mut stream, ": working", 3);
    assert!(other.is_empty(), "{other:?}");
    assert_eq!(stream.finish().0, text);
}

/// Ollama's clients read each line as JSON. Each step of this decoder takes ten times the longest silence.
#[test]
fn a_silent_stream_of_lines_says_lines_without_text() {
    let server = Server::start(&format!("-np 1 --decoder null --null-step-us 200000 --stream-ping-ms {PING_MS}"));
    for (path, ask) in [
        ("/api/chat", json!({"messages": [{"role": "user", "content": "a"}], "options": {"num_predict": 2}})),
        ("/api/generate", json!({"prompt": "a", "options": {"num_predict": 2}})),
    ] {
        let answer = server.client().post(path, &ask);
        assert_eq!((answer.status, answer.header("Content-Type")), (200, Some("application/x-ndjson")));
        let text = answer.text();
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
        let of = |line: &Value| line["message"]["content"].as_str().or(line["response"].as_str()).map(str::to_owned);
        let signs = lines.iter().take_while(|line| of(line).as_deref() == Some("") && line["done"] == false).count();
        assert!(signs >= 3, "{path}: {text}");
        assert_eq!(lines.last().map(|last| &last["done"]), Some(&json!(true)));
    }
}

#[test]
fn a_request_has_no_deadline_unless_one_is_set() {
    for (line, deadline) in [("", "none"), ("--deadline-ms 5000", "5000")] {
        let mut args = vec!["serve", "--check"];
        args.extend(line.split_whitespace());
        let checked = std::process::Command::new(env!("CARGO_BIN_EXE_cllm")).args(args).output().expect("it runs");
        let text = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(text.lines().any(|line| line.contains("deadline-ms") && line.contains(deadline)), "{text}");
    }
}
