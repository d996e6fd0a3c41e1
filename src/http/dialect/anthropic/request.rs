//! Parses the body of `/v1/messages`, without the model. Pure.

use serde_json::{Map, Value, json};

use crate::chat::{Message, ToolCall};
use crate::http::ask::fields::{Fields, wrong_type};
use crate::http::ask::format::{Format, TextFormat, format};
use crate::http::ask::generation::{Defaults, Generation};
use crate::http::ask::inputs::unreadable;
use crate::http::ask::notes::note;
use crate::http::ask::sampling::{Limit, fitting_stops, limit, logit_bias, sampling};
use crate::http::ask::tools::{ToolUse, Tools};
use crate::http::ask::warnings::{self, warn};
use crate::types::RequestError;
use crate::types::limits::TOOLS_MAX;

/// Fields of Anthropic's own service that don't affect an answer. Its clients send them with every request.
const WITHOUT_EFFECT: [&str; 4] = ["service_tier", "container", "context_management", "betas"];

/// A system prompt without the first line that Claude Code adds. That line changes with each request, so the cache
/// would know nothing after it.
fn without_billing(text: &str) -> String {
    match text.strip_prefix("x-anthropic-billing-header:") {
        Some(rest) => rest.split_once('\n').map_or("", |(_, rest)| rest).trim_start_matches('\n').to_owned(),
        None => text.to_owned(),
    }
}

/// Parses a body.
///
/// # Errors
/// A field has the wrong type or is out of bounds.
pub fn parse(body: &[u8], defaults: &Defaults, fresh_seed: u64) -> Result<Generation, RequestError> {
    let mut fields = Fields::parse(body)?;
    let mut all = Vec::new();
    if let Some(system) = fields.take_noted("system", || json!({"type": "string"})) {
        let text = without_billing(&text_of_blocks(system, "system")?);
        if !text.is_empty() {
            all.push(Message::new("system", text));
        }
    }
    let turns = fields.array("messages", usize::MAX)?.ok_or_else(|| missing(&fields, "messages"))?;
    if turns.is_empty() {
        return Err(RequestError::field("messages", "must not be empty"));
    }
    for (i, turn) in turns.into_iter().enumerate() {
        messages_of_turn(turn, &format!("messages[{i}]"), &mut all)?;
    }
    let mut generation = Generation::chat(all, defaults, fresh_seed);
    fields.string("model")?;
    generation.max_tokens = limit(&mut fields, "max_tokens")?.map_or(defaults.max_tokens, Limit::tokens);
    generation.sampling = sampling(&mut fields, &defaults.sampling, fresh_seed)?;
    generation.sampling.logit_bias = logit_bias(&mut fields)?;
    generation.stop = stop_sequences(&mut fields)?;
    generation.take_common(&mut fields, defaults)?;
    thinking(&mut fields, &mut generation)?;
    generation.take_budget(&mut fields)?;
    fields.object("metadata")?;
    let tools = tool_use(&mut fields)?;
    let own = output_format(&mut fields)?;
    generation.wants(tools, format(&mut fields, own)?);
    let mut unknown = fields.unknown();
    unknown.retain(|name| !WITHOUT_EFFECT.contains(&name.as_str()));
    warnings::ignored(&unknown);
    Ok(generation)
}

fn missing(fields: &Fields, name: &str) -> RequestError {
    RequestError::field(fields.named(name), "is missing")
}

fn stop_sequences(fields: &mut Fields) -> Result<Vec<Vec<u8>>, RequestError> {
    let list = fields.array("stop_sequences", usize::MAX)?.unwrap_or_default();
    let text = |entry| match entry {
        Value::String(text) => Ok(text),
        other => Err(wrong_type("stop_sequences", "an array of strings", &other)),
    };
    note("stop_sequences[]", || json!({"type": "string"}));
    let texts = list.into_iter().map(text).collect::<Result<Vec<_>, _>>()?;
    Ok(fitting_stops(texts, "stop_sequences"))
}

