//! Structured output over HTTP: the text follows its constraint, streamed or not, alone or beside other requests.

use std::time::{Duration, Instant};

use jsonschema::error::ValidationErrorKind;
use serde_json::{Value, json};

use super::dice::Dice;
use super::server::Server;
use super::{at_once, exactly};

/// Schemas, and temperatures in turn.
const SCHEMAS: usize = 500;
const TEMPERATURES: &[f64] = &[0.0, 0.8, 1.5, 5.0];

/// A schema of at most `depth` levels; sometimes one that refers to `#/$defs/tree`.
fn schema(dice: &mut Dice, depth: usize) -> Value {
    let kinds = if depth == 0 { 8 } else { 12 };
    match dice.below(kinds) {
        0 => json!({"type": "string", "maxLength": dice.within(0..=12)}),
        1 => json!({"type": "string", "pattern": *dice.pick(&["^[a-z]{1,6}$", "^(ab|cd)+$", "^\\d{3}-\\d{2}$", "x"]),
            "minLength": 1, "maxLength": 12}),
        2 => json!({"type": "string", "format": *dice.pick(&["date", "ipv4", "uuid", "time"])}),
        3 => {
            let low = dice.within(0..=300) as i64 - 150;
            json!({"type": "integer", "minimum": low, "maximum": low + dice.within(0..=2_000) as i64})
        }
        4 => json!({"type": "number", "exclusiveMinimum": -1.5, "maximum": dice.within(0..=40)}),
        5 => json!({"type": *dice.pick(&["integer", "number", "boolean", "null", "boolean", "null"])}),
        6 => {
            let all = [json!("red"), json!("green"), json!(3), json!(null), json!({"a": [1, 2.5]}), json!("é→🦀")];
            json!({"enum": all[..dice.within(1..=6)]})
        }
        7 => json!({"type": ["string", "integer"], "maxLength": 5, "maximum": 9, "minimum": 0}),
        8 => {
            let low = dice.below(3);
            json!({"type": "array", "items": schema(dice, depth - 1), "minItems": low, "maxItems": low + dice.below(3)})
        }
        9 => json!({"anyOf": [schema(dice, depth - 1), schema(dice, depth - 1)]}),
        10 => json!({"$ref": "#/$defs/tree"}),
        _ => object(dice, depth),
    }
}

fn object(dice: &mut Dice, depth: usize) -> Value {
    let names = ["name", "age", "x", "nested thing", "Größe", "$id\"", "tags"];
    let names = &names[..dice.within(1..=names.len())];
    let properties: serde_json::Map<String, Value> =
        names.iter().map(|name| ((*name).to_owned(), schema(dice, depth - 1))).collect();
    let required: Vec<&&str> = names.iter().filter(|_| dice.chance(0.6)).collect();
    let additional = if dice.chance(0.9) { json!(false) } else { json!({"type": "boolean"}) };
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": additional})
}

