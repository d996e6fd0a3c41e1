//! The bodies of `/api/chat` and `/api/generate`, checked and made the chat request that the other routes have. Pure.

use serde_json::{Map, Value, json};

use crate::http::ask::fields::{Fields, wrong_type};
use crate::http::ask::notes::{muted, note};
use crate::http::ask::warnings;
use crate::http::dialect::openai::chat_request::ChatRequest;
use crate::http::service::Defaults;
use crate::types::RequestError;

/// What `options` may say that has an effect, and its name on the other routes.
const OPTIONS: [(&str, &str); 13] = [
    ("temperature", "temperature"),
    ("top_k", "top_k"),
    ("top_p", "top_p"),
    ("min_p", "min_p"),
    ("typical_p", "typical_p"),
    ("seed", "seed"),
    ("stop", "stop"),
    ("repeat_penalty", "repetition_penalty"),
    ("presence_penalty", "presence_penalty"),
    ("frequency_penalty", "frequency_penalty"),
    ("mirostat", "mirostat"),
    ("mirostat_tau", "mirostat_tau"),
    ("mirostat_eta", "mirostat_eta"),
];

/// A request for a turn of the assistant's, or for text that follows a prompt.
#[derive(Debug)]
pub struct OllamaRequest {
    /// `None`: nothing is asked; the model shall be there, or need not be any longer.
    pub chat: Option<ChatRequest>,
    /// The prompt is continued as it is, without the model's template.
    pub raw: Option<String>,
    pub stream: bool,
    /// `keep_alive` is 0: the client is done with the model.
    pub unloads: bool,
}

impl OllamaRequest {
    /// Parses the body of `/api/chat`, or of `/api/generate` where `is_chat` is false.
    ///
    /// # Errors
    /// Names the field as the client wrote it.
    pub fn parse(
        body: &[u8],
        is_chat: bool,
        defaults: &Defaults,
        fresh_seed: u64,
    ) -> Result<OllamaRequest, RequestError> {
        let mut fields = Fields::parse(body)?;
        let mut ignored = Vec::new();
        let mut chat = Map::new();
        let stream = fields.bool("stream")?.unwrap_or(true);
        let model = fields.string("model")?.unwrap_or_default();
        chat.insert("model".to_owned(), json!(model));
        let unloads = fields
            .take("keep_alive")
            .is_some_and(|value| value.as_f64() == Some(0.0) || matches!(value.as_str(), Some("0" | "0s" | "0m")));
        format(&mut fields, &mut chat)?;
        think(&mut fields, &mut chat)?;
        let budget = fields.integer("reasoning_budget_tokens", 0..=u64::from(u32::MAX))?;
        chat.extend(budget.map(|budget| ("reasoning_budget_tokens".to_owned(), json!(budget))));
        options(&mut fields, &mut chat, &mut ignored)?;
        let mut raw = None;
        let messages = if is_chat {
            if let Some(tools) = fields.take_noted("tools", || json!({"type": "array"})) {
                chat.insert("tools".to_owned(), tools);
            }
            // Ollama's own server has none of these; here they mean what they mean on the other routes.
            let words = || json!({"type": "string", "enum": ["none", "auto", "required", "any"]});
            let choice = fields.take_noted("tool_choice", words);
            chat.extend(choice.map(|choice| ("tool_choice".to_owned(), choice)));
            let parallel = fields.bool("parallel_tool_calls")?;
            chat.extend(parallel.map(|parallel| ("parallel_tool_calls".to_owned(), json!(parallel))));
            let turns = fields.array("messages", usize::MAX)?.unwrap_or_default();
            turns.into_iter().enumerate().map(|(i, turn)| message(turn, i)).collect::<Result<Vec<_>, _>>()?
        } else {
            let prompt = fields.string("prompt")?.unwrap_or_default();
            let is_raw = fields.bool("raw")?.unwrap_or(false);
            let system = fields.string("system")?.filter(|text| !text.is_empty());
            let prompt = with_images(prompt, &mut fields)?;
            if is_raw && !prompt.is_empty() {
                if budget.is_some() {
                    warnings::warn("reasoning_budget_tokens: ignored, a raw prompt has no thought of its own");
                }
                raw = Some(prompt.clone());
            }
            if prompt.is_empty() {
                Vec::new()
            } else {
                let system = system.map(|text| json!({"role": "system", "content": text}));
                system.into_iter().chain([json!({"role": "user", "content": prompt})]).collect()
            }
        };
        ignored.extend(fields.unknown());
        warnings::ignored(&ignored);
        let is_empty = messages.is_empty();
        chat.insert("messages".to_owned(), Value::Array(messages));
        let parsed = if is_empty {
            None
        } else {
            let text = Value::Object(chat).to_string();
            let parsed = muted(|| ChatRequest::parse(text.as_bytes(), defaults, fresh_seed));
            Some(parsed.map_err(in_own_words)?)
        };
        Ok(OllamaRequest { chat: parsed, raw, stream, unloads })
    }
}

/// A field of the chat request, by the name that the client has for it.
fn in_own_words(error: RequestError) -> RequestError {
    match error {
        RequestError::Field { field, message } => {
            let option = OPTIONS.iter().find(|(_, theirs)| *theirs == field);
            let field = match option {
                Some((own, _)) => format!("options.{own}"),
                None if field == "max_tokens" => "options.num_predict".to_owned(),
                None if field.starts_with("response_format") => "format".to_owned(),
                None => field,
            };
            RequestError::Field { field, message }
        }
        other => other,
    }
}

