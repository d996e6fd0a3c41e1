//! Parses the body of `/v1/responses`, without the model. Pure.
//!
//! Fields that can't be used are dropped with a warning; fields that refer to stored data are refused.

use serde_json::{Map, Value, json};

use crate::chat::{Message, ToolCall};
use crate::http::ask::fields::{Fields, wrong_type};
use crate::http::ask::format::{Format, TextFormat, format};
use crate::http::ask::generation::{Defaults, Generation};
use crate::http::ask::notes::note;
use crate::http::ask::sampling::{Limit, limit, logit_bias, sampling, stops};
use crate::http::ask::tools::{ToolUse, Tools};
use crate::http::ask::warnings::{self, warn};
use crate::types::RequestError;
use crate::types::limits::{TOOLS_MAX, TOP_LOGPROBS_MAX};

/// Fields that are accepted without an effect.
const IDLE: [&str; 10] = [
    "store",
    "include",
    "service_tier",
    "truncation",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "client_metadata",
    "max_tool_calls",
    "background",
];

/// Fields that refer to stored data.
const STORED: [&str; 3] = ["previous_response_id", "conversation", "prompt"];

/// Parses a body. Also returns the fields that the answer repeats as they came: `instructions`, `tools`, `metadata` and
/// others.
///
/// # Errors
/// A field has the wrong type or is out of bounds; a field refers to stored data.
pub fn parse(
    body: &[u8],
    defaults: &Defaults,
    fresh_seed: u64,
) -> Result<(Generation, Map<String, Value>), RequestError> {
    let mut fields = Fields::parse(body)?;
    let mut echo = Map::new();
    for name in STORED {
        if fields.take(name).is_some() {
            return Err(RequestError::field(name, "nothing is stored here: send the whole history in input"));
        }
    }
    if fields.bool("background")?.unwrap_or(false) {
        let message = "nothing is stored here: an answer comes on its own connection";
        return Err(RequestError::field("background", message));
    }
    let mut items = Items::default();
    if let Some(instructions) = fields.string("instructions")? {
        echo.insert("instructions".to_owned(), json!(instructions));
        items.messages.push(Message::new("system", instructions));
    }
    input(&mut fields, &mut items)?;
    for name in ["model", "user"] {
        fields.string(name)?;
    }
    let mut generation = Generation::chat(items.messages, defaults, fresh_seed);
    let max_tokens = limit(&mut fields, "max_output_tokens")?;
    echo.insert("max_output_tokens".to_owned(), json!(max_tokens.and_then(Limit::tokens)));
    generation.max_tokens = max_tokens.map_or(defaults.max_tokens, Limit::tokens);
    generation.sampling = sampling(&mut fields, &defaults.sampling, fresh_seed)?;
    generation.sampling.logit_bias = logit_bias(&mut fields)?;
    echo.insert("temperature".to_owned(), json!(generation.sampling.temperature));
    echo.insert("top_p".to_owned(), json!(generation.sampling.top_p));
    generation.stop = stops(&mut fields)?;
    generation.take_common(&mut fields, defaults)?;
    generation.take_budget(&mut fields)?;
    generation.kwargs = reasoning(&mut fields, &mut echo)?;
    let metadata = fields.object("metadata")?.unwrap_or_default();
    echo.insert("metadata".to_owned(), Value::Object(metadata));
    if fields.integer("top_logprobs", 0..=TOP_LOGPROBS_MAX as u64)?.is_some_and(|top| top > 0) {
        warn("top_logprobs: not told on this route");
    }
    let tools = tool_use(&mut fields, &mut echo)?;
    let own = text(&mut fields, &mut echo)?;
    generation.wants(tools, format(&mut fields, own)?);
    echo.insert("parallel_tool_calls".to_owned(), json!(generation.calls_max != 1));
    let mut unknown = fields.unknown();
    unknown.retain(|name| !IDLE.contains(&name.as_str()));
    warnings::ignored(&unknown);
    Ok((generation, echo))
}

fn missing(fields: &Fields, name: &str) -> RequestError {
    RequestError::field(fields.named(name), "is missing")
}

/// Converts the items of `input` to turns.
#[derive(Default)]
struct Items {
    messages: Vec<Message>,
    /// A thought that belongs to the assistant's next turn.
    thought: Option<String>,
}

