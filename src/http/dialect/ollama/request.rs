//! Parses the bodies of `/api/chat` and `/api/generate`, without the model. Pure.

use serde_json::{Map, Value, json};

use crate::chat::{Message, ToolCall};
use crate::http::ask::fields::{Fields, wrong_type};
use crate::http::ask::format::{Format, TextFormat};
use crate::http::ask::generation::{Defaults, Generation, Input};
use crate::http::ask::notes::note;
use crate::http::ask::sampling::{sampling, stops};
use crate::http::ask::tools::{ToolUse, Tools};
use crate::http::ask::warnings;
use crate::types::RequestError;
use crate::types::limits::TOOLS_MAX;

/// The allowed roles of turns.
const ROLES: [&str; 4] = ["system", "user", "assistant", "tool"];

/// A request for the assistant's turn, or for text that follows a prompt.
#[derive(Debug)]
pub struct OllamaRequest {
    /// The generation. `None`: the request has no prompt and only loads or unloads the model.
    pub generation: Option<Generation>,
    /// Whether `keep_alive` is 0: the client no longer needs the model.
    pub unloads: bool,
}

impl OllamaRequest {
    /// Parses the body of `/api/chat`, or of `/api/generate` if not `is_chat`.
    ///
    /// # Errors
    /// A field has the wrong type or is out of bounds.
    pub fn parse(
        body: &[u8],
        is_chat: bool,
        defaults: &Defaults,
        fresh_seed: u64,
    ) -> Result<OllamaRequest, RequestError> {
        let mut fields = Fields::parse(body)?;
        fields.string("model")?;
        let stream = fields.bool("stream")?.unwrap_or(true);
        let unloads = fields
            .take("keep_alive")
            .is_some_and(|value| value.as_f64() == Some(0.0) || matches!(value.as_str(), Some("0" | "0s" | "0m")));
        let format = format(&mut fields)?.unwrap_or_default();
        let kwargs = think(&mut fields)?;
        let mut tools = ToolUse::default();
        let input = if is_chat {
            tools.tools = self::tools(&mut fields)?;
            // Ollama's own server doesn't have these fields; they mean what they mean on the other routes.
            tools.choice = tools.tools.choice(&mut fields)?;
            tools.parallel = fields.bool("parallel_tool_calls")?.unwrap_or(true);
            let turns = fields.array("messages", usize::MAX)?.unwrap_or_default();
            let turns = turns.into_iter().enumerate().map(|(i, turn)| message(turn, &format!("messages[{i}]")));
            Some(turns.collect::<Result<Vec<_>, _>>()?).filter(|turns| !turns.is_empty()).map(Input::Chat)
        } else {
            prompt(&mut fields)?
        };
        let is_read = matches!(input, Some(Input::Chat(_)));
        let mut generation = match input {
            Some(Input::Chat(messages)) => Generation::chat(messages, defaults, fresh_seed),
            other => Generation::new(other.into_iter().collect(), defaults, fresh_seed),
        };
        (generation.stream, generation.kwargs) = (stream, kwargs);
        generation.take_budget(&mut fields)?;
        if !is_read && generation.reasoning_tokens_max.take().is_some() {
            warnings::warn("reasoning_budget_tokens: ignored, a raw prompt has no thought of its own");
        }
        generation.wants(tools, format);
        let mut ignored = options(&mut fields, defaults, &mut generation)?;
        ignored.extend(fields.unknown());
        warnings::ignored(&ignored);
        let is_asked = !generation.inputs.is_empty();
        Ok(OllamaRequest { generation: is_asked.then_some(generation), unloads })
    }
}

/// Takes the prompt of `/api/generate`: a turn of the user, or with `raw` text that is continued as it is.
fn prompt(fields: &mut Fields) -> Result<Option<Input>, RequestError> {
    let prompt = fields.string("prompt")?.unwrap_or_default();
    let is_raw = fields.bool("raw")?.unwrap_or(false);
    let system = fields.string("system")?.filter(|text| !text.is_empty());
    let prompt = with_images(prompt, fields)?;
    Ok(match (prompt.is_empty(), is_raw) {
        (true, _) => None,
        (false, true) => Some(Input::text(prompt)),
        (false, false) => {
            let system = system.map(|text| Message::new("system", text));
            Some(Input::Chat(system.into_iter().chain([Message::new("user", prompt)]).collect()))
        }
    })
}

