//! The order of waiting requests: keys, classes and priorities, from the key file to the order of answers.

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::access::{KeyFile, ask_with};
use super::server::{Server, number};

/// One slot, steps of 20 ms that need no model.
const SERVER: &str = "-np 1 --decoder null --null-step-us 20000";

/// A request of 20 steps.
fn body(priority: i64) -> Value {
    json!({"prompt": "Hi", "max_tokens": 20, "ignore_eos": true, "priority": priority})
}

/// Sends requests (key, priority) in this order, each after the one before has arrived. Returns how many of the others
/// were answered after the last request arrived and before it was answered.
fn answered_before_the_last(keys: &str, flags: &str, asks: &[(&str, i64)]) -> usize {
    let file = KeyFile::new(&format!("fair-{}", keys.len() + flags.len() + asks.len()), keys);
    let server = Server::start(&format!("{SERVER} --api-key-file {} {flags}", file.path()));
    let answered = Mutex::new(Vec::new());
    let mut before = 0;
    thread::scope(|scope| {
        for (i, (key, priority)) in asks.iter().enumerate() {
            let (server, answered) = (&server, &answered);
            scope.spawn(move || {
                let key = format!("Authorization: Bearer {key}");
                let answer = ask_with(&mut server.client(), "POST", "/generate", &[&key], &body(*priority).to_string());
                assert_eq!(answer.status, 200, "{}", answer.text());
                answered.lock().unwrap().push(i);
            });
            loop {
                let key = format!("Authorization: Bearer {key}");
                let metrics = ask_with(&mut server.client(), "GET", "/metrics", &[&key], "").text();
                let done = number(&metrics, "cllm_requests_finished_total{reason=\"length\"}");
                let here = number(&metrics, "cllm_requests_running") + number(&metrics, "cllm_requests_waiting");
                if done + here > i as u64 {
                    break;
                }
                thread::sleep(Duration::from_millis(2));
            }
            before = answered.lock().unwrap().len();
        }
    });
    let last = answered.into_inner().unwrap().iter().position(|i| *i + 1 == asks.len()).expect("it was answered");
    last.saturating_sub(before)
}

const TWO: &str = "crowd name=crowd\nlone name=lone\n";

/// Eight requests, the last of which has another key.
const CROWD: [(&str, i64); 8] = {
    let mut asks = [("crowd", 0); 8];
    asks[7] = ("lone", 0);
    asks
};

#[test]
fn a_key_that_asks_once_waits_for_one_request_of_a_key_that_asks_much() {
    let fair = answered_before_the_last(TWO, "", &CROWD);
    let in_order = answered_before_the_last(TWO, "--fair-by none", &CROWD);
    println!("answered before the one: {fair} in fair turns, {in_order} as they come");
    // The running request, and one whose turn may have come before the last request was counted.
    assert!(fair <= 2 && in_order >= 5, "{fair} {in_order}");
}

#[test]
fn an_interactive_key_goes_before_a_batch_of_another() {
    let keys = "crowd priority=batch weight=1000\nlone name=lone\n";
    assert!(answered_before_the_last(keys, "", &CROWD) <= 2);
}

#[test]
fn a_lower_priority_goes_first_within_its_key() {
    let asks = [("lone", 0), ("lone", 0), ("lone", 0), ("lone", 0), ("lone", 0), ("lone", 0), ("lone", -1)];
    assert!(answered_before_the_last(TWO, "", &asks) <= 2);
    let asks = [("lone", -1), ("lone", -1), ("lone", -1), ("lone", -1), ("lone", -1), ("lone", 0)];
    assert!(answered_before_the_last(TWO, "", &asks) >= 3);
}

/// Batch requests of several kinds, each beside interactive requests that come one after the other.
#[test]
fn an_answer_that_gave_way_is_the_one_it_would_have_been() {
    let file = KeyFile::new("gives-way", "night name=night priority=batch\nlone name=lone admin=yes\n");
    let server = Server::start(&format!("-np 1 -c 8192 --api-key-file {}", file.path()));
    let ask = |key: &str, method: &str, path: &str, body: &str| {
        let answer = ask_with(&mut server.client(), method, path, &[&format!("Authorization: Bearer {key}")], body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer
    };
    let gave_way = || ask("lone", "GET", "/keys", "").data()["keys"][0]["gave_way_total"].as_u64().expect("a number");
    let question = json!({"prompt": "How do I change the port?", "max_tokens": 4, "ignore_eos": true}).to_string();
    let draws = json!({"seed": 7, "temperature": 1.1, "top_p": 0.9});
    let kinds = [
        (
            "/v1/completions",
            json!({"max_tokens": 600, "ignore_eos": true, "logprobs": 3,
            "frequency_penalty": 0.7, "presence_penalty": 0.4}),
        ),
        ("/v1/completions", json!({"max_tokens": 300, "ignore_eos": true, "n": 2, "repetition_penalty": 1.2})),
        ("/v1/completions", json!({"max_tokens": 600, "ignore_eos": true, "mirostat": 2})),
        ("/v1/completions", json!({"max_tokens": 1_500, "ignore_eos": true, "stop": ["the th", "zzz"]})),
        ("/v1/completions", json!({"max_tokens": 600, "ignore_eos": true, "stream": true})),
        (
            "/v1/chat/completions",
            json!({"max_tokens": 900, "logprobs": true, "response_format": {"type": "json_schema",
            "json_schema": {"name": "numbers", "schema": {"type": "array", "items": {"type": "integer"},
                "minItems": 90, "maxItems": 90}}}}),
        ),
    ];
    for (path, mut body) in kinds {
        let fields = body.as_object_mut().expect("an object");
        fields.extend(draws.as_object().expect("an object").clone());
        fields.insert("prompt".to_owned(), json!("Once upon a time there was a fox who"));
        if path.contains("chat") {
            fields.remove("prompt");
            fields.insert("messages".to_owned(), json!([{"role": "user", "content": "Count."}]));
        }
        let body = body.to_string();
        let alone = choices(&ask("night", "POST", path, &body));
        let before = gave_way();
        let beside = thread::scope(|scope| {
            let night = scope.spawn(|| ask("night", "POST", path, &body));
            while !night.is_finished() {
                ask("lone", "POST", "/generate", &question);
            }
            night.join().unwrap()
        });
        assert_eq!(choices(&beside), alone, "{body}");
        println!("{path}: gave way {} times, {} bytes of choices are equal", gave_way() - before, alone.len());
        assert!(gave_way() > before, "{body}");
    }
    let metrics = ask("lone", "GET", "/metrics", "").text();
    assert_eq!(number(&metrics, "cllm_key_gave_way_total{key=\"night\"}"), gave_way());
    assert_eq!(number(&metrics, "cllm_gave_way_total"), gave_way());
}

/// The text of an answer's choices; of a stream, of all its events.
fn choices(answer: &super::http::Answer) -> String {
    let text = answer.text();
    let events = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|event| *event != "[DONE]");
    let events: Vec<Value> = events.map(|event| serde_json::from_str(event).expect("an event")).collect();
    match events.is_empty() {
        true => answer.json()["choices"].to_string(),
        // The number of tokens in an event depends on when it was written.
        false => events.iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect(),
    }
}
