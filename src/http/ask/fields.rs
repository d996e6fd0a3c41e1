//! Takes a JSON object apart field by field. Every error names its field. Fields that no dialect knows are reported,
//! not refused.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value, json};

use crate::http::ask::notes;
use crate::http::ask::warnings::warn;

use crate::types::RequestError;

/// The fields of a request that were not taken yet. A list and not a map: requests have few fields, and comparing a few
/// names is cheaper than hashing one.
#[derive(Debug)]
pub struct Fields {
    list: List,
    /// How many fields of the list were not taken yet.
    left: usize,
    /// The path before a field's name in an error: empty, or such as `messages[0].`.
    path: String,
}

impl Fields {
    /// Parses a body.
    ///
    /// # Errors
    /// `RequestError::Json` with line and column; `Field` if it is JSON but no object.
    pub fn parse(body: &[u8]) -> Result<Fields, RequestError> {
        let broken = |error: serde_json::Error| RequestError::Json {
            line: error.line(),
            column: error.column(),
            message: if body.is_empty() { "the body is empty".into() } else { reason(&error) },
        };
        if body.trim_ascii_start().first() == Some(&b'{') {
            let list = serde_json::from_slice(body).or_else(|error| {
                let mended = crate::http::ask::surrogates::mended(body).ok_or(error)?;
                warn("body: halves of surrogate pairs became U+FFFD");
                serde_json::from_slice(&mended)
            });
            return Ok(Fields::of(list.map_err(broken)?, String::new()));
        }
        let other: Value = serde_json::from_slice(body).map_err(broken)?;
        Err(RequestError::field("body", format!("must be a JSON object, not {}", kind(&other))))
    }

    /// The fields of an object within a request; `path` is its place.
    ///
    /// # Errors
    /// `Field` if it isn't an object.
    pub fn nested(value: Value, path: &str) -> Result<Fields, RequestError> {
        notes::note(path, || json!({"type": "object"}));
        match value {
            Value::Object(map) => {
                let list = List(map.into_iter().map(|(name, value)| (name, Some(value))).collect());
                Ok(Fields::of(list, format!("{path}.")))
            }
            other => Err(wrong_type(path, "an object", &other)),
        }
    }

    fn of(list: List, path: String) -> Fields {
        Fields { left: list.0.len(), list, path }
    }

