//! Prints values as Python does: `str`, `repr` and `json.dumps`, for any value that a template can hold.

use std::fmt::Write;

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

/// Options of `json.dumps`.
#[derive(Clone, Debug)]
pub struct JsonStyle {
    /// The text of one level of indentation; `None`: everything on one line.
    pub indent: Option<String>,
    /// The text between entries; `None`: Python's default, which depends on `indent`.
    pub item_separator: Option<String>,
    /// The text between a key and its value.
    pub key_separator: String,
    /// Whether characters beyond ASCII are written as `\uXXXX`.
    pub ensure_ascii: bool,
    /// Whether the keys of a dict are sorted.
    pub sort_keys: bool,
}

impl Default for JsonStyle {
    fn default() -> JsonStyle {
        JsonStyle {
            indent: None,
            item_separator: None,
            key_separator: ": ".into(),
            ensure_ascii: false,
            sort_keys: false,
        }
    }
}

/// Python's `str(value)`. An undefined value gives an empty text, as Jinja prints it.
pub fn str_of(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None if value.is_undefined() => String::new(),
        None => repr(value),
    }
}

/// Python's `repr(value)`.
pub fn repr(value: &Value) -> String {
    let mut out = String::new();
    write_repr(value, &mut out);
    out
}

/// Appends Python's `repr(value)` to `out`.
pub fn write_repr(value: &Value, out: &mut String) {
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::None => out.push_str("None"),
        ValueKind::Number => write_number(value, out),
        ValueKind::String => write_quoted(value.as_str().unwrap_or_default(), out),
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            for (i, item) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write_repr(&item, out);
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (i, (key, item)) in pairs(value).into_iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write_repr(&key, out);
                out.push_str(": ");
                write_repr(&item, out);
            }
            out.push('}');
        }
        _ => out.push_str(&value.to_string()),
    }
}

/// Writes a string as Python quotes it: in double quotes only if it has single and no double ones.
fn write_quoted(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if c < ' ' || ('\x7f'..='\u{a0}').contains(&c) || c == '\u{ad}' => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// Writes integers as they are, and other numbers with the fewest digits that read back equal, with Python's exponents.
fn write_number(value: &Value, out: &mut String) {
    match f64::try_from(value.clone()) {
        Ok(number) if !value.is_integer() => write_float(number, out),
        _ => out.push_str(&value.to_string()),
    }
}

fn write_float(number: f64, out: &mut String) {
    if !number.is_finite() {
        out.push_str(match number {
            n if n.is_nan() => "nan",
            n if n > 0.0 => "inf",
            _ => "-inf",
        });
        return;
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = number.to_string();
        out.push_str(&plain);
        out.push_str(if plain.contains('.') { "" } else { ".0" });
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "{digits}e{sign}{:02}", exponent.abs());
    }
}

/// Python's `json.dumps(value)`.
///
/// # Errors
/// The value is undefined, or has a part that JSON can't express.
pub fn json(value: &Value, style: &JsonStyle) -> Result<String, Error> {
    let mut out = String::new();
    write_json(value, style, 0, &mut out)?;
    Ok(out)
}

fn write_json(value: &Value, style: &JsonStyle, depth: usize, out: &mut String) -> Result<(), Error> {
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => {
            let from = out.len();
            write_number(value, out);
            let name = match &out[from..] {
                "nan" => "NaN",
                "inf" => "Infinity",
                "-inf" => "-Infinity",
                _ => return Ok(()),
            };
            out.replace_range(from.., name);
        }
        ValueKind::String => write_json_string(value.as_str().unwrap_or_default(), style, out),
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            let mut n = 0;
            for item in value.try_iter()? {
                separate(n, style, depth + 1, out);
                write_json(&item, style, depth + 1, out)?;
                n += 1;
            }
            close(n, ']', style, depth, out);
        }
        ValueKind::Map => {
            let mut pairs = pairs(value);
            if style.sort_keys {
                pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
            }
            out.push('{');
            let n = pairs.len();
            for (i, (key, item)) in pairs.into_iter().enumerate() {
                separate(i, style, depth + 1, out);
                match key.as_str() {
                    Some(text) => write_json_string(text, style, out),
                    None => {
                        let mut text = String::new();
                        write_json(&key, style, 0, &mut text)?;
                        write_json_string(&text, style, out);
                    }
                }
                out.push_str(&style.key_separator);
                write_json(&item, style, depth + 1, out)?;
            }
            close(n, '}', style, depth, out);
        }
        kind => return Err(Error::new(ErrorKind::BadSerialization, format!("{kind} is no JSON"))),
    }
    Ok(())
}

