//! Everything at once, from one seed: whatever clients do, the counts are consistent and the server still runs
//! afterwards.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use super::at_once;
use super::dice::Dice;
use super::server::{Server, number};

const OPERATIONS: usize = 300;
const THREADS: usize = 16;

#[test]
fn random_clients_leave_a_healthy_server_and_books_that_add_up() {
    let server = Server::start("-np 4 --queue 6");
    // What clients received, by name.
    let saw = Mutex::new(BTreeMap::<&'static str, u64>::new());
    let see = |what| *saw.lock().unwrap().entry(what).or_default() += 1;
    let long = json!({"prompt": "fox ".repeat(40_000)}).to_string();
    let mut dice = Dice::new(2026);
    let seeds: Vec<Dice> = (0..OPERATIONS).map(|_| dice.fork()).collect();
    at_once(THREADS, &seeds, |dice| {
        let mut dice = dice.clone();
        let prompt = ["Once upon a time", "How do I", "é日🦀", "To load a model, run"][dice.below(4)]
            .repeat(dice.within(1..=12));
        let mut request = json!({"prompt": prompt, "seed": dice.below(99), "max_tokens": dice.within(1..=200),
                                 "ignore_eos": dice.chance(0.5), "temperature": if dice.chance(0.5) { 0.0 } else { 0.9 }});
        if dice.chance(0.3) {
            request["stop"] = json!(*dice.pick(&[".", "é", "the "]));
        }
        if dice.chance(0.1) {
            request["deadline_ms"] = json!(dice.within(1..=50));
        }
        let mut client = server.client();
        match dice.below(6) {
            n @ 0..=2 => {
                let path = if n == 2 { "/generate_stream" } else { "/generate" };
                // A refused client tries again, as real clients do.
                let answer = loop {
                    let answer = client.post(path, &request);
                    if answer.status != 429 {
                        break answer;
                    }
                    see("refused");
                    sleep(Duration::from_millis(dice.within(1..=20) as u64));
                };
                let is_late = answer.text().contains("\"finish_reason\":\"deadline\"");
                match answer.status {
                    200 if n == 2 && is_late => see("too late"),
                    200 => see("answered"),
                    408 => see("too late"),
                    other => panic!("{other} for {request}"),
                }
            }
            3 | 4 => {
                let path = ["/generate", "/generate_stream"][dice.below(2)];
                client.request("POST", path, request.to_string().as_bytes()).unwrap();
                sleep(Duration::from_micros(dice.below(20_000) as u64));
                client.leave();
                see("left");
            }
            _ => {
                let body: &[u8] = [&b"{"[..], b"{\"prompt\": 3}", b"[]", b"\xff", long.as_bytes()][dice.below(5)];
                assert_eq!(client.send("POST", "/generate", body).status, 400);
                see("bad");
                assert_eq!(client.get("/health").status, 200);
            }
        }
    });
    server.wait_for(0, 0);
    let (saw, metrics) = (saw.into_inner().unwrap(), server.metrics());
    let saw = |what| saw.get(what).copied().unwrap_or(0);
    let finished = |reason| number(&metrics, &format!("cllm_requests_finished_total{{reason=\"{reason}\"}}"));
    let rejected = |code| number(&metrics, &format!("cllm_requests_rejected_total{{code=\"{code}\"}}"));
    assert_eq!(finished("error") + finished("shutdown"), 0);
    let bad = rejected("invalid_json") + rejected("invalid_field") + rejected("context_length_exceeded");
    assert_eq!(bad, saw("bad"));
    // A request whose client left was answered, cancelled or refused before that, or was never read completely.
    let (whole, late, refused) =
        (finished("eos") + finished("stop") + finished("length"), finished("deadline"), rejected("queue_full"));
    let beyond =
        (whole - saw("answered")) + (late - saw("too late")) + (refused - saw("refused")) + finished("cancelled");
    println!("answered {whole}, cancelled {}, too late {late}, refused {refused}, bad {bad}", finished("cancelled"));
    assert!(beyond <= saw("left"), "{beyond} ended of {} that left", saw("left"));
    let accepted = whole + late + finished("cancelled");
    assert!(number(&metrics, "vllm:request_queue_time_seconds_count{model_name=\"cllm-tiny\"}") <= accepted);
    assert!(whole > 50 && finished("cancelled") > 10 && bad > 20, "too little happened: {metrics}");
    for outcome in ["no_room", "partial", "invalid", "fatal"] {
        assert_eq!(number(&metrics, &format!("cllm_steps_failed_total{{outcome=\"{outcome}\"}}")), 0, "{outcome}");
    }
    let used = number(&metrics, "cllm_kv_cells_used");
    assert!(used <= number(&metrics, "cllm_kv_cells_total"));
    // All slots and places are free again: ten requests at once, none refused, as soon as all threads have noticed that
    // their clients left.
    let ask = |n: &usize| server.generate(&json!({"prompt": "a", "max_tokens": n})).status;
    assert!((0..100).any(|_| at_once(10, &[3; 10], ask) == [200; 10]), "places are lost");
}
