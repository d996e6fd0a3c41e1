//! The shape that a client wants its text in, and what the engine is told of it.

use std::convert::Infallible;

use serde_json::Value;

use crate::types::RequestError;

/// What the text must be.
#[derive(Clone, Debug, PartialEq)]
pub enum TextFormat {
    Any,
    /// A JSON object.
    JsonObject,
    /// JSON that a schema describes.
    JsonSchema(Value),
    Regex(String),
    /// A grammar, Lark's or llama.cpp's.
    Grammar(String),
    /// Text, or calls of these tools in the model's own style.
    ToolCalls {
        /// As the client sent them.
        tools: Vec<Value>,
        /// There must be a call.
        required: bool,
        /// It must be of this tool.
        named: Option<String>,
        /// There may be several.
        parallel: bool,
    },
}

impl TextFormat {
    /// The field that asks for it.
    pub fn field(&self) -> &'static str {
        match self {
            TextFormat::Any | TextFormat::JsonObject | TextFormat::JsonSchema(_) => "response_format",
            TextFormat::Regex(_) => "regex",
            TextFormat::Grammar(_) => "grammar",
            TextFormat::ToolCalls { .. } => "tool_choice",
        }
    }
}

/// What keeps the engine's text in shape. There is no such thing yet.
pub type Constraint = Infallible;

/// The constraint that `format` asks for; `None` where the text is free.
///
/// # Errors
/// `RequestError::Field`: this server can't hold text to such a format.
pub fn constraint_of(format: &TextFormat) -> Result<Option<Constraint>, RequestError> {
    match format {
        // What the model writes is read as it comes.
        TextFormat::Any | TextFormat::ToolCalls { required: false, .. } => Ok(None),
        refused => Err(RequestError::field(refused.field(), "this server can't hold a text to a format yet")),
    }
}
