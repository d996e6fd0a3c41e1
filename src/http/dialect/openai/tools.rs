//! `tools`, `tool_choice` and the fields that ask for a text's shape, made one `TextFormat`.

use serde_json::{Value, json};

use crate::http::ask::fields::{Fields, wrong_type};
use crate::http::ask::format::TextFormat;
use crate::http::ask::notes::note;
use crate::http::ask::warnings::warn;
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
    let (tools, names) = tools(fields)?;
    let choice = choice(
        fields.take_noted("tool_choice", || json!({"type": "string", "enum": ["none", "auto", "required", "any"]})),
        &names,
    )?;
    let parallel = fields.bool("parallel_tool_calls")?.unwrap_or(true);
    let format = text_format(fields)?;
    let (required, named) = match choice {
        // The tools stay in the prompt, so that the cache holds it for a next turn which may call.
        Choice::None => return Ok(Wanted { format, tools, calls_max: 0 }),
        _ if tools.is_empty() => return Ok(Wanted { format, tools, calls_max: 0 }),
        Choice::Auto => (false, None),
        Choice::Required => (true, None),
        Choice::Named(name) => (true, Some(name)),
    };
    let calls_max = if parallel && named.is_none() { TOOLS_MAX } else { 1 };
    // A format asked for beside tools that need not be called is that of the text.
    let text = match format {
        TextFormat::Any => None,
        other if required => {
            warn(format!("{}: ignored, because tool_choice asks for a call", other.field()));
            None
        }
        other => Some(Box::new(other)),
    };
    let format = TextFormat::ToolCalls { tools: tools.clone(), required, named, parallel, text };
    Ok(Wanted { format, tools, calls_max })
}

/// `tools` that can be called, in the shape that templates read, and their names. What can't is left out and named in the
/// warning: tools that another service runs, and the second of two with one name.
fn tools(fields: &mut Fields) -> Result<(Vec<Value>, Vec<String>), RequestError> {
    let (mut tools, mut names) = (Vec::new(), Vec::new());
    for (i, tool) in fields.array("tools", TOOLS_MAX)?.unwrap_or_default().into_iter().enumerate() {
        let path = format!("tools[{i}]");
        let Some((tool, name)) = function(tool, &path)? else { continue };
        if names.contains(&name) {
            warn(format!("{path}: left out, an earlier tool is named {name}"));
            continue;
        }
        tools.push(tool);
        names.push(name);
    }
    Ok((tools, names))
}

/// A tool and its name; `None`: no function.
fn function(value: Value, path: &str) -> Result<Option<(Value, String)>, RequestError> {
    let mut tool = Fields::nested(value.clone(), path)?;
    let kind = tool.string("type")?;
    note(&tool.named("type"), || json!({"type": "string"}));
    if let Some(kind) = kind.filter(|kind| kind != "function") {
        warn(format!("{path}: left out, tools of type {kind} do not run here"));
        return Ok(None);
    }
    let missing = |fields: &Fields, name: &str| RequestError::field(fields.named(name), "is missing");
    let function = tool.take("function").ok_or_else(|| missing(&tool, "function"))?;
    let mut function = Fields::nested(function, &format!("{path}.function"))?;
    let name = function.string("name")?.ok_or_else(|| missing(&function, "name"))?;
    note(&function.named("name"), || json!({"pattern": format!("^[A-Za-z0-9_.-]{{1,{TOOL_NAME_BYTES_MAX}}}$")}));
    function.string("description")?;
    function.object("parameters")?;
    function.bool("strict")?;
    let is_fit = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    if name.is_empty() || name.len() > TOOL_NAME_BYTES_MAX || !name.bytes().all(is_fit) {
        let message =
            format!("must be 1 to {TOOL_NAME_BYTES_MAX} letters, digits, dots, dashes or underscores, not {name:?}");
        return Err(RequestError::field(function.named("name"), message));
    }
    Ok(Some((for_templates(value), name)))
}

/// A tool as templates can read it: with a schema, which most take for granted, and without null for a description.
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

