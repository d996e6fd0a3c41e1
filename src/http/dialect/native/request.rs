//! Parses the body of `/generate`. Pure.

use serde_json::{Value, json};

use crate::chat::Message;
use crate::http::ask::fields::{Fields, wrong_type};
use crate::http::ask::format::format;
use crate::http::ask::generation::{Defaults, Generation, Input};
use crate::http::ask::notes::note;
use crate::http::ask::sampling::{Limit, limit, logit_bias, sampling, stops};
use crate::http::ask::warnings;
use crate::types::RequestError;

/// The native names and formats.
#[derive(Clone, Copy, Debug)]
pub struct Native;

/// Parses a body. The answer is the whole text of the model, thoughts and calls included.
///
/// # Errors
/// A field has the wrong type or is out of bounds.
pub fn parse(body: &[u8], defaults: &Defaults, fresh_seed: u64) -> Result<Generation, RequestError> {
    let mut fields = Fields::parse(body)?;
    let mut generation = match input(&mut fields)? {
        // Thoughts and calls are part of the text.
        Input::Chat(messages) => Generation { is_read: false, ..Generation::chat(messages, defaults, fresh_seed) },
        other => Generation::new(vec![other], defaults, fresh_seed),
    };
    generation.max_tokens = limit(&mut fields, "max_tokens")?.map_or(defaults.max_tokens, Limit::tokens);
    generation.sampling = sampling(&mut fields, &defaults.sampling, fresh_seed)?;
    generation.sampling.logit_bias = logit_bias(&mut fields)?;
    generation.stop = stops(&mut fields)?;
    generation.format = format(&mut fields, None)?;
    generation.take_common(&mut fields, defaults)?;
    warnings::ignored(&fields.unknown());
    Ok(generation)
}

fn input(fields: &mut Fields) -> Result<Input, RequestError> {
    match (fields.string("prompt")?, fields.take_noted("messages", || json!({"type": "array", "minItems": 1}))) {
        (Some(_), Some(_)) => Err(RequestError::field("messages", "give either messages or prompt, not both")),
        (Some(prompt), None) if prompt.is_empty() => Err(RequestError::field("prompt", "must not be empty")),
        (Some(prompt), None) => Ok(Input::text(prompt)),
        (None, Some(value)) => Ok(Input::Chat(messages(&value)?)),
        (None, None) => Err(RequestError::field("prompt", "is missing (or give messages)")),
    }
}

fn messages(value: &Value) -> Result<Vec<Message>, RequestError> {
    let Value::Array(list) = value else { return Err(wrong_type("messages", "an array", value)) };
    if list.is_empty() {
        return Err(RequestError::field("messages", "must not be empty"));
    }
    const ROLES: [&str; 3] = ["system", "user", "assistant"];
    note("messages[].role", || json!({"type": "string", "enum": ROLES}));
    note("messages[].content", || json!({"type": "string"}));
    list.iter()
        .enumerate()
        .map(|(i, entry)| {
            let text = |key: &str| {
                let name = format!("messages[{i}].{key}");
                match entry.get(key) {
                    Some(Value::String(text)) => Ok(text.clone()),
                    Some(other) => Err(wrong_type(&name, "a string", other)),
                    None => Err(RequestError::field(name, "is missing")),
                }
            };
            let role = text("role")?;
            if !ROLES.contains(&role.as_str()) {
                let message = format!("must be system, user or assistant, not {role:?}");
                return Err(RequestError::field(format!("messages[{i}].role"), message));
            }
            Ok(Message::new(role, text("content")?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SamplingParams;

    fn read(body: &str) -> Result<Generation, RequestError> {
        parse(body.as_bytes(), &Defaults::of_tests(), 7)
    }

    #[test]
    fn every_refusal_names_its_field() {
        for (body, message) in [
            ("{}", "prompt: is missing (or give messages)"),
            (r#"{"prompt": ""}"#, "prompt: must not be empty"),
            (r#"{"prompt": 3}"#, "prompt: must be a string, not a number"),
            (r#"{"prompt": "a", "messages": []}"#, "messages: give either messages or prompt, not both"),
            (r#"{"messages": []}"#, "messages: must not be empty"),
            (
                r#"{"messages": [{"role": "king", "content": ""}]}"#,
                "messages[0].role: must be system, user or assistant, not \"king\"",
            ),
            (r#"{"messages": [{"role": "user"}]}"#, "messages[0].content: is missing"),
            (r#"{"prompt": "a", "temperature": -1}"#, "temperature: must be from 0 to 100, not -1"),
            (r#"{"prompt": "a", "temperature": "hot"}"#, "temperature: must be a number, not a string"),
            (r#"{"prompt": "a", "stream": 1}"#, "stream: must be true or false, not a number"),
            (r#"{"prompt": "a", "stop": [3]}"#, "stop: must be a string or an array of strings, not a number"),
            (r#"{"prompt": "a", "logit_bias": {"x": 1}}"#, "logit_bias: \"x\" is no token id"),
            (r#"{"prompt": "a", "regex": 3}"#, "regex: must be a string, not a number"),
            (r#"{"prompt": "a", "grammar": "b", "regex": "c"}"#, "regex: give either grammar or regex, not both"),
        ] {
            assert_eq!(read(body).unwrap_err().to_string(), message, "{body}");
        }
    }

    #[test]
    fn what_other_servers_take_is_taken() {
        warnings::forget();
        let body =
            r#"{"prompt": "a", "max_tokens": -1, "seed": -4, "top_k": -1, "stop": ["", "x"], "repeat_penalty": 1.5}"#;
        let request = read(body).unwrap();
        assert_eq!((request.max_tokens, request.sampling.seed, request.sampling.top_k), (None, -4_i64 as u64, 0));
        assert_eq!((request.stop, request.sampling.repetition_penalty), (vec![b"x".to_vec()], 1.5));
        assert!(warnings::value().unwrap().starts_with("stop: 1 of 2 strings left out"));
        assert_eq!(read(r#"{"prompt": "a", "max_tokens": 0}"#).unwrap().max_tokens, Some(0));
        let penalty = read(r#"{"prompt": "a", "presence_penalty": 3}"#).unwrap().sampling.presence_penalty;
        assert_eq!(penalty, 3.0);
    }

    #[test]
    fn defaults_fill_what_is_not_said_and_unknown_fields_are_named() {
        warnings::forget();
        let request = read(r#"{"prompt": "a", "stop": "END", "deadline_ms": 999999, "zeal": 1}"#).unwrap();
        assert_eq!(request.sampling, SamplingParams { seed: 7, ..SamplingParams::default() });
        assert_eq!((request.stop, request.deadline_ms), (vec![b"END".to_vec()], Some(60_000)));
        assert_eq!(warnings::value().as_deref(), Some("ignored unknown fields: zeal"));
    }
}
