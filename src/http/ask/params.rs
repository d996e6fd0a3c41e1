//! What a native generation request may say, and the typed form of it.

use serde_json::{Value, json};

use crate::chat::Message;
use crate::http::ask::fields::{Fields, wrong_type};
use crate::http::ask::format::TextFormat;
use crate::http::ask::notes::note;
use crate::http::ask::sampling::{Ends, more};
use crate::http::ask::warnings::{self, warn};
use crate::http::service::Defaults;
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
    pub deadline_ms: Option<u64>,
}

/// The most tokens that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// As many as fit: a client said -1.
    Unbounded,
    Tokens(usize),
}

impl Limit {
    /// The number, where there is one.
    pub fn tokens(self) -> Option<usize> {
        match self {
            Limit::Unbounded => None,
            Limit::Tokens(n) => Some(n),
        }
    }
}

/// Takes a limit of tokens: 0 reads the prompt alone, a negative number means no bound.
pub fn limit(fields: &mut Fields, name: &str) -> Result<Option<Limit>, RequestError> {
    let number = fields.signed(name, i64::MIN..=i64::MAX)?;
    Ok(number.map(|n| usize::try_from(n).map_or(Limit::Unbounded, |n| Limit::Tokens(n.min(u32::MAX as usize)))))
}

/// Takes a deadline in milliseconds from arrival; `longest` is the most that may be asked for, and what counts where
/// nothing is asked for. `None`: the request has none.
pub fn deadline_ms(fields: &mut Fields, longest: Option<u64>) -> Result<Option<u64>, RequestError> {
    let wanted = fields.integer("deadline_ms", 1..=86_400_000)?;
    Ok(wanted.into_iter().chain(longest).min())
}

impl GenerateRequest {
    pub fn parse(body: &[u8], defaults: &Defaults, fresh_seed: u64) -> Result<GenerateRequest, RequestError> {
        let mut fields = Fields::parse(body)?;
        let input = input(&mut fields)?;
        let max_tokens = limit(&mut fields, "max_tokens")?;
        let sampling = sampling(&mut fields, &defaults.sampling, defaults.seed.unwrap_or(fresh_seed))?;
        let stop = stops(&mut fields)?;
        let ends = Ends::take(&mut fields)?;
        let ignore_eos = fields.bool("ignore_eos")?.unwrap_or(false);
        let format = format(&mut fields)?;
        let stream = fields.bool("stream")?.unwrap_or(false);
        let deadline_ms = deadline_ms(&mut fields, defaults.deadline_ms)?;
        Ok(GenerateRequest {
            input,
            max_tokens: max_tokens.map_or(defaults.max_tokens, Limit::tokens),
            sampling,
            stop,
            ends,
            ignore_eos,
            format,
            stream,
            deadline_ms,
        })
        .inspect(|_| warnings::ignored(&fields.unknown()))
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
        repetition_penalty: repetition_penalty(fields)?.unwrap_or(usual.repetition_penalty),
        frequency_penalty: fields.number("frequency_penalty", PENALTIES)?.unwrap_or(usual.frequency_penalty),
        presence_penalty: fields.number("presence_penalty", PENALTIES)?.unwrap_or(usual.presence_penalty),
        penalty_last_n: usual.penalty_last_n,
        top_k: top_k(fields)?.unwrap_or(usual.top_k),
        typical_p: fields.number("typical_p", f32::MIN_POSITIVE..=1.0)?.unwrap_or(usual.typical_p),
        top_p: fields.number("top_p", f32::MIN_POSITIVE..=1.0)?.unwrap_or(usual.top_p),
        min_p: fields.number("min_p", 0.0..=1.0)?.unwrap_or(usual.min_p),
        temperature: fields.number("temperature", 0.0..=100.0)?.unwrap_or(usual.temperature),
        seed: own_seed(fields)?.unwrap_or(seed),
        ..more(fields, usual)?
    })
}

/// OpenAI documents -2 to 2; other servers take more, and a larger one is only a stronger wish.
const PENALTIES: std::ops::RangeInclusive<f32> = -100.0..=100.0;

/// `repeat_penalty` is llama.cpp's name for it; `repetition_penalty` counts where both are given.
fn repetition_penalty(fields: &mut Fields) -> Result<Option<f32>, RequestError> {
    let other = fields.number("repeat_penalty", 0.01..=10.0)?;
    Ok(fields.number("repetition_penalty", 0.01..=10.0)?.or(other))
}

