//! `GET /debug/trace`: a timeline of the engine's steps.

use serde_json::Value;

use super::endless;
use super::server::Server;

/// Start and end of each span of this name, in microseconds.
fn spans(document: &Value, name: &str) -> Vec<(u64, u64)> {
    let events = document["traceEvents"].as_array().unwrap().iter();
    let spans = events.filter(|event| event["ph"] == "X" && event["name"] == name);
    spans
        .map(|span| (span["ts"].as_u64().unwrap(), span["dur"].as_u64().unwrap()))
        .map(|(ts, dur)| (ts, ts + dur))
        .collect()
}

#[test]
fn a_timeline_holds_the_steps_and_their_parts() {
    let server = Server::start("--trace --decoder null --null-step-us 500 -np 2 -c 1000000");
    let mut streams = [server.stream(&endless()), server.stream(&endless())];
    streams.iter_mut().for_each(|stream| drop(stream.next()));
    let answer = server.client().get("/debug/trace?seconds=0.3");
    assert_eq!((answer.status, answer.header("Content-Type")), (200, Some("application/json")));
    let document = answer.json();
    let steps = spans(&document, "step");
    assert!(!steps.is_empty() && steps.is_sorted_by(|a, b| a.1 <= b.0), "steps overlap");
    let mut parts: Vec<(u64, u64)> =
        ["admit", "plan", "decode", "sample", "reply"].iter().flat_map(|name| spans(&document, name)).collect();
    parts.sort_unstable();
    // A part that took less than a microsecond has no span.
    assert!(parts.iter().all(|(from, to)| from < to));
    let mut inside = 0;
    for step in &steps {
        let own: Vec<&(u64, u64)> = parts.iter().filter(|part| step.0 <= part.0 && part.1 <= step.1).collect();
        assert_eq!((own[0].0, own[own.len() - 1].1), *step);
        assert!(own.windows(2).all(|pair| pair[0].1 == pair[1].0), "the parts of a step follow each other: {own:?}");
        inside += own.len();
    }
    assert_eq!(inside, parts.len(), "a part beside its step");
    assert_eq!(spans(&document, "decode").len(), steps.len());
    assert!(spans(&document, "decode").iter().all(|(from, to)| to - from >= 500));
    let events = document["traceEvents"].as_array().unwrap();
    // Of the last step: the first may be the one that prefilled the second prompt, whose token was sent before the step
    // was recorded.
    let counter =
        |name: &str| events.iter().rfind(|event| event["ph"] == "C" && event["name"] == name).unwrap()["args"].clone();
    assert_eq!(counter("requests"), serde_json::json!({"waiting": 0, "running": 2}));
    assert_eq!(
        (counter("rows"), counter("tokens")),
        (serde_json::json!({"rows": 2, "guesses": 0}), serde_json::json!({"tokens": 2}))
    );
    assert_eq!(document["otherData"]["steps"], steps.len());
}

#[test]
fn a_timeline_is_refused_where_none_is_recorded_or_wanted_so() {
    let server = Server::start("--decoder null");
    let answer = server.client().get("/debug/trace");
    assert_eq!((answer.status, &answer.json()["code"]), (403, &Value::from("tracing_off")));
    let server = Server::start("--trace --decoder null --api-key secret");
    assert_eq!(server.client().get("/debug/trace").status, 401);
    let server = Server::start("--trace --decoder null");
    let answer = server.client().get("/debug/trace?seconds=61");
    assert_eq!((answer.status, &answer.json()["field"]), (400, &Value::from("seconds")));
}

#[test]
fn one_listens_at_a_time_and_leaving_ends_it() {
    let server = Server::start("--trace --decoder null");
    // Another client's trace may be running, which refuses this one: then it is sent again.
    let first = loop {
        let mut client = server.client();
        client.request("GET", "/debug/trace?seconds=60", b"").unwrap();
        if (0..100).any(|_| server.client().get("/debug/trace?seconds=0.01").status == 429) {
            break client;
        }
    };
    let refused = server.client().get("/debug/trace?seconds=0.01");
    assert_eq!((refused.header("Retry-After"), &refused.json()["code"]), (Some("5"), &Value::from("trace_running")));
    let since = std::time::Instant::now();
    first.leave();
    while server.client().get("/debug/trace?seconds=0.01").status != 200 {
        assert!(since.elapsed().as_secs() < 50, "the one who left is still listened for");
    }
}
