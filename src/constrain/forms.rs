//! Tool calls as grammars, in a form that was read from the model's template (`chat::CallForm`).

use serde_json::{Value, json};

use super::compile::with_json_options;
use super::literal::Writer;
use super::tools::{Marks, Tool, ToolChoice, arguments, chosen, mark, quoted, size};
use crate::chat::{Arguments, Bit, CallForm, Tagged, first_mark, marks_in};
use crate::types::RequestError;

#[cfg(test)]
mod tests;

/// The grammar of an answer, `None` if it is free.
///
/// # Errors
/// Names `tools` or `tool_choice`.
pub fn to_lark(
    form: &CallForm,
    tools: &[Tool],
    choice: &ToolChoice,
    parallel: bool,
    marks: Marks<'_>,
) -> Result<Option<String>, RequestError> {
    let Some(chosen) = chosen(tools, choice)? else { return Ok(None) };
    // Text has a name there, and may be anything.
    if form.has_begun && *choice == ToolChoice::Auto {
        return Ok(None);
    }
    let mut lark = frame(form, *choice == ToolChoice::Auto, parallel && form.parallel, marks);
    let names: Vec<String> = (0..chosen.len()).map(|i| format!("call_{i}")).collect();
    lark += &format!("one: {}\n", names.join(" | "));
    for (tool, rule) in chosen.iter().zip(&names) {
        lark += &call(form, tool, rule, marks)?;
    }
    size(&lark)?;
    Ok(Some(lark))
}

/// What stands around calls, and free text beside them where no call is required.
fn frame(form: &CallForm, is_auto: bool, several: bool, marks: Marks<'_>) -> String {
    let first = format!("{}{}", form.open, form.lead());
    let first = first.trim_start();
    let (more, close) = (literal(&format!("{}{}", form.between, form.lead()), marks), literal(&form.close, marks));
    let list = if several { format!("one ({more} one)* {close}") } else { format!("one {close}") };
    if !is_auto {
        // The prompt ends with it.
        let first = if form.has_begun { "" } else { first };
        return format!("start: {} {list}\n", literal(first, marks));
    }
    let trigger = form.trigger();
    let behind = literal(&first[trigger.len().min(first.len())..], marks);
    // Without a mark behind all calls, each may have text before it.
    let start = if several && form.close.trim().is_empty() {
        format!("start: (before {behind} one)* AFTER\n")
    } else {
        format!("start: before {behind} {list} | AFTER\n")
    };
    let text = match marks(trigger) {
        Some(token) => format!("before: AFTER <[{}]>\nAFTER: /(?s:.*)/\n", token.0),
        None => format!("before[suffix={}]: ANY\nANY: /(?s:.*)/\nAFTER: {}\n", quoted(trigger), without(trigger)),
    };
    start + &text
}

/// What a model with this form writes before a text of another grammar, as a grammar. `None`: nothing.
pub fn before_text(form: &CallForm, marks: Marks<'_>) -> Option<String> {
    (!form.before_text.is_empty()).then(|| format!("start: {}\n", literal(&form.before_text, marks)))
}

/// A call of one tool, from its name or its object on.
fn call(form: &CallForm, tool: &Tool, rule: &str, marks: Marks<'_>) -> Result<String, RequestError> {
    let mut parts = Vec::new();
    let mut rules = String::new();
    for (index, bit) in form.call.iter().enumerate() {
        parts.push(match bit {
            Bit::Text(text) if index == 0 => literal(&text[form.lead().len()..], marks),
            Bit::Text(text) => literal(text, marks),
            Bit::Name => quoted(&tool.name),
            Bit::Id => "/[a-zA-Z0-9]{9}/".to_owned(),
            Bit::Index => "/[0-9]/".to_owned(),
            Bit::Arguments => {
                let schema = arguments(tool)?;
                match &form.arguments {
                    Arguments::Json => format!("%json {schema}"),
                    Arguments::Literal(notation) => {
                        let (sequence, own) = Writer::new(notation, &schema, rule, marks).arguments();
                        rules += &own;
                        sequence
                    }
                    Arguments::Tagged(tagged) => {
                        let (sequence, own) = tagged_arguments(tagged, &schema, rule, marks);
                        rules += &own;
                        sequence
                    }
                }
            }
        });
    }
    Ok(format!("{rule}: {}\n{rules}", parts.join(" ")))
}

