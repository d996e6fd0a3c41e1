//! Whose turn it is: keys, classes and priorities, from the key file to the order of answers.

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

/// Sends requests (key, priority) in this order, each once the one before is in. Returns how many of the others were answered after
/// the last request was in and before it was answered.
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

/// Of eight requests, the last is of another key.
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
    // The one that runs, and one whose turn may have begun before the last was counted.
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
