//! Reads the JSON of one tool call while it is generated: the name first, then its arguments piece by piece.
//!
//! Arguments are passed on as the model writes them, so that a client sees them grow. If the object turns out not to be
//! a call, the text read so far is given back, unless the call was already announced to the client.

use super::form::ObjectKeys;

/// What the reader knows after one more character of the object.
#[derive(Debug, PartialEq, Eq)]
pub enum CallState {
    /// The object isn't complete yet.
    More,
    /// The object is complete.
    Done,
    /// The text is no call.
    Broken,
}

/// Where in the object the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Object,
    Key,
    InKey,
    Colon,
    Value,
    InValue,
    Comma,
}

/// Reads `{"name": ..., "arguments": {...}}`, with the keys in any order; `parameters` is another name for the
/// arguments.
#[derive(Debug)]
pub struct CallReader {
    at: At,
    /// The whole text read so far.
    pub raw: String,
    key: String,
    /// The text of the value being read, for values that are needed whole.
    value: String,
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// The tool's name; `None` until it is read.
    pub name: Option<String>,
    /// Arguments not yet taken by the caller, also those that came before the name.
    pub arguments: String,
    /// Whether any arguments were read.
    has_arguments: bool,
    /// Whether the arguments are a bare value without an object around them.
    bare: bool,
    /// Names of the keys of name and arguments, accepted beside the usual ones.
    keys: Option<ObjectKeys>,
}

impl CallReader {
    /// A reader for a call with the usual keys.
    pub fn new() -> CallReader {
        CallReader {
            at: At::Object,
            raw: String::new(),
            key: String::new(),
            value: String::new(),
            depth: 0,
            in_string: false,
            escaped: false,
            name: None,
            arguments: String::new(),
            has_arguments: false,
            bare: false,
            keys: None,
        }
    }

    /// A reader for an object with these keys.
    pub fn of_object(keys: Option<ObjectKeys>) -> CallReader {
        CallReader { keys, ..CallReader::new() }
    }

    /// A reader for styles that write the name outside the JSON: only the arguments follow.
    pub fn of_arguments(name: String) -> CallReader {
        CallReader { at: At::Value, key: "arguments".to_owned(), name: Some(name), bare: true, ..CallReader::new() }
    }

    /// Whether enough of name and arguments is read to announce the call to the client.
    pub fn can_begin(&self) -> bool {
        self.name.is_some() && self.has_arguments
    }

    /// Reads one character.
    pub fn push(&mut self, c: char) -> CallState {
        self.raw.push(c);
        match self.at {
            At::InKey => {
                if self.string_goes_on(c) {
                    self.key.push(c);
                } else {
                    self.at = At::Colon;
                }
            }
            At::InValue => return self.in_value(c),
            _ if c.is_whitespace() => {}
            At::Object if c == '{' => self.at = At::Key,
            At::Key if c == '"' => {
                self.key.clear();
                (self.at, self.escaped) = (At::InKey, false);
            }
            At::Key | At::Comma if c == '}' => return self.end(),
            At::Comma if c == ',' => self.at = At::Key,
            At::Colon if c == ':' => self.at = At::Value,
            At::Value => {
                self.value.clear();
                (self.at, self.depth, self.in_string, self.escaped) = (At::InValue, 0, false, false);
                return self.in_value(c);
            }
            _ => return CallState::Broken,
        }
        CallState::More
    }

    /// Whether `c` belongs to the string being read; `false` for its closing quote.
    fn string_goes_on(&mut self, c: char) -> bool {
        if self.escaped {
            self.escaped = false;
        } else if c == '\\' {
            self.escaped = true;
        } else if c == '"' {
            return false;
        }
        true
    }

    fn in_value(&mut self, c: char) -> CallState {
        if self.in_string {
            self.take(c);
            if !self.string_goes_on(c) {
                self.in_string = false;
                return if self.depth == 0 { self.value_ends() } else { CallState::More };
            }
            return CallState::More;
        }
        match c {
            // A number or a word ends here.
            ',' | '}' | ']' if self.depth == 0 => {
                let ended = self.value_ends();
                if ended != CallState::More {
                    return ended;
                }
                return match c {
                    ',' => {
                        self.at = At::Key;
                        CallState::More
                    }
                    '}' => self.end(),
                    _ => CallState::Broken,
                };
            }
            _ if self.depth == 0 && c.is_whitespace() => return self.value_ends(),
            '"' => self.in_string = true,
            '{' | '[' => self.depth += 1,
            '}' | ']' => {
                self.take(c);
                self.depth -= 1;
                return if self.depth == 0 { self.value_ends() } else { CallState::More };
            }
            _ => {}
        }
        self.take(c);
        CallState::More
    }

