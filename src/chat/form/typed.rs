//! Converts the text of a tagged argument to a JSON value of the type in its schema: `3` is a number where the schema
//! allows numbers.

use serde_json::Value;

use super::literal::python;
use crate::types::limits::SCHEMA_REFERENCES_MAX;

/// The value of an argument written as `text`. `is_text`: whether its mark says that it is a string; `None`: the mark
/// doesn't tell. `schema`: its own schema, and the one that contains it.
pub fn typed(text: &str, is_text: Option<bool>, schema: Option<(&Value, &Value)>) -> Value {
    let string = || Value::String(text.to_owned());
    if is_text == Some(true) {
        return string();
    }
    let value = match text.trim() {
        "True" => Some(Value::Bool(true)),
        "False" => Some(Value::Bool(false)),
        "None" => Some(Value::Null),
        other => serde_json::from_str::<Value>(other).ok().or_else(|| python(other)),
    };
    let Some(value) = value else { return string() };
    let fits = schema.is_none_or(|(schema, root)| allows(schema, root, &value, 0));
    if is_text == Some(false) || fits { value } else { string() }
}

/// Whether a schema allows values of this kind. Text that is JSON counts as a string only if the schema allows nothing
/// else.
fn allows(schema: &Value, root: &Value, value: &Value, depth: usize) -> bool {
    if depth > SCHEMA_REFERENCES_MAX {
        return true;
    }
    if let Some(path) = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        return root.pointer(path).is_none_or(|schema| allows(schema, root, value, depth + 1));
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(list) = schema[key].as_array() {
            return list.iter().any(|schema| allows(schema, root, value, depth + 1));
        }
    }
    if let Some(list) = schema["enum"].as_array() {
        return list.contains(value);
    }
    let is = |kind: &str| match value {
        Value::Null => kind == "null",
        Value::Bool(_) => kind == "boolean",
        Value::Number(number) => {
            kind == "number" || (kind == "integer" && number.as_f64().is_some_and(|n| n.fract() == 0.0))
        }
        Value::String(_) => false,
        Value::Array(_) => kind == "array",
        Value::Object(_) => kind == "object",
    };
    match &schema["type"] {
        Value::String(kind) => is(kind),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).any(is),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_of_the_kind_that_the_schema_has() {
        let root = json!({"$defs": {"n": {"type": "integer"}}});
        for (text, schema, expected) in [
            ("3", json!({"type": "integer"}), json!(3)),
            ("3", json!({"type": "string"}), json!("3")),
            ("3", json!({"anyOf": [{"type": "null"}, {"$ref": "#/$defs/n"}]}), json!(3)),
            ("True", json!({"type": ["boolean", "null"]}), json!(true)),
            ("None", json!({"type": "string"}), json!("None")),
            ("[1, 2]", json!({"type": "array"}), json!([1, 2])),
            ("c", json!({"enum": ["c", "f"]}), json!("c")),
            ("\"a\"", json!({"type": "string"}), json!("\"a\"")),
            ("two", json!({"type": "integer"}), json!("two")),
            ("[1, 'b', None]", json!({"type": "array"}), json!([1, "b", null])),
            ("3", json!({}), json!(3)),
        ] {
            assert_eq!(typed(text, None, Some((&schema, &root))), expected, "{text} {schema}");
        }
        assert_eq!(typed("3", Some(true), None), json!("3"));
        assert_eq!(typed("3", None, None), json!(3));
    }
}