fn input(fields: &mut Fields, items: &mut Items) -> Result<(), RequestError> {
    let value = fields.take_noted("input", || json!({"type": "string", "minLength": 1}));
    note("input", || json!({"type": "array", "minItems": 1}));
    match value {
        None => return Err(missing(fields, "input")),
        Some(Value::String(text)) if text.is_empty() => {
            return Err(RequestError::field("input", "must not be empty"));
        }
        Some(Value::String(text)) => items.messages.push(Message::new("user", text)),
        Some(Value::Array(list)) => {
            if list.is_empty() {
                return Err(RequestError::field("input", "must not be empty"));
            }
            for (i, item) in list.into_iter().enumerate() {
                items.take(item, &format!("input[{i}]"))?;
            }
        }
        Some(other) => return Err(wrong_type("input", "a string or an array of items", &other)),
    }
    if items.messages.is_empty() {
        return Err(RequestError::field("input", "holds nothing that this model can read"));
    }
    Ok(())
}

impl Items {
    fn take(&mut self, item: Value, path: &str) -> Result<(), RequestError> {
        let mut item = Fields::nested(item, path)?;
        let kind = item.string("type")?.unwrap_or_else(|| "message".to_owned());
        match kind.as_str() {
            "message" => self.message(&mut item),
            "function_call" => {
                let id = item.string("call_id")?.ok_or_else(|| missing(&item, "call_id"))?;
                let name = item.string("name")?.ok_or_else(|| missing(&item, "name"))?;
                let arguments = item.string("arguments")?.unwrap_or_default();
                // Consecutive calls form one turn, together with the text before them.
                if self.thought.is_some() || self.messages.last().is_none_or(|last| last.role != "assistant") {
                    let reasoning_content = self.thought.take();
                    self.messages.push(Message {
                        role: "assistant".to_owned(),
                        reasoning_content,
                        ..Message::default()
                    });
                }
                if let Some(turn) = self.messages.last_mut() {
                    turn.tool_calls.push(ToolCall::new(id, name, arguments));
                }
                Ok(())
            }
            "function_call_output" => {
                let id = item.string("call_id")?.ok_or_else(|| missing(&item, "call_id"))?;
                let path = item.named("output");
                let output = item.take_noted("output", || json!({"type": "string"}));
                let text = output.map(|value| self.text(value, &path)).transpose()?.unwrap_or_default();
                let mut result = Message::new("tool", text);
                result.tool_call_id = Some(id);
                self.messages.push(result);
                Ok(())
            }
            "reasoning" => {
                let parts = [item.take("content"), item.take("summary")].into_iter().flatten();
                let texts = parts.filter_map(|parts| parts.as_array().map(|parts| thoughts(parts)));
                // The raw thoughts, or their summary if there are none.
                self.thought = texts.into_iter().find(|text| !text.is_empty());
                Ok(())
            }
            other => {
                warn(format!("{path}: left out an item of type {other}"));
                Ok(())
            }
        }
    }

    fn message(&mut self, item: &mut Fields) -> Result<(), RequestError> {
        const ROLES: [&str; 4] = ["user", "assistant", "system", "developer"];
        let role = item.string("role")?.ok_or_else(|| missing(item, "role"))?;
        note(&item.named("role"), || json!({"enum": ROLES}));
        if !ROLES.contains(&role.as_str()) {
            let message = format!("must be user, assistant, system or developer, not {role:?}");
            return Err(RequestError::field(item.named("role"), message));
        }
        let path = item.named("content");
        let content = item.take_noted("content", || json!({"type": "string"}));
        let text = self.text(content.ok_or_else(|| missing(item, "content"))?, &path)?;
        let mut message = Message::new(role, text);
        if message.role == "assistant" {
            message.reasoning_content = self.thought.take();
        }
        self.messages.push(message);
        Ok(())
    }

    /// The text of a string, or of parts. A part that a text model can't read is replaced by a short note.
    fn text(&mut self, value: Value, path: &str) -> Result<String, RequestError> {
        note(path, || json!({"type": "array"}));
        let parts = match value {
            Value::String(text) => return Ok(text),
            Value::Array(parts) => parts,
            other => return Err(wrong_type(path, "a string or an array of parts", &other)),
        };
        let mut texts = Vec::with_capacity(parts.len());
        for (i, part) in parts.into_iter().enumerate() {
            let mut part = Fields::nested(part, &format!("{path}[{i}]"))?;
            let kind = part.string("type")?.unwrap_or_else(|| "input_text".to_owned());
            let name = if kind == "refusal" { "refusal" } else { "text" };
            match part.string(name)? {
                Some(text) => texts.push(text),
                None if kind.ends_with("text") || kind == "refusal" => return Err(missing(&part, name)),
                None => {
                    let kind = kind.trim_start_matches("input_");
                    warn(format!("{path}[{i}]: this model reads text alone, not {kind}"));
                    texts.push(format!("[{kind}]"));
                }
            }
        }
        Ok(texts.join("\n"))
    }
}

