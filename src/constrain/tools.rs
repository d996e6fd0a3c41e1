//! Tool calls in the form that Hermes made common: the tool's name and arguments as JSON between two tags.

use serde_json::Value;

use super::bounds;
use super::compile::with_json_options;
use crate::types::RequestError;
use crate::types::limits::{TOOL_NAME_BYTES_MAX, TOOLS_MAX};

/// What the model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    pub name: String,
    /// The schema of its arguments, an object; `null`: any object.
    pub parameters: Value,
}

/// Whether it must.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// Text, calls, or both.
    #[default]
    Auto,
    /// Text.
    None,
    /// At least one call, and no text.
    Required,
    /// A call of this one, and no text.
    Named(String),
}

/// Text beside calls: `before` goes to the first tag and with it, `AFTER` never holds one.
const FREE: &str = r#"
BEFORE: /(?s:.*)/
AFTER: /(?s:.*)/ & ~/(?s:.*<tool_call>.*)/
before[suffix="<tool_call>"]: BEFORE
"#;

/// The grammar of an answer, `None` if it is free.
///
/// # Errors
/// Names `tools` or `tool_choice`.
pub fn to_lark(tools: &[Tool], choice: &ToolChoice, parallel: bool) -> Result<Option<String>, RequestError> {
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
    let chosen: Vec<&Tool> = match choice {
        ToolChoice::None => return Ok(None),
        ToolChoice::Auto if tools.is_empty() => return Ok(None),
        ToolChoice::Auto | ToolChoice::Required => tools.iter().collect(),
        ToolChoice::Named(name) => tools.iter().filter(|tool| tool.name == *name).collect(),
    };
    if chosen.is_empty() {
        return Err(RequestError::field("tool_choice", "asks for a tool that isn't in tools"));
    }
    let start = match (choice, parallel) {
        (ToolChoice::Auto, true) => "start: (before call)* AFTER",
        (ToolChoice::Auto, false) => "start: before call | AFTER",
        (_, true) => "start: \"<tool_call>\" call (\"\\n<tool_call>\" call)*",
        (_, false) => "start: \"<tool_call>\" call",
    };
    let calls: Vec<String> = (0..chosen.len()).map(|i| format!("call_{i}")).collect();
    let mut lark = format!("{start}\ncall: \"\\n\" ({}) \"\\n</tool_call>\"\n", calls.join(" | "));
    for (tool, call) in chosen.iter().zip(&calls) {
        let schema = arguments(tool)?;
        let head = Value::from(format!("{{\"name\": \"{}\", \"arguments\": ", tool.name));
        lark += &format!("{call}: {head} %json {schema} \"}}\"\n");
    }
    if *choice == ToolChoice::Auto {
        lark += FREE;
    }
    bounds::size(lark.len(), "tools")?;
    Ok(Some(lark))
}

/// The schema of a tool's arguments, which are an object whatever it says.
fn arguments(tool: &Tool) -> Result<Value, RequestError> {
    let mut schema = match &tool.parameters {
        Value::Null => serde_json::json!({}),
        Value::Object(_) => tool.parameters.clone(),
        _ => return Err(RequestError::field("tools", format!("{:?}: parameters must be a JSON schema", tool.name))),
    };
    bounds::schema(&schema, "tools")?;
    schema["type"] = "object".into();
    Ok(with_json_options(&schema))
}