    fn is_arguments(&self) -> bool {
        matches!(self.key.as_str(), "arguments" | "parameters")
            || self.keys.as_ref().is_some_and(|keys| keys.arguments == self.key)
    }

    fn is_name(&self) -> bool {
        self.key == "name" || self.keys.as_ref().is_some_and(|keys| keys.name == self.key)
    }

    /// Takes one character of a value. Characters of an object are passed on at once; other values are evaluated when
    /// complete.
    fn take(&mut self, c: char) {
        if self.is_arguments() && (self.has_arguments || (self.value.is_empty() && c == '{')) {
            self.has_arguments = true;
            self.arguments.push(c);
        } else {
            self.value.push(c);
        }
    }

    fn value_ends(&mut self) -> CallState {
        self.at = At::Comma;
        if self.is_name() {
            match serde_json::from_str::<String>(&self.value) {
                Ok(name) if !name.is_empty() => self.name = Some(name),
                _ => return CallState::Broken,
            }
        } else if self.is_arguments() && !self.has_arguments {
            // The value is a string that holds the JSON, or `null`.
            match (serde_json::from_str::<String>(&self.value), self.value.as_str()) {
                (Ok(text), _) => self.arguments = text,
                (Err(_), "null") => self.arguments = "{}".to_owned(),
                _ => return CallState::Broken,
            }
            self.has_arguments = true;
        }
        // A repeated key would give a second set of arguments, so its value is dropped.
        self.value.clear();
        if self.bare { CallState::Done } else { CallState::More }
    }

    fn end(&mut self) -> CallState {
        if self.name.is_none() {
            return CallState::Broken;
        }
        if !self.has_arguments {
            self.has_arguments = true;
            self.arguments = "{}".to_owned();
        }
        CallState::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (CallState, Option<String>, String) {
        let mut reader = CallReader::new();
        for (i, c) in text.char_indices() {
            let step = reader.push(c);
            if step != CallState::More {
                assert!(step == CallState::Broken || i + c.len_utf8() == text.len(), "ended early at {i} of {text}");
                return (step, reader.name, reader.arguments);
            }
        }
        (CallState::More, reader.name, reader.arguments)
    }

    #[test]
    fn calls_are_read_in_any_order_of_keys() {
        for (text, arguments) in [
            (r#"{"name": "f", "arguments": {"a": [1, {"b": "}\"{"}]}}"#, r#"{"a": [1, {"b": "}\"{"}]}"#),
            (r#"{"arguments":{"a":"é"},"name":"f"}"#, r#"{"a":"é"}"#),
            (r#" {"type": "function", "name": "f", "parameters": {} , "n": 3}"#, "{}"),
            (r#"{"name": "f", "n": -1.5e3}"#, "{}"),
            (r#"{"name": "f"}"#, "{}"),
            (r#"{"name": "f", "arguments": null}"#, "{}"),
            (r#"{"name": "f", "arguments": "{\"a\": 1}"}"#, r#"{"a": 1}"#),
        ] {
            assert_eq!(read(text), (CallState::Done, Some("f".to_owned()), arguments.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_call_is_broken() {
        for text in
            ["[1]", "{1: 2}", r#"{"name": 3}"#, r#"{"name": ""}"#, r#"{"a": 1}"#, r#"{"name": "f" "x""#, "hello"]
        {
            assert_eq!(read(text).0, CallState::Broken, "{text}");
        }
        assert_eq!(read(r#"{"name": "f", "arguments": 3}"#).0, CallState::Broken);
    }

    #[test]
    fn arguments_show_before_they_are_whole() {
        let (step, name, arguments) = read(r#"{"name": "f", "arguments": {"city": "Par"#);
        assert_eq!((step, name.as_deref(), arguments.as_str()), (CallState::More, Some("f"), r#"{"city": "Par"#));
    }
}
