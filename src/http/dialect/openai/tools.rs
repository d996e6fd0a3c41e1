//! `tools`, `tool_choice` and `parallel_tool_calls`, and calls in the format that clients read.

use serde_json::{Value, json};

use crate::http::ask::fields::Fields;
use crate::http::ask::notes::note;
use crate::http::ask::tools::{ToolUse, Tools};
use crate::http::ask::warnings::warn;
use crate::types::RequestError;
use crate::types::limits::{TOOL_NAME_BYTES_MAX, TOOLS_MAX};

/// Takes these fields. Tools that can't be called here, because another service runs them, are dropped and named in a
/// warning.
///
/// # Errors
/// A field has the wrong type; a tool has no usable name.
pub fn tool_use(fields: &mut Fields) -> Result<ToolUse, RequestError> {
    let mut tools = Tools::default();
    for (i, tool) in fields.array("tools", TOOLS_MAX)?.unwrap_or_default().into_iter().enumerate() {
        function(tool, &format!("tools[{i}]"), &mut tools)?;
    }
    let choice = tools.choice(fields)?;
    let parallel = fields.bool("parallel_tool_calls")?.unwrap_or(true);
    Ok(ToolUse { tools, choice, parallel })
}

fn function(value: Value, path: &str, tools: &mut Tools) -> Result<(), RequestError> {
    let mut tool = Fields::nested(value.clone(), path)?;
    let kind = tool.string("type")?;
    note(&tool.named("type"), || json!({"type": "string"}));
    if let Some(kind) = kind.filter(|kind| kind != "function") {
        warn(format!("{path}: left out, tools of type {kind} do not run here"));
        return Ok(());
    }
    let missing = |fields: &Fields, name: &str| RequestError::field(fields.named(name), "is missing");
    let function = tool.take("function").ok_or_else(|| missing(&tool, "function"))?;
    let mut function = Fields::nested(function, &format!("{path}.function"))?;
    if function.string("name")?.is_none() {
        return Err(missing(&function, "name"));
    }
    note(&function.named("name"), || json!({"pattern": format!("^[A-Za-z0-9_.-]{{1,{TOOL_NAME_BYTES_MAX}}}$")}));
    function.string("description")?;
    function.object("parameters")?;
    function.bool("strict")?;
    tools.add(value, path, function.named("name").into_owned())
}

/// A call in OpenAI's format; only streams have `index`.
pub fn call(index: Option<usize>, id: &str, name: &str, arguments: &str) -> Value {
    let mut call = json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    if let Some(index) = index {
        call["index"] = json!(index);
    }
    call
}
