//! The white space of JSON in constrained text.

use serde_json::Value;

/// The white space allowed between the parts of a JSON text. It allows compact and indented JSON, and bounds each run,
/// because sampling at a high temperature could continue a run for ever.
const JSON_SPACE: &str = r" |\n[ \t]{0,20}";

/// `schema` with the option that sets the allowed white space.
pub fn with_json_options(schema: &Value) -> Value {
    let mut schema = match schema {
        Value::Bool(false) => serde_json::json!({"not": {}}),
        Value::Object(_) => schema.clone(),
        _ => serde_json::json!({}),
    };
    schema["x-guidance"] = serde_json::json!({"whitespace_pattern": JSON_SPACE});
    schema
}