/// Takes `tools` and `tool_choice`.
fn tool_use(fields: &mut Fields) -> Result<ToolUse, RequestError> {
    let mut tools = Tools::default();
    for (i, value) in fields.array("tools", TOOLS_MAX)?.unwrap_or_default().into_iter().enumerate() {
        tool(value, &format!("tools[{i}]"), &mut tools)?;
    }
    let mut wanted = ToolUse { tools, ..ToolUse::default() };
    let Some(choice) = fields.take("tool_choice") else { return Ok(wanted) };
    let mut choice = Fields::nested(choice, "tool_choice")?;
    wanted.parallel = !choice.bool("disable_parallel_tool_use")?.unwrap_or(false);
    let kind = choice.string("type")?.ok_or_else(|| missing(&choice, "type"))?;
    note("tool_choice.type", || json!({"enum": ["auto", "any", "tool", "none"]}));
    wanted.choice = match (kind.as_str(), wanted.tools.word(&kind)) {
        ("tool", _) => wanted.tools.named(choice.string("name")?.ok_or_else(|| missing(&choice, "name"))?)?,
        (_, Some(choice)) => choice,
        (other, None) => {
            let message = format!("must be auto, any, tool or none, not {other:?}");
            return Err(RequestError::field("tool_choice.type", message));
        }
    };
    Ok(wanted)
}

/// Adds a tool. A tool that runs in Anthropic's own service has no schema and is dropped.
fn tool(value: Value, path: &str, tools: &mut Tools) -> Result<(), RequestError> {
    let mut tool = Fields::nested(value, path)?;
    let kind = tool.string("type")?.filter(|kind| kind != "custom");
    let schema = tool.object("input_schema")?;
    if let (Some(kind), None) = (&kind, &schema) {
        warn(format!("{path}: left out, tools of type {kind} do not run here"));
        return Ok(());
    }
    let name = tool.string("name")?.ok_or_else(|| missing(&tool, "name"))?;
    let mut function = json!({"name": name});
    if let Some(text) = tool.string("description")? {
        function["description"] = json!(text);
    }
    function["parameters"] = Value::Object(schema.unwrap_or_default());
    tools.add(json!({"type": "function", "function": function}), path, tool.named("name").into_owned())
}

/// Takes `output_config.format`, a schema for the text.
fn output_format(fields: &mut Fields) -> Result<Option<Format>, RequestError> {
    let Some(config) = fields.take("output_config") else { return Ok(None) };
    let mut config = Fields::nested(config, "output_config")?;
    let Some(format) = config.take("format") else { return Ok(None) };
    let mut format = Fields::nested(format, "output_config.format")?;
    let kind = format.string("type")?.ok_or_else(|| missing(&format, "type"))?;
    note("output_config.format.type", || json!({"enum": ["json_schema"]}));
    match kind.as_str() {
        "json_schema" => {
            let schema = format.object("schema")?.ok_or_else(|| missing(&format, "schema"))?;
            let text = TextFormat::LenientSchema(Value::Object(schema));
            Ok(Some(Format { text, field: "output_config.format" }))
        }
        other => Err(RequestError::field(format.named("type"), format!("must be json_schema, not {other:?}"))),
    }
}

/// Takes `thinking`: a variable for the template, and a bound on thoughts.
fn thinking(fields: &mut Fields, generation: &mut Generation) -> Result<(), RequestError> {
    let Some(value) = fields.take("thinking") else { return Ok(()) };
    let mut thinking = Fields::nested(value, "thinking")?;
    let kind = thinking.string("type")?.ok_or_else(|| missing(&thinking, "type"))?;
    const KINDS: [&str; 3] = ["enabled", "disabled", "adaptive"];
    note("thinking.type", || json!({"enum": KINDS}));
    if !KINDS.contains(&kind.as_str()) {
        let message = format!("must be enabled, disabled or adaptive, not {kind:?}");
        return Err(RequestError::field("thinking.type", message));
    }
    generation.kwargs = Map::from_iter([("enable_thinking".to_owned(), json!(kind != "disabled"))]);
    let budget = thinking.integer("budget_tokens", 1..=u64::from(u32::MAX))?;
    generation.reasoning_tokens_max = budget.filter(|_| kind != "disabled").map(|budget| budget as usize);
    Ok(())
}

