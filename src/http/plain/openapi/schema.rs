//! Converts notes to a JSON schema, and finds out which fields are required by parsing bodies without them. Pure.

use serde_json::{Map, Value, json};

use crate::http::ask::notes::{Notes, place};
use crate::types::RequestError;

/// What may stand at one place of a body.
#[derive(Default)]
struct Node {
    /// Alternatives, of different types.
    schemas: Vec<Map<String, Value>>,
    fields: Vec<(String, Node)>,
    items: Option<Box<Node>>,
}

/// For each field: whether it is in every example, and the parser refuses a body without it.
pub type Required = std::collections::BTreeMap<String, bool>;

/// The schema of a body whose parser took these notes.
pub fn of_notes(notes: Notes, required: &Required) -> Value {
    let mut root = Node::default();
    root.add(json!({"type": "object"}));
    for (path, schema) in notes {
        root.at(&path).add(schema);
    }
    root.into_schema("", required)
}

impl Node {
    /// The node at a path like `messages[].role`, relative to this one.
    fn at(&mut self, path: &str) -> &mut Node {
        let mut node = self;
        for segment in path.split('.') {
            let name = segment.trim_end_matches("[]");
            node = node.field(name);
            for _ in 0..(segment.len() - name.len()) / 2 {
                node = node.items.get_or_insert_default();
            }
        }
        node
    }

    fn field(&mut self, name: &str) -> &mut Node {
        let index = self.fields.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            self.fields.push((name.to_owned(), Node::default()));
            self.fields.len() - 1
        });
        &mut self.fields[index].1
    }

    /// Adds an alternative. If there is one of its type already, the first stays, because it is the widest. A schema
    /// without a type is merged into the last one.
    fn add(&mut self, schema: Value) {
        let Value::Object(schema) = schema else { return };
        match (schema.get("type"), self.schemas.last_mut()) {
            (None, Some(last)) => {
                for (key, value) in schema {
                    last.entry(key).or_insert(value);
                }
            }
            (kind, _) => {
                if !self.schemas.iter().any(|known| known.get("type") == kind) {
                    self.schemas.push(schema);
                }
            }
        }
    }

    fn into_schema(mut self, path: &str, required: &Required) -> Value {
        // There may be a note about a field of an object but none about the object.
        if self.schemas.is_empty() && !self.fields.is_empty() {
            self.add(json!({"type": "object"}));
        }
        if self.schemas.is_empty() && self.items.is_some() {
            self.add(json!({"type": "array"}));
        }
        let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let names = self.fields.iter().map(|(name, _)| name.clone());
        let musts: Vec<String> = names.filter(|name| required.get(&join(name)) == Some(&true)).collect();
        let mut properties = Map::new();
        for (name, node) in std::mem::take(&mut self.fields) {
            let is_required = musts.contains(&name);
            let mut schema = node.into_schema(&join(&name), required);
            if !is_required {
                schema = or_null(schema);
            }
            properties.insert(name, schema);
        }
        let items = self.items.take().map(|items| items.into_schema(&format!("{path}[]"), required));
        for schema in &mut self.schemas {
            match schema.get("type").and_then(Value::as_str) {
                Some("object") if !properties.is_empty() => {
                    schema.insert("properties".to_owned(), Value::Object(properties.clone()));
                    if !musts.is_empty() {
                        schema.insert("required".to_owned(), json!(musts));
                    }
                }
                Some("array") => {
                    if let Some(items) = &items {
                        schema.insert("items".to_owned(), items.clone());
                    }
                }
                _ => {}
            }
        }
        match self.schemas.len() {
            0 => json!({}),
            1 => Value::Object(self.schemas.remove(0)),
            _ => json!({"anyOf": self.schemas}),
        }
    }
}

/// Also allows `null`, which means that the field is absent.
fn or_null(mut schema: Value) -> Value {
    if let Some(Value::Array(any)) = schema.get_mut("anyOf") {
        any.push(json!({"type": "null"}));
        return schema;
    }
    match schema.get("type").cloned() {
        Some(Value::Array(mut kinds)) => {
            kinds.push("null".into());
            schema["type"] = Value::Array(kinds);
        }
        Some(kind) => schema["type"] = json!([kind, "null"]),
        None => {}
    }
    if let Some(Value::Array(words)) = schema.get_mut("enum") {
        words.push(Value::Null);
    }
    schema
}

