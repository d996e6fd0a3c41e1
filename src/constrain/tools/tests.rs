//! Tool calls as grammars: random texts that the masks allow are calls of these tools.

use serde_json::{Value, json};

use super::super::tests::{parts, walks};
use super::super::{Tool, ToolChoice};
use crate::chat::CallStyle;
use crate::types::{RequestError, Verdict};

fn tools() -> Vec<Tool> {
    let city = json!({"type": "object", "properties": {"city": {"type": "string", "maxLength": 5}}, "required": ["city"],
        "additionalProperties": false});
    let sum = json!({"$defs": {"n": {"type": "integer", "minimum": 0, "maximum": 9}}, "properties":
        {"a": {"$ref": "#/$defs/n"}, "b": {"$ref": "#/$defs/n"}}, "required": ["a", "b"], "additionalProperties": false});
    vec![Tool { name: "get_weather".into(), parameters: city }, Tool { name: "add-2.0".into(), parameters: sum }]
}

/// The calls in a text and the text beside them, or what is wrong.
fn calls(text: &str) -> Result<(Vec<Value>, String), String> {
    let (mut all, mut free, mut rest) = (Vec::new(), String::new(), text);
    while let Some((before, after)) = rest.split_once("<tool_call>") {
        free += before;
        let (call, after) = after.split_once("</tool_call>").ok_or("no end")?;
        let call = call.strip_prefix('\n').and_then(|call| call.strip_suffix('\n')).ok_or("no lines")?;
        let call: Value = serde_json::from_str(call).map_err(|error| error.to_string())?;
        let tools = tools();
        let tool = tools.iter().find(|tool| call["name"] == tool.name).ok_or("no such tool")?;
        jsonschema::validate(&tool.parameters, &call["arguments"]).map_err(|error| error.to_string())?;
        all.push(call);
        rest = after;
    }
    Ok((all, free + rest))
}

#[test]
fn tool_calls_are_calls_of_these_tools() {
    let all = |choice: ToolChoice, parallel: bool| {
        let texts = walks(|all| {
            all.tool_calls(CallStyle::Hermes, &tools(), &choice, parallel).map(|made| made.0.expect("a constraint"))
        });
        let parsed = texts.iter().map(|text| calls(text).unwrap_or_else(|why| panic!("{why}: {text}")));
        parsed.collect::<Vec<_>>()
    };
    let single = all(ToolChoice::Required, false);
    assert!(single.len() > 30 && single.iter().all(|(calls, free)| calls.len() == 1 && free.is_empty()));
    let named = all(ToolChoice::Named("add-2.0".into()), false);
    assert!(named.len() > 30 && named.iter().all(|(calls, _)| calls.len() == 1 && calls[0]["name"] == "add-2.0"));
    let several = all(ToolChoice::Required, true);
    assert!(several.iter().all(|(calls, free)| !calls.is_empty() && free.trim().is_empty()));
    assert!(several.iter().any(|(calls, _)| calls.len() > 1));
    let auto = all(ToolChoice::Auto, true);
    assert!(auto.len() > 30 && auto.iter().any(|(calls, free)| calls.is_empty() && !free.is_empty()));
    assert!(
        parts().1.tool_calls(CallStyle::Hermes, &tools(), &ToolChoice::None, true).is_ok_and(|made| made.0.is_none())
    );
}

