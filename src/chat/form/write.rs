//! Writes calls in a form, as the form's template writes them in history.

use serde_json::{Map, Value};

use super::{Arguments, Bit, CallForm, Tagged};

impl CallForm {
    /// The text of a turn's calls, given as (name, arguments). `ids` are their ids, in order.
    pub fn write(&self, calls: &[(&str, &Map<String, Value>)], ids: &[&str]) -> String {
        self.write_in(calls, ids, None)
    }

    /// Like `write`, with the character `around` before and after each text that belongs to the form.
    pub fn write_in(&self, calls: &[(&str, &Map<String, Value>)], ids: &[&str], around: Option<char>) -> String {
        let own = |text: &str| match around {
            Some(mark) if !text.is_empty() => format!("{mark}{text}{mark}"),
            _ => text.to_owned(),
        };
        let mut out = own(&self.open);
        for (index, (name, arguments)) in calls.iter().enumerate() {
            if index > 0 {
                out += &own(&self.between);
            }
            for bit in &self.call {
                match bit {
                    Bit::Text(text) => out += &own(text),
                    Bit::Name => out += name,
                    Bit::Arguments => out += &self.arguments.write(arguments),
                    Bit::Id => out += ids.get(index).copied().unwrap_or("call00000"),
                    Bit::Index => out += &index.to_string(),
                }
            }
        }
        out + &own(&self.close)
    }
}

impl Arguments {
    /// The text of the arguments.
    pub fn write(&self, arguments: &Map<String, Value>) -> String {
        match self {
            Arguments::Json => spaced(&Value::Object(arguments.clone())),
            Arguments::Literal(notation) => notation.write(arguments),
            Arguments::Tagged(tagged) => {
                let written = arguments.iter().map(|(key, value)| tagged.write(key, value));
                written.collect::<Vec<_>>().join(&tagged.between)
            }
        }
    }
}

impl Tagged {
    fn write(&self, key: &str, value: &Value) -> String {
        let (open, text) = match value {
            Value::String(text) => (&self.text_open, text.clone()),
            other => (&self.other_open, spaced(other)),
        };
        format!("{}{key}{open}{text}{}", self.key_open, self.close)
    }
}

/// JSON on one line, with a space after each comma and colon, as Python's `json.dumps` writes it.
pub fn spaced(value: &Value) -> String {
    match value {
        Value::Array(list) => format!("[{}]", list.iter().map(spaced).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let pairs = map.iter().map(|(key, value)| format!("{}: {}", Value::String(key.clone()), spaced(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}