/// Takes `format`: absent, `"json"`, or a schema.
fn format(fields: &mut Fields) -> Result<Option<Format>, RequestError> {
    note("format", || json!({"type": "string", "enum": ["", "json"]}));
    let text = match fields.take_noted("format", || json!({"type": "object"})) {
        None => return Ok(None),
        Some(Value::String(text)) if text.is_empty() => return Ok(None),
        Some(Value::String(text)) if text == "json" => TextFormat::JsonObject,
        Some(schema @ Value::Object(_)) => TextFormat::LenientSchema(schema),
        Some(other) => return Err(wrong_type("format", "\"json\" or a JSON schema", &other)),
    };
    Ok(Some(Format { text, field: "format" }))
}

/// Takes `think`, a boolean or a level of effort, as variables for the template.
fn think(fields: &mut Fields) -> Result<Map<String, Value>, RequestError> {
    note("think", || json!({"type": "string"}));
    let mut kwargs = Map::new();
    let thinks = match fields.take_noted("think", || json!({"type": "boolean"})) {
        None => return Ok(kwargs),
        Some(Value::Bool(thinks)) => thinks,
        Some(Value::String(effort)) => {
            kwargs.insert("reasoning_effort".to_owned(), json!(effort));
            true
        }
        Some(other) => return Err(wrong_type("think", "true, false or a level", &other)),
    };
    kwargs.insert("enable_thinking".to_owned(), json!(thinks));
    Ok(kwargs)
}

/// Takes `options`; returns the names of those without an effect.
fn options(fields: &mut Fields, defaults: &Defaults, generation: &mut Generation) -> Result<Vec<String>, RequestError> {
    let options = fields.take_noted("options", || json!({"type": "object"}));
    let mut options = Fields::nested(options.unwrap_or_else(|| json!({})), "options")?;
    generation.sampling = sampling(&mut options, &defaults.sampling, generation.sampling.seed)?;
    generation.stop = stops(&mut options)?;
    // 0 or less means as many as fit.
    let wanted = options.signed("num_predict", i64::MIN..=i64::MAX)?;
    if let Some(n) = wanted {
        generation.max_tokens = usize::try_from(n).ok().filter(|n| *n > 0);
    }
    Ok(options.unknown().iter().map(|name| options.named(name).into_owned()).collect())
}

/// Takes `tools` in OpenAI's format.
fn tools(fields: &mut Fields) -> Result<Tools, RequestError> {
    let mut tools = Tools::default();
    for (i, value) in fields.array("tools", TOOLS_MAX)?.unwrap_or_default().into_iter().enumerate() {
        let path = format!("tools[{i}]");
        let mut tool = Fields::nested(value.clone(), &path)?;
        let function = tool.take("function");
        let function = function.ok_or_else(|| RequestError::field(tool.named("function"), "is missing"))?;
        let function = Fields::nested(function, &format!("{path}.function"))?;
        tools.add(value, &path, function.named("name").into_owned())?;
    }
    Ok(tools)
}

