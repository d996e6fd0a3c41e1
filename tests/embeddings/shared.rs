//! Concurrent requests: several clients, many inputs, and clients that leave.

use serde_json::{Value, json};

use super::{EMBEDDINGS, Scratch, cosine, embed, text};

/// A request so long that no test waits for it: two thousand inputs of the greatest length.
fn endless() -> Value {
    json!({"input": (0..2_000).map(|i| vec![200 + i % 1_000; 500]).collect::<Vec<_>>()})
}

#[test]
fn each_request_gets_its_own_vectors() {
    let model = Scratch::bert();
    let server = model.server("");
    let texts: Vec<String> = (0..300).map(|i| text(i % 40 + 1, i)).collect();
    let alone = embed(&server, &json!(texts));
    std::thread::scope(|scope| {
        for client in 0..8 {
            let (server, texts, alone) = (&server, &texts, &alone);
            scope.spawn(move || {
                for round in 0..6 {
                    let from = (client * 37 + round * 11) % 250;
                    let mine = from..from + 1 + (client * round) % 50;
                    let vectors = embed(server, &json!(texts[mine.clone()]));
                    let same = vectors.iter().zip(&alone[mine]).all(|(a, b)| cosine(a, b) > 0.9999);
                    assert!(same, "client {client}, round {round}");
                }
            });
        }
    });
    // Inputs of different requests share steps.
    let (rows, steps) = (server.metric("cllm_rows_total"), server.metric("cllm_steps_total"));
    println!("{rows} rows in {steps} steps");
    assert!(rows / steps > 200, "{rows} rows in {steps} steps");
}

#[test]
fn a_short_request_does_not_wait_for_a_long_one() {
    let model = Scratch::bert();
    let server = model.server("");
    let mut long = server.client();
    long.request("POST", EMBEDDINGS, endless().to_string().as_bytes()).unwrap();
    server.wait_until("begun", |metrics| super::server::number(metrics, "cllm_embeddings_total") > 0);
    assert_eq!(embed(&server, &json!("ba be")).len(), 1);
    let done = server.metric("cllm_embeddings_total");
    assert!(done < 1_900, "the long one was nearly through: {done}");
    // After a client leaves, its inputs take no more steps.
    long.leave();
    server.wait_for(0, 0);
    assert_eq!(server.metric("cllm_requests_finished_total{reason=\"cancelled\"}"), 1);
    assert_eq!(embed(&server, &json!("ba be")).len(), 1);
}

#[test]
fn overload_and_deadlines_are_answers() {
    let model = Scratch::bert();
    let server = model.server("-np 1 --queue 1");
    let mut running: Vec<_> = (0..2).map(|_| server.client()).collect();
    for client in &mut running {
        client.request("POST", EMBEDDINGS, endless().to_string().as_bytes()).unwrap();
    }
    server.wait_for(2, 0);
    let answer = server.client().post(EMBEDDINGS, &json!({"input": "ba"}));
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (429, &json!("queue_full")));
    assert!(answer.header("Retry-After").is_some());
    running.remove(0).leave();
    server.wait_for(1, 0);
    let mut body = endless();
    body["deadline_ms"] = json!(50);
    let answer = server.client().post(EMBEDDINGS, &body);
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (408, &json!("deadline_exceeded")));
}

#[test]
fn a_server_that_stops_answers_every_request() {
    let model = Scratch::bert();
    let mut server = model.server("--grace-ms 100");
    let mut client = server.client();
    client.request("POST", EMBEDDINGS, endless().to_string().as_bytes()).unwrap();
    server.wait_for(1, 0);
    server.signal("TERM");
    let answer = client.answer(false).expect("an answer");
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (503, &json!("shutting_down")));
    assert!(server.exit().success());
}