/// Adds one turn. Results of tools become turns of their own, as templates expect, before the user's text of the same
/// turn.
fn messages_of_turn(turn: Value, path: &str, all: &mut Vec<Message>) -> Result<(), RequestError> {
    let mut turn = Fields::nested(turn, path)?;
    let role = turn.string("role")?.ok_or_else(|| missing(&turn, "role"))?;
    const ROLES: [&str; 3] = ["user", "assistant", "system"];
    note(&turn.named("role"), || json!({"enum": ROLES}));
    if !ROLES.contains(&role.as_str()) {
        let message = format!("must be user, assistant or system, not {role:?}");
        return Err(RequestError::field(turn.named("role"), message));
    }
    let path = turn.named("content");
    note(&path, || json!({"type": "array"}));
    let blocks = match turn.take_noted("content", || json!({"type": "string"})) {
        None => return Err(missing(&turn, "content")),
        Some(Value::String(text)) => {
            all.push(Message::new(role, text));
            return Ok(());
        }
        Some(Value::Array(blocks)) => blocks,
        Some(other) => return Err(wrong_type(&path, "a string or an array of blocks", &other)),
    };
    let mut message = Message { role, ..Message::default() };
    let (mut texts, mut results) = (Vec::new(), false);
    for (i, block) in blocks.into_iter().enumerate() {
        let mut block = Fields::nested(block, &format!("{path}[{i}]"))?;
        let kind = block.string("type")?.ok_or_else(|| missing(&block, "type"))?;
        note(&block.named("type"), || json!({"type": "string"}));
        match (kind.as_str(), message.role.as_str()) {
            ("text", _) => texts.push(block.string("text")?.ok_or_else(|| missing(&block, "text"))?),
            ("thinking", "assistant") => {
                let thought = block.string("thinking")?.ok_or_else(|| missing(&block, "thinking"))?;
                message.reasoning_content.get_or_insert_default().push_str(&thought);
            }
            ("redacted_thinking", "assistant") => {}
            ("tool_use", "assistant") => {
                let id = block.string("id")?.ok_or_else(|| missing(&block, "id"))?;
                let name = block.string("name")?.ok_or_else(|| missing(&block, "name"))?;
                let input = block.object("input")?.unwrap_or_default();
                message.tool_calls.push(ToolCall::new(id, name, Value::Object(input).to_string()));
            }
            ("tool_result", "user") => {
                let id = block.string("tool_use_id")?.ok_or_else(|| missing(&block, "tool_use_id"))?;
                let path = block.named("content");
                let text = block
                    .take_noted("content", || json!({"type": "string"}))
                    .map(|value| text_of_blocks(value, &path))
                    .transpose()?;
                let mut result = Message::new("tool", text.unwrap_or_default());
                result.tool_call_id = Some(id);
                all.push(result);
                results = true;
            }
            (other, _) => texts.push(unreadable(other, &block.named("type"))),
        }
    }
    let says_more = !texts.is_empty() || !results;
    if !texts.is_empty() || message.role == "user" || message.tool_calls.is_empty() {
        message.content = Some(texts.join("\n"));
    }
    if says_more {
        all.push(message);
    }
    Ok(())
}