fn schemas() -> Vec<Value> {
    let mut dice = Dice::new(500);
    let tree = json!({"type": "object", "properties": {"left": {"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "null"}]},
        "leaf": {"type": "boolean"}}, "required": ["leaf"], "additionalProperties": false});
    let make = |_| {
        let mut made = if dice.chance(0.7) { object(&mut dice, 3) } else { schema(&mut dice, 3) };
        made["$defs"] = json!({"tree": tree});
        made
    };
    (0..SCHEMAS).map(make).collect()
}

/// Reason and text of a whole answer and of a streamed one, which must be equal.
fn both(server: &Server, request: &Value) -> (String, String) {
    let data = server.generate(request).data();
    let (text, end) = server.stream(request).finish();
    assert_eq!((&data["text"], &data["finish_reason"]), (&json!(text), &end["finish_reason"]), "{request}");
    assert_eq!(data["generated_tokens"], end["generated_tokens"]);
    (end["finish_reason"].as_str().unwrap_or_default().to_owned(), text)
}

/// RFC 3339's grammar has a second 60 in any minute and a 29th of February in any year; the validator knows when there was one.
fn is_leap(error: &jsonschema::ValidationError<'_>) -> bool {
    error.instance().as_str().is_some_and(|text| text.contains(":60") || text.contains("-02-29"))
        && matches!(error.kind(), ValidationErrorKind::Format { .. })
}

#[test]
fn five_hundred_schemas_are_followed() {
    let server = Server::start("");
    let schemas: Vec<(usize, Value)> = schemas().into_iter().enumerate().collect();
    let ended = at_once(8, &schemas, |(i, schema)| {
        let request = json!({"prompt": "A record as JSON: ", "json_schema": schema, "seed": i, "max_tokens": 300,
            "temperature": TEMPERATURES[i % TEMPERATURES.len()], "ignore_eos": i % 7 == 0});
        let (reason, text) = if i % 10 == 0 {
            both(&server, &request)
        } else {
            let data = server.generate(&request).data();
            assert!(data["finish_reason"] != "length" || data["generated_tokens"] == 300, "{data}");
            let text_of = |name: &str| data[name].as_str().unwrap_or_default().to_owned();
            (text_of("finish_reason"), text_of("text"))
        };
        if reason == "length" {
            return false;
        }
        assert_eq!(reason, "stop", "{request}");
        match serde_json::from_str::<Value>(&text) {
            Ok(value) => {
                let validator = jsonschema::options().should_validate_formats(true).build(schema).expect("a schema");
                let fault = validator.iter_errors(&value).find(|error| !is_leap(error));
                assert!(fault.is_none(), "{fault:?}\n{schema}\n{text}");
            }
            // JSON's numbers have no bounds, serde_json's have.
            Err(error) => assert!(error.to_string().starts_with("number out of range"), "{error}: {text}"),
        }
        true
    });
    let ended = ended.iter().filter(|ended| **ended).count();
    println!("{ended} of {SCHEMAS} ended before max_tokens");
    assert!(ended > SCHEMAS * 3 / 5, "only {ended} ended before max_tokens");
}

#[test]
fn regular_expressions_and_grammars_are_followed_too() {
    let server = Server::start("");
    let lark = "start: \"yes\" | \"no\" (\", \" /[a-z]{1,9}/)*";
    let gbnf = "root ::= item+\nitem ::= \"- \" [a-z ]{1,20} \"\\n\"";
    for seed in 0..10 {
        let ask = |field: &str, text: &str| {
            both(&server, &json!({"prompt": "So: ", field: text, "seed": seed, "temperature": 1.2, "max_tokens": 60}))
        };
        let (reason, text) = ask("regex", r"\d{2,4}(\.\d)?");
        assert_eq!(reason, "stop");
        let (whole, rest) = text.split_once('.').unwrap_or((&text, "0"));
        assert!((2..=4).contains(&whole.len()) && rest.len() == 1 && (whole.to_owned() + rest).parse::<u64>().is_ok());
        let (reason, text) = ask("grammar", lark);
        assert!(reason == "length" || text == "yes" || text.split(", ").next() == Some("no"), "{text}");
        let (reason, text) = ask("grammar", gbnf);
        let is_item = |line: &str| line.strip_prefix("- ").is_some_and(|item| (1..=20).contains(&item.len()));
        assert!(reason == "length" || (text.ends_with('\n') && text.lines().all(is_item)), "{text:?}");
    }
}

/// Stop strings and `max_tokens` end a constrained text as any other, and the reason says so.
#[test]
fn other_ends_come_first() {
    let server = Server::start("");
    let ask = |more: Value| {
        let mut request = json!({"prompt": "So: ", "regex": "(ab)*", "temperature": 0, "ignore_eos": true});
        request.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        both(&server, &request)
    };
    assert_eq!(ask(json!({"max_tokens": 3})).0, "length");
    let (reason, text) = ask(json!({"max_tokens": 50, "stop": "bab"}));
    assert_eq!((reason.as_str(), text.as_str()), ("stop", "a"));
    let exact = json!({"regex": "xyz", "max_tokens": 50});
    assert_eq!(ask(exact), ("stop".to_owned(), "xyz".to_owned()));
}

#[test]
fn what_cannot_be_followed_is_refused() {
    let server = Server::start("");
    let deep = format!("{}{}", "{\"items\":".repeat(70), "{}".to_owned() + &"}".repeat(70));
    for (field, value) in [
        ("json_schema", json!("no schema")),
        ("regex", json!("(")),
        ("regex", json!(3)),
        ("regex", json!("(".repeat(50_000))),
        ("grammar", json!("start: (")),
        ("grammar", json!("root ::= x")),
        ("grammar", json!("root ::= ".to_owned() + &"(".repeat(50_000))),
    ] {
        let answer = server.generate(&json!({"prompt": "So: ", field: value}));
        assert_eq!((answer.status, &answer.json()["field"]), (400, &json!(field)), "{}", answer.text());
    }
    let answer = server.generate(&json!({"prompt": "So: ", "regex": "a", "grammar": "start: \"a\""}));
    assert_eq!((answer.status, &answer.json()["field"]), (400, &json!("regex")));
    // The text follows the part of a schema that can be compiled, and a warning says so.
    for schema in [
        json!({"type": "nothing"}),
        json!({"not": {}}),
        json!({"maxItems": 1_000_000}),
        serde_json::from_str(&deep).expect("JSON"),
        json!({"enum": vec!["x".repeat(100); 1_000]}),
    ] {
        let answer = server.generate(&json!({"prompt": "So: ", "json_schema": schema, "max_tokens": 3}));
        let warning = answer.header("X-Cllm-Warning").unwrap_or_default();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(warning.contains("json_schema: followed in part"), "{warning}");
    }
    // And it goes on serving.
    assert_eq!(server.generate(&exactly(3)).data()["generated_tokens"], 3);
}

/// Fifty rules that mean the same, so that the parser must keep each of them for each place where it may have begun.
fn ambiguous() -> String {
    let rules: Vec<String> = (0..50).map(|i| format!("r{i}")).collect();
    let bodies: Vec<String> = rules.iter().map(|rule| format!("{rule}: \"a\" {rule} | \"a\"")).collect();
    format!("start: {}\n{}", rules.join(" | "), bodies.join("\n"))
}

/// This used to answer 500, as if the engine had failed.
#[test]
fn a_grammar_too_ambiguous_to_follow_is_the_clients_fault() {
    let server = Server::start("");
    let body = |more: Value| {
        let mut body =
            json!({"prompt": "So: ", "grammar": ambiguous(), "max_tokens": 300, "ignore_eos": true, "seed": 1});
        body.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        body
    };
    let whole = server.generate(&body(json!({})));
    assert_eq!((whole.status, &whole.json()["field"]), (400, &json!("grammar")), "{}", whole.text());
    let text = whole.json()["data"]["text"].as_str().expect("text").to_owned();
    assert!(!text.is_empty() && text.bytes().all(|byte| byte == b'a'), "{text}");
    let (streamed, last) = server.stream(&body(json!({}))).finish();
    assert_eq!((streamed, &last["finish_reason"]), (text, &json!("grammar")));
    let answer = server.client().post("/v1/completions", &body(json!({})));
    let error = answer.json()["error"].clone();
    assert_eq!(
        (answer.status, &error["param"], &error["type"]),
        (400, &json!("grammar"), &json!("invalid_request_error"))
    );
    let answer = server.client().post("/v1/completions", &body(json!({"stream": true})));
    let last = answer.text().trim_end().rsplit("\n\n").next().expect("an event").to_owned();
    assert!(last.contains("\"error\"") && last.contains("\"param\":\"grammar\""), "{last}");
    assert_eq!(server.metric("cllm_requests_finished_total{reason=\"grammar\"}"), 4);
    assert_eq!(server.metric("cllm_requests_finished_total{reason=\"error\"}"), 0);
}

/// More than three thousand rules that mean the same, so that the step after the first token would take minutes.
#[test]
fn a_hostile_grammar_is_ended_in_time_while_others_are_served() {
    let letter = |i: usize| char::from(b'a' + (i % 26) as u8);
    let names: Vec<String> =
        (0..3_300).map(|i| [letter(i / 676), letter(i / 26), letter(i)].iter().collect()).collect();
    let rules: String = names.iter().map(|name| format!("{name}:\"a\" s|\"a\"\n")).collect();
    let hostile = json!({"prompt": "So: ", "grammar": format!("start:s\ns:{}\n{rules}", names.join("|")),
        "max_tokens": 300, "ignore_eos": true});
    let server = Server::start("-np 4");
    let free = json!({"prompt": "Once upon a time", "temperature": 0, "max_tokens": 60});
    let alone = server.generate(&free).data()["text"].clone();
    std::thread::scope(|scope| {
        let started = Instant::now();
        let hostiles: Vec<_> = (0..2).map(|_| scope.spawn(|| server.generate(&hostile))).collect();
        while !hostiles.iter().all(|thread| thread.is_finished()) {
            assert_eq!(server.generate(&free).data()["text"], alone);
            assert!(started.elapsed() < Duration::from_secs(30), "still at it");
        }
        for answer in hostiles.into_iter().map(|thread| thread.join().expect("an answer")) {
            assert_eq!((answer.status, &answer.json()["field"]), (400, &json!("grammar")), "{}", answer.text());
        }
    });
}

/// A constrained request changes no other request's text, and its own text is the one it gets alone.
#[test]
fn no_request_notices_a_constrained_neighbour() {
    let server = Server::start("");
    let constrained = |i: usize| {
        json!({"prompt": "A record: ", "seed": i, "temperature": 0.9, "max_tokens": 120,
            "json_schema": {"type": "object", "properties": {"a": {"type": "string", "maxLength": 30}}}})
    };
    let free = |i: usize| json!({"prompt": format!("Once upon a time {i}"), "temperature": 0, "max_tokens": 120});
    let requests: Vec<Value> = (0..64).map(|i| if i % 8 == 0 { constrained(i) } else { free(i) }).collect();
    let text = |request: &Value| server.generate(request).data()["text"].clone();
    let alone = at_once(1, &requests, text);
    assert_eq!(at_once(8, &requests, text), alone);
}
