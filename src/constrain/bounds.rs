//! Size and nesting of what a client sends, measured without recursion before a parser sees it.

use serde_json::Value;

use crate::types::RequestError;
use crate::types::limits::{
    GRAMMAR_BYTES_MAX, GRAMMAR_DEPTH_MAX, GRAMMAR_REPEAT_MAX, SCHEMA_ONE_OF_MAX, SCHEMA_PATTERN_PROPERTIES_MAX,
};

/// Keywords of a schema whose counts make the grammar larger.
pub const COUNTS: &[&str] = &["minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"];

/// Keywords whose values are data, not schemas.
const DATA: &[&str] = &["const", "enum", "default", "examples"];

/// Checks the length of a grammar or schema.
///
/// # Errors
/// It has more than `GRAMMAR_BYTES_MAX` bytes; the refusal names `field`.
pub fn size(bytes: usize, field: &str) -> Result<(), RequestError> {
    if bytes > GRAMMAR_BYTES_MAX {
        return Err(RequestError::field(field, format!("has {bytes} bytes, at most {GRAMMAR_BYTES_MAX}")));
    }
    Ok(())
}

fn depth(depth: usize, field: &str) -> Result<(), RequestError> {
    if depth > GRAMMAR_DEPTH_MAX {
        return Err(RequestError::field(field, format!("is nested deeper than {GRAMMAR_DEPTH_MAX}")));
    }
    Ok(())
}

fn repeat(count: f64, field: &str) -> Result<(), RequestError> {
    if count > GRAMMAR_REPEAT_MAX as f64 {
        return Err(RequestError::field(field, format!("counts to {count}, at most {GRAMMAR_REPEAT_MAX}")));
    }
    Ok(())
}

/// Checks how deep a schema is nested, without recursion.
///
/// # Errors
/// It is deeper than `GRAMMAR_DEPTH_MAX`; the refusal names `field`.
pub fn nesting(schema: &Value, field: &str) -> Result<(), RequestError> {
    let mut todo = vec![(schema, 1)];
    while let Some((value, level)) = todo.pop() {
        depth(level, field)?;
        match value {
            Value::Array(values) => todo.extend(values.iter().map(|value| (value, level + 1))),
            Value::Object(map) => todo.extend(map.values().map(|value| (value, level + 1))),
            _ => {}
        }
    }
    Ok(())
}

