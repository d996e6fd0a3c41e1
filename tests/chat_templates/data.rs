//! Original templates and conversations, and what the reference rendered from them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cllm::chat::{ChatTemplate, Message, TemplateSource, ToolCall};
use serde_json::Value;

/// The time that the reference used: 2026-01-02 03:04:05 UTC.
const NOW: fn() -> u64 = || 1_767_323_045;

/// The folder of originals; if it doesn't exist, prints that and returns `None`.
pub fn folder() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let data = std::env::var_os("CLLM_SHARED_DATA").map_or_else(beside, PathBuf::from);
    let folder = data.join("templates");
    if !folder.join("cases.json").exists() {
        assert!(std::env::var_os("CLLM_SHARED_DATA").is_none(), "{} has no templates", data.display());
        eprintln!("not run: there are no templates in {}", folder.display());
        return None;
    }
    Some(folder)
}

pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn templates(folder: &Path) -> BTreeMap<String, ChatTemplate> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let jinja = entries.filter(|path| path.extension().is_some_and(|end| end == "jinja"));
    jinja
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let template = compiled(&name, read(&path));
            (name, template)
        })
        .collect()
}

/// A template with the reference's texts of special tokens.
pub fn compiled(name: &str, text: String) -> ChatTemplate {
    let text = Some((text, TemplateSource::Model));
    let template = ChatTemplate::at(NOW, text, "<BOS>".into(), "<EOS>".into());
    template.unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

pub fn message(turn: &Value) -> Message {
    let calls = turn["tool_calls"].as_array().into_iter().flatten().map(|call| {
        let function = &call["function"];
        let [id, name, arguments] =
            [&call["id"], &function["name"], &function["arguments"]].map(|value| text(value).expect("a string"));
        ToolCall::new(id, name, arguments)
    });
    Message {
        role: text(&turn["role"]).expect("a role"),
        content: text(&turn["content"]),
        reasoning_content: text(&turn["reasoning_content"]),
        tool_calls: calls.collect(),
        tool_call_id: text(&turn["tool_call_id"]),
        name: text(&turn["name"]),
    }
}

pub struct Case {
    pub messages: Vec<Message>,
    pub tools: Vec<Value>,
}

pub fn cases(folder: &Path) -> BTreeMap<String, Case> {
    let cases: BTreeMap<String, Value> = serde_json::from_str(&read(&folder.join("cases.json"))).expect("JSON");
    let case = |case: &Value| Case {
        messages: case["messages"].as_array().expect("messages").iter().map(message).collect(),
        tools: case["tools"].as_array().cloned().unwrap_or_default(),
    };
    cases.iter().map(|(name, given)| (name.clone(), case(given))).collect()
}
