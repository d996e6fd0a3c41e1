//! Grammars of arguments in the notation of a programming language (`chat::Notation`). Objects and lists of the schema
//! are spelled out; values that are written as in JSON are left to the compiler of JSON schemas.

use serde_json::{Value, json};

use super::json::with_json_options;
use super::tools::{Marks, mark, quoted};
use crate::chat::Notation;
use crate::types::limits::ARGUMENTS_DEPTH_MAX;

/// Writes the rules of one tool's arguments.
pub struct RulesWriter<'a> {
    notation: &'a Notation,
    marks: Marks<'a>,
    /// The schema that `$ref` refers to.
    root: &'a Value,
    /// A prefix of all rule names, unique for the tool.
    prefix: &'a str,
    rules: String,
    n_rules: usize,
    has_any: bool,
}

impl<'a> RulesWriter<'a> {
    /// A writer for arguments that follow the schema `root`.
    pub fn new(notation: &'a Notation, root: &'a Value, prefix: &'a str, marks: Marks<'a>) -> RulesWriter<'a> {
        RulesWriter { notation, marks, root, prefix, rules: String::new(), n_rules: 0, has_any: false }
    }

    /// The arguments as an expression, and the rules that it refers to.
    pub fn arguments(mut self) -> (String, String) {
        let (assign, between) = (self.notation.assign.clone(), self.notation.between.clone());
        let key = |key: &str| quoted(&format!("{key}{assign}"));
        let expression = self.pairs(self.root, &key, &quoted(&between), 0).unwrap_or_else(|| "\"\"".to_owned());
        (expression, self.rules)
    }

    fn rule(&mut self, body: &str) -> String {
        let name = format!("{}_l{}", self.prefix, self.n_rules);
        self.n_rules += 1;
        self.rules += &format!("{name}: {body}\n");
        name
    }

    /// The separator between items of a list or an inner object. In notations with marks around strings it has no
    /// space.
    fn comma(&self) -> &'static str {
        if self.notation.quote.is_some() { "/, ?/" } else { "\", \"" }
    }

    /// The properties of an object, in the schema's order; optional ones may be left out. `between` is the expression
    /// that separates them. `None`: the schema has no properties.
    fn pairs(&mut self, schema: &Value, key: &dyn Fn(&str) -> String, between: &str, depth: usize) -> Option<String> {
        let properties = schema["properties"].as_object().filter(|properties| !properties.is_empty())?;
        let is_required =
            |key: &str| schema["required"].as_array().is_some_and(|list| list.iter().any(|name| name == key));
        // Built from the last property to the first: what may follow if no property is written yet, and if one is.
        let (mut at_first, mut later) = (String::from("\"\""), String::from("\"\""));
        for (name, property) in properties.iter().rev() {
            let value = self.value(property, depth + 1);
            let pair = format!("{} {value}", key(name));
            let (first, next) = (format!("{pair} {later}"), format!("{between} {pair} {later}"));
            let or = |with: String, without: &str| match is_required(name) {
                true => with,
                false => format!("{with} | {without}"),
            };
            let (first, next) = (or(first, &at_first), or(next, &later));
            (at_first, later) = (self.rule(&first), self.rule(&next));
        }
        Some(at_first)
    }

    fn value(&mut self, schema: &Value, depth: usize) -> String {
        if depth > ARGUMENTS_DEPTH_MAX {
            return self.any();
        }
        if let Some(path) = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
            return match self.root.pointer(path) {
                Some(target) => self.value(target, depth + 1),
                None => self.any(),
            };
        }
        let fixed = schema["enum"].as_array().cloned().or_else(|| schema.get("const").map(|value| vec![value.clone()]));
        if let Some(values) = fixed {
            let texts: Vec<String> = values.iter().map(|value| self.literal(&self.notation.value(value))).collect();
            return format!("({})", texts.join(" | "));
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(list) = schema[key].as_array() {
                let kinds: Vec<String> = list.iter().map(|schema| self.value(schema, depth + 1)).collect();
                return format!("({})", kinds.join(" | "));
            }
        }
        match &schema["type"] {
            Value::String(kind) => self.of_kind(kind, schema, depth),
            Value::Array(kinds) => {
                let kinds: Vec<String> =
                    kinds.iter().filter_map(Value::as_str).map(|kind| self.of_kind(kind, schema, depth)).collect();
                if kinds.is_empty() { self.any() } else { format!("({})", kinds.join(" | ")) }
            }
            _ => self.any(),
        }
    }

    fn of_kind(&mut self, kind: &str, schema: &Value, depth: usize) -> String {
        let is_marked = self.notation.quote.is_some();
        match kind {
            "string" if is_marked => self.text(),
            "boolean" | "null" if !is_marked => {
                if kind == "null" {
                    "\"None\"".to_owned()
                } else {
                    "(\"True\" | \"False\")".to_owned()
                }
            }
            "string" | "integer" | "number" | "boolean" | "null" => {
                let mut schema = schema.clone();
                schema["type"] = json!(kind);
                format!("%json {}", with_json_options(&schema))
            }
            "array" => {
                let item = match schema.get("items") {
                    Some(items) => self.value(items, depth + 1),
                    None => self.any(),
                };
                let comma = self.comma();
                let least = schema["minItems"].as_u64().unwrap_or(0);
                let most = schema["maxItems"].as_u64();
                let more = match most {
                    Some(most) => format!("({comma} {item}){{{},{}}}", least.saturating_sub(1), most.max(1) - 1),
                    None => format!("({comma} {item}){{{},}}", least.saturating_sub(1)),
                };
                match (least, most) {
                    (_, Some(0)) => "\"[]\"".to_owned(),
                    (0, _) => format!("\"[\" ({item} {more})? \"]\""),
                    _ => format!("\"[\" {item} {more} \"]\""),
                }
            }
            "object" => {
                let notation = self.notation.clone();
                let key = |key: &str| match notation.quote {
                    Some(_) => quoted(&format!("{key}:")),
                    None => quoted(&format!("{}: ", notation.value(&json!(key)))),
                };
                match self.pairs(schema, &key, self.comma(), depth) {
                    Some(pairs) => format!("\"{{\" {pairs} \"}}\""),
                    None if schema["additionalProperties"] == json!(false) => "\"{}\"".to_owned(),
                    None => {
                        let value = match schema.get("additionalProperties").filter(|schema| schema.is_object()) {
                            Some(schema) => self.value(schema, depth + 1),
                            None => self.any(),
                        };
                        self.map_of(&value)
                    }
                }
            }
            _ => self.any(),
        }
    }

    /// An object with any keys.
    fn map_of(&mut self, value: &str) -> String {
        match self.notation.quote {
            Some(_) => format!(
                "\"{{\" (/[A-Za-z_][A-Za-z0-9_]*/ \":\" {value} (\",\" /[A-Za-z_][A-Za-z0-9_]*/ \":\" {value})*)? \"}}\""
            ),
            None => {
                let key = format!("%json {}", with_json_options(&json!({"type": "string"})));
                format!("\"{{\" ({key} \": \" {value} (\", \" {key} \": \" {value})*)? \"}}\"")
            }
        }
    }

    /// A string between its marks.
    fn text(&mut self) -> String {
        let quote = self.notation.quote.clone().unwrap_or_default();
        let name = format!("{}_t{}", self.prefix, self.n_rules);
        self.n_rules += 1;
        let upper = name.to_uppercase();
        self.rules += &match (self.marks)(&quote) {
            Some(token) => format!("{name}: {upper} <[{}]>\n{upper}: /(?s:.*)/\n", token.0),
            None => format!("{name}[suffix={}]: {upper}\n{upper}: /(?s:.*)/\n", quoted(&quote)),
        };
        format!("{} {name}", mark(&quote, self.marks))
    }

    /// A string constant between its marks.
    fn literal(&self, text: &str) -> String {
        let Some(quote) = &self.notation.quote else { return quoted(text) };
        let parts = text.split(quote.as_str()).map(|part| if part.is_empty() { String::new() } else { quoted(part) });
        parts.collect::<Vec<_>>().join(&format!(" {} ", mark(quote, self.marks)))
    }

    /// Any value, by a rule of its own.
    fn any(&mut self) -> String {
        let name = format!("{}_any", self.prefix);
        if !std::mem::replace(&mut self.has_any, true) {
            let kinds = ["string", "number", "boolean", "null"].map(|kind| self.of_kind(kind, &json!({}), 0));
            let comma = self.comma();
            let map = self.map_of(&name);
            self.rules += &format!("{name}: {} | \"[\" ({name} ({comma} {name})*)? \"]\" | {map}\n", kinds.join(" | "));
        }
        name
    }
}
