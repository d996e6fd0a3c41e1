//! JSON and messages as values of a template, which print as Python's dicts and lists do, also inside other texts.

use std::collections::HashMap;
use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{Enumerator, Object, ObjectRepr};

use super::message::Message;
use super::python_print::repr;

/// Maps of up to this many entries are searched from end to end, without an index.
const SCANNED_MAX: usize = 12;

/// Makes the template's value of a text in the request.
pub type OfText<'a> = dyn Fn(&str) -> Value + 'a;

/// A dict that keeps the order of its keys.
#[derive(Debug)]
struct Dict {
    entries: Vec<(Value, Value)>,
    /// The index of each key, if there are more than `SCANNED_MAX`.
    index: HashMap<String, usize>,
}

impl Dict {
    fn value(entries: Vec<(Value, Value)>) -> Value {
        let key = |(i, (key, _)): (usize, &(Value, Value))| Some((key.as_str()?.to_owned(), i));
        let is_long = entries.len() > SCANNED_MAX;
        let index = if is_long { entries.iter().enumerate().filter_map(key).collect() } else { HashMap::new() };
        Value::from_object(Dict { entries, index })
    }
}

impl Object for Dict {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        let at = match self.index.is_empty() {
            true => self.entries.iter().position(|(name, _)| name.as_str() == Some(key))?,
            false => *self.index.get(key)?,
        };
        Some(self.entries[at].1.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.entries.iter().map(|(key, _)| key.clone()).collect())
    }

    fn render(self: &Arc<Self>, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&repr(&Value::from_dyn_object(Arc::clone(self))))
    }
}

/// A list.
#[derive(Debug)]
struct Items(Vec<Value>);

impl Object for Items {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(usize::try_from(key.clone()).ok()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }

    fn render(self: &Arc<Self>, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&repr(&Value::from_dyn_object(Arc::clone(self))))
    }
}

/// A list value that prints as Python's lists do.
pub fn list(items: Vec<Value>) -> Value {
    Value::from_object(Items(items))
}

/// The value of JSON; `text` makes keys and strings.
pub fn of_json(json: &serde_json::Value, text: &OfText<'_>) -> Value {
    match json {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(flag) => Value::from(*flag),
        serde_json::Value::Number(_) => Value::from_serialize(json),
        serde_json::Value::String(string) => text(string),
        serde_json::Value::Array(items) => list(items.iter().map(|item| of_json(item, text)).collect()),
        serde_json::Value::Object(map) => {
            Dict::value(map.iter().map(|(key, item)| (text(key), of_json(item, text))).collect())
        }
    }
}

/// The value of a turn, with its thought under the key `thought`. Missing fields have no key, except `content`, which
/// is then none: templates check for both.
pub fn of_message(message: &Message, thought: &'static str, text: &OfText<'_>) -> Value {
    let key = |name: &'static str| Value::from(name);
    let mut entries = Vec::with_capacity(4);
    entries.push((key("role"), Value::from(message.role.as_str())));
    entries.push((key("content"), message.content.as_deref().map_or_else(|| Value::from(()), text)));
    if let Some(reasoning) = &message.reasoning_content {
        entries.push((key(thought), text(reasoning)));
    }
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().map(|call| {
            Dict::value(vec![
                (key("id"), text(&call.id)),
                (key("type"), Value::from(call.kind)),
                (
                    key("function"),
                    Dict::value(vec![
                        (key("name"), text(&call.function.name)),
                        (key("arguments"), of_json(&call.function.arguments, text)),
                    ]),
                ),
            ])
        });
        entries.push((key("tool_calls"), list(calls.collect())));
    }
    let rest = [("tool_call_id", &message.tool_call_id), ("name", &message.name)];
    entries.extend(rest.into_iter().filter_map(|(name, value)| Some((key(name), text(value.as_deref()?)))));
    Dict::value(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_print_as_pythons_do() {
        let value = serde_json::json!({"a": [1, true, null], "b": {"c": "it's"}});
        let printed = of_json(&value, &|text| Value::from(text)).to_string();
        assert_eq!(printed, r#"{'a': [1, True, None], 'b': {'c': "it's"}}"#);
    }
}
