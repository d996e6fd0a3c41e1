//! The constraints of a generation: formats, calls and thoughts, for the constrainer.

use serde_json::Value;

use crate::chat::{CallStyle, HARMONY_CALL, HARMONY_THOUGHT};
use crate::constrain::{Constraint, Thinking, Tool, ToolChoice};
use crate::http::ask::format::{Format, TextFormat};
use crate::http::ask::generation::Generation;
use crate::http::ask::warnings::warn;
use crate::http::service::Service;
use crate::types::{RequestError, ThoughtMarks};

impl Service {
    /// The constraint for `format`; `None` if the text is free.
    ///
    /// # Errors
    /// `RequestError::Field`: the schema, expression or grammar is invalid or too large.
    pub(super) fn constraint_of(&self, format: &Format) -> Result<Option<Constraint>, RequestError> {
        let (constrainer, field) = (&self.parts.constrainer, format.field);
        match &format.text {
            TextFormat::Any => Ok(None),
            TextFormat::JsonObject => constrainer.json_object(field).map(Some),
            TextFormat::JsonSchema(schema) => constrainer.json_schema(schema, field).map(Some),
            TextFormat::LenientSchema(schema) => {
                let (constraint, loosened) = constrainer.lenient_schema(schema, field)?;
                if let Some(why) = loosened {
                    warn(format!("{field}: followed in part: {why}"));
                }
                Ok(Some(constraint))
            }
            TextFormat::Regex(regex) => constrainer.regex(regex, field).map(Some),
            TextFormat::Grammar(grammar) => constrainer.grammar(grammar, field).map(Some),
            TextFormat::ToolCalls { tools, required, named, parallel, text } => {
                let choice = match (named, required, text) {
                    (Some(name), ..) => ToolChoice::Named(name.clone()),
                    (None, true, _) => ToolChoice::Required,
                    (None, false, None) => ToolChoice::Auto,
                    (None, false, Some(_)) => ToolChoice::OrText,
                };
                let style = self.parts.template.style();
                let tools: Vec<Tool> = tools.iter().map(tool).collect();
                let (constraint, loosened) = match style.held_to() {
                    Some(form) => constrainer.calls_in_form(form, &tools, &choice, *parallel)?,
                    None => constrainer.tool_calls(style.calls, &tools, &choice, *parallel)?,
                };
                if !loosened.is_empty() {
                    warn(format!("tools: the arguments of {} follow their schema in part", loosened.join(", ")));
                }
                let Some(text) = text else { return Ok(constraint) };
                let text = self.answer_constraint_of(text)?;
                Ok(match (constraint, text) {
                    (Some(calls), Some(text)) => Some(calls.or(text)),
                    (calls, text) => calls.or(text),
                })
            }
        }
    }

    /// Like `constraint_of`, for an answer to a conversation: the constraint begins after the text that the model
    /// writes before each answer, such as GPT-OSS's channels.
    ///
    /// # Errors
    /// As for `constraint_of`.
    pub(super) fn answer_constraint_of(&self, format: &Format) -> Result<Option<Constraint>, RequestError> {
        let constraint = self.constraint_of(format)?;
        if let TextFormat::Any | TextFormat::ToolCalls { .. } = format.text {
            return Ok(constraint);
        }
        let style = self.parts.template.style();
        let before = match style.held_to() {
            Some(form) => self.parts.constrainer.before_text_in_form(form, format.field)?,
            None => self.parts.constrainer.before_text(style.calls, format.field)?,
        };
        Ok(match (before, constraint) {
            (Some(before), Some(text)) => Some(before.before(text)),
            (_, constraint) => constraint,
        })
    }
}

/// The text before the closing mark of a thought that exceeded its budget.
const TIME_IS_OVER: &str = "\n\nThere is no time to think further, I answer now.\n";

impl Service {
    /// The model's thought in an answer to `prompt`. `None`: it doesn't think, or the answer has begun already.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub(super) fn thinking_behind(
        &self,
        prompt: &str,
        generation: &Generation,
    ) -> Result<Option<Thinking>, RequestError> {
        let (format, tokens_max) = (&generation.format.text, generation.reasoning_tokens_max);
        if generation.begun.is_some() {
            return Ok(None);
        }
        let style = self.parts.template.style();
        let is_channel = style.calls == CallStyle::Harmony;
        let Some((thought, has_begun)) = style.thought_behind(prompt) else { return Ok(None) };
        let encode = |text: &str| self.parts.tokenizer.encode(text, false, true);
        let marks = |open: &str, close: &str, call: &str| ThoughtMarks {
            open: open.into(),
            close: close.into(),
            call: call.into(),
            has_begun: false,
            again: false,
            silent: self.silent_marks(),
        };
        let closing = |text: &str| match tokens_max {
            Some(_) => encode(text),
            None => Ok(Vec::new()),
        };
        // The grammar of calls, and of the text before an answer, contains thoughts.
        if is_channel && *format != TextFormat::Any {
            let [open, close] = HARMONY_THOUGHT;
            return Ok(Some(Thinking {
                marks: ThoughtMarks { has_begun, ..marks(&thought.open, &thought.close, HARMONY_CALL) },
                open: Vec::new(),
                closing: closing(&[TIME_IS_OVER, close].concat())?,
                budget: tokens_max,
                within: Some(ThoughtMarks { again: true, ..marks(open, close, "") }),
            }));
        }
        let open = if has_begun { Vec::new() } else { encode(&thought.open)? };
        let end = if is_channel { "<|end|><|start|>assistant" } else { "" };
        let closing = closing(&[TIME_IS_OVER, end, &thought.close].concat())?;
        let marks = ThoughtMarks { has_begun, ..marks(&thought.open, &thought.close, "") };
        Ok(Some(Thinking { marks, open, closing, budget: tokens_max, within: None }))
    }
}

/// A tool as the client described it; its fields were checked before.
fn tool(value: &Value) -> Tool {
    let function = &value["function"];
    Tool { name: function["name"].as_str().unwrap_or_default().to_owned(), parameters: function["parameters"].clone() }
}
