//! Calls in the styles of several models, which random weights write only because a grammar forces them; and filling
//! gaps, for vocabularies with the tokens for that.

use serde_json::{Value, json};

use super::made::Made;
use super::shaped::{calls, joined, tool};
use super::{CHAT, COMPLETIONS, ask, stream, tokens, user};

/// Tools with short names and arguments, so that random weights reach the end of a call.
fn tools() -> Value {
    let city = json!({"type": "object", "properties": {"city": {"enum": ["Paris", "Bonn"]}}, "required": ["city"],
        "additionalProperties": false});
    let sum = json!({"type": "object", "properties": {"a": {"enum": [1, 2]}, "b": {"type": "boolean"}},
        "required": ["a", "b"], "additionalProperties": false});
    json!([tool("get_weather", &city), tool("add", &sum)])
}

const HARMONY: [&str; 7] =
    ["<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|constrain|>", "<|call|>", "<|return|>"];

/// Styles by the file of their template, with the control tokens that go with it.
const STYLES: [(&str, &[&str]); 4] = [
    ("llama3.jinja", &["<|python_tag|>"]),
    ("mistral.jinja", &["[TOOL_CALLS]"]),
    ("gpt-oss.jinja", &HARMONY),
    ("qwen3.jinja", &[]),
];

#[test]
fn a_required_call_comes_in_every_style() {
    for (template, marks) in STYLES {
        let server = Made::new(template, marks).serve(Some(template));
        let end = tokens(&server, "<|end|>")[0];
        let mut ended = 0;
        for seed in 0..6 {
            let named = json!({"type": "function", "function": {"name": "add"}});
            let choice = if seed % 2 == 0 { json!("required") } else { named };
            // Random weights would never end a thought.
            let bias = if marks.contains(&"<|end|>") { json!({end.to_string(): 100}) } else { json!({}) };
            let body = json!({"messages": user("Hi"), "tools": tools(), "tool_choice": choice, "seed": seed,
                "temperature": 1.0, "max_tokens": 300, "parallel_tool_calls": false, "logit_bias": bias});
            let answer = ask(&server, CHAT, &body);
            let turn = &answer["choices"][0];
            if turn["finish_reason"] == "length" {
                // A thought or white space without an end.
                continue;
            }
            ended += 1;
            assert_eq!(turn["finish_reason"], "tool_calls", "{template}: {answer}");
            let made = calls(&turn["message"]);
            assert_eq!(made.len(), 1, "{template}: {answer}");
            let all = tools();
            let called = all.as_array().expect("tools").iter().find(|tool| tool["function"]["name"] == made[0].0);
            let schema = &called.expect("one of the tools")["function"]["parameters"];
            assert!(jsonschema::is_valid(schema, &made[0].1), "{template}: {answer}");
            assert!(seed % 2 == 0 || made[0].0 == "add", "{template}: {answer}");
            let (streamed, reason) = joined(&stream(&server, CHAT, &body));
            assert_eq!((calls(&streamed), reason), (made, json!("tool_calls")), "{template}");
        }
        assert!(ended >= 2, "{template}: only {ended} came to an end");
    }
}

/// Where no call is required, a call that has begun must still be of one of these tools.
#[test]
fn a_call_that_is_begun_is_held_to_its_tool() {
    for (template, marks, begin) in
        [("mistral.jinja", &["[TOOL_CALLS]"][..], "[TOOL_CALLS]"), ("llama3.jinja", &[], "{")]
    {
        let server = Made::new(&format!("auto-{template}"), marks).serve(Some(template));
        let first = tokens(&server, begin)[0];
        let body = json!({"messages": user("Hi"), "tools": tools(), "temperature": 0, "max_tokens": 300,
            "logit_bias": {first.to_string(): 100}});
        let turn = ask(&server, CHAT, &body)["choices"][0].clone();
        assert_eq!(turn["finish_reason"], "tool_calls", "{template}: {turn}");
        assert!(!calls(&turn["message"]).is_empty(), "{template}: {turn}");
    }
}

#[test]
fn a_gap_is_filled_with_the_vocabularys_own_tokens() {
    let fim = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"];
    let server = Made::new("fim", &fim).serve(None);
    let mark = |name: &str| {
        let ids = tokens(&server, name);
        assert_eq!(ids.len(), 1, "{name} is one token");
        ids[0]
    };
    let (before, after) = ("fn main() {\n", "\n}");
    let ids =
        [vec![mark(fim[0])], tokens(&server, before), vec![mark(fim[1])], tokens(&server, after), vec![mark(fim[2])]];
    let rest = json!({"temperature": 0, "max_tokens": 12, "ignore_eos": true});
    let with = |prompt: Value, suffix: Value| {
        let mut body = rest.clone();
        (body["prompt"], body["suffix"]) = (prompt, suffix);
        ask(&server, COMPLETIONS, &body)
    };
    let filled = with(json!(before), json!(after));
    let spelled = with(json!(ids.concat()), Value::Null);
    assert_eq!(filled["choices"], spelled["choices"]);
    assert_eq!(filled["usage"]["prompt_tokens"], ids.concat().len());
    assert_ne!(filled["choices"], with(json!(before), Value::Null)["choices"], "the suffix makes a difference");
    // A user's text never becomes a control token.
    let marked = with(json!(format!("{before}<|fim_middle|>")), json!(after));
    assert!(marked["usage"]["prompt_tokens"].as_u64().unwrap() > ids.concat().len() as u64 + 1);
    let prompt_tokens = |answer: &Value| answer["usage"]["prompt_tokens"].as_u64().unwrap();
    let from_ids = with(json!(tokens(&server, before)), json!(after));
    assert_eq!((prompt_tokens(&from_ids), &from_ids["choices"]), (prompt_tokens(&filled), &filled["choices"]));
}