/// The arguments that a schema names, in its order, as a sequence of rules, and these.
fn tagged_arguments(tagged: &Tagged, schema: &Value, rule: &str, marks: Marks<'_>) -> (String, String) {
    let (mut sequence, mut rules) = (Vec::new(), String::new());
    let required = |key: &str| schema["required"].as_array().is_some_and(|list| list.iter().any(|name| name == key));
    for (index, (key, property)) in schema["properties"].as_object().into_iter().flatten().enumerate() {
        let name = format!("{rule}_{index}");
        if index > 0 && !tagged.between.is_empty() {
            sequence.push(format!("({})?", literal(&tagged.between, marks)));
        }
        sequence.push(if required(key) { name.clone() } else { format!("{name}?") });
        let open = |open: &str| literal(&format!("{}{key}{open}", tagged.key_open), marks);
        let close = literal(&tagged.close, marks);
        let texts = match property["enum"].as_array() {
            Some(list) => list.iter().map(Value::as_str).collect::<Option<Vec<_>>>(),
            None => None,
        };
        let kinds = kinds(property);
        let json = || {
            let mut property = property.clone();
            if let Some(property) = property.as_object_mut() {
                for key in ["$defs", "definitions"] {
                    property.extend(schema.get(key).map(|defs| (key.to_owned(), defs.clone())));
                }
            }
            format!("{} %json {} {close}", open(&tagged.other_open), with_json_options(&property))
        };
        let free = || {
            let end = first_mark(tagged.close.trim_start());
            let behind = tagged.close.find(end).map_or("", |at| &tagged.close[at + end.len()..]);
            let text = match marks(end) {
                Some(token) => format!("{name}_text: {}_TEXT <[{}]>\n", name.to_uppercase(), token.0),
                None => format!("{name}_text[suffix={}]: {}_TEXT\n", quoted(end), name.to_uppercase()),
            };
            let rules = format!("{text}{}_TEXT: /(?s:.*)/\n", name.to_uppercase());
            (format!("{} {name}_text {}", open(&tagged.text_open), literal(behind, marks)), rules)
        };
        rules += &match (texts, kinds) {
            (Some(texts), _) => {
                let texts: Vec<String> = texts.iter().map(|text| literal(text, marks)).collect();
                format!("{name}: {} ({}) {close}\n", open(&tagged.text_open), texts.join(" | "))
            }
            (None, Kinds::Text) => {
                let (sequence, rules) = free();
                format!("{name}: {sequence}\n{rules}")
            }
            (None, Kinds::Other) => format!("{name}: {}\n", json()),
            // Both are possible; where the marks say which it is, both ways, and else any text.
            (None, Kinds::Any) => {
                let (sequence, rules) = free();
                let other =
                    if tagged.text_open == tagged.other_open { String::new() } else { format!(" | {}", json()) };
                format!("{name}: {sequence}{other}\n{rules}")
            }
        };
    }
    (sequence.join(" "), rules)
}

/// What a schema's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kinds {
    Text,
    /// No string.
    Other,
    Any,
}

fn kinds(schema: &Value) -> Kinds {
    match &schema["type"] {
        Value::String(kind) if kind == "string" => Kinds::Text,
        Value::String(_) => Kinds::Other,
        Value::Array(list) if !list.contains(&json!("string")) => Kinds::Other,
        _ => match schema["anyOf"].as_array() {
            Some(list) if list.iter().all(|schema| kinds(schema) == Kinds::Other) => Kinds::Other,
            _ => Kinds::Any,
        },
    }
}

/// A literal as a grammar has it, marks that are control tokens as these.
fn literal(text: &str, marks: Marks<'_>) -> String {
    let (mut parts, mut rest) = (Vec::new(), text);
    for found in marks_in(text).into_iter().filter(|found| marks(found).is_some()) {
        let Some((before, behind)) = rest.split_once(found) else { continue };
        if !before.is_empty() {
            parts.push(quoted(before));
        }
        parts.push(mark(found, marks));
        rest = behind;
    }
    if !rest.is_empty() {
        parts.push(quoted(rest));
    }
    parts.join(" ")
}

/// Text without a mark, as a terminal.
fn without(mark: &str) -> String {
    let mut escaped = String::new();
    for c in mark.chars() {
        if c.is_ascii_punctuation() {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    format!("/(?s:.*)/ & ~/(?s:.*{escaped}.*)/")
}
