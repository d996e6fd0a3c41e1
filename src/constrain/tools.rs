//! Tool calls as grammars, in the forms of published templates: the tool's name, and arguments that follow its schema.

use serde_json::Value;

use super::bounds;
use super::json::with_json_options;
use crate::chat::CallStyle;
use crate::types::limits::{TOOL_NAME_BYTES_MAX, TOOLS_GRAMMAR_BYTES_MAX, TOOLS_MAX};
use crate::types::{RequestError, Token};

#[cfg(test)]
mod tests;

/// A tool that the model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// The tool's name.
    pub name: String,
    /// The schema of its arguments, an object; `null` allows any object.
    pub parameters: Value,
}

/// Whether the answer must contain a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// The answer is text, calls, or both.
    #[default]
    Auto,
    /// The answer is text.
    None,
    /// The answer is at least one call, and no text.
    Required,
    /// Like `Required`, or a text of another grammar (`before_text`, `Constraint::or`).
    OrText,
    /// The answer is a call of the tool with this name, and no text.
    Named(String),
}

/// The token of a mark, if the vocabulary has the mark as a control token.
pub type Marks<'a> = &'a dyn Fn(&str) -> Option<Token>;

/// The grammar of an answer. `None`: the answer is free.
///
/// # Errors
/// A tool or the choice can't be used; the refusal names `tools` or `tool_choice`.
pub fn to_lark(
    style: CallStyle,
    tools: &[Tool],
    choice: &ToolChoice,
    parallel: bool,
    marks: Marks<'_>,
) -> Result<Option<String>, RequestError> {
    let Some(chosen) = chosen(tools, choice)? else { return Ok(None) };
    let mut lark = frame(style, choice, parallel, marks);
    let names: Vec<String> = (0..chosen.len()).map(|i| format!("call_{i}")).collect();
    lark += &format!("one: {}\n", names.join(" | "));
    for (tool, rule) in chosen.iter().zip(&names) {
        let (before, after) = around_arguments(style, &tool.name, marks);
        lark += &format!("{rule}: {before} %json {}{after}\n", arguments(tool)?);
    }
    size(&lark)?;
    Ok(Some(lark))
}

/// Checks the length of a grammar of tools.
///
/// # Errors
/// The grammar of the tools is too long.
pub(super) fn size(lark: &str) -> Result<(), RequestError> {
    if lark.len() > TOOLS_GRAMMAR_BYTES_MAX {
        let message = format!("make a grammar of {} bytes, at most {TOOLS_GRAMMAR_BYTES_MAX}", lark.len());
        return Err(RequestError::field("tools", message));
    }
    Ok(())
}

/// The tools that may be called. `None`: no tool may be called.
///
/// # Errors
/// A tool or the choice can't be used; the refusal names `tools` or `tool_choice`.
pub(super) fn chosen<'a>(tools: &'a [Tool], choice: &ToolChoice) -> Result<Option<Vec<&'a Tool>>, RequestError> {
    check(tools)?;
    let chosen: Vec<&Tool> = match choice {
        ToolChoice::None => return Ok(None),
        ToolChoice::Auto if tools.is_empty() => return Ok(None),
        ToolChoice::Auto | ToolChoice::Required | ToolChoice::OrText => tools.iter().collect(),
        ToolChoice::Named(name) => tools.iter().filter(|tool| tool.name == *name).collect(),
    };
    if chosen.is_empty() {
        return Err(RequestError::field("tool_choice", "asks for a tool that isn't in tools"));
    }
    Ok(Some(chosen))
}

fn check(tools: &[Tool]) -> Result<(), RequestError> {
    let refuse = |message: String| Err(RequestError::field("tools", message));
    if tools.len() > TOOLS_MAX {
        return refuse(format!("has {} tools, at most {TOOLS_MAX}", tools.len()));
    }
    for (i, tool) in tools.iter().enumerate() {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let is_long = tool.name.is_empty() || tool.name.len() > TOOL_NAME_BYTES_MAX;
        if is_long || !tool.name.chars().all(is_name) {
            return refuse(format!("[{i}]: a name has 1 to {TOOL_NAME_BYTES_MAX} of a-z, A-Z, 0-9, _, - and ."));
        }
        if tools[..i].iter().any(|earlier| earlier.name == tool.name) {
            return refuse(format!("has two tools named {:?}", tool.name));
        }
    }
    Ok(())
}

/// A text as a string in a grammar.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A mark in a grammar: the control token, or its text.
pub(super) fn mark(text: &str, marks: Marks<'_>) -> String {
    marks(text).map_or_else(|| quoted(text), |token| format!("<[{}]>", token.0))
}

