//! How JSON is spaced in constrained text.

use serde_json::Value;

/// What may stand between the parts of a JSON text: so that both compact and indented JSON are possible, and blanks do
/// not go on without end, which a hot sampler would find.
const JSON_SPACE: &str = r" |\n[ \t]{0,20}";

/// `schema` with how its JSON may be spaced.
pub fn with_json_options(schema: &Value) -> Value {
    let mut schema = match schema {
        Value::Bool(false) => serde_json::json!({"not": {}}),
        Value::Object(_) => schema.clone(),
        _ => serde_json::json!({}),
    };
    schema["x-guidance"] = serde_json::json!({"whitespace_pattern": JSON_SPACE});
    schema
}
