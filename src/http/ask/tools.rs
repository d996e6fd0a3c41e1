//! Tools that an answer may call, in the format that chat templates read, and which of them must be called. Pure.

use serde_json::{Value, json};

use super::fields::{Fields, wrong_type};
use super::format::{Format, TextFormat};
use super::warnings::warn;
use crate::types::RequestError;
use crate::types::limits::{TOOL_NAME_BYTES_MAX, TOOLS_MAX};

/// Which tools must be called.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum AskedChoice {
    /// None may be called.
    None,
    /// The model decides.
    #[default]
    Auto,
    /// At least one must be called.
    Required,
    /// The tool with this name must be called.
    Named(String),
}

/// The tools of a request, added one after the other.
#[derive(Debug, Default)]
pub struct Tools {
    list: Vec<Value>,
    names: Vec<String>,
}

/// Tools, and which of them must be called.
#[derive(Debug)]
pub struct ToolUse {
    /// The tools.
    pub tools: Tools,
    /// Which of them must be called.
    pub choice: AskedChoice,
    /// Whether one answer may have several calls.
    pub parallel: bool,
}

impl Default for ToolUse {
    fn default() -> Self {
        ToolUse { tools: Tools::default(), choice: AskedChoice::Auto, parallel: true }
    }
}

impl Tools {
    /// Adds `tool`, which has the form `{"type": "function", "function": {"name", ...}}` and stands at `path`;
    /// `name_field` is the path of its name. Of two tools with one name the second is dropped with a warning.
    ///
    /// # Errors
    /// The name can't be used in a grammar.
    pub fn add(&mut self, tool: Value, path: &str, name_field: String) -> Result<(), RequestError> {
        let name = tool["function"]["name"].as_str().unwrap_or_default().to_owned();
        let is_fit = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
        if name.is_empty() || name.len() > TOOL_NAME_BYTES_MAX || !name.bytes().all(is_fit) {
            let message = format!(
                "must be 1 to {TOOL_NAME_BYTES_MAX} letters, digits, dots, dashes or underscores, not {name:?}"
            );
            return Err(RequestError::field(name_field, message));
        }
        if self.names.contains(&name) {
            warn(format!("{path}: left out, an earlier tool is named {name}"));
        } else {
            self.list.push(for_templates(tool));
            self.names.push(name);
        }
        Ok(())
    }

    /// Keeps only the tools for whose name `is_kept` holds.
    pub fn retain(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.list.retain(|tool| tool["function"]["name"].as_str().is_some_and(&is_kept));
        self.names.retain(|name| is_kept(name));
    }

    /// The choice that a word means: `none`, `auto`, `required`, `any`. `None`: it is another word.
    pub fn word(&self, word: &str) -> Option<AskedChoice> {
        match word {
            "none" => Some(AskedChoice::None),
            "auto" => Some(AskedChoice::Auto),
            "required" | "any" if self.names.is_empty() => {
                warn("tool_choice: ignored, there are no tools to call");
                Some(AskedChoice::Auto)
            }
            "required" | "any" => Some(AskedChoice::Required),
            _ => None,
        }
    }

    /// The choice of the tool `name`.
    ///
    /// # Errors
    /// There is no such tool.
    pub fn named(&self, name: String) -> Result<AskedChoice, RequestError> {
        match self.names.contains(&name) {
            true => Ok(AskedChoice::Named(name)),
            false => Err(RequestError::field("tool_choice", format!("names {name:?}, which is none of the tools"))),
        }
    }

    /// Takes `tool_choice` in OpenAI's forms for chat and for responses, and in the forms of other servers.
    ///
    /// # Errors
    /// It has none of these forms, or names an unknown tool.
    pub fn choice(&self, fields: &mut Fields) -> Result<AskedChoice, RequestError> {
        const NAME: &str = "tool_choice";
        let words = || json!({"type": "string", "enum": ["none", "auto", "required", "any"]});
        let unknown =
            |word: &str| RequestError::field(NAME, format!("must be none, auto, required or a tool, not {word:?}"));
        let mut choice = match fields.take_noted(NAME, words) {
            None => return Ok(AskedChoice::Auto),
            Some(Value::String(word)) => return self.word(&word).ok_or_else(|| unknown(&word)),
            Some(value @ Value::Object(_)) => Fields::nested(value, NAME)?,
            Some(other) => return Err(wrong_type(NAME, "a string or an object", &other)),
        };
        let kind = choice.string("type")?.unwrap_or_else(|| "function".to_owned());
        if let Some(choice) = self.word(&kind) {
            return Ok(choice);
        }
        match kind.as_str() {
            "allowed_tools" => {
                warn("tool_choice: all tools may be called, not the allowed ones alone");
                let mode = match choice.take("allowed_tools") {
                    Some(allowed) => Fields::nested(allowed, "tool_choice.allowed_tools")?.string("mode")?,
                    None => choice.string("mode")?,
                };
                let mode = mode.unwrap_or_else(|| "auto".to_owned());
                self.word(&mode).ok_or_else(|| unknown(&mode))
            }
            "function" | "tool" => {
                let name = match choice.take("function") {
                    Some(function) => Fields::nested(function, "tool_choice.function")?.string("name")?,
                    None => choice.string("name")?,
                };
                self.named(name.ok_or_else(|| RequestError::field("tool_choice.function.name", "is missing"))?)
            }
            other => Err(unknown(other)),
        }
    }
}

impl ToolUse {
    /// The format of the text, the tools for the template, and the most calls that the answer reports.
    pub fn with(self, format: Format) -> (Format, Vec<Value>, usize) {
        let (tools, parallel) = (self.tools.list, self.parallel);
        let (required, named) = match self.choice {
            // The tools stay in the prompt, so that its KV cells can be reused by a next turn which may call.
            AskedChoice::None => return (format, tools, 0),
            _ if tools.is_empty() => return (format, tools, 0),
            AskedChoice::Auto => (false, None),
            AskedChoice::Required => (true, None),
            AskedChoice::Named(name) => (true, Some(name)),
        };
        let calls_max = if parallel && named.is_none() { TOOLS_MAX } else { 1 };
        // A format beside tools that needn't be called is the format of the text without calls.
        let text = match format.text {
            TextFormat::Any => None,
            _ if required => {
                warn(format!("{}: ignored, because tool_choice asks for a call", format.field));
                None
            }
            _ => Some(Box::new(format)),
        };
        let text = TextFormat::ToolCalls { tools: tools.clone(), required, named, parallel, text };
        (Format { text, field: "tool_choice" }, tools, calls_max)
    }
}

/// A copy of the tool for templates: with a schema, which most templates expect, and without a null description.
fn for_templates(mut tool: Value) -> Value {
    tool["type"] = json!("function");
    let function = &mut tool["function"];
    if function.get("description").is_some_and(Value::is_null) {
        function["description"] = json!("");
    }
    if function["parameters"].is_null() {
        function["parameters"] = json!({"type": "object", "properties": {}});
    }
    tool
}
