//! Arguments written as in a programming language's call: `city="Rome", days=3`, or with marks around text,
//! `city:<|"|>Rome<|"|>,days:3`.

use serde_json::{Map, Number, Value};

use crate::types::limits::CALL_DEPTH_MAX;

/// The notation of such arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notation {
    /// The text between a key and its value.
    pub assign: String,
    /// The text between two arguments.
    pub between: String,
    /// The mark before and after a string; keys of inner objects are then bare. `None`: values are Python's literals.
    pub quote: Option<String>,
}

/// Why no value was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiteralUnread {
    /// The text ends within the value.
    More,
    /// The text is no value.
    Broken,
}

impl Notation {
    /// Writes the arguments in this notation.
    pub fn write(&self, arguments: &Map<String, Value>) -> String {
        let pairs = arguments.iter().map(|(key, value)| format!("{key}{}{}", self.assign, self.value(value)));
        pairs.collect::<Vec<_>>().join(&self.between)
    }

    fn text(&self, text: &str) -> String {
        match &self.quote {
            Some(quote) => [quote, text, quote].concat(),
            None => Value::from(text).to_string(),
        }
    }

    /// One value in this notation.
    pub fn value(&self, value: &Value) -> String {
        let list = |parts: Vec<String>| parts.join(if self.quote.is_some() { "," } else { ", " });
        match value {
            Value::String(text) => self.text(text),
            Value::Array(items) => format!("[{}]", list(items.iter().map(|item| self.value(item)).collect())),
            Value::Object(map) => {
                let pair = |(key, value): (&String, &Value)| match self.quote {
                    Some(_) => format!("{key}:{}", self.value(value)),
                    None => format!("{}: {}", self.text(key), self.value(value)),
                };
                format!("{{{}}}", list(map.iter().map(pair).collect()))
            }
            Value::Bool(is) if self.quote.is_none() => if *is { "True" } else { "False" }.to_owned(),
            Value::Null if self.quote.is_none() => "None".to_owned(),
            other => other.to_string(),
        }
    }

    /// Reads the arguments at the beginning of `text`, up to `end`, which follows the last argument. Returns the
    /// arguments and the bytes that they take, without `end`.
    ///
    /// # Errors
    /// `More` if the text ends too early, `Broken` if it is no list of arguments.
    pub fn read(&self, text: &str, end: &str) -> Result<(Map<String, Value>, usize), LiteralUnread> {
        let mut reader = Reader { notation: self, text, at: 0 };
        let mut arguments = Map::new();
        loop {
            reader.white();
            if reader.eats(end)? {
                return Ok((arguments, reader.at - end.len()));
            }
            if !arguments.is_empty() {
                reader.must(self.between.trim())?;
                reader.white();
            }
            let key = reader.key(self.assign.trim())?;
            reader.white();
            arguments.insert(key, reader.value(0)?);
        }
    }
}

/// Reads a list or a dict as Python prints it.
pub fn python(text: &str) -> Option<Value> {
    let notation = Notation { assign: "=".to_owned(), between: ", ".to_owned(), quote: None };
    let mut reader = Reader { notation: &notation, text, at: 0 };
    let value = reader.value(0).ok().filter(|_| text.starts_with(['[', '{']))?;
    (reader.at == text.len()).then_some(value)
}