/// The text of a string, or of blocks of text.
fn text_of_blocks(value: Value, path: &str) -> Result<String, RequestError> {
    note(path, || json!({"type": "array"}));
    note(&format!("{path}[].type"), || json!({"type": "string"}));
    let blocks = match value {
        Value::String(text) => return Ok(text),
        Value::Array(blocks) => blocks,
        other => return Err(wrong_type(path, "a string or an array of blocks", &other)),
    };
    let texts = blocks.into_iter().enumerate().map(|(i, block)| {
        let mut block = Fields::nested(block, &format!("{path}[{i}]"))?;
        match block.string("type")?.as_deref() {
            Some("text") => block.string("text")?.ok_or_else(|| missing(&block, "text")),
            Some(other) => Ok(unreadable(other, &block.named("type"))),
            None => Err(missing(&block, "type")),
        }
    });
    Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::ask::generation::Input;

    fn read(extra: Value) -> Result<Generation, RequestError> {
        let mut body = json!({"model": "any", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]});
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        parse(body.to_string().as_bytes(), &Defaults::of_tests(), 7)
    }

    #[test]
    fn every_refusal_names_its_field() {
        let turn = |role: &str, block: Value| json!({"messages": [{"role": role, "content": [block]}]});
        let tool = |name: &str| json!({"name": name, "input_schema": {"type": "object"}});
        for (extra, field) in [
            (json!({"messages": null}), "messages"),
            (json!({"messages": []}), "messages"),
            (json!({"messages": [{"role": "king", "content": "x"}]}), "messages[0].role"),
            (json!({"messages": [{"role": "user"}]}), "messages[0].content"),
            (json!({"messages": [{"role": "user", "content": 3}]}), "messages[0].content"),
            (turn("user", json!({"type": "tool_result"})), "messages[0].content[0].tool_use_id"),
            (json!({"system": 3}), "system"),
            (json!({"temperature": "hot"}), "temperature"),
            (json!({"stop_sequences": "x"}), "stop_sequences"),
            (json!({"stop_sequences": [1]}), "stop_sequences"),
            (json!({"stream": 1}), "stream"),
            (json!({"metadata": 1}), "metadata"),
            (json!({"output_config": {"format": {"type": "xml"}}}), "output_config.format.type"),
            (json!({"output_config": {"format": {"type": "json_schema"}}}), "output_config.format.schema"),
            (json!({"thinking": {"type": "much"}}), "thinking.type"),
            (json!({"tools": [tool("no good")]}), "tools[0].name"),
            (json!({"tools": [tool("f")], "tool_choice": "any"}), "tool_choice"),
            (json!({"tools": [tool("f")], "tool_choice": {"type": "perhaps"}}), "tool_choice.type"),
            (json!({"tools": [tool("f")], "tool_choice": {"type": "tool", "name": "g"}}), "tool_choice"),
        ] {
            match read(extra.clone()) {
                Err(RequestError::Field { field: named, .. }) => assert_eq!(named, field, "{extra}"),
                other => panic!("{extra}: {other:?}"),
            }
        }
    }

    #[test]
    fn blocks_become_the_turns_that_templates_know() {
        let request = read(json!({
            "system": [{"type": "text", "text": "Be"}, {"type": "text", "text": "brief", "cache_control": {}}],
            "messages": [
                {"role": "user", "content": "Weather?"},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "Hm", "signature": ""},
                    {"type": "tool_use", "id": "t1", "name": "f", "input": {"b": 1, "a": 2}},
                ]},
                {"role": "user", "content": [
                    {"type": "text", "text": "And?"},
                    {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "Sun"}]},
                ]},
            ],
        }));
        let Some(Input::Chat(turns)) = request.unwrap().inputs.pop() else { panic!("a conversation") };
        let roles: Vec<&str> = turns.iter().map(|turn| turn.role.as_str()).collect();
        assert_eq!(roles, ["system", "user", "assistant", "tool", "user"]);
        assert_eq!((turns[0].content.as_deref(), turns[2].content.as_deref()), (Some("Be\nbrief"), None));
        assert_eq!(turns[2].reasoning_content.as_deref(), Some("Hm"));
        assert_eq!(turns[2].tool_calls[0].function.arguments.to_string(), r#"{"b":1,"a":2}"#);
        assert_eq!((turns[3].content.as_deref(), turns[3].tool_call_id.as_deref()), (Some("Sun"), Some("t1")));
        assert_eq!(turns[4].content.as_deref(), Some("And?"));
    }

    #[test]
    fn tools_and_their_choice_are_those_of_the_other_api() {
        let tools = json!([{"name": "f", "description": "d", "input_schema": {"type": "object"}}]);
        let same = json!([{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}]);
        let chosen = |choice: Value| read(json!({"tools": tools, "tool_choice": choice})).unwrap();
        for (choice, is_required, name, is_parallel) in [
            (Value::Null, false, None, true),
            (json!({"type": "any"}), true, None, true),
            (json!({"type": "tool", "name": "f"}), true, Some("f"), true),
            (json!({"type": "auto", "disable_parallel_tool_use": true}), false, None, false),
        ] {
            let format = TextFormat::ToolCalls {
                tools: same.as_array().unwrap().clone(),
                required: is_required,
                named: name.map(str::to_owned),
                parallel: is_parallel,
                text: None,
            };
            assert_eq!(chosen(choice.clone()).format.text, format, "{choice}");
        }
        let none = chosen(json!({"type": "none"}));
        assert_eq!((none.tools.is_empty(), none.calls_max), (false, 0), "the prompt keeps them");
        let schema = json!({"type": "object"});
        let format = json!({"output_config": {"format": {"type": "json_schema", "schema": schema}}});
        assert_eq!(read(format).unwrap().format.text, TextFormat::LenientSchema(schema));
    }
}
