//! Texts and token ids in the forms that requests use. Pure.

use serde_json::{Value, json};

use super::fields::wrong_type;
use super::generation::PromptPart;
use super::notes::note;
use super::warnings::warn;
use crate::types::limits::EMBED_INPUTS_MAX;
use crate::types::{RequestError, Token};

/// One text, or its tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum TextOrTokens {
    /// A text.
    Text(String),
    /// The tokens of a text.
    Tokens(Vec<Token>),
}

impl TextOrTokens {
    /// The input as parts of a prompt.
    pub fn parts(self) -> Vec<PromptPart> {
        match self {
            TextOrTokens::Text(text) => vec![PromptPart::Text(text)],
            TextOrTokens::Tokens(tokens) => tokens.into_iter().map(PromptPart::Token).collect(),
        }
    }
}

/// Whether `value` is a list of inputs, rather than the tokens of one.
pub fn is_list(value: &Value) -> bool {
    value.as_array().and_then(|list| list.first()).is_some_and(|first| !first.is_number())
}

/// The inputs in the field `name`: a string, strings, token ids or arrays of token ids.
///
/// # Errors
/// It has another form; a text is empty; there are too many.
pub fn prompts(value: Value, name: &str) -> Result<Vec<TextOrTokens>, RequestError> {
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
        Some(Value::Number(_)) => Ok(vec![TextOrTokens::Tokens(tokens(&list, name)?)]),
        _ if list.len() > EMBED_INPUTS_MAX => {
            Err(RequestError::field(name, format!("has {} texts, at most {EMBED_INPUTS_MAX}", list.len())))
        }
        _ => {
            let entries = list.into_iter().enumerate().map(|(i, entry)| {
                let path = format!("{name}[{i}]");
                match entry {
                    Value::String(text) => text_prompt(text, &path),
                    Value::Array(ids) if !ids.is_empty() => Ok(TextOrTokens::Tokens(tokens(&ids, &path)?)),
                    Value::Array(_) => Err(RequestError::field(path, "must not be empty")),
                    other => Err(wrong_type(&path, WANTED, &other)),
                }
            });
            entries.collect()
        }
    }
}

fn text_prompt(text: String, path: &str) -> Result<TextOrTokens, RequestError> {
    if text.is_empty() { Err(RequestError::field(path, "must not be empty")) } else { Ok(TextOrTokens::Text(text)) }
}

fn tokens(ids: &[Value], path: &str) -> Result<Vec<Token>, RequestError> {
    let token = |(i, id): (usize, &Value)| match id.as_u64().and_then(|id| u32::try_from(id).ok()) {
        Some(id) => Ok(Token(id)),
        None => Err(RequestError::field(format!("{path}[{i}]"), format!("must be a token id, not {id}"))),
    };
    ids.iter().enumerate().map(token).collect()
}

/// The text that replaces a part which a text model can't read, such as `[image]`. A warning names its place.
pub fn unreadable(kind: &str, place: &str) -> String {
    warn(format!("{place}: this model reads text alone; {kind} became a note"));
    let kind = match kind {
        "image_url" | "input_image" | "image" => "image",
        "input_audio" | "audio" => "audio",
        "file" | "input_file" | "document" => "document",
        other => other,
    };
    format!("[{kind}]")
}