struct Reader<'a> {
    notation: &'a Notation,
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn white(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    /// Steps over `literal` if the text continues with it.
    fn eats(&mut self, literal: &str) -> Result<bool, LiteralUnread> {
        if self.rest().starts_with(literal) {
            self.at += literal.len();
            return Ok(true);
        }
        if literal.starts_with(self.rest()) { Err(LiteralUnread::More) } else { Ok(false) }
    }

    fn must(&mut self, literal: &str) -> Result<(), LiteralUnread> {
        if self.eats(literal)? { Ok(()) } else { Err(LiteralUnread::Broken) }
    }

    /// Reads a bare key and the text `assign` after it.
    fn key(&mut self, assign: &str) -> Result<String, LiteralUnread> {
        let is_key = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '$');
        let end = self.rest().find(|c: char| !is_key(c)).ok_or(LiteralUnread::More)?;
        let key = self.rest()[..end].to_owned();
        if key.is_empty() {
            return Err(LiteralUnread::Broken);
        }
        self.at += end;
        self.white();
        self.must(assign)?;
        Ok(key)
    }

    fn value(&mut self, depth: usize) -> Result<Value, LiteralUnread> {
        if depth > CALL_DEPTH_MAX {
            return Err(LiteralUnread::Broken);
        }
        self.white();
        if let Some(quote) = &self.notation.quote
            && self.eats(quote)?
        {
            let end = self.rest().find(&**quote).ok_or(LiteralUnread::More)?;
            let text = self.rest()[..end].to_owned();
            self.at += end + quote.len();
            return Ok(Value::String(text));
        }
        match self.rest().chars().next().ok_or(LiteralUnread::More)? {
            quote @ ('"' | '\'') if self.notation.quote.is_none() => self.quoted(quote).map(Value::String),
            '[' => self.list(depth),
            '{' => self.object(depth),
            _ => self.word(),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, LiteralUnread> {
        self.at += 1;
        let mut items = Vec::new();
        loop {
            self.white();
            if self.eats("]")? {
                return Ok(Value::Array(items));
            }
            if !items.is_empty() {
                self.must(",")?;
                self.white();
                // Python allows a comma before the closing bracket.
                if self.eats("]")? {
                    return Ok(Value::Array(items));
                }
            }
            items.push(self.value(depth + 1)?);
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, LiteralUnread> {
        self.at += 1;
        let mut map = Map::new();
        loop {
            self.white();
            if self.eats("}")? {
                return Ok(Value::Object(map));
            }
            if !map.is_empty() {
                self.must(",")?;
                self.white();
            }
            let is_quoted = match &self.notation.quote {
                Some(quote) => self.rest().starts_with(&**quote),
                None => true,
            };
            let key = match is_quoted {
                true => match self.value(depth + 1)? {
                    Value::String(key) => {
                        self.white();
                        self.must(":")?;
                        key
                    }
                    _ => return Err(LiteralUnread::Broken),
                },
                false => self.key(":")?,
            };
            map.insert(key, self.value(depth + 1)?);
        }
    }

    /// Reads a number or a word. It is complete only when another character follows.
    fn word(&mut self) -> Result<Value, LiteralUnread> {
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_');
        let end = self.rest().find(|c: char| !is_word(c)).ok_or(LiteralUnread::More)?;
        let value = match &self.rest()[..end] {
            "True" | "true" => Value::Bool(true),
            "False" | "false" => Value::Bool(false),
            "None" | "null" => Value::Null,
            number => number.parse::<Number>().map(Value::Number).map_err(|_| LiteralUnread::Broken)?,
        };
        self.at += end;
        Ok(value)
    }

    /// Reads a Python string up to its closing quote.
    fn quoted(&mut self, quote: char) -> Result<String, LiteralUnread> {
        let mut out = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            if c == quote {
                self.at += at + 1;
                return Ok(out);
            }
            if c != '\\' {
                out.push(c);
                continue;
            }
            let (_, escaped) = chars.next().ok_or(LiteralUnread::More)?;
            let mut code = |digits: usize| -> Result<Option<u32>, LiteralUnread> {
                let hex: String = chars.by_ref().take(digits).map(|(_, c)| c).collect();
                if hex.len() < digits { Err(LiteralUnread::More) } else { Ok(u32::from_str_radix(&hex, 16).ok()) }
            };
            match escaped {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                'b' => out.push('\u{8}'),
                'f' => out.push('\u{c}'),
                'x' => out.extend(code(2)?.and_then(char::from_u32)),
                'u' => {
                    let high = code(4)?;
                    match high {
                        // JSON writes characters beyond U+FFFF as two surrogates.
                        Some(high @ 0xd800..0xdc00) => {
                            let _ = chars.by_ref().take(2).count();
                            let mut low = || -> Result<Option<u32>, LiteralUnread> {
                                let hex: String = chars.by_ref().take(4).map(|(_, c)| c).collect();
                                if hex.len() < 4 {
                                    Err(LiteralUnread::More)
                                } else {
                                    Ok(u32::from_str_radix(&hex, 16).ok())
                                }
                            };
                            let low = low()?.unwrap_or(0);
                            let code = 0x1_0000 + ((high - 0xd800) << 10) + (low.wrapping_sub(0xdc00) & 0x3ff);
                            out.extend(char::from_u32(code));
                        }
                        code => out.extend(code.and_then(char::from_u32)),
                    }
                }
                '\\' | '\'' | '"' | '/' => out.push(escaped),
                other => out.extend(['\\', other]),
            }
        }
        Err(LiteralUnread::More)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn python() -> Notation {
        Notation { assign: "=".into(), between: ", ".into(), quote: None }
    }

    fn marked() -> Notation {
        Notation { assign: ":".into(), between: ",".into(), quote: Some("<|\"|>".into()) }
    }

    #[test]
    fn what_is_written_is_read_and_its_beginnings_want_more() {
        let arguments = json!({"city": "K\u{f6}ln \"x\" 'y'\n\\ {}\u{1f600}", "n": -3, "x": 1.5, "flag": true, "none": null,
            "list": ["a, b", 2, []], "map": {"k": {"z": [false]}, "l": "m"}, "empty": {}});
        let arguments = arguments.as_object().unwrap();
        for (notation, end) in [(python(), ")"), (marked(), "}")] {
            let text = notation.write(arguments);
            assert_eq!(notation.read(&format!("{text}{end}x"), end), Ok((arguments.clone(), text.len())), "{text}");
            for (at, _) in text.char_indices() {
                assert_eq!(notation.read(&text[..at], end), Err(LiteralUnread::More), "{}", &text[..at]);
            }
        }
        assert_eq!(python().read(")", ")"), Ok((Map::new(), 0)));
    }

    #[test]
    fn pythons_other_ways_are_read() {
        let read = |text: &str| python().read(text, ")").map(|(map, _)| Value::Object(map));
        assert_eq!(
            read("a='it\\'s \\u00e9 \\ud83d\\ude00', b=[1, 2,])"),
            Ok(json!({"a": "it's \u{e9} \u{1f600}", "b": [1, 2]}))
        );
        assert_eq!(read("a = {'k': None}\n)"), Ok(json!({"a": {"k": null}})));
        for broken in ["a=b c)", "1)", "a=1 b=2)", "a=[1 2])", "a={1: 2})"] {
            assert_eq!(read(broken), Err(LiteralUnread::Broken), "{broken}");
        }
    }
}