/// The start rule: the text around calls. The rule `one` is a single call.
fn frame(style: CallStyle, choice: &ToolChoice, parallel: bool, marks: Marks<'_>) -> String {
    let free = |open: &str| free_text(open, marks);
    let is_auto = *choice == ToolChoice::Auto;
    match style {
        CallStyle::Hermes => {
            let (open, close) = (mark("<tool_call>", marks), mark("</tool_call>", marks));
            let start = match (is_auto, parallel) {
                (true, true) => "(before call)* AFTER".to_owned(),
                (true, false) => "before call | AFTER".to_owned(),
                (false, true) => format!("{open} call (\"\\n\" {open} call)*"),
                (false, false) => format!("{open} call"),
            };
            let free = if is_auto { free("<tool_call>") } else { String::new() };
            format!("start: {start}\ncall: \"\\n\" one \"\\n\" {close}\n{free}")
        }
        CallStyle::Llama3 if is_auto => {
            // The reader of an answer treats text that doesn't begin with a brace as content.
            "start: one | TEXT\nTEXT: /[ \\t\\r\\n]*([^ \\t\\r\\n{](?s:.*))?/\n".to_owned()
        }
        CallStyle::Llama3 => "start: one\n".to_owned(),
        CallStyle::MistralList => {
            let open = mark("[TOOL_CALLS]", marks);
            let more = if parallel { " (\", \" one)*" } else { "" };
            let start = if is_auto { "before list | AFTER".to_owned() } else { format!("{open} list") };
            let free = if is_auto { free("[TOOL_CALLS]") } else { String::new() };
            format!("start: {start}\nlist: \" \"? \"[\" one{more} \"]\"\n{free}")
        }
        CallStyle::MistralArgs => {
            let open = mark("[TOOL_CALLS]", marks);
            let start = match (is_auto, parallel) {
                (true, true) => "(before one)* AFTER".to_owned(),
                (true, false) => "before one | AFTER".to_owned(),
                (false, true) => format!("({open} one)+"),
                (false, false) => format!("{open} one"),
            };
            format!("start: {start}\n{}", if is_auto { free("[TOOL_CALLS]") } else { String::new() })
        }
        CallStyle::Harmony => {
            let (channel, message) = (mark("<|channel|>", marks), mark("<|message|>", marks));
            let start = if is_auto {
                let asides = aside("\"analysis\" | \"commentary\"", marks);
                format!("({asides})* (one | {channel} \"final\" {message} LAST)")
            } else {
                format!("({})? one", aside(THOUGHT, marks))
            };
            let last = without("start|channel|message|end");
            format!("start: {start}\n{}LAST: {last}\n", said(marks))
        }
    }
}

/// Harmony's channel of thoughts. Text in another channel would become content beside the constrained answer.
const THOUGHT: &str = "\"analysis\"";

/// A message in Harmony's channels of these kinds, and the beginning of the next message.
fn aside(kinds: &str, marks: Marks<'_>) -> String {
    let (channel, message) = (mark("<|channel|>", marks), mark("<|message|>", marks));
    format!("{channel} ({kinds}) {message} said {} \"assistant\"", mark("<|start|>", marks))
}

/// The rule of a message's text in Harmony's other channels, with the mark after it.
fn said(marks: Marks<'_>) -> String {
    let said = match marks("<|end|>") {
        Some(token) => format!("said: SAID <[{}]>", token.0),
        None => "said[suffix=\"<|end|>\"]: SAID".to_owned(),
    };
    format!("{said}\nSAID: {}\n", without("start|channel|message|constrain"))
}

/// A terminal for text without any of these marks, if marks are plain text.
fn without(marks: &str) -> String {
    format!("/(?s:.*)/ & ~/(?s:.*<\\|({marks})\\|>.*)/")
}

/// The grammar of the text that a model with calls in this style writes before a text of another grammar: Harmony's
/// thought and the head of its last channel. `None`: it writes none.
pub fn before_text(style: CallStyle, marks: Marks<'_>) -> Option<String> {
    (style == CallStyle::Harmony).then(|| {
        let (channel, message) = (mark("<|channel|>", marks), mark("<|message|>", marks));
        format!("start: ({})? {channel} \"final\" {message}\n{}", aside(THOUGHT, marks), said(marks))
    })
}

/// The rules of text beside calls: `before` ends with the first mark, `AFTER` contains none.
fn free_text(open: &str, marks: Marks<'_>) -> String {
    match marks(open) {
        Some(token) => format!("before: AFTER <[{}]>\nAFTER: /(?s:.*)/\n", token.0),
        None => {
            let escaped = open.replace('[', "\\[").replace(']', "\\]");
            format!(
                "BEFORE: /(?s:.*)/\nAFTER: /(?s:.*)/ & ~/(?s:.*{escaped}.*)/\nbefore[suffix={}]: BEFORE\n",
                quoted(open)
            )
        }
    }
}

/// The texts of a call before its arguments and after them.
fn around_arguments(style: CallStyle, name: &str, marks: Marks<'_>) -> (String, &'static str) {
    match style {
        CallStyle::Hermes | CallStyle::MistralList => {
            (quoted(&format!("{{\"name\": \"{name}\", \"arguments\": ")), " \"}\"")
        }
        CallStyle::Llama3 => (quoted(&format!("{{\"name\": \"{name}\", \"parameters\": ")), " \"}\""),
        CallStyle::MistralArgs => (format!("{} {}", quoted(name), mark("[ARGS]", marks)), ""),
        CallStyle::Harmony => {
            let (channel, message) = (mark("<|channel|>", marks), mark("<|message|>", marks));
            // The recipient comes after the channel, as models write it, or before it, as their template does.
            let to = quoted(&format!("commentary to=functions.{name} "));
            let before = quoted(&format!(" to=functions.{name}"));
            let in_head = format!("{channel} {to} {} \"json\"", mark("<|constrain|>", marks));
            (format!("({in_head} | {before} {channel} \"commentary json\") {message}"), "")
        }
    }
}

/// The schema of a tool's arguments, which must be an object.
pub(super) fn arguments(tool: &Tool) -> Result<Value, RequestError> {
    let mut schema = match &tool.parameters {
        Value::Null => serde_json::json!({}),
        Value::Object(_) => tool.parameters.clone(),
        _ => return Err(RequestError::field("tools", format!("{:?}: parameters must be a JSON schema", tool.name))),
    };
    bounds::schema(&schema, "tools")?;
    schema["type"] = "object".into();
    Ok(with_json_options(&schema))
}
