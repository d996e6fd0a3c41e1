//! The body of `/v1/completions`, checked as far as that goes without the model.

use serde_json::{Value, json};

use super::options::{CHOICES_MAX, Options, top_logprobs};
use super::tools::text_format;
use crate::http::ask::fields::{Fields, wrong_type};
use crate::http::ask::format::TextFormat;
use crate::http::ask::notes::note;
use crate::http::ask::warnings;
use crate::http::service::Defaults;
use crate::types::limits::EMBED_INPUTS_MAX;
use crate::types::{RequestError, Token};

/// Prompts of one request; a server has fewer places for generations by far, and says so.
const PROMPTS_MAX: usize = EMBED_INPUTS_MAX;

/// One text to go on with.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    Text(String),
    Tokens(Vec<Token>),
}

/// A request to go on with texts.
#[derive(Debug)]
pub struct CompletionRequest {
    pub prompts: Vec<Prompt>,
    pub options: Options,
    /// Answers to generate for each prompt; the best `options.n` are shown.
    pub best_of: usize,
    pub echo: bool,
    /// What follows the text to be filled in.
    pub suffix: Option<String>,
    pub logprobs: Option<usize>,
    pub format: TextFormat,
}

impl CompletionRequest {
    pub fn parse(body: &[u8], defaults: &Defaults, fresh_seed: u64) -> Result<CompletionRequest, RequestError> {
        let mut fields = Fields::parse(body)?;
        let prompts = match fields.take_noted("prompt", || json!({"type": "string", "minLength": 1})) {
            None => return Err(RequestError::field("prompt", "is missing")),
            Some(value) => prompts(value, "prompt")?,
        };
        let options = Options::take(&mut fields, defaults, fresh_seed)?;
        let best_of = fields.integer("best_of", 1..=CHOICES_MAX)?.map_or(options.n, |n| n as usize);
        if best_of < options.n {
            return Err(RequestError::field("best_of", format!("must be at least n, which is {}", options.n)));
        }
        if best_of > options.n && options.stream {
            return Err(RequestError::field("best_of", "can't be streamed: the best is known at the end"));
        }
        let echo = fields.bool("echo")?.unwrap_or(false);
        let suffix = fields.string("suffix")?.filter(|suffix| !suffix.is_empty());
        let logprobs = top_logprobs(&mut fields, "logprobs")?;
        if echo && logprobs.is_some() && suffix.is_some() {
            return Err(RequestError::field("logprobs", "of an echoed prompt with a suffix aren't known"));
        }
        let format = text_format(&mut fields)?;
        if options.reasoning_tokens_max.is_some() {
            warnings::warn("reasoning_budget_tokens: ignored, which part of a completion is a thought is not known");
        }
        warnings::ignored(&fields.unknown());
        Ok(CompletionRequest { prompts, options, best_of, echo, suffix, logprobs, format })
    }
}

/// The texts in field `name`: a string, strings, token ids or arrays of them.
pub(in crate::http) fn prompts(value: Value, name: &str) -> Result<Vec<Prompt>, RequestError> {
    const WANTED: &str = "a string, an array of strings, of token ids, or of arrays of token ids";
    let id = || json!({"type": "integer", "minimum": 0, "maximum": u32::MAX});
    let entry = format!("{name}[]");
    note(name, || json!({"type": "array", "minItems": 1}));
    note(&entry, || json!({"type": "string", "minLength": 1}));
    note(&entry, id);
    note(&entry, || json!({"type": "array", "minItems": 1, "items": id()}));
    let list = match value {
        Value::String(text) => return Ok(vec![text_prompt(text, name)?]),
        Value::Array(list) => list,
        other => return Err(wrong_type(name, WANTED, &other)),
    };
    match list.first() {
        None => Err(RequestError::field(name, "must not be empty")),
        Some(Value::Number(_)) => Ok(vec![Prompt::Tokens(tokens(&list, name)?)]),
        _ if list.len() > PROMPTS_MAX => {
            Err(RequestError::field(name, format!("has {} texts, at most {PROMPTS_MAX}", list.len())))
        }
        _ => {
            let entries = list.into_iter().enumerate().map(|(i, entry)| {
                let path = format!("{name}[{i}]");
                match entry {
                    Value::String(text) => text_prompt(text, &path),
                    Value::Array(ids) if !ids.is_empty() => Ok(Prompt::Tokens(tokens(&ids, &path)?)),
                    Value::Array(_) => Err(RequestError::field(path, "must not be empty")),
                    other => Err(wrong_type(&path, WANTED, &other)),
                }
            });
            entries.collect()
        }
    }
}