/// Checks size, nesting and counts of a JSON schema.
///
/// # Errors
/// One is beyond its bound; the refusal names `field`.
pub fn schema(schema: &Value, field: &str) -> Result<(), RequestError> {
    let mut todo = vec![(schema, 1, false)];
    let mut patterns = 0;
    while let Some((value, level, is_data)) = todo.pop() {
        depth(level, field)?;
        match value {
            Value::Array(values) => todo.extend(values.iter().map(|value| (value, level + 1, is_data))),
            Value::Object(map) => {
                for (key, value) in map {
                    let is_data = is_data || DATA.contains(&key.as_str());
                    todo.push((value, level + 1, is_data));
                    match (key.as_str(), value) {
                        _ if is_data => {}
                        (key, Value::Number(count)) if COUNTS.contains(&key) => {
                            repeat(count.as_f64().unwrap_or(f64::INFINITY), field)?;
                        }
                        ("pattern", Value::String(pattern)) => regex(pattern, field)?,
                        ("patternProperties", Value::Object(map)) => {
                            patterns += map.len();
                            map.keys().try_for_each(|pattern| regex(pattern, field))?;
                        }
                        ("oneOf", Value::Array(options)) if options.len() > SCHEMA_ONE_OF_MAX => {
                            let message = format!("has a oneOf of {}, at most {SCHEMA_ONE_OF_MAX}", options.len());
                            return Err(RequestError::field(field, message));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if patterns > SCHEMA_PATTERN_PROPERTIES_MAX {
        let message = format!("has {patterns} patternProperties, at most {SCHEMA_PATTERN_PROPERTIES_MAX}");
        return Err(RequestError::field(field, message));
    }
    // Last, because writing the schema as text recurses.
    size(schema.to_string().len(), field)
}

/// Checks size, nesting and counts of a regular expression.
///
/// # Errors
/// As for `schema`.
pub fn regex(regex: &str, field: &str) -> Result<(), RequestError> {
    size(regex.len(), field)?;
    let mut scan = Scan::new(regex, field);
    scan.regex(None)
}

/// Checks size, nesting and counts of a Lark grammar.
///
/// # Errors
/// As for `schema`.
pub fn lark(grammar: &str, field: &str) -> Result<(), RequestError> {
    size(grammar.len(), field)?;
    let mut scan = Scan::new(grammar, field);
    let mut level = 0;
    while let Some(c) = scan.next() {
        match c {
            '"' => scan.string(),
            '#' => scan.line(),
            '/' if scan.peek() == Some('/') => scan.line(),
            '/' => scan.regex(Some('/'))?,
            '(' | '[' | '{' => {
                level += 1;
                depth(level, field)?;
                if c == '{' {
                    scan.counts()?;
                }
            }
            ')' | ']' | '}' => level = level.saturating_sub(1),
            '~' => scan.counts()?,
            _ => {}
        }
    }
    Ok(())
}

struct Scan<'a> {
    rest: std::str::Chars<'a>,
    field: &'a str,
}

impl<'a> Scan<'a> {
    fn new(text: &'a str, field: &'a str) -> Scan<'a> {
        Scan { rest: text.chars(), field }
    }

    fn next(&mut self) -> Option<char> {
        self.rest.next()
    }

    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    /// Skips a string: called after its opening quote, stops after its closing quote.
    fn string(&mut self) {
        while let Some(c) = self.next() {
            match c {
                '\\' => drop(self.next()),
                '"' | '\n' => return,
                _ => {}
            }
        }
    }

    fn line(&mut self) {
        while self.next().is_some_and(|c| c != '\n') {}
    }

    /// Checks an expression up to `end`, and skips that, too.
    fn regex(&mut self, end: Option<char>) -> Result<(), RequestError> {
        let (mut level, mut classes) = (0, 0usize);
        while let Some(c) = self.next() {
            match c {
                '\\' => drop(self.next()),
                c if end == Some(c) => return Ok(()),
                '[' => {
                    classes += 1;
                    depth(classes, self.field)?;
                }
                ']' => classes = classes.saturating_sub(1),
                // Brackets within a character class are counted, too, because it isn't certain where a class ends.
                '(' => {
                    level += 1;
                    depth(level, self.field)?;
                }
                ')' => level = level.saturating_sub(1),
                '{' => self.counts()?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Checks the numbers that follow, as in `2,5` and `2..5`.
    fn counts(&mut self) -> Result<(), RequestError> {
        let text = self.rest.as_str();
        let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, ',' | '.' | ' '))).unwrap_or(text.len());
        let numbers = text[..end].split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
        numbers.map(|digits| digits.parse().unwrap_or(f64::INFINITY)).try_for_each(|count| repeat(count, self.field))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn brackets_count_where_they_are_brackets() {
        let deep = |open: &str, close: &str| format!("{}a{}", open.repeat(65), close.repeat(65));
        assert!(regex(&deep("(", ")"), "regex").is_err());
        assert!(regex(&deep("\\(", "\\)"), "regex").is_ok());
        assert!(regex(&"(a)".repeat(500), "regex").is_ok());
        assert!(lark(&format!("start: {}", deep("(", ")")), "grammar").is_err());
        assert!(lark(&format!("start: \"{}\"", deep("(", ")")), "grammar").is_ok());
        assert!(lark(&format!("start: \"a\" // {}", deep("(", ")")), "grammar").is_ok());
        assert!(lark(&format!("start: /{}/", deep("(", ")")), "grammar").is_err());
        assert!(lark(&format!("start: %json {}", deep("{", "}")), "grammar").is_err());
    }

    #[test]
    fn counts_are_bounded_where_they_are_counts() {
        assert!(regex("a{1,2000}", "regex").is_ok());
        assert!(regex("a{1,2001}", "regex").is_err());
        assert!(regex(r"\{9999}", "regex").is_ok());
        assert!(lark("start: \"a\" ~ 1..99999", "grammar").is_err());
        assert!(lark("start: a{3,99999}\na: \"b\"", "grammar").is_err());
        assert!(schema(&json!({"properties": {"maxItems": {"maxItems": 3}}}), "json_schema").is_ok());
        assert!(schema(&json!({"properties": {"x": {"maxItems": 1e9}}}), "json_schema").is_err());
        assert!(schema(&json!({"enum": [{"maxItems": 1e9}]}), "json_schema").is_ok());
    }

    #[test]
    fn large_and_wide_schemas_are_refused() {
        assert!(schema(&json!({"description": "x".repeat(GRAMMAR_BYTES_MAX)}), "json_schema").is_err());
        assert!(schema(&json!({"oneOf": vec![json!({}); SCHEMA_ONE_OF_MAX + 1]}), "json_schema").is_err());
        let patterns: serde_json::Map<_, _> = (0..17).map(|i| (format!("^{i}"), json!({}))).collect();
        assert!(schema(&json!({"patternProperties": patterns}), "json_schema").is_err());
        let mut deep = json!({});
        (0..33).for_each(|_| deep = json!({"properties": {"a": deep}}));
        assert!(schema(&deep, "json_schema").is_err());
    }
}
