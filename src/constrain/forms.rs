//! Tool calls as grammars, in a form that was read from the model's template (`chat::CallForm`).

use serde_json::{Value, json};

use super::json::with_json_options;
use super::literal::RulesWriter;
use super::tools::{Marks, Tool, ToolChoice, arguments, chosen, mark, quoted, size};
use crate::chat::{Arguments, Bit, CallForm, Tagged, first_mark, marks_in};
use crate::types::RequestError;

#[cfg(test)]
mod tests;

/// The grammar of an answer. `None`: the answer is free.
///
/// # Errors
/// A tool or the choice can't be used; the refusal names `tools` or `tool_choice`.
pub fn to_lark(
    form: &CallForm,
    tools: &[Tool],
    choice: &ToolChoice,
    parallel: bool,
    marks: Marks<'_>,
) -> Result<Option<String>, RequestError> {
    let Some(chosen) = chosen(tools, choice)? else { return Ok(None) };
    // In this form a plain answer has a name, too, and any text may follow it.
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

/// The start rule: the text around calls, and free text beside them if no call is required.
fn frame(form: &CallForm, is_auto: bool, several: bool, marks: Marks<'_>) -> String {
    let first = format!("{}{}", form.open, form.lead());
    let first = first.trim_start();
    let (more, close) = (literal(&format!("{}{}", form.between, form.lead()), marks), literal(&form.close, marks));
    let list = if several { format!("one ({more} one)* {close}") } else { format!("one {close}") };
    if !is_auto {
        // The prompt already ends with this text.
        let first = if form.has_begun { "" } else { first };
        return format!("start: {} {list}\n", literal(first, marks));
    }
    if form.is_bare_list() {
        // A text that doesn't begin with a bracket is no call.
        return format!(
            "start: {} {list} | TEXT\nTEXT: /[ \\t\\r\\n]*([^ \\t\\r\\n\\[](?s:.*))?/\n",
            literal(first, marks)
        );
    }
    let trigger = form.trigger();
    let behind = literal(&first[trigger.len().min(first.len())..], marks);
    // If no mark ends the list of calls, each call may have text before it.
    let start = if several && form.close.trim().is_empty() {
        // If a mark begins the list of calls, further calls follow without it.
        let next = if form.open.is_empty() { String::new() } else { format!(" ({more} one)*") };
        format!("start: (before {behind} one{next})* AFTER\n")
    } else {
        format!("start: before {behind} {list} | AFTER\n")
    };
    let text = match marks(trigger) {
        Some(token) => format!("before: AFTER <[{}]>\nAFTER: /(?s:.*)/\n", token.0),
        None => {
            // Free text must not contain the mark of a call, or it would continue where a call begins.
            let lead = first_mark(form.lead().trim_start());
            let before = if lead == trigger { without(&[]) } else { without(&[lead]) };
            format!(
                "before[suffix={}]: BEFORE\nBEFORE: {before}\nAFTER: {}\n",
                quoted(trigger),
                without(&[trigger, lead])
            )
        }
    };
    start + &text
}

/// The grammar of the text that a model with this form writes before a text of another grammar. `None`: it writes none.
pub fn before_text(form: &CallForm, marks: Marks<'_>) -> Option<String> {
    (!form.before_text.is_empty()).then(|| format!("start: {}\n", literal(&form.before_text, marks)))
}

/// The rule of a call of one tool, from its name or its object on.
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
                        let (sequence, own) = RulesWriter::new(notation, &schema, rule, marks).arguments();
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

/// The arguments in the schema, in its order; optional ones may be left out. Returns an expression, and the rules that
/// it refers to.
fn tagged_arguments(tagged: &Tagged, schema: &Value, rule: &str, marks: Marks<'_>) -> (String, String) {
    let mut rules = String::new();
    let properties: Vec<(&String, &Value)> = schema["properties"].as_object().into_iter().flatten().collect();
    // Built from the last argument to the first: what may follow if no argument is written yet, and if one is.
    let (mut at_first, mut later) = ("\"\"".to_owned(), "\"\"".to_owned());
    for (index, (key, property)) in properties.into_iter().enumerate().rev() {
        let name = format!("{rule}_{index}");
        let (values, own) = tagged_values(tagged, property, schema, &name, marks);
        rules += &own;
        let is_required = schema["required"].as_array().is_some_and(|list| list.iter().any(|name| name == key));
        let mut argument = |before: &str, what: &str, without: &str| {
            // Everything up to the value is one literal, because the text between two arguments may begin like the text
            // after the last.
            let way = |(open, value): &(&str, String)| {
                format!("{} {value} {later}", literal(&format!("{before}{}{key}{open}", tagged.key_open), marks))
            };
            let mut ways: Vec<String> = values.iter().map(way).collect();
            if !is_required {
                ways.push(without.to_owned());
            }
            rules += &format!("{name}_{what}: {}\n", ways.join(" | "));
            format!("{name}_{what}")
        };
        (at_first, later) = (argument("", "first", &at_first), argument(&tagged.between, "later", &later));
    }
    (at_first, rules)
}

/// For each mark that opens a value of this schema: what may follow it, and the mark that closes the value. Also the
/// rules that these refer to.
fn tagged_values<'a>(
    tagged: &'a Tagged,
    property: &Value,
    schema: &Value,
    name: &str,
    marks: Marks<'_>,
) -> (Vec<(&'a str, String)>, String) {
    let close = literal(&tagged.close, marks);
    let texts = match property["enum"].as_array() {
        Some(list) => list.iter().map(Value::as_str).collect::<Option<Vec<_>>>(),
        None => None,
    };
    let json = || {
        let mut property = property.clone();
        if let Some(property) = property.as_object_mut() {
            for key in ["$defs", "definitions"] {
                property.extend(schema.get(key).map(|defs| (key.to_owned(), defs.clone())));
            }
        }
        format!("{name}_json: %json {} {close}\n", with_json_options(&property))
    };
    let free = || {
        let (end, upper) = (first_mark(tagged.close.trim_start()), name.to_uppercase());
        let behind = tagged.close.find(end).map_or("", |at| &tagged.close[at + end.len()..]);
        let text = match marks(end) {
            Some(token) => format!("{name}_free: {upper}_TEXT <[{}]>\n", token.0),
            None => format!("{name}_free[suffix={}]: {upper}_TEXT\n", quoted(end)),
        };
        format!("{name}_text: {name}_free {}\n{text}{upper}_TEXT: /(?s:.*)/\n", literal(behind, marks))
    };
    let as_text = (&*tagged.text_open, format!("{name}_text"));
    let as_json = (&*tagged.other_open, format!("{name}_json"));
    match (texts, kinds(property)) {
        (Some(texts), _) => {
            let texts: Vec<String> = texts.iter().map(|text| literal(text, marks)).collect();
            (vec![as_text], format!("{name}_text: ({}) {close}\n", texts.join(" | ")))
        }
        (None, Kinds::Text) => (vec![as_text], free()),
        (None, Kinds::Other) => (vec![as_json], json()),
        // The schema allows both strings and other values. If the marks distinguish the two, both are possible;
        // otherwise any text.
        (None, Kinds::Any) if tagged.text_open == tagged.other_open => (vec![as_text], free()),
        (None, Kinds::Any) => (vec![as_text, as_json], free() + &json()),
    }
}

/// Which kinds of values a schema allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kinds {
    Text,
    /// Values that are no strings.
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

/// A literal as a grammar expression; marks that are control tokens become those tokens.
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

/// Characters that are operators of an expression, and the slash that ends one in a grammar. `<` and `>` aren't
/// escaped: after a backslash they would mean the beginning and end of a word.
const SPECIAL: &str = r"\.+*?()|[]{}^$#&-~/";

/// A terminal for text that contains none of these marks.
fn without(marks: &[&str]) -> String {
    let escaped = |mark: &&str| {
        let escape = |c: char| if SPECIAL.contains(c) { format!("\\{c}") } else { c.to_string() };
        mark.chars().map(escape).collect::<String>()
    };
    let marks: Vec<String> = marks.iter().filter(|mark| !mark.is_empty()).map(escaped).collect();
    if marks.is_empty() {
        return "/(?s:.*)/".to_owned();
    }
    format!("/(?s:.*)/ & ~/(?s:.*({}).*)/", marks.join("|"))
}