fn text_prompt(text: String, path: &str) -> Result<Prompt, RequestError> {
    if text.is_empty() { Err(RequestError::field(path, "must not be empty")) } else { Ok(Prompt::Text(text)) }
}

fn tokens(ids: &[Value], path: &str) -> Result<Vec<Token>, RequestError> {
    let token = |(i, id): (usize, &Value)| match id.as_u64().and_then(|id| u32::try_from(id).ok()) {
        Some(id) => Ok(Token(id)),
        None => Err(RequestError::field(format!("{path}[{i}]"), format!("must be a token id, not {id}"))),
    };
    ids.iter().enumerate().map(token).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SamplingParams;

    fn parse(body: Value) -> Result<CompletionRequest, RequestError> {
        let defaults =
            Defaults { sampling: SamplingParams::default(), seed: None, max_tokens: None, deadline_ms: Some(60_000) };
        CompletionRequest::parse(body.to_string().as_bytes(), &defaults, 7)
    }

    #[test]
    fn every_refusal_names_its_param() {
        for (body, param) in [
            (json!({}), "prompt"),
            (json!({"prompt": ""}), "prompt"),
            (json!({"prompt": []}), "prompt"),
            (json!({"prompt": {}}), "prompt"),
            (json!({"prompt": vec!["a"; 2049]}), "prompt"),
            (json!({"prompt": ["a", ""]}), "prompt[1]"),
            (json!({"prompt": ["a", 3]}), "prompt[1]"),
            (json!({"prompt": [3, "a"]}), "prompt[1]"),
            (json!({"prompt": [3, -1]}), "prompt[1]"),
            (json!({"prompt": [[3], [4, 1.5]]}), "prompt[1][1]"),
            (json!({"prompt": [[3], []]}), "prompt[1]"),
            (json!({"prompt": "a", "n": 3, "best_of": 2}), "best_of"),
            (json!({"prompt": "a", "best_of": 17}), "best_of"),
            (json!({"prompt": "a", "best_of": 2, "stream": true}), "best_of"),
            (json!({"prompt": "a", "echo": 1}), "echo"),
            (json!({"prompt": "a", "suffix": 1}), "suffix"),
            (json!({"prompt": "a", "logprobs": true}), "logprobs"),
            (json!({"prompt": "a", "logprobs": 21}), "logprobs"),
            (json!({"prompt": "a", "logprobs": 1, "echo": true, "suffix": "b"}), "logprobs"),
            (json!({"prompt": "a", "regex": 1}), "regex"),
        ] {
            match parse(body.clone()) {
                Err(RequestError::Field { field, .. }) => assert_eq!(field, param, "{body}"),
                other => panic!("{body}: {other:?}"),
            }
        }
    }

    #[test]
    fn prompts_come_in_four_shapes() {
        let prompts = |prompt: Value| parse(json!({"prompt": prompt})).unwrap().prompts;
        let (text, ids) = (Prompt::Text("a".into()), Prompt::Tokens(vec![Token(3), Token(4)]));
        assert_eq!(prompts(json!("a")), vec![text.clone()]);
        assert_eq!(prompts(json!(["a", "a"])), [text.clone(), text]);
        assert_eq!(prompts(json!([3, 4])), vec![ids.clone()]);
        assert_eq!(prompts(json!([[3, 4], [3, 4]])), [ids.clone(), ids]);
    }
}