/// Writes the text before the `i`th entry.
fn separate(i: usize, style: &JsonStyle, depth: usize, out: &mut String) {
    let default = if style.indent.is_some() { "," } else { ", " };
    if i > 0 {
        out.push_str(style.item_separator.as_deref().unwrap_or(default));
    }
    break_line(style, depth, out);
}

fn close(n: usize, bracket: char, style: &JsonStyle, depth: usize, out: &mut String) {
    if n > 0 {
        break_line(style, depth, out);
    }
    out.push(bracket);
}

fn break_line(style: &JsonStyle, depth: usize, out: &mut String) {
    if let Some(indent) = &style.indent {
        out.push('\n');
        (0..depth).for_each(|_| out.push_str(indent));
    }
}

fn write_json_string(text: &str, style: &JsonStyle, out: &mut String) {
    out.push('"');
    // Runs of plain characters are copied as a whole.
    let mut from = 0;
    for (at, c) in text.char_indices() {
        if c >= ' ' && c != '"' && c != '\\' && (c.is_ascii() && c != '\x7f' || !style.ensure_ascii) {
            continue;
        }
        out.push_str(&text[from..at]);
        from = at + c.len_utf8();
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\x7f' => out.push(c),
            c => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                let _ = write!(out, "\\u{unit:04x}");
            }),
        }
    }
    out.push_str(&text[from..]);
    out.push('"');
}

/// Keys and values of a map, in the map's order.
pub fn pairs(map: &Value) -> Vec<(Value, Value)> {
    map.as_object().and_then(|object| object.try_iter_pairs().map(Iterator::collect)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str) -> Value {
        Value::from_serialize(serde_json::from_str::<serde_json::Value>(json).unwrap())
    }

    #[test]
    fn a_dict_is_printed_as_python_prints_it() {
        let given =
            value(r#"{"a": [1, 2.0, 1e20, 1e-5, 0.25, true, null], "it's": "so", "q": "'\"\\\n\u007f", "é": {}}"#);
        let python = r#"{'a': [1, 2.0, 1e+20, 1e-05, 0.25, True, None], "it's": 'so', 'q': '\'"\\\n\x7f', 'é': {}}"#;
        assert_eq!(str_of(&given), python);
        assert_eq!(str_of(&Value::UNDEFINED), "");
        assert_eq!(str_of(&Value::from("x")), "x");
    }

    #[test]
    fn json_is_written_as_json_dumps_writes_it() {
        let given = value(r#"{"b": [1, {"é": "\u0001😀\t"}], "a": {}, "c": []}"#);
        let dumped = |style: JsonStyle| json(&given, &style).unwrap();
        let plain = JsonStyle::default();
        assert_eq!(dumped(plain.clone()), r#"{"b": [1, {"é": "\u0001😀\t"}], "a": {}, "c": []}"#);
        assert_eq!(
            dumped(JsonStyle { ensure_ascii: true, sort_keys: true, ..plain.clone() }),
            r#"{"a": {}, "b": [1, {"\u00e9": "\u0001\ud83d\ude00\t"}], "c": []}"#
        );
        let indented =
            "{\n  \"b\": [\n    1,\n    {\n      \"é\": \"\\u0001😀\\t\"\n    }\n  ],\n  \"a\": {},\n  \"c\": []\n}";
        assert_eq!(dumped(JsonStyle { indent: Some("  ".into()), ..plain.clone() }), indented);
        let tight = JsonStyle { item_separator: Some(",".into()), key_separator: ":".into(), ..plain };
        assert_eq!(dumped(tight), r#"{"b":[1,{"é":"\u0001😀\t"}],"a":{},"c":[]}"#);
    }
}