/// `tool_choice` in OpenAI's forms for chat and for responses, and as other servers take it.
fn choice(value: Option<Value>, names: &[String]) -> Result<Choice, RequestError> {
    const NAME: &str = "tool_choice";
    let of_word = |word: &str| match word {
        "none" => Some(Choice::None),
        "auto" => Some(Choice::Auto),
        "required" | "any" if names.is_empty() => {
            warn("tool_choice: ignored, there are no tools to call");
            Some(Choice::Auto)
        }
        "required" | "any" => Some(Choice::Required),
        _ => None,
    };
    let unknown =
        |word: &str| RequestError::field(NAME, format!("must be none, auto, required or a tool, not {word:?}"));
    let mut choice = match value {
        None => return Ok(Choice::Auto),
        Some(Value::String(word)) => return of_word(&word).ok_or_else(|| unknown(&word)),
        Some(value @ Value::Object(_)) => Fields::nested(value, NAME)?,
        Some(other) => return Err(wrong_type(NAME, "a string or an object", &other)),
    };
    let kind = choice.string("type")?.unwrap_or_else(|| "function".to_owned());
    if let Some(choice) = of_word(&kind) {
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
            of_word(&mode).ok_or_else(|| unknown(&mode))
        }
        "function" | "tool" => {
            let name = match choice.take("function") {
                Some(function) => Fields::nested(function, "tool_choice.function")?.string("name")?,
                None => choice.string("name")?,
            };
            let name = name.ok_or_else(|| RequestError::field("tool_choice.function.name", "is missing"))?;
            match names.contains(&name) {
                true => Ok(Choice::Named(name)),
                false => Err(RequestError::field(NAME, format!("names {name:?}, which is none of the tools"))),
            }
        }
        other => Err(unknown(other)),
    }
}

/// `response_format`, `grammar`, `regex`, and what vLLM and llama-server call them: one of all at most.
pub fn text_format(fields: &mut Fields) -> Result<TextFormat, RequestError> {
    let mut asked = vec![
        response_format(fields)?,
        fields.string("grammar")?.map(TextFormat::Grammar),
        fields.string("regex")?.map(TextFormat::Regex),
        fields.take_noted("json_schema", any_schema).map(|schema| lenient(schema, "json_schema")).transpose()?,
        fields.take_noted("guided_json", any_schema).map(|schema| lenient(schema, "guided_json")).transpose()?,
        fields.string("guided_regex")?.map(TextFormat::Regex),
        fields.string("guided_grammar")?.map(TextFormat::Grammar),
        one_of(fields, "guided_choice")?,
    ];
    if let Some(value) = fields.take("structured_outputs") {
        let mut outputs = Fields::nested(value, "structured_outputs")?;
        asked.push(
            outputs
                .take_noted("json", any_schema)
                .map(|schema| lenient(schema, "structured_outputs.json"))
                .transpose()?,
        );
        asked.push(outputs.string("regex")?.map(TextFormat::Regex));
        asked.push(outputs.string("grammar")?.map(TextFormat::Grammar));
        asked.push(one_of(&mut outputs, "choice")?);
        asked.push(outputs.bool("json_object")?.filter(|wanted| *wanted).map(|_| TextFormat::JsonObject));
    }
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

fn any_schema() -> Value {
    json!({"type": ["object", "boolean"]})
}

/// A schema that the text follows as far as it can be compiled. Some clients send it as JSON in a string.
fn lenient(value: Value, name: &str) -> Result<TextFormat, RequestError> {
    let schema = match value {
        Value::String(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        other => other,
    };
    match schema {
        Value::Object(_) | Value::Bool(_) => Ok(TextFormat::LenientSchema(schema)),
        other => Err(wrong_type(name, "an object", &other)),
    }
}

/// One of some texts, as a schema of strings would quote it and this does not.
fn one_of(fields: &mut Fields, name: &str) -> Result<Option<TextFormat>, RequestError> {
    let Some(list) = fields.array(name, usize::MAX)? else { return Ok(None) };
    let texts = list.iter().map(|text| text.as_str().map(regex_of));
    let texts: Option<Vec<String>> = texts.collect();
    match texts {
        Some(texts) if !texts.is_empty() => Ok(Some(TextFormat::Regex(format!("({})", texts.join("|"))))),
        _ => Err(RequestError::field(fields.named(name), "must be an array of strings, at least one")),
    }
}

/// The regular expression that matches `text` alone.
fn regex_of(text: &str) -> String {
    let mut regex = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_ascii_punctuation() {
            regex.push('\\');
        }
        regex.push(c);
    }
    regex
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
            Some(schema) => Ok(Some(TextFormat::LenientSchema(Value::Object(schema)))),
            None => Ok(Some(TextFormat::JsonObject)),
        },
        "json_schema" => {
            let missing = |name: &str| RequestError::field(name, "is missing");
            let named = format.take("json_schema").ok_or_else(|| missing("response_format.json_schema"))?;
            let mut named = Fields::nested(named, "response_format.json_schema")?;
            named.string("name")?;
            let strict = named.bool("strict")?.unwrap_or(false);
            match named.take_noted("schema", any_schema) {
                Some(schema @ (Value::Object(_) | Value::Bool(_))) => Ok(Some(match strict {
                    true => TextFormat::JsonSchema(schema),
                    false => TextFormat::LenientSchema(schema),
                })),
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
