//! `messages`: the turns of a conversation, checked and in the template's shape.

use serde_json::{Value, json};

use crate::chat::{Message, ToolCall};
use crate::http::fields::{Fields, wrong_type};
use crate::http::notes::note;
use crate::types::RequestError;

const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// Kinds of parts that hold text.
const PARTS: [&str; 4] = ["text", "input_text", "output_text", "refusal"];

/// Calls of one turn.
const CALLS_MAX: usize = 128;

/// Takes `messages`.
pub fn messages(fields: &mut Fields) -> Result<Vec<Message>, RequestError> {
    let list = fields.array("messages", usize::MAX)?.ok_or_else(|| RequestError::field("messages", "is missing"))?;
    if list.is_empty() {
        return Err(RequestError::field("messages", "must not be empty"));
    }
    list.into_iter().enumerate().map(|(i, turn)| message(turn, &format!("messages[{i}]"))).collect()
}

fn message(turn: Value, path: &str) -> Result<Message, RequestError> {
    let mut turn = Fields::nested(turn, path)?;
    let missing = |turn: &Fields, name: &str| RequestError::field(turn.named(name), "is missing");
    let role = turn.string("role")?.ok_or_else(|| missing(&turn, "role"))?;
    note(&turn.named("role"), || json!({"enum": ROLES}));
    if !ROLES.contains(&role.as_str()) {
        let message = format!("must be {} or {}, not {role:?}", ROLES[..4].join(", "), ROLES[4]);
        return Err(RequestError::field(turn.named("role"), message));
    }
    let content = turn.take("content").map(|value| text(value, &turn.named("content"))).transpose()?;
    let calls = turn.array("tool_calls", CALLS_MAX)?.unwrap_or_default();
    let tool_calls = calls
        .into_iter()
        .enumerate()
        .map(|(i, call)| tool_call(call, &turn.named(&format!("tool_calls[{i}]"))))
        .collect::<Result<Vec<_>, _>>()?;
    // A tool that returned nothing.
    let content = if role == "tool" { content.or(Some(String::new())) } else { content };
    if content.is_none() && role != "assistant" {
        return Err(missing(&turn, "content"));
    }
    Ok(Message {
        role,
        content,
        reasoning_content: turn.string("reasoning_content")?,
        tool_calls,
        tool_call_id: turn.string("tool_call_id")?,
        name: turn.string("name")?,
    })
}

/// A string, or parts of text.
fn text(value: Value, path: &str) -> Result<String, RequestError> {
    note(path, || json!({"type": "string"}));
    note(path, || json!({"type": "array"}));
    let parts = match value {
        Value::String(text) => return Ok(text),
        Value::Array(parts) => parts,
        other => return Err(wrong_type(path, "a string or an array of parts", &other)),
    };
    let texts = parts.into_iter().enumerate().map(|(i, part)| {
        let mut part = Fields::nested(part, &format!("{path}[{i}]"))?;
        let kind = part.string("type")?.unwrap_or_else(|| "text".to_owned());
        let name = if kind == "refusal" { "refusal" } else { "text" };
        note(&part.named("type"), || json!({"enum": PARTS}));
        if !PARTS.contains(&kind.as_str()) {
            let message = format!("this model reads text alone, not {kind:?}");
            return Err(RequestError::field(part.named("type"), message));
        }
        part.string(name)?.ok_or_else(|| RequestError::field(part.named(name), "is missing"))
    });
    Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
}

fn tool_call(call: Value, path: &str) -> Result<ToolCall, RequestError> {
    let mut call = Fields::nested(call, path)?;
    let missing = |fields: &Fields, name: &str| RequestError::field(fields.named(name), "is missing");
    let id = call.string("id")?.unwrap_or_default();
    let function = call.take("function").ok_or_else(|| missing(&call, "function"))?;
    let mut function = Fields::nested(function, &call.named("function"))?;
    let name = function.string("name")?.ok_or_else(|| missing(&function, "name"))?;
    // Clients leave them out for tools without parameters, and some send the object itself.
    note(&function.named("arguments"), || json!({"type": "string"}));
    let arguments = match function.take("arguments") {
        None => String::new(),
        Some(Value::String(text)) => text,
        Some(Value::Object(object)) => Value::Object(object).to_string(),
        Some(other) => return Err(wrong_type(&function.named("arguments"), "a string of JSON", &other)),
    };
    Ok(ToolCall::new(id, name, arguments))
}