/// `format`: nothing, `"json"`, or a schema.
fn format(fields: &mut Fields, chat: &mut Map<String, Value>) -> Result<(), RequestError> {
    note("format", || json!({"type": "string", "enum": ["", "json"]}));
    let wanted = match fields.take_noted("format", || json!({"type": "object"})) {
        None => return Ok(()),
        Some(Value::String(text)) if text.is_empty() => return Ok(()),
        Some(Value::String(text)) if text == "json" => json!({"type": "json_object"}),
        Some(schema @ Value::Object(_)) => json!({"type": "json_schema", "json_schema": {"schema": schema}}),
        Some(other) => return Err(wrong_type("format", "\"json\" or a JSON schema", &other)),
    };
    chat.insert("response_format".to_owned(), wanted);
    Ok(())
}

/// `think`: whether, or how hard.
fn think(fields: &mut Fields, chat: &mut Map<String, Value>) -> Result<(), RequestError> {
    note("think", || json!({"type": "string"}));
    let thinks = match fields.take_noted("think", || json!({"type": "boolean"})) {
        None => return Ok(()),
        Some(Value::Bool(thinks)) => thinks,
        Some(Value::String(effort)) => {
            chat.insert("reasoning_effort".to_owned(), json!(effort));
            true
        }
        Some(other) => return Err(wrong_type("think", "true, false or a level", &other)),
    };
    chat.insert("chat_template_kwargs".to_owned(), json!({"enable_thinking": thinks}));
    Ok(())
}

/// `options`: those with an effect go to the chat request, the others' names to `ignored`.
fn options(fields: &mut Fields, chat: &mut Map<String, Value>, ignored: &mut Vec<String>) -> Result<(), RequestError> {
    for (own, _) in OPTIONS {
        note(&format!("options.{own}"), || json!({}));
    }
    let Some(mut options) = fields.object("options")? else { return Ok(()) };
    for (own, theirs) in OPTIONS {
        if let Some(value) = options.remove(own) {
            chat.insert(theirs.to_owned(), value);
        }
    }
    match options.remove("num_predict") {
        None | Some(Value::Null) => {}
        // 0 and below: as many as fit.
        Some(value) if value.as_f64().is_some_and(|n| n <= 0.0) => {}
        Some(value) => {
            chat.insert("max_tokens".to_owned(), value);
        }
    }
    ignored.extend(options.keys().map(|name| format!("options.{name}")));
    Ok(())
}

/// One turn, in the chat request's shape: arguments of calls are text there.
fn message(turn: Value, index: usize) -> Result<Value, RequestError> {
    let mut turn = Fields::nested(turn, &format!("messages[{index}]"))?;
    let role = turn.string("role")?.ok_or_else(|| RequestError::field(turn.named("role"), "is missing"))?;
    let content = turn.string("content")?.unwrap_or_default();
    let content = with_images(content, &mut turn)?;
    let mut made = json!({"role": role, "content": content});
    if let Some(thoughts) = turn.string("thinking")? {
        made["reasoning_content"] = json!(thoughts);
    }
    if let Some(name) = turn.string("tool_name")? {
        made["name"] = json!(name);
    }
    let calls = turn.array("tool_calls", usize::MAX)?.unwrap_or_default();
    if !calls.is_empty() {
        let call = |(i, call): (usize, Value)| {
            let function = &call["function"];
            let arguments = match &function["arguments"] {
                Value::String(text) => text.clone(),
                Value::Null => "{}".to_owned(),
                other => other.to_string(),
            };
            let id = call["id"].as_str().map_or_else(|| format!("call_{i}"), str::to_owned);
            json!({"id": id, "type": "function", "function": {"name": function["name"], "arguments": arguments}})
        };
        made["tool_calls"] = calls.into_iter().enumerate().map(call).collect();
    }
    Ok(made)
}

/// A text model sees a note where a picture is.
fn with_images(text: String, fields: &mut Fields) -> Result<String, RequestError> {
    let images = fields.array("images", usize::MAX)?.unwrap_or_default();
    let notes = images.iter().map(|_| "[image]".to_owned());
    let parts: Vec<String> = notes.chain((!text.is_empty()).then_some(text)).collect();
    Ok(parts.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SamplingParams;

    fn parse(body: &Value, is_chat: bool) -> Result<OllamaRequest, RequestError> {
        let defaults =
            Defaults { sampling: SamplingParams::default(), seed: None, max_tokens: None, deadline_ms: Some(60_000) };
        OllamaRequest::parse(body.to_string().as_bytes(), is_chat, &defaults, 7)
    }

    #[test]
    fn options_have_their_effect_and_the_others_are_named() {
        let options = json!({"num_predict": -1, "top_k": 3, "repeat_penalty": 1.5, "num_ctx": 9, "num_gpu": 1});
        let body = json!({"prompt": "Hi", "options": options, "zeal": 1});
        warnings::forget();
        let request = parse(&body, false).unwrap();
        let chat = request.chat.unwrap();
        assert_eq!((chat.options.max_tokens, chat.options.sampling.top_k), (None, 3));
        assert_eq!(chat.options.sampling.repetition_penalty, 1.5);
        assert_eq!((request.stream, request.raw, request.unloads), (true, None, false));
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
        let messages = parse(&body, true).unwrap().chat.unwrap().messages;
        assert_eq!(messages[0].content.as_deref(), Some("[image]\nSee"));
        assert_eq!(messages[1].reasoning_content.as_deref(), Some("Hm."));
        assert_eq!(messages[1].tool_calls[0].function.arguments, json!({"a": 1}));
        assert_eq!(messages[2].name.as_deref(), Some("f"));
    }

    #[test]
    fn nothing_asked_is_no_refusal_and_refusals_name_the_clients_field() {
        let request = parse(&json!({"model": "any", "keep_alive": 0}), true).unwrap();
        assert!(request.chat.is_none() && request.unloads);
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
