//! Calls in forms that templates show: random texts that the masks allow are calls that fit their tool.

use serde_json::{Value, json};

use super::super::tests::{made, walk};
use super::super::{Tool, ToolChoice};
use crate::chat::{ChatTemplate, OutputParser, Said, TemplateSource};

/// In the forms of five templates of different kinds: 100 random texts out of 100 are a call that fits the tool.
#[test]
fn calls_in_a_templates_own_form_always_fit_their_tool() {
    let schema = json!({"type": "object", "required": ["unit", "days"], "additionalProperties": false, "properties": {
        "unit": {"type": "string", "enum": ["c", "f"]}, "days": {"type": "integer", "minimum": 0, "maximum": 9},
        "exact": {"type": "boolean"}, "shares": {"type": "array", "items": {"enum": [1, null, "x"]}, "maxItems": 2}}});
    let tools = vec![
        Tool { name: "get".into(), parameters: schema.clone() },
        Tool { name: "now".into(), parameters: json!({}) },
    ];
    let named = ToolChoice::Named("get".to_owned());
    for kind in ["tagged", "keyed", "list", "section", "language"] {
        let path = format!("{}/tests/templates/forms/{kind}.jinja", env!("CARGO_MANIFEST_DIR"));
        let text = (std::fs::read_to_string(path).unwrap(), TemplateSource::Model);
        let template = ChatTemplate::new(Some(text), String::new(), String::new()).unwrap();
        let style = template.style();
        let form = style.form.as_ref().unwrap_or_else(|| panic!("{kind} has a form"));
        let client = [json!({"type": "function", "function": {"name": "get", "parameters": schema}})];
        for seed in 0..100 {
            let made =
                made(|all| all.calls_in_form(form, &tools, &named, false).map(|made| made.0.expect("a constraint")));
            let text = walk(made, seed, 2_000).unwrap_or_else(|| panic!("{kind} {seed}: no end"));
            let mut parser = OutputParser::new(style, "", &client, 9);
            let (mut content, mut calls) = (String::new(), Vec::new());
            let mut tell = |said: Said<'_>| match said {
                Said::Call { name } => calls.push((name.to_owned(), String::new())),
                Said::Arguments(text) => calls.last_mut().unwrap().1.push_str(text),
                Said::Content(text) | Said::Reasoning(text) => content.push_str(text),
            };
            parser.push(&text, &mut tell);
            parser.finish(&mut tell);
            let [(name, arguments)] = calls.as_slice() else { panic!("{kind} {seed}: {calls:?} in {text:?}") };
            let value: Value = serde_json::from_str(arguments).unwrap_or_else(|error| panic!("{error}: {text:?}"));
            assert!(name == "get" && jsonschema::is_valid(&schema, &value), "{kind} {seed}: {text:?}");
            assert_eq!(content, "", "{kind} {seed}: {text:?}");
        }
    }
}

/// Python's calls, as LFM2 writes them: nested arguments, optional ones, references.
#[test]
fn calls_as_in_python_always_fit_their_tool() {
    let text = "List of tools: {% for t in tools or [] %}{{ t | tojson }}{% endfor %}{% for m in messages %}{{ m.content }}{% endfor %}";
    let template =
        ChatTemplate::new(Some((text.to_owned(), TemplateSource::Model)), String::new(), String::new()).unwrap();
    let style = template.style();
    let form = style.form.as_ref().expect("a known form");
    let schema = json!({"type": "object", "required": ["place"], "additionalProperties": false, "properties": {
        "exact": {"type": "boolean"}, "place": {"$ref": "#/$defs/place"}, "unit": {"enum": ["c", null]},
        "days": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "minItems": 1, "maxItems": 3}},
        "$defs": {"place": {"type": "object", "required": ["zip"], "additionalProperties": false,
            "properties": {"zip": {"type": "string", "maxLength": 3}, "n": {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 5}, {"type": "null"}]}}}}});
    let tools = vec![Tool { name: "get".into(), parameters: schema.clone() }];
    for seed in 0..100 {
        let made = made(|all| {
            all.calls_in_form(form, &tools, &ToolChoice::Required, false).map(|made| made.0.expect("a constraint"))
        });
        let text = walk(made, seed, 2_000).unwrap_or_else(|| panic!("{seed}: no end"));
        let mut parser = OutputParser::new(style, "", &[], 9);
        let (mut content, mut calls) = (String::new(), Vec::new());
        let mut tell = |said: Said<'_>| match said {
            Said::Call { name } => calls.push((name.to_owned(), String::new())),
            Said::Arguments(text) => calls.last_mut().unwrap().1.push_str(text),
            Said::Content(text) | Said::Reasoning(text) => content.push_str(text),
        };
        parser.push(&text, &mut tell);
        parser.finish(&mut tell);
        let [(name, arguments)] = calls.as_slice() else { panic!("{seed}: {calls:?} in {text:?}") };
        let value: Value = serde_json::from_str(arguments).unwrap_or_else(|error| panic!("{error}: {text:?}"));
        assert!(name == "get" && jsonschema::is_valid(&schema, &value), "{seed}: {text:?}");
        assert_eq!(content, "", "{seed}: {text:?}");
    }
}
