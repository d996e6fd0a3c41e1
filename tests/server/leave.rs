//! Clients that close their connection, and deadlines.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::server::{Server, number};
use super::{at_once, endless, exactly};

#[test]
fn a_client_that_leaves_frees_the_slot_streaming_or_not() {
    let server = Server::start("-np 2 -c 65536");
    let mut stream = server.stream(&endless());
    assert!(stream.next().is_some());
    let mut whole = server.client();
    whole.request("POST", "/generate", endless().to_string().as_bytes()).unwrap();
    server.wait_for(2, 0);
    stream.leave();
    server.wait_for(1, 0);
    whole.leave();
    server.wait_for(0, 0);
    assert_eq!(server.metric("cllm_requests_finished_total{reason=\"cancelled\"}"), 2);
    assert_eq!(server.generate(&exactly(5)).data()["generated_tokens"], 5);
}

#[test]
fn a_request_whose_client_left_the_queue_is_never_served() {
    let server = Server::start("-np 1 --queue 4 -c 65536");
    let mut running = server.stream(&endless());
    assert!(running.next().is_some());
    let mut waiting = server.client();
    waiting.request("POST", "/generate", endless().to_string().as_bytes()).unwrap();
    server.wait_for(1, 1);
    waiting.leave();
    server.wait_for(1, 0);
    let metrics = server.metrics();
    assert_eq!(number(&metrics, "cllm_requests_finished_total{reason=\"cancelled\"}"), 1);
    // Only the running request ever had a prompt in the cache.
    assert_eq!(number(&metrics, "cllm_prompt_tokens_total"), number(&metrics, "cllm_prompt_tokens_decoded_total"));
    assert!(running.next().is_some());
}

/// A step of the built-in model takes less time than the news of a closed socket, so this counts steps over many
/// clients.
#[test]
fn a_client_that_left_costs_no_more_steps() {
    const CLIENTS: u64 = 20;
    let server = Server::start("-np 1 -c 65536");
    let mut after = 0;
    for _ in 0..CLIENTS {
        let mut stream = server.stream(&endless());
        assert!(stream.next().is_some());
        let before = server.metric("cllm_steps_total");
        stream.leave();
        server.wait_for(0, 0);
        let ended = server.metric("cllm_steps_total");
        after += ended - before;
        assert_eq!(server.metric("cllm_steps_total"), ended, "steps without a request");
    }
    println!("{} steps from the last look before leaving to the end, of 65,000 asked for", after / CLIENTS);
    assert!(after / CLIENTS < 2_000, "{after} steps for {CLIENTS} clients that left");
}

#[test]
fn two_hundred_that_leave_leak_nothing() {
    let server = Server::start("-np 4 --queue 64");
    let visit = |i: &usize| {
        let mut client = server.client();
        match i % 5 {
            0 => client.leave(),
            1 => {
                client.write(b"POST /generate HTTP/1.1\r\nContent-Length: 100\r\n\r\n{\"prompt\"").unwrap();
                client.leave();
            }
            2 => {
                client.request("POST", "/generate", endless().to_string().as_bytes()).unwrap();
                client.leave();
            }
            3 => {
                client.request("POST", "/generate_stream", endless().to_string().as_bytes()).unwrap();
                client.leave();
            }
            _ => {
                let mut stream = client.events("/generate_stream", &endless());
                assert!(stream.next().is_some());
                stream.leave();
            }
        }
    };
    let settled = || {
        server.wait_for(0, 0);
        // The sockets close after the last answer.
        let mut last = (0, 0);
        for _ in 0..200 {
            let now = server.threads_and_files();
            if now == last {
                break;
            }
            last = now;
            std::thread::sleep(Duration::from_millis(300));
        }
        last
    };
    at_once(8, &(0..20).collect::<Vec<_>>(), visit);
    let before = settled();
    at_once(8, &(0..200).collect::<Vec<_>>(), visit);
    let after = settled();
    assert!(after.0 <= before.0 && after.1 <= before.1 + 2, "threads and files: {before:?} before, {after:?} after");
    // All slots and all places in the queue are free again.
    let all = at_once(40, &[1; 68], |n| server.generate(&exactly(*n)).status);
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([200]));
}

#[test]
fn a_deadline_gives_what_there_is() {
    let server = Server::start("-np 2 -c 65536");
    let mut request = endless();
    request["deadline_ms"] = json!(300);
    let answer = server.generate(&request);
    let body = answer.json();
    assert_eq!((answer.status, &body["code"], &body["success"]), (408, &json!("deadline_exceeded"), &json!(false)));
    let data = &body["data"];
    assert_eq!(data["finish_reason"], "deadline");
    assert!(!data["text"].as_str().unwrap().is_empty() && data["generated_tokens"].as_u64().unwrap() > 0, "{body}");

    // With greedy sampling the text must be the beginning of the complete text.
    let count = data["generated_tokens"].as_u64().unwrap() as usize;
    assert_eq!(server.generate(&exactly(count)).data()["text"], data["text"]);

    let (text, end) = server.stream(&request).finish();
    assert_eq!(end["finish_reason"], "deadline");
    assert!(!text.is_empty() && end["generated_tokens"].as_u64().unwrap() > 0, "{end}");
    assert_eq!(server.metric("cllm_requests_finished_total{reason=\"deadline\"}"), 2);
    server.wait_for(0, 0);

    // The deadline also ends a request that waits for a slot; it then has no text.
    let (mut one, mut two) = (server.stream(&endless()), server.stream(&endless()));
    assert!(one.next().is_some() && two.next().is_some());
    let answer = server.generate(&request);
    assert_eq!((answer.status, &answer.json()["data"]["text"]), (408, &json!("")));
    let mut client = server.client();
    request["deadline_ms"] = json!(1);
    assert_eq!(client.post("/generate_stream", &request).status, 408, "before the head has left the status is free");
}
