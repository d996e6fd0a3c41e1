//! `messages`: checks the turns of a conversation and converts them to the template's format.

use serde_json::{Value, json};

use crate::chat::{Message, ToolCall};
use crate::http::ask::fields::{Fields, wrong_type};
use crate::http::ask::inputs::unreadable;
use crate::http::ask::notes::note;
use crate::types::RequestError;
use crate::types::limits::TURN_CALLS_MAX;

const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// Types of content parts that have text.
const PARTS: [&str; 4] = ["text", "input_text", "output_text", "refusal"];

/// Takes `messages`.
///
/// # Errors
/// A field has the wrong type or is absent.
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
    let calls = turn.array("tool_calls", TURN_CALLS_MAX)?.unwrap_or_default();
    let tool_calls = calls
        .into_iter()
        .enumerate()
        .map(|(i, call)| tool_call(call, &turn.named(&format!("tool_calls[{i}]"))))
        .collect::<Result<Vec<_>, _>>()?;
    // Clients send null for an empty text.
    let content = content.or_else(|| (role != "assistant").then(String::new));
    // `function` is OpenAI's older name for the role of a tool's result.
    let role = if role == "function" { "tool".to_owned() } else { role };
    Ok(Message {
        role,
        content,
        reasoning_content: turn.string("reasoning_content")?.or(turn.string("reasoning")?),
        tool_calls,
        tool_call_id: turn.string("tool_call_id")?,
        name: turn.string("name")?,
    })
}

/// The text of a string, or of parts.
fn text(value: Value, path: &str) -> Result<String, RequestError> {
    note(path, || json!({"type": "string"}));
    note(path, || json!({"type": "array"}));
    let parts = match value {
        Value::String(text) => return Ok(text),
        Value::Array(parts) => parts,
        other => return Err(wrong_type(path, "a string or an array of parts", &other)),
    };
    let texts = parts.into_iter().enumerate().map(|(i, part)| {
        if let Value::String(text) = part {
            return Ok(text);
        }
        let mut part = Fields::nested(part, &format!("{path}[{i}]"))?;
        let kind = part.string("type")?.unwrap_or_else(|| "text".to_owned());
        let name = if kind == "refusal" { "refusal" } else { "text" };
        note(&part.named("type"), || json!({"type": "string"}));
        if !PARTS.contains(&kind.as_str()) {
            return Ok(unreadable(&kind, &part.named("type")));
        }
        Ok(part.string(name)?.unwrap_or_default())
    });
    Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
}

fn tool_call(call: Value, path: &str) -> Result<ToolCall, RequestError> {
    let mut call = Fields::nested(call, path)?;
    let missing = |fields: &Fields, name: &str| RequestError::field(fields.named(name), "is missing");
    let id = call.string("id")?.unwrap_or_default();
    let arguments = |value: Option<Value>| match value {
        None => "{}".to_owned(),
        Some(Value::String(text)) if text.trim().is_empty() => "{}".to_owned(),
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
    };
    let function = call.take("function").ok_or_else(|| missing(&call, "function"))?;
    let mut function = Fields::nested(function, &call.named("function"))?;
    let name = function.string("name")?.ok_or_else(|| missing(&function, "name"))?;
    let arguments = arguments(function.take_noted("arguments", || json!({"type": ["string", "object"]})));
    Ok(ToolCall::new(id, name, arguments))
}
