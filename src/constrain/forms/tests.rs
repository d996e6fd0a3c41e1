//! Calls in the forms of templates: random texts that the masks allow are calls that match their tool.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::tests::{made, walk_from};
use super::super::{Tool, ToolChoice};
use crate::chat::{CallStyle, ChatTemplate, OutputParser, Said, Style, TemplateSource};

/// Random texts for each form.
const TRIES: u64 = 100;

fn style_of(text: String) -> Style {
    let template = ChatTemplate::new(Some((text, TemplateSource::Model)), String::new(), String::new());
    template.unwrap().style().clone()
}

/// The styles of our own templates, and of published ones if their data is there; one style for each form.
fn styles() -> BTreeMap<String, Style> {
    let texts = |folder: &str| {
        let files = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|end| end == "jinja")).collect::<Vec<_>>()
    };
    let root = env!("CARGO_MANIFEST_DIR");
    let beside = || format!("{root}/../shared/data").into();
    let data = std::env::var_os("CLLM_SHARED_DATA").unwrap_or_else(beside);
    let mut paths = texts(&format!("{root}/tests/templates/forms"));
    paths.append(&mut texts(&format!("{root}/tests/templates/kinds")));
    let mut originals = texts(&format!("{}/templates", data.to_string_lossy()));
    originals.sort();
    paths.append(&mut originals);
    let mut all = BTreeMap::new();
    for path in paths {
        let style = style_of(std::fs::read_to_string(&path).unwrap());
        let is_known = |other: &Style| (other.held_to(), other.calls) == (style.held_to(), style.calls);
        if !all.values().any(is_known) {
            all.insert(path.file_stem().unwrap().to_string_lossy().into_owned(), style);
        }
    }
    all
}

/// A random text that is a call of one of `tools`, and the call that the parser finds in it.
fn called(style: &Style, tools: &[Tool], choice: &ToolChoice, seed: u64) -> (String, Value) {
    let made = made(|all| {
        let (constraint, loose) = match style.held_to() {
            Some(form) => all.calls_in_form(form, tools, choice, false)?,
            None => all.tool_calls(style.calls, tools, choice, false)?,
        };
        assert!(loose.is_empty(), "{loose:?}");
        Ok(constraint.expect("a constraint"))
    });
    // Random tokens would never end a thought, because they don't hit its closing mark.
    let begin = match (style.held_to(), style.calls) {
        (None, CallStyle::Harmony) if seed.is_multiple_of(2) => "<|channel|>commentary to=",
        (None, CallStyle::Harmony) => " to=",
        _ => "",
    };
    let text = walk_from(made, begin, seed, 2_000).unwrap_or_else(|| panic!("{seed}: no end"));
    let client: Vec<Value> = tools
        .iter()
        .map(|tool| json!({"type": "function", "function": {"name": tool.name, "parameters": tool.parameters}}))
        .collect();
    let mut parser = OutputParser::new(style, "", &client, 9);
    let (mut content, mut calls) = (String::new(), Vec::new());
    let mut tell = |said: Said<'_>| match said {
        Said::Call { name } => calls.push((name.to_owned(), String::new())),
        Said::Arguments(text) => calls.last_mut().unwrap().1.push_str(text),
        Said::Content(text) | Said::Reasoning(text) => content.push_str(text),
    };
    parser.push(&text, &mut tell);
    parser.finish(&mut tell);
    let [(name, arguments)] = calls.as_slice() else { panic!("{seed}: {calls:?} in {text:?}") };
    assert_eq!(content, "", "{seed}: {text:?}");
    let value = serde_json::from_str(arguments).unwrap_or_else(|error| panic!("{error}: {text:?}"));
    (name.clone(), value)
}

/// For each form, 100 of 100 random texts are a call that matches the tool.
#[test]
fn calls_in_each_form_always_fit_their_tool() {
    let schema = json!({"type": "object", "required": ["unit", "days"], "additionalProperties": false, "properties": {
        "unit": {"type": "string", "enum": ["c", "f"]}, "days": {"type": "integer", "minimum": 0, "maximum": 9},
        "exact": {"type": "boolean"}, "shares": {"type": "array", "items": {"enum": [1, null, "x"]}, "maxItems": 2}}});
    let tools = vec![
        Tool { name: "get".into(), parameters: schema.clone() },
        Tool { name: "now".into(), parameters: json!({}) },
    ];
    let named = ToolChoice::Named("get".to_owned());
    let styles = styles();
    for (name, style) in &styles {
        for seed in 0..TRIES {
            let (called, arguments) = called(style, &tools, &named, seed);
            assert!(called == "get" && jsonschema::is_valid(&schema, &arguments), "{name} {seed}: {arguments}");
        }
        println!("{TRIES} of {TRIES} in the form of {name}");
    }
    assert!(styles.len() >= 6, "{styles:?}");
}

/// Python's calls, as LFM2 writes them: nested arguments, optional ones, references.
#[test]
fn calls_as_in_python_always_fit_their_tool() {
    let text = "List of tools: {% for t in tools or [] %}{{ t | tojson }}{% endfor %}{% for m in messages %}{{ m.content }}{% endfor %}";
    let style = style_of(text.to_owned());
    let schema = json!({"type": "object", "required": ["place"], "additionalProperties": false, "properties": {
        "exact": {"type": "boolean"}, "place": {"$ref": "#/$defs/place"}, "unit": {"enum": ["c", null]},
        "days": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "minItems": 1, "maxItems": 3}},
        "$defs": {"place": {"type": "object", "required": ["zip"], "additionalProperties": false,
            "properties": {"zip": {"type": "string", "maxLength": 3}, "n": {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 5}, {"type": "null"}]}}}}});
    let tools = vec![Tool { name: "get".into(), parameters: schema.clone() }];
    for seed in 0..TRIES {
        let (name, arguments) = called(&style, &tools, &ToolChoice::Required, seed);
        assert!(name == "get" && jsonschema::is_valid(&schema, &arguments), "{seed}: {arguments}");
    }
}
