//! `tools`, `tool_choice` and the fields that ask for a text's shape, made one `TextFormat`.

use serde_json::{Value, json};

use crate::http::fields::{Fields, wrong_type};
use crate::http::format::TextFormat;
use crate::http::notes::note;
use crate::types::RequestError;
use crate::types::limits::{TOOL_NAME_BYTES_MAX, TOOLS_MAX};

/// What a request says of tools and format.
#[derive(Debug, PartialEq)]
pub struct Wanted {
    pub format: TextFormat,
    /// For the template; empty where no tool may be called.
    pub tools: Vec<Value>,
    /// Calls that are handed on.
    pub calls_max: usize,
}

/// `tool_choice`.
enum Choice {
    None,
    Auto,
    Required,
    Named(String),
}

/// Takes all of these fields.
pub fn wanted(fields: &mut Fields) -> Result<Wanted, RequestError> {
    let tools = fields.array("tools", TOOLS_MAX)?.unwrap_or_default();
    let names = tools.iter().enumerate().map(|(i, tool)| tool_name(tool, i)).collect::<Result<Vec<_>, _>>()?;
    let choice = choice(
        fields.take_noted("tool_choice", || json!({"type": "string", "enum": ["none", "auto", "required"]})),
        &names,
    )?;
    let parallel = fields.bool("parallel_tool_calls")?.unwrap_or(true);
    let format = text_format(fields)?;
    let (required, named) = match choice {
        Choice::None => return Ok(Wanted { format, tools: Vec::new(), calls_max: 0 }),
        _ if tools.is_empty() => return Ok(Wanted { format, tools, calls_max: 0 }),
        Choice::Auto => (false, None),
        Choice::Required => (true, None),
        Choice::Named(name) => (true, Some(name)),
    };
    let calls_max = if parallel && named.is_none() { TOOLS_MAX } else { 1 };
    // A format asked for beside tools that need not be called is that of the text.
    let format = match format {
        TextFormat::Any => TextFormat::ToolCalls { tools: tools.clone(), required, named, parallel },
        other if required => {
            let message = format!("a call is required; give either tool_choice or {}", other.field());
            return Err(RequestError::field("tool_choice", message));
        }
        other => other,
    };
    Ok(Wanted { format, tools, calls_max })
}

fn tool_name(tool: &Value, index: usize) -> Result<String, RequestError> {
    let path = format!("tools[{index}]");
    let mut tool = Fields::nested(tool.clone(), &path)?;
    let kind = tool.string("type")?;
    note(&tool.named("type"), || json!({"enum": ["function"]}));
    match kind {
        Some(kind) if kind != "function" => {
            return Err(RequestError::field(tool.named("type"), format!("must be \"function\", not {kind:?}")));
        }
        _ => {}
    }
    let missing = |fields: &Fields, name: &str| RequestError::field(fields.named(name), "is missing");
    let function = tool.take("function").ok_or_else(|| missing(&tool, "function"))?;
    let mut function = Fields::nested(function, &format!("{path}.function"))?;
    let name = function.string("name")?.ok_or_else(|| missing(&function, "name"))?;
    let pattern = format!("^[A-Za-z0-9_.-]{{1,{TOOL_NAME_BYTES_MAX}}}$");
    note(&function.named("name"), || json!({"pattern": pattern}));
    function.string("description")?;
    function.object("parameters")?;
    function.bool("strict")?;
    let is_fit = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    if name.is_empty() || name.len() > TOOL_NAME_BYTES_MAX || !name.bytes().all(is_fit) {
        let message =
            format!("must be 1 to {TOOL_NAME_BYTES_MAX} letters, digits, dots, dashes or underscores, not {name:?}");
        return Err(RequestError::field(function.named("name"), message));
    }
    Ok(name)
}

