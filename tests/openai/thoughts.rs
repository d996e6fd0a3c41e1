//! A constraint holds behind the thought, a stop string counts behind it, and a thought that takes too long is closed: with
//! templates of three kinds, whole and streamed, on each dialect. The weights are random: nothing but force ends their thoughts.

use serde_json::{Value, json};

use super::made::Made;
use super::server::Server;
use super::shaped::{calls, joined, tool};
use super::{CHAT, ask, stream, user};

const MESSAGES: &str = "/v1/messages";
const RESPONSES: &str = "/v1/responses";

/// Templates whose prompts end within a thought, with the marks that are control tokens.
const KINDS: [(&str, &[&str]); 3] = [
    ("thinks.jinja", &[]),
    ("thinks-brackets.jinja", &["[THINK]", "[/THINK]", "[TOOL_CALLS]"]),
    ("thinks-actions.jinja", &["<|START_THINKING|>", "<|END_THINKING|>", "<|START_ACTION|>", "<|END_ACTION|>"]),
];

const BUDGET: usize = 20;

fn servers() -> impl Iterator<Item = (&'static str, Server)> {
    KINDS.into_iter().map(|(template, marks)| (template, Made::new(template, marks).serve(Some(template))))
}

fn schema() -> Value {
    json!({"type": "object", "properties": {"unit": {"enum": ["c", "f"]}, "n": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["unit", "n"], "additionalProperties": false})
}

fn is_right(text: &str) -> bool {
    serde_json::from_str(text).is_ok_and(|value: Value| jsonschema::is_valid(&schema(), &value))
}

/// A chat request with a budget.
fn body(seed: u64, more: &Value) -> Value {
    let mut body = json!({"messages": user("Hi"), "temperature": 1.0, "max_tokens": 400, "seed": seed,
        "reasoning_budget_tokens": BUDGET});
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    body
}

/// Thought and text of an answer to `/v1/messages`.
fn of_blocks(message: &Value) -> (String, String) {
    let blocks = message["content"].as_array().expect("blocks");
    let all = |kind: &str, field: &str| {
        let texts = blocks.iter().filter(|block| block["type"] == kind).filter_map(|block| block[field].as_str());
        texts.collect::<String>()
    };
    (all("thinking", "thinking"), all("text", "text"))
}

/// Thought and text of an answer to `/v1/responses`.
fn of_items(answer: &Value) -> (String, String) {
    let items = answer["output"].as_array().expect("items");
    let all = |kind: &str| {
        let of_kind = items.iter().filter(|item| item["type"] == kind);
        let parts = of_kind.flat_map(|item| item["content"].as_array().cloned().unwrap_or_default());
        parts.filter_map(|part| part["text"].as_str().map(str::to_owned)).collect::<String>()
    };
    (all("reasoning"), all("message"))
}

#[test]
fn a_schema_holds_behind_a_thought_that_is_closed_when_its_budget_is_spent() {
    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema()}});
    for (kind, server) in servers() {
        for seed in 0..4 {
            let chat = body(seed, &json!({"response_format": format}));
            let answer = ask(&server, CHAT, &chat);
            let message = &answer["choices"][0]["message"];
            let (thought, content) = (message["reasoning_content"].as_str(), message["content"].as_str());
            assert!(is_right(content.unwrap_or_default()), "{kind} {seed}: {answer}");
            assert!(thought.is_some_and(|text| text.ends_with("I answer now.")), "{kind} {seed}: {answer}");
            let counted = answer["usage"]["completion_tokens_details"]["reasoning_tokens"].as_u64().expect("a number");
            assert!((BUDGET as u64..BUDGET as u64 + 40).contains(&counted), "{kind} {seed}: {counted}");
            let events = stream(&server, CHAT, &chat);
            assert_eq!(joined(&events).0["content"], message["content"], "{kind} {seed}");
            let deltas = events.iter().filter_map(|event| event["choices"][0]["delta"]["reasoning_content"].as_str());
            assert_eq!(deltas.collect::<String>(), thought.unwrap_or_default(), "{kind} {seed}");
        }
        let messages = json!({"messages": user("Hi"), "max_tokens": 400, "temperature": 1.0,
            "thinking": {"type": "enabled", "budget_tokens": BUDGET},
            "output_config": {"format": {"type": "json_schema", "schema": schema()}}});
        let (thought, text) = of_blocks(&ask(&server, MESSAGES, &messages));
        assert!(is_right(&text) && thought.ends_with("I answer now."), "{kind}: {thought:?} {text:?}");
        let responses = json!({"input": "Hi", "max_output_tokens": 400, "temperature": 1.0,
            "reasoning_budget_tokens": BUDGET, "text": {"format": {"type": "json_schema", "name": "n", "schema": schema()}}});
        let (thought, text) = of_items(&ask(&server, RESPONSES, &responses));
        assert!(is_right(&text) && thought.ends_with("I answer now."), "{kind}: {thought:?} {text:?}");
    }
}

