//! Writes calls as text, in the form in which a model writes them.

use serde_json::{Map, Value};

use super::form::CallForm;
use super::message::Message;

/// The form for `calls_in_text`.
#[derive(Clone, Copy, Debug)]
pub struct WrittenForm<'a> {
    /// The form in which the model writes calls.
    pub form: &'a CallForm,
    /// A character put before and after each text that belongs to the form, to distinguish it from a client's text.
    pub around: Option<char>,
}

/// Moves calls into the content, as the model would write them. Returns `false` if there are none.
pub fn calls_in_text(messages: &mut [Message], WrittenForm { form, around }: WrittenForm<'_>) -> bool {
    let mut changed = false;
    for message in messages.iter_mut().filter(|message| !message.tool_calls.is_empty()) {
        let calls = std::mem::take(&mut message.tool_calls);
        let arguments: Vec<Value> = calls
            .iter()
            .map(|call| object_arguments(&call.function.arguments).unwrap_or_else(|| call.function.arguments.clone()))
            .collect();
        let none = Map::new();
        let pairs: Vec<(&str, &Map<String, Value>)> = (calls.iter().zip(&arguments))
            .map(|(call, arguments)| (call.function.name.as_str(), arguments.as_object().unwrap_or(&none)))
            .collect();
        let ids: Vec<&str> = calls.iter().map(|call| call.id.as_str()).collect();
        let content = message.content.take().unwrap_or_default();
        let between = if content.is_empty() { "" } else { "\n" };
        message.content = Some([&*content, between, &form.write_in(&pairs, &ids, around)].concat());
        changed = true;
    }
    changed
}

/// The arguments as an object: empty text gives an empty object, incomplete JSON is closed, other text is put under a
/// key. `None`: they are an object already.
pub fn object_arguments(arguments: &Value) -> Option<Value> {
    let text = match arguments {
        Value::Object(_) => return None,
        Value::Null => return Some(Value::Object(Map::new())),
        Value::String(text) if text.trim().is_empty() => return Some(Value::Object(Map::new())),
        Value::String(text) => text,
        other => return Some(Value::Object(Map::from_iter([("arguments".to_owned(), other.clone())]))),
    };
    match serde_json::from_str(&closed(text)) {
        Ok(Value::Object(object)) => Some(Value::Object(object)),
        _ => Some(Value::Object(Map::from_iter([("arguments".to_owned(), Value::String(text.clone()))]))),
    }
}

/// Two texts with an empty line between them; if one is empty, the other alone.
pub fn joined(first: &str, second: &str) -> String {
    let between = if first.is_empty() || second.is_empty() { "" } else { "\n\n" };
    [first, between, second].concat()
}

/// Completes JSON that ends too early with the missing quotes and brackets.
fn closed(text: &str) -> String {
    let (mut open, mut in_string, mut escaped) = (Vec::new(), false, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            '{' if !in_string => open.push('}'),
            '[' if !in_string => open.push(']'),
            '}' | ']' if !in_string => drop(open.pop()),
            _ => {}
        }
    }
    let mut out = text.to_owned();
    if escaped {
        out.pop();
    }
    if in_string {
        out.push('"');
    }
    let kept = out.trim_end().trim_end_matches(',').len();
    out.truncate(kept);
    if out.ends_with(':') {
        out.push_str("null");
    }
    out.extend(open.iter().rev());
    out
}