    /// The path of a field of this object.
    pub fn named<'a>(&self, name: &'a str) -> Cow<'a, str> {
        if self.path.is_empty() { Cow::Borrowed(name) } else { Cow::Owned(format!("{}{name}", self.path)) }
    }

    fn note(&self, name: &str, schema: impl FnOnce() -> Value) {
        // The path is needed only while the OpenAPI document is made.
        if notes::are_taken() {
            notes::note(&self.named(name), schema);
        }
    }

    /// Takes a field whose value should match `schema`; the caller checks the value.
    pub fn take_noted(&mut self, name: &str, schema: impl FnOnce() -> Value) -> Option<Value> {
        self.note(name, schema);
        self.take(name)
    }

    /// Takes a field; `null` counts as absent. Of several fields with one name the last counts.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        // Most fields that parsers ask for are absent, so the usual case ends here.
        if self.left == 0 {
            return None;
        }
        let named = self.list.0.iter_mut().rev().filter(|(known, _)| known == name);
        let mut values = named.filter_map(|(_, value)| value.take()).inspect(|_| self.left -= 1);
        let last = values.next();
        values.for_each(drop);
        last.filter(|value| !value.is_null())
    }

    /// Puts a field back.
    pub fn put(&mut self, name: &str, value: Value) {
        self.list.0.push((name.to_owned(), Some(value)));
        self.left += 1;
    }

    /// Takes a string.
    ///
    /// # Errors
    /// The value has another type.
    pub fn string(&mut self, name: &str) -> Result<Option<String>, RequestError> {
        self.note(name, || json!({"type": "string"}));
        self.take(name)
            .map(|value| match value {
                Value::String(text) => Ok(text),
                other => Err(wrong_type(&self.named(name), "a string", &other)),
            })
            .transpose()
    }

    /// Takes a boolean.
    ///
    /// # Errors
    /// The value has another type.
    pub fn bool(&mut self, name: &str) -> Result<Option<bool>, RequestError> {
        self.note(name, || json!({"type": "boolean"}));
        self.take(name)
            .map(|value| value.as_bool().ok_or_else(|| wrong_type(&self.named(name), "true or false", &value)))
            .transpose()
    }

    /// Takes a whole number within `range`; `3.0` is one.
    ///
    /// # Errors
    /// The value has another type or is out of range.
    pub fn integer(&mut self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, RequestError> {
        self.note(name, || json!({"type": "integer", "minimum": range.start(), "maximum": range.end()}));
        let Some(value) = self.take(name) else { return Ok(None) };
        let whole = value.as_u64().or_else(|| {
            let number = value.as_f64()?;
            (number.fract() == 0.0 && (0.0..=9e15).contains(&number)).then_some(number as u64)
        });
        match whole {
            Some(number) if range.contains(&number) => Ok(Some(number)),
            _ if !value.is_number() => Err(wrong_type(&self.named(name), "a whole number", &value)),
            _ => {
                let (low, high) = (range.start(), range.end());
                let bounds =
                    if *high == u64::MAX { format!("at least {low}") } else { format!("from {low} to {high}") };
                Err(RequestError::field(self.named(name), format!("must be a whole number {bounds}, not {value}")))
            }
        }
    }

    /// Takes a whole number within `range`, which may be negative.
    ///
    /// # Errors
    /// As for `integer`.
    pub fn signed(&mut self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, RequestError> {
        self.note(name, || json!({"type": "integer", "minimum": range.start(), "maximum": range.end()}));
        self.take(name).map(|value| whole_in(&value, &self.named(name), &range)).transpose()
    }

    /// Takes a number within `range`.
    ///
    /// # Errors
    /// The value has another type or is out of range.
    pub fn number(&mut self, name: &str, range: RangeInclusive<f32>) -> Result<Option<f32>, RequestError> {
        self.note(name, || number_within(&range));
        self.take(name).map(|value| number_in(&value, &self.named(name), &range)).transpose()
    }

    /// Takes an array of at most `max` entries.
    ///
    /// # Errors
    /// The value has another type or more entries.
    pub fn array(&mut self, name: &str, max: usize) -> Result<Option<Vec<Value>>, RequestError> {
        self.note(name, || match max {
            usize::MAX => json!({"type": "array"}),
            max => json!({"type": "array", "maxItems": max}),
        });
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(list)) if list.len() <= max => Ok(Some(list)),
            Some(Value::Array(list)) => {
                Err(RequestError::field(self.named(name), format!("has {} entries, at most {max}", list.len())))
            }
            Some(other) => Err(wrong_type(&self.named(name), "an array", &other)),
        }
    }

    /// Takes an object.
    ///
    /// # Errors
    /// The value has another type.
    pub fn object(&mut self, name: &str) -> Result<Option<Map<String, Value>>, RequestError> {
        self.note(name, || json!({"type": "object"}));
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(other) => Err(wrong_type(&self.named(name), "an object", &other)),
        }
    }

    /// Takes all fields whose name `find` knows, in their order in the body; `null` counts as absent.
    pub fn take_known<T>(&mut self, find: impl Fn(&str) -> Option<T>) -> Vec<(T, Value)> {
        let mut known = Vec::new();
        for (name, value) in &mut self.list.0 {
            if value.is_some()
                && let Some(found) = find(name)
                && let Some(value) = value.take()
            {
                self.left -= 1;
                if !value.is_null() {
                    known.push((found, value));
                }
            }
        }
        known
    }

    /// The names of the fields that were not taken, sorted.
    pub fn unknown(&self) -> Vec<String> {
        let left = self.list.0.iter().filter(|(_, value)| value.is_some());
        let mut names: Vec<String> = left.map(|(name, _)| name.clone()).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// The fields of an object in their order; `None` marks a taken one.
#[derive(Debug)]
struct List(Vec<(String, Option<Value>)>);

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<List, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = List;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<List, A::Error> {
                let mut list = Vec::with_capacity(8);
                while let Some((name, value)) = object.next_entry()? {
                    list.push((name, Some(value)));
                }
                Ok(List(list))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The whole number in the field `name`; `3.0` is one.
///
/// # Errors
/// `value` is no whole number, or not within `range`.
pub fn whole_in(value: &Value, name: &str, range: &RangeInclusive<i64>) -> Result<i64, RequestError> {
    let whole = |number: f64| (number.fract() == 0.0 && number.abs() <= 9e15).then_some(number as i64);
    match value.as_i64().or_else(|| whole(value.as_f64()?)) {
        Some(number) if range.contains(&number) => Ok(number),
        _ if !value.is_number() => Err(wrong_type(name, "a whole number", value)),
        _ => {
            let (low, high) = (range.start(), range.end());
            Err(RequestError::field(name, format!("must be a whole number from {low} to {high}, not {value}")))
        }
    }
}

/// The number in the field `name`.
///
/// # Errors
/// `value` is no number, or not within `range`.
pub fn number_in(value: &Value, name: &str, range: &RangeInclusive<f32>) -> Result<f32, RequestError> {
    let number = value.as_f64().ok_or_else(|| wrong_type(name, "a number", value))? as f32;
    if range.contains(&number) {
        return Ok(number);
    }
    let (low, high) = (range.start(), range.end());
    Err(RequestError::field(name, format!("must be from {low} to {high}, not {value}")))
}

/// The JSON schema of a number within `range`.
pub fn number_within(range: &RangeInclusive<f32>) -> Value {
    // The decimal number as it is written in the source, not the nearest f64.
    let exact = |bound: f32| bound.to_string().parse::<f64>().unwrap_or_default();
    json!({"type": "number", "minimum": exact(*range.start()), "maximum": exact(*range.end())})
}

/// The error of a wrong type: `name: must be a string, not a number`.
pub fn wrong_type(name: &str, wanted: &str, got: &Value) -> RequestError {
    RequestError::field(name, format!("must be {wanted}, not {}", kind(got)))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// serde_json's message without the position, which `RequestError::Json` has in fields of its own.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(reason, _)| reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields {
        Fields::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn broken_json_says_where() {
        for (text, line, column) in [("{\"a\": 1,\n  \"b\" 2}", 2, 7), ("", 1, 0), ("{\"t\": NaN}", 1, 7)] {
            match Fields::parse(text.as_bytes()) {
                Err(RequestError::Json { line: l, column: c, .. }) => assert_eq!((l, c), (line, column), "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert_eq!(Fields::parse(b"[1]").unwrap_err().to_string(), "body: must be a JSON object, not an array");
    }

    #[test]
    fn numbers_are_bounded_and_typed() {
        let mut all = fields(r#"{"a": 3, "b": 3.0, "c": -1, "d": 1.5, "e": "3", "f": 99}"#);
        assert_eq!(all.integer("a", 0..=9).unwrap(), Some(3));
        assert_eq!(all.integer("b", 0..=9).unwrap(), Some(3));
        assert_eq!(all.integer("c", 0..=9).unwrap_err().to_string(), "c: must be a whole number from 0 to 9, not -1");
        assert!(all.integer("d", 0..=9).is_err());
        assert_eq!(all.integer("e", 0..=9).unwrap_err().to_string(), "e: must be a whole number, not a string");
        assert!(all.number("f", 0.0..=2.0).is_err());
        assert_eq!(all.number("absent", 0.0..=2.0).unwrap(), None);
    }

    #[test]
    fn null_is_absent_and_the_rest_is_unknown() {
        let mut all = fields(r#"{"stop": null, "x": 1, "b": 2, "x": 3}"#);
        assert_eq!(all.string("stop").unwrap(), None);
        assert_eq!(all.unknown(), ["b", "x"]);
    }

    #[test]
    fn of_fields_with_one_name_the_last_counts_and_all_are_taken() {
        let mut all = fields(r#" {"a": 1, "b": 2, "a": 3, "b": null}"#);
        assert_eq!((all.take("a"), all.take("b"), all.take("a")), (Some(json!(3)), None, None));
        assert!(all.unknown().is_empty());
        all.put("a", json!(4));
        assert_eq!(all.unknown(), ["a"]);
        assert_eq!((all.take("a"), all.unknown().len()), (Some(json!(4)), 0));
    }
}
