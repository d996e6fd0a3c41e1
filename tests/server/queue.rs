//! Overload: requests are served in the order of arrival, none waits for ever, and a request that finds the queue full
//! is refused.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::json;

use super::server::Server;
use super::{at_once, endless, exactly};

/// Measures a request's duration by the number of other requests that are answered meanwhile.
#[test]
fn at_four_times_more_clients_than_slots_the_slowest_waits_twice_the_median_at_most() {
    const CLIENTS: usize = 16;
    const ROUNDS: usize = 8;
    let server = Server::start("-np 4 --queue 64");
    let (answered, waits) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = server.client();
                for round in 0..ROUNDS {
                    let before = answered.load(Ordering::SeqCst);
                    client.post("/generate", &exactly(60)).data();
                    let after = answered.fetch_add(1, Ordering::SeqCst);
                    // In the first and the last round not all clients compete.
                    if (1..ROUNDS - 1).contains(&round) {
                        waits.lock().unwrap().push(after - before);
                    }
                }
            });
        }
    });
    let mut waits = waits.into_inner().unwrap();
    waits.sort_unstable();
    let (median, most) = (waits[waits.len() / 2], waits[waits.len() - 1]);
    println!("others answered meanwhile: median {median}, most {most}");
    assert!(median >= CLIENTS / 2 && most <= 2 * median, "{waits:?}");
}

#[test]
fn equal_requests_end_in_the_order_they_came() {
    const SLOTS: usize = 2;
    const REQUESTS: usize = 8;
    let server = Server::start("-np 2 --queue 16 -c 8192");
    let ended = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for i in 0..REQUESTS {
            let (server, ended) = (&server, &ended);
            scope.spawn(move || {
                server.generate(&exactly(2000)).data();
                ended.lock().unwrap().push(i);
            });
            let running = (i + 1).min(SLOTS);
            // The next request is sent after this one has arrived.
            server.wait_until("in", |metrics| {
                let number = |name| super::server::number(metrics, name) as usize;
                let done = number("cllm_requests_finished_total{reason=\"length\"}");
                number("cllm_requests_running") + number("cllm_requests_waiting") + done > i && running > 0
            });
        }
    });
    let ended = ended.into_inner().unwrap();
    for (place, came) in ended.iter().enumerate() {
        assert!(place.abs_diff(*came) < SLOTS, "ended in the order {ended:?}");
    }
}

/// Each client sends its next request when it has its answer. There is one client less than places, because the
/// batching thread may hold the place of its last answer for a moment, which is visible on one core.
#[test]
fn no_request_is_refused_while_there_is_a_place() {
    let server = Server::start("-np 2 --queue 4");
    at_once(6, &[(); 6], |()| {
        let mut client = server.client();
        for round in 0..40 {
            assert_eq!(client.post("/generate", &exactly(1)).status, 200, "round {round}");
            assert!(client.post("/generate_stream", &exactly(1)).text().contains("\"done\":true"), "round {round}");
        }
    });
    assert_eq!(server.metric("cllm_ring_full_total"), 0);
}

#[test]
fn a_request_that_finds_the_queue_full_is_told_and_leaves_no_trace() {
    // The first answer takes minutes, so no request moves on while this test looks.
    let server = Server::start("-np 1 --queue 1 -c 65536");
    let mut running = server.stream(&endless());
    assert!(running.next().is_some());
    let mut waiting = server.client();
    waiting.request("POST", "/generate", exactly(3).to_string().as_bytes()).unwrap();
    server.wait_for(1, 1);
    for i in 1..=5 {
        for path in ["/generate", "/generate_stream"] {
            let refused = server.client().post(path, &exactly(3));
            assert_eq!((refused.status, &refused.json()["code"]), (429, &json!("queue_full")));
            let seconds: u64 = refused.header("Retry-After").expect("it says when").parse().expect("in seconds");
            assert!((1..=60).contains(&seconds));
        }
        let metrics = server.metrics();
        let number = |name| super::server::number(&metrics, name);
        assert_eq!(number("cllm_requests_rejected_total{code=\"queue_full\"}"), 2 * i);
        assert_eq!(number("cllm_ring_full_total"), 2 * i);
        assert_eq!((number("cllm_requests_running"), number("cllm_requests_waiting")), (1, 1));
    }
    running.leave();
    let answer = waiting.answer(false).unwrap();
    assert_eq!(answer.data()["generated_tokens"], 3);
    server.wait_for(0, 0);
    let counts = at_once(1, &[1, 2, 3], |n| server.generate(&exactly(*n)).data()["generated_tokens"].clone());
    assert_eq!(counts, [1, 2, 3]);
    assert_eq!(server.metric("cllm_requests_finished_total{reason=\"length\"}"), 4);
    assert_eq!(server.metric("cllm_requests_finished_total{reason=\"cancelled\"}"), 1);
}