/// One turn. Its calls have arguments as an object, and usually no ids.
fn message(turn: Value, path: &str) -> Result<Message, RequestError> {
    let mut turn = Fields::nested(turn, path)?;
    let role = turn.string("role")?.ok_or_else(|| RequestError::field(turn.named("role"), "is missing"))?;
    note(&turn.named("role"), || json!({"enum": ROLES}));
    if !ROLES.contains(&role.as_str()) {
        let message = format!("must be system, user, assistant or tool, not {role:?}");
        return Err(RequestError::field(turn.named("role"), message));
    }
    let content = turn.string("content")?.unwrap_or_default();
    let content = with_images(content, &mut turn)?;
    let mut message = Message::new(role, content);
    message.reasoning_content = turn.string("thinking")?;
    message.name = turn.string("tool_name")?;
    for (i, call) in turn.array("tool_calls", usize::MAX)?.unwrap_or_default().into_iter().enumerate() {
        let function = &call["function"];
        let Some(name) = function["name"].as_str() else {
            return Err(RequestError::field(turn.named(&format!("tool_calls[{i}].function.name")), "is missing"));
        };
        let arguments = match &function["arguments"] {
            Value::String(text) => text.clone(),
            Value::Null => "{}".to_owned(),
            other => other.to_string(),
        };
        let id = call["id"].as_str().map_or_else(|| format!("call_{i}"), str::to_owned);
        message.tool_calls.push(ToolCall::new(id, name.to_owned(), arguments));
    }
    Ok(message)
}

/// Adds a note to the text for each picture, because the model only reads text.
fn with_images(text: String, fields: &mut Fields) -> Result<String, RequestError> {
    let images = fields.array("images", usize::MAX)?.unwrap_or_default();
    let notes = images.iter().map(|_| "[image]".to_owned());
    let parts: Vec<String> = notes.chain((!text.is_empty()).then_some(text)).collect();
    Ok(parts.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &Value, is_chat: bool) -> Result<OllamaRequest, RequestError> {
        OllamaRequest::parse(body.to_string().as_bytes(), is_chat, &Defaults::of_tests(), 7)
    }

    #[test]
    fn options_have_their_effect_and_the_others_are_named() {
        let options = json!({"num_predict": -1, "top_k": 3, "repeat_penalty": 1.5, "num_ctx": 9, "num_gpu": 1});
        let body = json!({"prompt": "Hi", "options": options, "zeal": 1});
        warnings::forget();
        let request = parse(&body, false).unwrap();
        assert!(!request.unloads);
        let generation = request.generation.unwrap();
        assert_eq!((generation.max_tokens, generation.sampling.top_k, generation.stream), (None, 3, true));
        assert_eq!(generation.sampling.repetition_penalty, 1.5);
        assert_eq!(warnings::value().unwrap(), "ignored unknown fields: options.num_ctx, options.num_gpu, zeal");
    }

    #[test]
    fn turns_keep_calls_thoughts_and_a_note_of_pictures() {
        let call = json!({"function": {"name": "f", "arguments": {"a": 1}}});
        let body = json!({"messages": [
            {"role": "user", "content": "See", "images": ["x"]},
            {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [call]},
            {"role": "tool", "tool_name": "f", "content": "2"},
        ]});
        let mut inputs = parse(&body, true).unwrap().generation.unwrap().inputs;
        let Some(Input::Chat(messages)) = inputs.pop() else { panic!("a conversation") };
        assert_eq!(messages[0].content.as_deref(), Some("[image]\nSee"));
        assert_eq!(messages[1].reasoning_content.as_deref(), Some("Hm."));
        assert_eq!(messages[1].tool_calls[0].function.arguments, json!({"a": 1}));
        assert_eq!(messages[2].name.as_deref(), Some("f"));
    }

    #[test]
    fn nothing_asked_is_no_refusal_and_refusals_name_the_clients_field() {
        let request = parse(&json!({"model": "any", "keep_alive": 0}), true).unwrap();
        assert!(request.generation.is_none() && request.unloads);
        for (extra, field) in [
            (json!({"options": {"temperature": "hot"}}), "options.temperature"),
            (json!({"options": {"num_predict": "9"}}), "options.num_predict"),
            (json!({"options": 3}), "options"),
            (json!({"format": 3}), "format"),
            (json!({"think": 3}), "think"),
            (json!({"stream": "yes"}), "stream"),
        ] {
            let mut body = json!({"prompt": "Hi"});
            for (name, value) in extra.as_object().unwrap() {
                body[name] = value.clone();
            }
            match parse(&body, false) {
                Err(RequestError::Field { field: named, .. }) => assert_eq!(named, field),
                other => panic!("{extra}: {other:?}"),
            }
        }
    }
}
