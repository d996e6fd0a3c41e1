//! cllm's answers beside a real llama-server's, field by field: each of `cases.json` is asked of the program with a real model, and
//! held against `recorded.json`, which `tests/peer/record` wrote. A field that llama-server's answer has and ours doesn't, one that only
//! ours has, another type and another value are differences; each has to be in the list in `different.rs`, with its reason.

#[path = "../support/http.rs"]
#[allow(dead_code)]
mod http;
#[path = "../support/models.rs"]
#[allow(dead_code)]
mod models;
#[path = "../support/server.rs"]
#[allow(dead_code)]
mod server;

mod compare;
mod different;

use serde_json::{Value, json};

use compare::{Difference, compare};
use different::{DIFFERENT, When, is_explained, matches};
use models::{SMOLLM2, real_model};
use server::Server;

const CASES: &str = include_str!("cases.json");
const RECORDED: &str = include_str!("recorded.json");

/// Asks what the case says. The answer has the shape of a recorded one.
fn ask(server: &Server, case: &Value) -> Value {
    let mut body = case.get("body").cloned();
    if let (Some(body), Some(times)) = (&mut body, case["prompt_times"].as_u64()) {
        body["prompt"] = json!(body["prompt"].as_str().expect("a text").repeat(times as usize));
    }
    let body = match (body, case["raw"].as_str()) {
        (Some(body), _) => body.to_string(),
        (None, raw) => raw.unwrap_or_default().to_owned(),
    };
    let text = |name: &str| case[name].as_str().expect("a text");
    let answer = server.client().send(text("method"), text("path"), body.as_bytes());
    let kind = answer.header("Content-Type").unwrap_or_default().split(';').next().unwrap_or_default().to_owned();
    let mut told = json!({"name": case["name"], "status": answer.status, "type": kind});
    if kind == "text/event-stream" {
        let text = answer.text();
        let data: Vec<&str> = text.split("\n\n").filter_map(|block| block.strip_prefix("data: ")).collect();
        told["done"] = json!(data.last() == Some(&"[DONE]"));
        let events = data.into_iter().filter(|data| *data != "[DONE]");
        told["events"] = events.map(|data| serde_json::from_str::<Value>(data).expect("JSON")).collect();
    } else if kind == "application/json" {
        told["answer"] = answer.json();
    } else {
        told["answer"] = json!(answer.text());
    }
    told
}

/// Asks while a stream is being served, if the case wants one.
fn ask_beside(server: &Server, case: &Value) -> Value {
    let Some(body) = case.get("beside") else { return ask(server, case) };
    let mut stream = server.client().events("/completion", body);
    stream.next().expect("a first event");
    let told = ask(server, case);
    stream.leave();
    server.wait_for(0, 0);
    told
}

#[test]
fn answers_are_llama_servers_but_for_differences_with_a_reason() {
    let Some(model) = real_model(SMOLLM2) else { return };
    let cases: Vec<Value> = serde_json::from_str(CASES).expect("JSON");
    let recorded: Vec<Value> = serde_json::from_str(RECORDED).expect("JSON");
    let names = |list: &[Value]| list.iter().map(|one| one["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&cases), names(&recorded), "tests/peer/record writes the recording anew");
    let server = Server::start(&format!("-m {} -np 2 -c 512 --alias smollm2", model.display()));
    let mut used = vec![false; DIFFERENT.len()];
    let mut faults = Vec::new();
    for (case, theirs) in cases.iter().zip(&recorded) {
        let (mut theirs, mut ours) = (theirs.clone(), ask_beside(&server, case));
        let name = case["name"].as_str().expect("a name");
        if case["path"] == "/slots" {
            // Which slot serves is each server's choice.
            for told in [&mut theirs, &mut ours] {
                let slots = told["answer"].as_array_mut().expect("a list");
                slots.sort_by_key(|slot| slot["is_processing"] == true);
                slots.iter_mut().enumerate().for_each(|(i, slot)| slot["id"] = json!(i));
            }
        }
        for difference in compare(&theirs, &ours) {
            if !is_explained(name, &difference, &mut used) {
                faults.push(format!("{name}: {difference}"));
            }
        }
    }
    let unused = DIFFERENT.iter().zip(&used).filter(|(entry, used)| entry.when == When::Always && !**used);
    faults.extend(unused.map(|(entry, _)| format!("no longer a difference: {entry:?}")));
    assert!(faults.is_empty(), "{} differences:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn a_star_stands_for_any_text() {
    for (pattern, text) in
        [("a", "a"), ("*", ""), ("*", "abc"), ("a*", "a"), ("*c", "abc"), ("a*c*", "abcd"), ("*ä*", "äb")]
    {
        assert!(matches(pattern, text), "{pattern} {text}");
    }
    for (pattern, text) in [("a", "ab"), ("", "a"), ("a*", "ba"), ("*c", "cb"), ("a*c*e", "abcd")] {
        assert!(!matches(pattern, text), "{pattern} {text}");
    }
}

/// The comparison sees each kind of difference.
#[test]
fn each_kind_of_difference_is_seen() {
    let theirs = json!({"name": "a", "a": 1, "b": [{"c": 0.5}], "d": "text", "e": null});
    let shown = |ours: Value| compare(&theirs, &ours).iter().map(Difference::to_string).collect::<Vec<_>>().join("; ");
    assert_eq!(shown(theirs.clone()), "");
    let with = |path: &str, value: Value| {
        let mut ours = theirs.clone();
        *ours.pointer_mut(path).expect("a field") = value;
        shown(ours)
    };
    assert_eq!(with("/a", json!(2)), "value of a: 1 there, 2 here");
    assert_eq!(with("/a", json!(1.0)), "type of a: 1 there, 1.0 here");
    assert_eq!(with("/b/0/c", json!(0.5)), "");
    assert_eq!(with("/b/0/c", json!("0.5")), "type of b[].c: 0.5 there, \"0.5\" here");
    assert_eq!(with("/b/0", json!({})), "absent: b[].c, 0.5 there");
    assert_eq!(with("/b", json!([])), "value of b: 1 entries there, 0 here");
    assert_eq!(with("/d", Value::Null), "type of d: \"text\" there, null here");
    let mut more = theirs.clone();
    more["f"] = json!(true);
    assert_eq!(shown(more), "added: f, true here");
    let piece = |text: &str| json!({"content": text, "stop": false});
    let stream = |pieces: &[&str], last: Value| {
        let mut events: Vec<Value> = pieces.iter().map(|text| piece(text)).collect();
        events.push(last);
        json!({"events": events})
    };
    let end = json!({"content": "", "stop": true});
    let there = stream(&["a", "b"], end.clone());
    let shown = |ours: Value| compare(&there, &ours).iter().map(Difference::to_string).collect::<Vec<_>>().join("; ");
    assert_eq!(shown(stream(&["ab"], end.clone())), "");
    assert_eq!(shown(stream(&["ac"], end.clone())), "value of events text: \"ab\" there, \"ac\" here");
    assert_eq!(shown(stream(&["ab"], json!({"content": "", "stop": true, "x": 1}))), "added: events end.x, 1 here");
    assert_eq!(
        shown(stream(&[], end)),
        "value of events: \"piece, end\" there, \"end\" here; value of events text: \"ab\" there, \"\" here"
    );
}
