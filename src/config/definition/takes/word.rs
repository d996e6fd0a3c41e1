//! One of several words, and switches.

use super::{Takes, ValueKind};
use crate::config::layers::quoted;

/// One of some words, each of which is a value.
#[derive(Debug)]
pub struct OneOf<T: 'static> {
    /// Their name in the help.
    pub name: &'static str,
    /// Each word with its value.
    pub words: &'static [(&'static str, T)],
}

impl<T: Copy + PartialEq + Sync + 'static> OneOf<T> {
    /// The word for `value`; `None`: there is none.
    pub fn word(&self, value: &T) -> Option<&'static str> {
        self.words.iter().find(|(_, other)| other == value).map(|(word, _)| *word)
    }

    fn names(&self) -> Vec<&'static str> {
        self.words.iter().map(|(word, _)| *word).collect()
    }
}

impl<T: Copy + PartialEq + Sync + 'static> Takes for OneOf<T> {
    type Value = T;

    fn kind(&self) -> ValueKind {
        ValueKind::OneOf(self.names(), self.name)
    }

    fn accepts(&self) -> String {
        self.names().iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
    }

    fn read(&self, text: &str) -> Result<T, String> {
        let value = self.words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        value.ok_or_else(|| format!("{} is none of {}", quoted(text), self.names().join(", ")))
    }

    fn show(&self, value: &T, _: Option<&str>) -> Option<String> {
        self.word(value).map(quoted)
    }
}

/// True or false. The flag alone turns it on.
#[derive(Debug)]
pub struct Switch {
    /// The value while the switch is on: false for a `--no-...`.
    pub on: bool,
}

impl Takes for Switch {
    type Value = bool;

    fn kind(&self) -> ValueKind {
        ValueKind::Switch
    }

    fn accepts(&self) -> String {
        "true, false".to_owned()
    }

    fn read(&self, text: &str) -> Result<bool, String> {
        match text {
            "true" | "1" | "on" | "yes" => Ok(self.on),
            "false" | "0" | "off" | "no" => Ok(!self.on),
            other => Err(format!("{} is neither true nor false", quoted(other))),
        }
    }

    fn show(&self, value: &bool, _: Option<&str>) -> Option<String> {
        Some((*value == self.on).to_string())
    }
}
