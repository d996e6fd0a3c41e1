//! What a native generation request may say, and the typed form of it.

use serde_json::{Value, json};

use super::fields::{Fields, wrong_type};
use super::format::TextFormat;
use super::notes::note;
use super::sampling::{Ends, more};
use super::service::Defaults;
use crate::chat::Message;
use crate::types::limits::{LOGIT_BIAS_MAX, STOP_BYTES_MAX, STOPS_MAX};
use crate::types::{RequestError, SamplingParams};

/// What to continue.
#[derive(Debug, PartialEq)]
pub enum Input {
    /// Text as it is; special tokens in it count as such.
    Prompt(String),
    /// A conversation for the model's chat template.
    Messages(Vec<Message>),
}

/// A request of `/generate`, checked as far as that goes without the model.
#[derive(Debug)]
pub struct GenerateRequest {
    pub input: Input,
    /// `None`: as many as fit.
    pub max_tokens: Option<usize>,
    pub sampling: SamplingParams,
    pub stop: Vec<Vec<u8>>,
    pub ends: Ends,
    pub ignore_eos: bool,
    pub format: TextFormat,
    pub stream: bool,
    pub deadline_ms: u64,
    /// Fields we don't know: named in a header of the answer.
    pub unknown: Vec<String>,
}

impl GenerateRequest {
    pub fn parse(body: &[u8], defaults: &Defaults, fresh_seed: u64) -> Result<GenerateRequest, RequestError> {
        let mut fields = Fields::parse(body)?;
        let input = input(&mut fields)?;
        let max_tokens = fields.integer("max_tokens", 1..=u64::from(u32::MAX))?.map(|n| n as usize);
        let sampling = sampling(&mut fields, &defaults.sampling, defaults.seed.unwrap_or(fresh_seed))?;
        let stop = stops(&mut fields)?;
        let ends = Ends::take(&mut fields)?;
        let ignore_eos = fields.bool("ignore_eos")?.unwrap_or(false);
        let format = format(&mut fields)?;
        let stream = fields.bool("stream")?.unwrap_or(false);
        let deadline_ms = fields.integer("deadline_ms", 1..=86_400_000)?.unwrap_or(defaults.deadline_ms);
        Ok(GenerateRequest {
            input,
            max_tokens: max_tokens.or(defaults.max_tokens),
            sampling,
            stop,
            ends,
            ignore_eos,
            format,
            stream,
            deadline_ms: deadline_ms.min(defaults.deadline_ms),
            unknown: fields.unknown(),
        })
    }
}

fn format(fields: &mut Fields) -> Result<TextFormat, RequestError> {
    let all = [
        (
            "json_schema",
            fields.take_noted("json_schema", || json!({"type": ["object", "boolean"]})).map(TextFormat::JsonSchema),
        ),
        ("regex", fields.string("regex")?.map(TextFormat::Regex)),
        ("grammar", fields.string("grammar")?.map(TextFormat::Grammar)),
    ];
    let mut given = all.into_iter().filter_map(|(name, format)| Some((name, format?)));
    match (given.next(), given.next()) {
        (Some((first, _)), Some((second, _))) => {
            Err(RequestError::field(second, format!("give either {first} or {second}, not both")))
        }
        (format, _) => Ok(format.map_or(TextFormat::Any, |(_, format)| format)),
    }
}