#[test]
fn a_required_call_comes_behind_a_thought() {
    let city = json!({"type": "object", "properties": {"city": {"enum": ["Paris", "Bonn"]}}, "required": ["city"],
        "additionalProperties": false});
    let tools = json!([tool("get_weather", &city)]);
    for (kind, server) in servers() {
        for seed in 0..4 {
            let more = json!({"tools": tools, "tool_choice": "required", "parallel_tool_calls": false});
            let chat = body(seed, &more);
            let turn = ask(&server, CHAT, &chat)["choices"][0].clone();
            let made = calls(&turn["message"]);
            assert_eq!(made.len(), 1, "{kind} {seed}: {turn}");
            assert!(jsonschema::is_valid(&city, &made[0].1), "{kind} {seed}: {turn}");
            assert!(
                turn["message"]["reasoning_content"].as_str().is_some_and(|text| text.len() > 10),
                "{kind} {seed}: {turn}"
            );
            let content = turn["message"]["content"].as_str().unwrap_or_default();
            assert!(content.trim().is_empty(), "{kind} {seed}: {turn}");
            let (streamed, reason) = joined(&stream(&server, CHAT, &chat));
            assert_eq!((calls(&streamed), reason), (made, json!("tool_calls")), "{kind} {seed}");
        }
    }
}

#[test]
fn a_stop_string_in_a_thought_stops_nothing() {
    for (kind, server) in servers() {
        // The sentence that closes a thought has the stop string; the answer has it or runs to its end.
        let chat = body(3, &json!({"stop": ["answer"], "max_tokens": 60}));
        let answer = ask(&server, CHAT, &chat);
        let message = &answer["choices"][0]["message"];
        assert!(
            message["reasoning_content"].as_str().is_some_and(|text| text.ends_with("I answer now.")),
            "{kind}: {answer}"
        );
        assert!(!message["content"].as_str().unwrap_or_default().contains("answer"), "{kind}: {answer}");
        // What the content has stops it.
        let content = message["content"].as_str().unwrap_or_default();
        let stop: String = content.chars().skip(2).take(2).collect();
        if stop.chars().count() == 2 {
            let stopped = ask(&server, CHAT, &body(3, &json!({"stop": [stop], "max_tokens": 60})));
            let shorter = stopped["choices"][0]["message"]["content"].as_str().unwrap_or_default();
            assert_eq!(stopped["choices"][0]["finish_reason"], "stop", "{kind}: {stopped}");
            assert!(content.starts_with(shorter) && shorter.len() < content.len(), "{kind}: {shorter:?} {content:?}");
            assert_eq!(stopped["choices"][0]["message"]["reasoning_content"], message["reasoning_content"], "{kind}");
        }
        let messages = json!({"messages": user("Hi"), "max_tokens": 60, "temperature": 1.0, "stop_sequences": ["answer"],
            "thinking": {"type": "enabled", "budget_tokens": BUDGET}});
        let (thought, _) = of_blocks(&ask(&server, MESSAGES, &messages));
        assert!(thought.ends_with("I answer now."), "{kind}: {thought:?}");
    }
}
