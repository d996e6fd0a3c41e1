//! The shape that a client wants its text in, and what the engine is told of it.

use serde_json::Value;

use crate::chat::{CallStyle, Style};
use crate::constrain::{CallForm, Constraint, Thinking, Tool, ToolChoice};
use crate::http::ask::warnings::warn;
use crate::http::service::Service;
use crate::types::{RequestError, ThoughtMarks};

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
    pub(in crate::http) fn constraint_of(
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

/// Stands before the mark that closes a thought which took too long.
const TIME_IS_OVER: &str = "\n\nThere is no time to think further, I answer now.\n";

impl Service {
    /// How the model thinks in an answer to `prompt` of this format, with at most `tokens_max` tokens of thought. `None`: it doesn't, or
    /// the format has thoughts in it.
    ///
    /// # Errors
    /// The tokenizer's own.
    pub(in crate::http) fn thinking_behind(
        &self,
        prompt: &str,
        format: &TextFormat,
        tokens_max: Option<usize>,
    ) -> Result<Option<Thinking>, RequestError> {
        let style = self.parts.template.style();
        let is_channel = style.calls == CallStyle::Harmony;
        let has_own = is_channel && matches!(format, TextFormat::ToolCalls { .. });
        let Some((thought, has_begun)) = style.thought_behind(prompt).filter(|_| !has_own) else { return Ok(None) };
        let encode = |text: &str| self.parts.tokenizer.encode(text, false, true);
        let open = if has_begun { Vec::new() } else { encode(&thought.open)? };
        let end = if is_channel { "<|end|><|start|>assistant" } else { "" };
        let closing = match tokens_max {
            Some(_) => encode(&[TIME_IS_OVER, end, &thought.close].concat())?,
            None => Vec::new(),
        };
        let marks = ThoughtMarks {
            open: thought.open.into_bytes(),
            close: thought.close.into_bytes(),
            has_begun,
            silent: self.silent_marks(),
        };
        Ok(Some(Thinking { marks, open, closing, budget: tokens_max }))
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