fn thoughts(parts: &[Value]) -> String {
    parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
}

/// Takes `reasoning`, as variables for the template.
fn reasoning(fields: &mut Fields, echo: &mut Map<String, Value>) -> Result<Map<String, Value>, RequestError> {
    let mut kwargs = Map::new();
    let mut effort = None;
    if let Some(value) = fields.take("reasoning") {
        effort = Fields::nested(value, "reasoning")?.string("effort")?;
    }
    match effort.as_deref() {
        None => {}
        Some("none") => drop(kwargs.insert("enable_thinking".to_owned(), json!(false))),
        Some(word) => drop(kwargs.insert("reasoning_effort".to_owned(), json!(word))),
    }
    echo.insert("reasoning".to_owned(), json!({"effort": effort, "summary": null}));
    Ok(kwargs)
}

/// Takes `text.format`, the format of the text.
fn text(fields: &mut Fields, echo: &mut Map<String, Value>) -> Result<Option<Format>, RequestError> {
    let mut shown = json!({"format": {"type": "text"}});
    let mut asked = None;
    if let Some(value) = fields.take("text") {
        let mut text = Fields::nested(value, "text")?;
        if let Some(value) = text.take("format") {
            shown["format"] = value.clone();
            asked = own_format(Fields::nested(value, "text.format")?)?;
        }
    }
    echo.insert("text".to_owned(), shown);
    Ok(asked.map(|text| Format { text, field: "text.format" }))
}

fn own_format(mut format: Fields) -> Result<Option<TextFormat>, RequestError> {
    let kind = format.string("type")?.ok_or_else(|| missing(&format, "type"))?;
    note("text.format.type", || json!({"enum": ["text", "json_object", "json_schema"]}));
    match kind.as_str() {
        "text" => Ok(None),
        "json_object" => Ok(Some(TextFormat::JsonObject)),
        "json_schema" => {
            let schema = Value::Object(format.object("schema")?.ok_or_else(|| missing(&format, "schema"))?);
            let is_strict = format.bool("strict")?.unwrap_or(false);
            Ok(Some(if is_strict { TextFormat::JsonSchema(schema) } else { TextFormat::LenientSchema(schema) }))
        }
        other => {
            let message = format!("must be text, json_object or json_schema, not {other:?}");
            Err(RequestError::field("text.format.type", message))
        }
    }
}