/// A negative number is another way to say 0: all.
fn top_k(fields: &mut Fields) -> Result<Option<usize>, RequestError> {
    let k = fields.signed("top_k", i64::MIN..=i64::MAX)?;
    Ok(k.map(|k| usize::try_from(k).unwrap_or(0)))
}

/// OpenAI's seeds may be negative: the same bits, read without a sign.
fn own_seed(fields: &mut Fields) -> Result<Option<u64>, RequestError> {
    match fields.take_noted("seed", || json!({"type": "integer", "minimum": i64::MIN, "maximum": u64::MAX})) {
        Some(value) if value.as_i64().is_some_and(|seed| seed < 0) => Ok(value.as_i64().map(|seed| seed as u64)),
        Some(value) => {
            fields.put("seed", value);
            fields.integer("seed", 0..=u64::MAX)
        }
        None => Ok(None),
    }
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
    let one = || json!({"type": "string"});
    let value = fields.take_noted("stop", one);
    note("stop", || json!({"type": "array", "items": one()}));
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
    Ok(fitting_stops(stops, "stop"))
}

/// The stop strings that can be looked for: an empty one would end every text before it began, and of too many the first
/// count. `name` is the field that a warning names.
pub fn fitting_stops(stops: Vec<String>, name: &str) -> Vec<Vec<u8>> {
    let (given, mut fit) = (stops.len(), stops);
    fit.retain(|stop| !stop.is_empty() && stop.len() <= STOP_BYTES_MAX);
    fit.truncate(STOPS_MAX);
    if fit.len() < given {
        warn(format!(
            "{name}: {} of {given} strings left out; the first {STOPS_MAX} of 1 to {STOP_BYTES_MAX} bytes count",
            given - fit.len()
        ));
    }
    fit.into_iter().map(String::into_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<GenerateRequest, RequestError> {
        let defaults =
            Defaults { sampling: SamplingParams::default(), seed: None, max_tokens: None, deadline_ms: Some(60_000) };
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
            (r#"{"prompt": "a", "stream": 1}"#, "stream: must be true or false, not a number"),
            (r#"{"prompt": "a", "stop": [3]}"#, "stop: must be a string or an array of strings, not a number"),
            (r#"{"prompt": "a", "logit_bias": {"x": 1}}"#, "logit_bias: \"x\" is no token id"),
            (r#"{"prompt": "a", "regex": 3}"#, "regex: must be a string, not a number"),
            (r#"{"prompt": "a", "grammar": "b", "regex": "c"}"#, "grammar: give either regex or grammar, not both"),
        ] {
            assert_eq!(parse(body).unwrap_err().to_string(), message, "{body}");
        }
    }

    #[test]
    fn what_other_servers_take_is_taken() {
        warnings::forget();
        let body =
            r#"{"prompt": "a", "max_tokens": -1, "seed": -4, "top_k": -1, "stop": ["", "x"], "repeat_penalty": 1.5}"#;
        let request = parse(body).unwrap();
        assert_eq!((request.max_tokens, request.sampling.seed, request.sampling.top_k), (None, -4_i64 as u64, 0));
        assert_eq!((request.stop, request.sampling.repetition_penalty), (vec![b"x".to_vec()], 1.5));
        assert!(warnings::value().unwrap().starts_with("stop: 1 of 2 strings left out"));
        assert_eq!(parse(r#"{"prompt": "a", "max_tokens": 0}"#).unwrap().max_tokens, Some(0));
        let penalty = parse(r#"{"prompt": "a", "presence_penalty": 3}"#).unwrap().sampling.presence_penalty;
        assert_eq!(penalty, 3.0);
    }

    #[test]
    fn defaults_fill_what_is_not_said_and_unknown_fields_are_named() {
        warnings::forget();
        let request = parse(r#"{"prompt": "a", "stop": "END", "deadline_ms": 999999, "zeal": 1}"#).unwrap();
        assert_eq!(request.sampling, SamplingParams { seed: 7, ..SamplingParams::default() });
        assert_eq!((request.stop, request.deadline_ms), (vec![b"END".to_vec()], Some(60_000)));
        assert_eq!(warnings::value().as_deref(), Some("ignored unknown fields: zeal"));
    }
}
