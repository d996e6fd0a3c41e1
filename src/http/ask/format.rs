//! The format that a client wants its text in. Pure.

use serde_json::{Value, json};

use super::fields::{Fields, wrong_type};
use crate::types::RequestError;

/// The format of a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum TextFormat {
    /// Any text.
    #[default]
    Any,
    /// A JSON object.
    JsonObject,
    /// JSON that follows this schema. A schema that can't be compiled is refused.
    JsonSchema(Value),
    /// JSON that follows this schema. Parts that can't be compiled are dropped.
    LenientSchema(Value),
    /// Text that this regular expression matches completely.
    Regex(String),
    /// Text of this grammar, Lark's or llama.cpp's.
    Grammar(String),
    /// Text, or calls of tools in the model's own style.
    ToolCalls {
        /// The tools, as the client sent them.
        tools: Vec<Value>,
        /// Whether there must be a call.
        required: bool,
        /// The tool that must be called.
        named: Option<String>,
        /// Whether there may be several calls.
        parallel: bool,
        /// The format of the text if there is no call. `None`: any text.
        text: Option<Box<Format>>,
    },
}

/// A format, and the field of the request that asked for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Format {
    /// The format.
    pub text: TextFormat,
    /// The field, for refusals.
    pub field: &'static str,
}

/// Takes the fields by which vLLM, llama-server and cllm ask for a format, on every route: `grammar`, `regex`,
/// `json_schema`, `guided_*`, `structured_outputs`. `own` is the format that the dialect's own field asks for. At most
/// one of all may be set.
///
/// # Errors
/// A field has the wrong type; two fields are set.
pub fn format(fields: &mut Fields, own: Option<Format>) -> Result<Format, RequestError> {
    let mut asked = Asked(own);
    asked.also(grammar(fields, "grammar", "grammar")?)?;
    asked.also(regex(fields, "regex", "regex")?)?;
    asked.also(schema(fields, "json_schema", "json_schema")?)?;
    asked.also(schema(fields, "guided_json", "guided_json")?)?;
    asked.also(regex(fields, "guided_regex", "guided_regex")?)?;
    asked.also(grammar(fields, "guided_grammar", "guided_grammar")?)?;
    asked.also(one_of(fields, "guided_choice", "guided_choice")?)?;
    if let Some(value) = fields.take("structured_outputs") {
        let mut outputs = Fields::nested(value, "structured_outputs")?;
        asked.also(schema(&mut outputs, "json", "structured_outputs.json")?)?;
        asked.also(regex(&mut outputs, "regex", "structured_outputs.regex")?)?;
        asked.also(grammar(&mut outputs, "grammar", "structured_outputs.grammar")?)?;
        asked.also(one_of(&mut outputs, "choice", "structured_outputs.choice")?)?;
        let wanted = outputs.bool("json_object")?.unwrap_or(false);
        let object = Format { text: TextFormat::JsonObject, field: "structured_outputs.json_object" };
        asked.also(wanted.then_some(object))?;
    }
    Ok(asked.0.unwrap_or_default())
}

/// The format that was asked for so far.
struct Asked(Option<Format>);

impl Asked {
    /// Adds another format.
    ///
    /// # Errors
    /// There is one already.
    fn also(&mut self, next: Option<Format>) -> Result<(), RequestError> {
        match (&self.0, next) {
            (_, None) => Ok(()),
            (Some(first), Some(second)) => {
                let message = format!("give either {} or {}, not both", first.field, second.field);
                Err(RequestError::field(second.field, message))
            }
            (None, next) => {
                self.0 = next;
                Ok(())
            }
        }
    }
}

/// Takes a grammar. An empty one counts as absent: clients send it if they have none.
fn grammar(fields: &mut Fields, name: &str, field: &'static str) -> Result<Option<Format>, RequestError> {
    let text = fields.string(name)?.filter(|text| !text.is_empty());
    Ok(text.map(|text| Format { text: TextFormat::Grammar(text), field }))
}

fn regex(fields: &mut Fields, name: &str, field: &'static str) -> Result<Option<Format>, RequestError> {
    Ok(fields.string(name)?.map(|text| Format { text: TextFormat::Regex(text), field }))
}

fn schema(fields: &mut Fields, name: &str, field: &'static str) -> Result<Option<Format>, RequestError> {
    fields.take_noted(name, any_schema).map(|value| lenient(value, field)).transpose()
}

/// The OpenAPI schema of a JSON schema.
pub fn any_schema() -> Value {
    json!({"type": ["object", "boolean"]})
}

/// The format of a schema, from `field`, that the text follows as far as the schema can be compiled. Some clients send
/// the schema as JSON in a string.
///
/// # Errors
/// It is neither an object nor a boolean.
pub fn lenient(value: Value, field: &'static str) -> Result<Format, RequestError> {
    let schema = match value {
        Value::String(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        other => other,
    };
    match schema {
        Value::Object(_) | Value::Bool(_) => Ok(Format { text: TextFormat::LenientSchema(schema), field }),
        other => Err(wrong_type(field, "an object", &other)),
    }
}

/// A choice of texts as a regular expression. A schema with `enum` would put quotes around them.
fn one_of(fields: &mut Fields, name: &str, field: &'static str) -> Result<Option<Format>, RequestError> {
    let Some(list) = fields.array(name, usize::MAX)? else { return Ok(None) };
    let texts: Option<Vec<String>> = list.iter().map(|text| text.as_str().map(regex_of)).collect();
    match texts {
        Some(texts) if !texts.is_empty() => {
            Ok(Some(Format { text: TextFormat::Regex(format!("({})", texts.join("|"))), field }))
        }
        _ => Err(RequestError::field(field, "must be an array of strings, at least one")),
    }
}

/// The regular expression that matches only `text`.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: Value) -> Result<Format, RequestError> {
        format(&mut Fields::parse(body.to_string().as_bytes()).unwrap(), None)
    }

    #[test]
    fn each_name_asks_for_its_shape_and_two_are_refused() {
        let object = json!({"type": "object"});
        for (body, text, field) in [
            (json!({}), TextFormat::Any, ""),
            (json!({"grammar": ""}), TextFormat::Any, ""),
            (json!({"grammar": "start: \"a\""}), TextFormat::Grammar("start: \"a\"".into()), "grammar"),
            (json!({"json_schema": object}), TextFormat::LenientSchema(object.clone()), "json_schema"),
            (json!({"guided_json": object.to_string()}), TextFormat::LenientSchema(object.clone()), "guided_json"),
            (json!({"guided_choice": ["a.b", "c"]}), TextFormat::Regex("(a\\.b|c)".into()), "guided_choice"),
            (
                json!({"structured_outputs": {"regex": "a+"}}),
                TextFormat::Regex("a+".into()),
                "structured_outputs.regex",
            ),
        ] {
            assert_eq!(of(body.clone()).unwrap(), Format { text, field }, "{body}");
        }
        let both = of(json!({"grammar": "b", "regex": "c"})).unwrap_err();
        assert_eq!(both.to_string(), "regex: give either grammar or regex, not both");
    }
}