/// Random texts rarely call a tool, so these texts begin with the mark of a call.
#[test]
fn free_text_may_turn_into_a_call_and_back() {
    let follow = |text: &str, parallel: bool| {
        let (tokenizer, all) = parts();
        let mut constraint = all
            .tool_calls(CallStyle::Hermes, &tools(), &ToolChoice::Auto, parallel)
            .expect("tools")
            .0
            .expect("a constraint");
        for token in tokenizer.encode(text, false, false).expect("short text") {
            if constraint.verdict() != Verdict::Allow || !constraint.mask().allows(token) {
                return None;
            }
            constraint.take(token);
        }
        let verdict = constraint.verdict();
        let may_end = tokenizer.eog().iter().any(|token| constraint.mask().allows(*token));
        Some((verdict, verdict == Verdict::Complete || may_end))
    };
    let call = "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bonn\"}}\n</tool_call>";
    assert_eq!(follow("Hello <b>you</b>.\n\nBye", true), Some((Verdict::Allow, true)));
    assert_eq!(follow(&format!("Let me see.\n{call}"), true), Some((Verdict::Allow, true)));
    assert_eq!(follow(&format!("{call}\n{call} Done."), true), Some((Verdict::Allow, true)));
    assert_eq!(follow(&format!("Well: {call}"), false), Some((Verdict::Complete, true)));
    assert_eq!(follow(&format!("{call}\n{call}"), false), None);
    assert_eq!(
        follow("<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"ci", true),
        Some((Verdict::Allow, false))
    );
    assert_eq!(follow("<tool_call>\n{\"name\": \"other", true), None);
    assert_eq!(follow("<tool_call> no", true), None);
    assert_eq!(follow(&call.replace("\"Bonn\"", "3"), true), None);
}

/// Name and arguments of each call in a text, in a style whose marks are plain text.
fn calls_in(style: CallStyle, text: &str) -> Vec<(String, Value)> {
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let named = |call: &Value, key: &str| (call["name"].as_str().expect("a name").to_owned(), call[key].clone());
    match style {
        CallStyle::Llama3 => vec![named(&json(text), "parameters")],
        CallStyle::MistralList => {
            let list = json(text.strip_prefix("[TOOL_CALLS]").expect("the mark"));
            list.as_array().expect("a list").iter().map(|call| named(call, "arguments")).collect()
        }
        CallStyle::MistralArgs => {
            let calls = text.split("[TOOL_CALLS]").skip(1).map(|call| call.split_once("[ARGS]").expect("the mark"));
            calls.map(|(name, arguments)| (name.to_owned(), json(arguments))).collect()
        }
        CallStyle::Harmony => {
            let (head, arguments) = text.rsplit_once("<|message|>").expect("the mark");
            let (_, name) = head.rsplit_once("to=functions.").expect("a name");
            let end =
                [" <|constrain|>json", "<|channel|>commentary json"].into_iter().find_map(|end| name.strip_suffix(end));
            vec![(end.expect("its end").to_owned(), json(arguments))]
        }
        CallStyle::Hermes => unreachable!("has tests of its own"),
    }
}

#[test]
fn calls_have_the_form_that_the_model_writes() {
    for style in [CallStyle::Llama3, CallStyle::MistralList, CallStyle::MistralArgs, CallStyle::Harmony] {
        let all = |choice: ToolChoice, parallel: bool| {
            let texts = walks(|all| {
                all.tool_calls(style, &tools(), &choice, parallel).map(|made| made.0.expect("a constraint"))
            });
            let calls: Vec<_> = texts.iter().map(|text| calls_in(style, text)).collect();
            for (name, arguments) in calls.iter().flatten() {
                let tools = tools();
                let tool = tools.iter().find(|tool| tool.name == *name).expect("one of the tools");
                assert!(jsonschema::is_valid(&tool.parameters, arguments), "{arguments}");
            }
            assert!(calls.len() > 30, "{style:?}");
            calls
        };
        assert!(all(ToolChoice::Required, false).iter().all(|calls| calls.len() == 1));
        assert!(all(ToolChoice::Named("add-2.0".into()), false).iter().all(|calls| calls[0].0 == "add-2.0"));
        let several = all(ToolChoice::Required, true);
        assert!(several.iter().all(|calls| !calls.is_empty()));
        let is_one = matches!(style, CallStyle::Llama3 | CallStyle::Harmony);
        assert_eq!(several.iter().any(|calls| calls.len() > 1), !is_one, "{style:?}");
    }
}

/// What may be written beside calls, for each style.
#[test]
fn free_text_ends_where_a_call_begins() {
    let follows = |style: CallStyle, text: &str| {
        let (tokenizer, all) = parts();
        let mut constraint =
            all.tool_calls(style, &tools(), &ToolChoice::Auto, true).expect("tools").0.expect("a constraint");
        for token in tokenizer.encode(text, false, false).expect("short text") {
            if constraint.verdict() != Verdict::Allow || !constraint.mask().allows(token) {
                return false;
            }
            constraint.take(token);
        }
        let verdict = constraint.verdict();
        verdict == Verdict::Complete || tokenizer.eog().iter().any(|token| constraint.mask().allows(*token))
    };
    let city = "{\"city\": \"Bonn\"}";
    let llama = format!("{{\"name\": \"get_weather\", \"parameters\": {city}}}");
    let list = format!("[TOOL_CALLS][{{\"name\": \"get_weather\", \"arguments\": {city}}}]");
    let harmony = format!("<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{city}");
    let thought = "<|channel|>analysis<|message|>A < b.<|end|><|start|>assistant";
    assert!(follows(CallStyle::Harmony, &harmony) && follows(CallStyle::Harmony, &format!("{thought}{harmony}")));
    assert!(follows(CallStyle::Harmony, &format!("{thought}<|channel|>final<|message|>Yes: {{}}")));
    assert!(!follows(CallStyle::Harmony, &harmony.replace("\"Bonn\"", "3")) && !follows(CallStyle::Harmony, "Yes."));
    let args = format!("[TOOL_CALLS]get_weather[ARGS]{city}");
    for (style, call, text) in [
        (CallStyle::Llama3, &llama, "Look: {}"),
        (CallStyle::MistralList, &list, "Look: [{}]"),
        (CallStyle::MistralArgs, &args, "Look: [{}]"),
    ] {
        assert!(follows(style, text) && follows(style, call), "{style:?}");
        assert!(!follows(style, &call.replace("\"Bonn\"", "3")), "{style:?}");
        assert!(!follows(style, &call.replace("get_weather", "other")), "{style:?}");
        let is_apart = style != CallStyle::Llama3;
        assert!(follows(style, &format!("Let me see. {call}")), "{style:?}");
        assert_eq!(follows(style, &format!("Let me see. {}", call.replace("\"Bonn\"", "3"))), !is_apart, "{style:?}");
    }
}

#[test]
fn a_schema_that_cant_be_followed_leaves_that_part_free() {
    let all = &parts().1;
    let city = json!({"type": "object", "properties": {"city": {"type": "string", "pattern": "^(?=.*x).*$"}},
        "required": ["city"], "unevaluatedProperties": false});
    let good = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    let tool = |name: &str, parameters: &Value| Tool { name: name.into(), parameters: parameters.clone() };
    let tools = [tool("odd", &city), tool("good", &good)];
    let (made, loosened) = all.tool_calls(CallStyle::Hermes, &tools, &ToolChoice::Required, true).expect("a grammar");
    assert!(made.is_some());
    assert_eq!(loosened, ["odd"]);
    let none = tool("none", &json!([]));
    assert_eq!(
        all.tool_calls(CallStyle::Hermes, &[none], &ToolChoice::Required, true).expect("any object").1,
        ["none"]
    );
    // Descriptions don't count towards the size of a schema.
    let wordy = json!({"type": "object", "description": "x".repeat(1 << 17),
        "properties": {"description": {"type": "string"}}, "required": ["description"]});
    let (_, loosened) =
        all.tool_calls(CallStyle::Hermes, &[tool("wordy", &wordy)], &ToolChoice::Auto, true).expect("a grammar");
    assert!(loosened.is_empty());
    let (_, why) = all.lenient_schema(&json!({"type": "array", "maxItems": 5_000, "items": {}}), "f").expect("JSON");
    assert!(why.is_some_and(|why| why.contains("5000")));
    assert!(all.json_schema(&city, "f").is_err(), "strict refuses");
}

#[test]
fn tools_that_make_no_sense_are_refused() {
    let refused = |tools: &[Tool], choice: ToolChoice| match parts()
        .1
        .tool_calls(CallStyle::Hermes, tools, &choice, true)
        .err()
    {
        Some(RequestError::Field { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    let tool = |name: &str, parameters: Value| Tool { name: name.into(), parameters };
    assert_eq!(refused(&tools(), ToolChoice::Named("other".into())), "tool_choice");
    assert_eq!(refused(&[], ToolChoice::Required), "tool_choice");
    assert_eq!(refused(&[tool("a b", Value::Null)], ToolChoice::Auto), "tools");
    assert_eq!(refused(&[tool("", Value::Null)], ToolChoice::Auto), "tools");
    assert_eq!(refused(&[tool("a", Value::Null), tool("a", Value::Null)], ToolChoice::Auto), "tools");
}
