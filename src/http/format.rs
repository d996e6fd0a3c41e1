//! The shape that a client wants its text in, and what the engine is told of it.

use serde_json::Value;

use super::service::Service;
use super::warnings::warn;
use crate::chat::{CallStyle, Style};
use crate::constrain::{CallForm, Constraint, Tool, ToolChoice};
use crate::types::RequestError;

/// What the text must be.
#[derive(Clone, Debug, PartialEq)]
pub enum TextFormat {
    Any,
    /// A JSON object.
    JsonObject,
    /// JSON that a schema describes. A schema that can't be compiled is refused.
    JsonSchema(Value),
    /// Likewise, but what can't be compiled is left out.
    LenientSchema(Value),
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
            TextFormat::Any | TextFormat::JsonObject | TextFormat::JsonSchema(_) | TextFormat::LenientSchema(_) => {
                "response_format"
            }
            TextFormat::Regex(_) => "regex",
            TextFormat::Grammar(_) => "grammar",
            TextFormat::ToolCalls { .. } => "tool_choice",
        }
    }
}

impl Service {
    /// The constraint that `format` asks for; `None` where the text is free. `schema_field` is where a schema came from.
    ///
    /// # Errors
    /// `RequestError::Field`: it is no such thing, or too large.
    pub(super) fn constraint_of(
        &self,
        format: &TextFormat,
        schema_field: &str,
    ) -> Result<Option<Constraint>, RequestError> {
        let constrainer = &self.parts.constrainer;
        match format {
            TextFormat::Any => Ok(None),
            TextFormat::JsonObject => constrainer.json_object(schema_field).map(Some),
            TextFormat::JsonSchema(schema) => constrainer.json_schema(schema, schema_field).map(Some),
            TextFormat::LenientSchema(schema) => {
                let (constraint, loosened) = constrainer.lenient_schema(schema, schema_field)?;
                if let Some(why) = loosened {
                    warn(format!("{schema_field}: followed in part: {why}"));
                }
                Ok(Some(constraint))
            }
            TextFormat::Regex(regex) => constrainer.regex(regex, "regex").map(Some),
            TextFormat::Grammar(grammar) => constrainer.grammar(grammar, "grammar").map(Some),
            TextFormat::ToolCalls { tools, required, named, parallel } => {
                let choice = match (named, required) {
                    (Some(name), _) => ToolChoice::Named(name.clone()),
                    (None, true) => ToolChoice::Required,
                    (None, false) => ToolChoice::Auto,
                };
                let style = self.parts.template.style();
                let tools: Vec<Tool> = tools.iter().map(tool).collect();
                let (constraint, loosened) = match &style.form {
                    Some(form) => constrainer.calls_in_form(form, &tools, &choice, *parallel)?,
                    None => constrainer.tool_calls(form_of(style), &tools, &choice, *parallel)?,
                };
                if !loosened.is_empty() {
                    warn(format!("tools: the arguments of {} follow their schema in part", loosened.join(", ")));
                }
                Ok(constraint)
            }
        }
    }
}

/// How a model with this template writes its calls.
fn form_of(style: &Style) -> CallForm {
    match style.calls {
        CallStyle::Hermes => CallForm::Hermes,
        CallStyle::Llama3 => CallForm::Llama3,
        CallStyle::Mistral if style.names_apart => CallForm::MistralArgs,
        CallStyle::Mistral => CallForm::MistralList,
        CallStyle::Harmony => CallForm::Harmony,
    }
}

/// A tool as the client described it; what isn't there was found missing before.
fn tool(value: &Value) -> Tool {
    let function = &value["function"];
    Tool { name: function["name"].as_str().unwrap_or_default().to_owned(), parameters: function["parameters"].clone() }
}