/// Removes each field of each example in turn, and checks whether `parse` then fails.
pub fn required(examples: &[Value], parse: impl Fn(&Value) -> Result<(), RequestError>) -> Required {
    let mut required = Required::new();
    let mut fields_of: std::collections::BTreeMap<String, Vec<Vec<String>>> = Default::default();
    for example in examples {
        for object in objects(example) {
            let at = example.pointer(&object);
            let keys: Vec<String> = at.and_then(Value::as_object).into_iter().flat_map(Map::keys).cloned().collect();
            let path = path_of(&object);
            for key in &keys {
                let mut without = example.clone();
                if let Some(Value::Object(map)) = without.pointer_mut(&object) {
                    map.remove(key);
                }
                let field = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let is_missed = match parse(&without) {
                    Err(RequestError::Field { field: named, message }) => {
                        place(&named) == field && message.starts_with("is missing")
                    }
                    _ => false,
                };
                *required.entry(field).or_insert(true) &= is_missed;
            }
            fields_of.entry(path).or_default().push(keys);
        }
    }
    // A field that is missing in some object of a place isn't required there.
    for (field, is_required) in &mut required {
        let (path, key) = field.rsplit_once('.').unwrap_or(("", field.as_str()));
        *is_required &= fields_of[path].iter().all(|keys| keys.iter().any(|known| known == key));
    }
    required
}

/// JSON pointers to all objects within a value, including schemas and other free-form data.
fn objects(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![(String::new(), value)];
    while let Some((pointer, value)) = todo.pop() {
        match value {
            Value::Object(map) => {
                todo.extend(map.iter().map(|(key, value)| (format!("{pointer}/{key}"), value)));
                found.push(pointer);
            }
            Value::Array(list) => {
                todo.extend(list.iter().enumerate().map(|(i, value)| (format!("{pointer}/{i}"), value)));
            }
            _ => {}
        }
    }
    found
}

/// `/messages/0/content` as `messages[].content`.
fn path_of(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer.split('/').skip(1) {
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
            path += "[]";
        } else {
            path += if path.is_empty() { "" } else { "." };
            path += part;
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::ask::fields::Fields;
    use crate::http::ask::notes::{note, noting};

    fn parse(body: &Value) -> Result<(), RequestError> {
        let mut fields = Fields::parse(body.to_string().as_bytes())?;
        fields.integer("n", 1..=9)?;
        fields.number("p", 0.5..=2.0)?;
        for (i, turn) in fields.array("turns", 3)?.unwrap_or_default().into_iter().enumerate() {
            let mut turn = Fields::nested(turn, &format!("turns[{i}]"))?;
            turn.string("role")?.ok_or_else(|| RequestError::field(turn.named("role"), "is missing"))?;
            note(&turn.named("role"), || json!({"enum": ["a"]}));
            turn.bool("x")?;
        }
        note("text", || json!({"type": "string"}));
        note("text", || json!({"type": "array"}));
        note("text[]", || json!({"type": "string"}));
        fields.take("text").map(drop).ok_or_else(|| RequestError::field("text", "is missing"))
    }

    #[test]
    fn a_schema_says_what_its_parser_does() {
        let examples = [json!({"text": "a", "n": 1, "turns": [{"role": "a", "x": true}]}), json!({"text": ["b"]})];
        let (_, notes) = noting(|| examples.iter().for_each(|example| parse(example).unwrap()));
        let schema = of_notes(notes, &required(&examples, parse));
        let role = json!({"type": "string", "enum": ["a"]});
        let turn = json!({"type": "object", "properties": {"role": role, "x": {"type": ["boolean", "null"]}}, "required": ["role"]});
        assert_eq!(
            schema,
            json!({
                "type": "object",
                "properties": {
                    "n": {"type": ["integer", "null"], "minimum": 1, "maximum": 9},
                    "p": {"type": ["number", "null"], "minimum": 0.5, "maximum": 2.0},
                    "turns": {"type": ["array", "null"], "maxItems": 3, "items": turn},
                    "text": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
                },
                "required": ["text"],
            })
        );
    }

    #[test]
    fn what_one_example_goes_without_is_not_required() {
        let either = |body: &Value| match body.get("a").or(body.get("b")) {
            Some(_) => Ok(()),
            None => Err(RequestError::field("a", "is missing (or give b)")),
        };
        assert!(required(&[json!({"a": 1})], either)["a"]);
        assert!(!required(&[json!({"a": 1}), json!({"b": 1})], either)["a"]);
    }
}