/// Takes `tools` of type `function` and `tool_choice`; tools of other types are dropped.
fn tool_use(fields: &mut Fields, echo: &mut Map<String, Value>) -> Result<ToolUse, RequestError> {
    let (mut tools, mut shown, mut left_out) = (Tools::default(), Vec::new(), Vec::new());
    for (i, value) in fields.array("tools", TOOLS_MAX)?.unwrap_or_default().into_iter().enumerate() {
        let path = format!("tools[{i}]");
        let mut tool = Fields::nested(value.clone(), &path)?;
        let kind = tool.string("type")?.ok_or_else(|| missing(&tool, "type"))?;
        if kind != "function" {
            left_out.push(kind);
            continue;
        }
        let name = tool.string("name")?.ok_or_else(|| missing(&tool, "name"))?;
        let mut function = json!({"name": name});
        if let Some(text) = tool.string("description")? {
            function["description"] = json!(text);
        }
        if let Some(schema) = tool.object("parameters")? {
            function["parameters"] = Value::Object(schema);
        }
        tools.add(json!({"type": "function", "function": function}), &path, tool.named("name").into_owned())?;
        shown.push(value);
    }
    if !left_out.is_empty() {
        warn(format!("left out tools of other types than function: {}", left_out.join(", ")));
    }
    echo.insert("tools".to_owned(), Value::Array(shown));
    note("tool_choice", || json!({"type": "object"}));
    let choice = fields.take("tool_choice");
    echo.insert("tool_choice".to_owned(), choice.clone().unwrap_or_else(|| json!("auto")));
    match choice {
        Some(Value::Object(map)) if map.get("type").is_some_and(|kind| kind == "allowed_tools") => {
            let mut choice = Fields::nested(Value::Object(map), "tool_choice")?;
            let names = choice.array("tools", TOOLS_MAX)?.unwrap_or_default();
            tools.retain(|tool| names.iter().any(|named| named["name"] == tool));
            if let Some(mode) = choice.string("mode")? {
                fields.put("tool_choice", Value::String(mode));
            }
        }
        Some(other) => fields.put("tool_choice", other),
        None => {}
    }
    let choice = tools.choice(fields)?;
    // Clients may send it also without tools, where it has no effect.
    let parallel = fields.bool("parallel_tool_calls")?.unwrap_or(true);
    Ok(ToolUse { tools, choice, parallel })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::ask::generation::Input;

    fn read(extra: Value) -> Result<Generation, RequestError> {
        warnings::forget();
        let mut body = json!({"model": "any", "input": "Hi"});
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        Ok(parse(body.to_string().as_bytes(), &Defaults::of_tests(), 7)?.0)
    }

    #[test]
    fn every_refusal_names_its_field() {
        for (extra, field) in [
            (json!({"input": null}), "input"),
            (json!({"input": ""}), "input"),
            (json!({"input": []}), "input"),
            (json!({"input": 3}), "input"),
            (json!({"input": [{"role": "king", "content": "x"}]}), "input[0].role"),
            (json!({"input": [{"role": "user"}]}), "input[0].content"),
            (json!({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}), "input[0].content[0].text"),
            (json!({"input": [{"type": "function_call", "name": "f"}]}), "input[0].call_id"),
            (json!({"previous_response_id": "resp_1"}), "previous_response_id"),
            (json!({"background": true}), "background"),
            (json!({"instructions": 3}), "instructions"),
            (json!({"max_output_tokens": "few"}), "max_output_tokens"),
            (json!({"temperature": "hot"}), "temperature"),
            (json!({"text": {"format": {"type": "xml"}}}), "text.format.type"),
            (json!({"text": {"format": {"type": "json_schema"}}}), "text.format.schema"),
            (json!({"tools": [{"type": "function"}]}), "tools[0].name"),
            (json!({"tool_choice": "perhaps"}), "tool_choice"),
        ] {
            match read(extra.clone()) {
                Err(RequestError::Field { field: named, .. }) => assert_eq!(named, field, "{extra}"),
                other => panic!("{extra}: {other:?}"),
            }
        }
    }

    #[test]
    fn items_become_the_turns_that_templates_know() {
        let request = read(json!({
            "instructions": "Be brief.",
            "input": [
                {"role": "developer", "content": [{"type": "input_text", "text": "In French."}]},
                {"role": "user", "content": [{"type": "input_text", "text": "See"}, {"type": "input_image", "image_url": "x"}]},
                {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm"}]},
                {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{\"a\":1}"},
                {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c1", "output": "one"},
                {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "two"}]},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "So."}]},
                {"type": "web_search_call", "id": "ws_1"},
                {"role": "user", "content": "And?"},
            ],
        }))
        .unwrap();
        let [Input::Chat(turns)] = &request.inputs[..] else { panic!("a conversation") };
        let roles: Vec<&str> = turns.iter().map(|turn| turn.role.as_str()).collect();
        assert_eq!(roles, ["system", "developer", "user", "assistant", "tool", "tool", "assistant", "user"]);
        assert_eq!(turns[2].content.as_deref(), Some("See\n[image]"));
        assert_eq!((turns[3].tool_calls.len(), turns[3].reasoning_content.as_deref()), (2, Some("Hm")));
        assert_eq!((turns[5].content.as_deref(), turns[5].tool_call_id.as_deref()), (Some("two"), Some("c2")));
        let warned = warnings::value().unwrap();
        assert!(warned.contains("not image") && warned.contains("web_search_call"), "{warned}");
    }

    #[test]
    fn tools_of_other_types_are_left_out_and_named() {
        let function = json!({"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": null});
        let request = read(json!({"tools": [{"type": "web_search"}, function, {"type": "namespace", "name": "n"}]}));
        let request = request.unwrap();
        let warned = warnings::value().unwrap();
        assert_eq!(warned, "left out tools of other types than function: web_search, namespace");
        assert_eq!(request.tools.len(), 1);
        assert!(matches!(request.format.text, TextFormat::ToolCalls { required: false, .. }));
        let named = read(json!({"tools": [function], "tool_choice": {"type": "function", "name": "f"}})).unwrap();
        assert!(matches!(named.format.text, TextFormat::ToolCalls { named: Some(_), .. }));
        let none = read(json!({"tools": [{"type": "web_search"}], "tool_choice": "required"})).unwrap();
        assert_eq!(none.format.text, TextFormat::Any);
        let allowed = json!({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]});
        assert_eq!(read(json!({"tools": [function], "tool_choice": allowed})).unwrap().tools.len(), 0);
    }
}