fn input(fields: &mut Fields) -> Result<Input, RequestError> {
    match (fields.string("prompt")?, fields.take_noted("messages", || json!({"type": "array", "minItems": 1}))) {
        (Some(_), Some(_)) => Err(RequestError::field("messages", "give either messages or prompt, not both")),
        (Some(prompt), None) if prompt.is_empty() => Err(RequestError::field("prompt", "must not be empty")),
        (Some(prompt), None) => Ok(Input::Prompt(prompt)),
        (None, Some(value)) => Ok(Input::Messages(messages(&value)?)),
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

pub fn sampling(fields: &mut Fields, usual: &SamplingParams, seed: u64) -> Result<SamplingParams, RequestError> {
    Ok(SamplingParams {
        logit_bias: logit_bias(fields)?,
        repetition_penalty: fields.number("repetition_penalty", 0.01..=10.0)?.unwrap_or(usual.repetition_penalty),
        frequency_penalty: fields.number("frequency_penalty", -2.0..=2.0)?.unwrap_or(usual.frequency_penalty),
        presence_penalty: fields.number("presence_penalty", -2.0..=2.0)?.unwrap_or(usual.presence_penalty),
        penalty_last_n: usual.penalty_last_n,
        top_k: fields.integer("top_k", 0..=u64::from(u32::MAX))?.map_or(usual.top_k, |k| k as usize),
        typical_p: fields.number("typical_p", f32::MIN_POSITIVE..=1.0)?.unwrap_or(usual.typical_p),
        top_p: fields.number("top_p", f32::MIN_POSITIVE..=1.0)?.unwrap_or(usual.top_p),
        min_p: fields.number("min_p", 0.0..=1.0)?.unwrap_or(usual.min_p),
        temperature: fields.number("temperature", 0.0..=100.0)?.unwrap_or(usual.temperature),
        seed: fields.integer("seed", 0..=u64::MAX)?.unwrap_or(seed),
        ..more(fields, usual)?
    })
}

fn logit_bias(fields: &mut Fields) -> Result<Vec<(u32, f32)>, RequestError> {
    const NAME: &str = "logit_bias";
    let bias = || json!({"type": "number", "minimum": -100, "maximum": 100});
    let schema = || json!({"type": "object", "maxProperties": LOGIT_BIAS_MAX, "additionalProperties": bias()});
    let Some(value) = fields.take_noted(NAME, schema) else { return Ok(Vec::new()) };
    let Value::Object(map) = &value else { return Err(wrong_type(NAME, "an object", &value)) };
    if map.len() > LOGIT_BIAS_MAX {
        return Err(RequestError::field(NAME, format!("has {} entries, at most {LOGIT_BIAS_MAX}", map.len())));
    }
    map.iter()
        .map(|(id, bias)| {
            let token = id.parse::<u32>().map_err(|_| RequestError::field(NAME, format!("{id:?} is no token id")))?;
            match bias.as_f64() {
                Some(bias) if (-100.0..=100.0).contains(&bias) => Ok((token, bias as f32)),
                _ => Err(RequestError::field(NAME, format!("of {id} must be a number from -100 to 100"))),
            }
        })
        .collect()
}

pub fn stops(fields: &mut Fields) -> Result<Vec<Vec<u8>>, RequestError> {
    let one = || json!({"type": "string", "minLength": 1, "maxLength": STOP_BYTES_MAX});
    let value = fields.take_noted("stop", one);
    note("stop", || json!({"type": "array", "maxItems": STOPS_MAX, "items": one()}));
    let stops = match value {
        None => return Ok(Vec::new()),
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(list)) => list
            .into_iter()
            .map(|entry| match entry {
                Value::String(text) => Ok(text),
                other => Err(wrong_type("stop", "a string or an array of strings", &other)),
            })
            .collect::<Result<_, _>>()?,
        Some(other) => return Err(wrong_type("stop", "a string or an array of strings", &other)),
    };
    if stops.len() > STOPS_MAX {
        return Err(RequestError::field("stop", format!("has {} strings, at most {STOPS_MAX}", stops.len())));
    }
    if let Some(bad) = stops.iter().find(|stop| stop.is_empty() || stop.len() > STOP_BYTES_MAX) {
        let message = format!("strings must have 1 to {STOP_BYTES_MAX} bytes, one has {}", bad.len());
        return Err(RequestError::field("stop", message));
    }
    Ok(stops.into_iter().map(String::into_bytes).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<GenerateRequest, RequestError> {
        let defaults =
            Defaults { sampling: SamplingParams::default(), seed: None, max_tokens: None, deadline_ms: 60_000 };
        GenerateRequest::parse(body.as_bytes(), &defaults, 7)
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
            (r#"{"prompt": "a", "max_tokens": 0}"#, "max_tokens: must be a whole number from 1 to 4294967295, not 0"),
            (r#"{"prompt": "a", "stream": 1}"#, "stream: must be true or false, not a number"),
            (r#"{"prompt": "a", "stop": [""]}"#, "stop: strings must have 1 to 128 bytes, one has 0"),
            (r#"{"prompt": "a", "stop": [3]}"#, "stop: must be a string or an array of strings, not a number"),
            (r#"{"prompt": "a", "logit_bias": {"x": 1}}"#, "logit_bias: \"x\" is no token id"),
            (r#"{"prompt": "a", "regex": 3}"#, "regex: must be a string, not a number"),
            (r#"{"prompt": "a", "grammar": "b", "regex": "c"}"#, "grammar: give either regex or grammar, not both"),
            (r#"{"prompt": "a", "seed": -4}"#, "seed: must be a whole number at least 0, not -4"),
        ] {
            assert_eq!(parse(body).unwrap_err().to_string(), message, "{body}");
        }
    }

    #[test]
    fn defaults_fill_what_is_not_said_and_unknown_fields_are_named() {
        let request = parse(r#"{"prompt": "a", "stop": "END", "deadline_ms": 999999, "zeal": 1}"#).unwrap();
        assert_eq!(request.sampling, SamplingParams { seed: 7, ..SamplingParams::default() });
        assert_eq!((request.stop, request.deadline_ms), (vec![b"END".to_vec()], 60_000));
        assert_eq!(request.unknown, ["zeal"]);
    }
}