fn choice(value: Option<Value>, names: &[String]) -> Result<Choice, RequestError> {
    const NAME: &str = "tool_choice";
    let needs_tools = |choice| match names.is_empty() {
        true => Err(RequestError::field(NAME, "asks for a call, but there are no tools")),
        false => Ok(choice),
    };
    match value {
        None => Ok(Choice::Auto),
        Some(Value::String(word)) => match word.as_str() {
            "none" => Ok(Choice::None),
            "auto" => Ok(Choice::Auto),
            "required" => needs_tools(Choice::Required),
            _ => Err(RequestError::field(NAME, format!("must be none, auto, required or a tool, not {word:?}"))),
        },
        Some(value @ Value::Object(_)) => {
            let mut choice = Fields::nested(value, NAME)?;
            let kind = choice.string("type")?;
            let function = choice.take("function").filter(|_| kind.as_deref().is_none_or(|kind| kind == "function"));
            let Some(function) = function else {
                return Err(RequestError::field(
                    NAME,
                    "must name a function: {\"type\": \"function\", \"function\": {\"name\": ...}}",
                ));
            };
            let mut function = Fields::nested(function, "tool_choice.function")?;
            let name = function.string("name")?;
            let name = name.ok_or_else(|| RequestError::field("tool_choice.function.name", "is missing"))?;
            match names.contains(&name) {
                true => Ok(Choice::Named(name)),
                false => Err(RequestError::field(NAME, format!("names {name:?}, which is none of the tools"))),
            }
        }
        Some(other) => Err(wrong_type(NAME, "a string or an object", &other)),
    }
}

/// `response_format`, `grammar` and `regex`: one of them at most.
pub fn text_format(fields: &mut Fields) -> Result<TextFormat, RequestError> {
    let asked = [
        response_format(fields)?,
        fields.string("grammar")?.map(TextFormat::Grammar),
        fields.string("regex")?.map(TextFormat::Regex),
    ];
    let mut asked = asked.into_iter().flatten();
    let format = asked.next().unwrap_or(TextFormat::Any);
    match asked.next() {
        None => Ok(format),
        Some(second) => {
            let message = format!("give either {} or {}", format.field(), second.field());
            Err(RequestError::field(second.field(), message))
        }
    }
}

fn response_format(fields: &mut Fields) -> Result<Option<TextFormat>, RequestError> {
    const NAME: &str = "response_format";
    let Some(value) = fields.take(NAME) else { return Ok(None) };
    let mut format = Fields::nested(value, NAME)?;
    let kind = format.string("type")?.ok_or_else(|| RequestError::field("response_format.type", "is missing"))?;
    note(&format.named("type"), || json!({"enum": ["text", "json_object", "json_schema"]}));
    match kind.as_str() {
        "text" => Ok(None),
        "json_object" => match format.object("schema")? {
            // llama-server's way to give a schema.
            Some(schema) => Ok(Some(TextFormat::JsonSchema(Value::Object(schema)))),
            None => Ok(Some(TextFormat::JsonObject)),
        },
        "json_schema" => {
            let missing = |name: &str| RequestError::field(name, "is missing");
            let named = format.take("json_schema").ok_or_else(|| missing("response_format.json_schema"))?;
            let mut named = Fields::nested(named, "response_format.json_schema")?;
            named.string("name")?;
            named.bool("strict")?;
            match named.take_noted("schema", || json!({"type": ["object", "boolean"]})) {
                Some(schema @ (Value::Object(_) | Value::Bool(_))) => Ok(Some(TextFormat::JsonSchema(schema))),
                Some(other) => Err(wrong_type("response_format.json_schema.schema", "an object", &other)),
                None => Err(missing("response_format.json_schema.schema")),
            }
        }
        other => {
            let message = format!("must be text, json_object or json_schema, not {other:?}");
            Err(RequestError::field("response_format.type", message))
        }
    }
}

/// A call as clients know it; `index` only in streams.
pub fn call(index: Option<usize>, id: &str, name: &str, arguments: &str) -> Value {
    let mut call = json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    if let Some(index) = index {
        call["index"] = json!(index);
    }
    call
}
