//! A conversation and its turns, in the shape that published chat templates expect.

use serde::Serialize;
use serde_json::{Map, Value};

/// One turn of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Message {
    /// The speaker: `system`, `developer`, `user`, `assistant` or `tool`.
    pub role: String,
    /// The text. `None` is Jinja's `none`, by which some templates recognise a tool call.
    pub content: Option<String>,
    /// The assistant's thought before this turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The calls that the assistant made. Left out when empty, because templates check whether the key exists.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// In a `tool` turn, the id of the call that it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// The name of the speaker or of the tool, if the client sent one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A call that the assistant made in an earlier turn.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ToolCall {
    /// The call's id, which its result repeats.
    pub id: String,
    /// Always `function`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The tool's name and its arguments.
    pub function: Function,
}

/// The function that a call names.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Function {
    /// The tool's name.
    pub name: String,
    /// The arguments: a JSON object, as templates expect, or the text if it isn't JSON.
    pub arguments: Value,
}

impl Message {
    /// A turn with this text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Message {
        Message { role: role.into(), content: Some(content.into()), ..Message::default() }
    }
}

impl ToolCall {
    /// A call whose `arguments` are JSON text, as in OpenAI's API.
    pub fn new(id: String, name: String, arguments: String) -> ToolCall {
        let arguments = serde_json::from_str(&arguments).unwrap_or(Value::String(arguments));
        ToolCall { id, kind: "function", function: Function { name, arguments } }
    }
}

/// The input of a template.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conversation<'a> {
    /// The turns, the oldest first.
    pub messages: &'a [Message],
    /// Tools as the client sent them: `{"type": "function", "function": {...}}`.
    pub tools: &'a [Value],
    /// Variables that the request sets for the template (`enable_thinking`, ...).
    pub kwargs: Option<&'a Map<String, Value>>,
}
