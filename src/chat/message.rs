//! A conversation and its turns, in the shape that published chat templates expect.

use serde::Serialize;
use serde_json::{Map, Value};

/// One turn.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Message {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    pub role: String,
    /// `None` is Jinja's `none`: some templates tell a tool call by it.
    pub content: Option<String>,
    /// What an assistant thought before it spoke.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// What an assistant asked for. Absent when empty: templates ask whether the key is there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Which call a `tool` turn answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A call an assistant made in an earlier turn.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ToolCall {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub function: Function,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Function {
    pub name: String,
    /// Parsed where it is JSON, as templates expect; otherwise the text.
    pub arguments: Value,
}

impl Message {
    /// A turn of text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Message {
        Message { role: role.into(), content: Some(content.into()), ..Message::default() }
    }
}

impl ToolCall {
    /// `arguments` as they come on the wire: a string of JSON.
    pub fn new(id: String, name: String, arguments: String) -> ToolCall {
        let arguments = serde_json::from_str(&arguments).unwrap_or(Value::String(arguments));
        ToolCall { id, kind: "function", function: Function { name, arguments } }
    }
}

/// What a template is rendered with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conversation<'a> {
    pub messages: &'a [Message],
    /// Tools as the client sent them: `{"type": "function", "function": {...}}`.
    pub tools: &'a [Value],
    /// The request's own variables (`enable_thinking`, ...).
    pub kwargs: Option<&'a Map<String, Value>>,
}
