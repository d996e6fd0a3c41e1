//! What settings take: numbers within bounds, words, switches, texts, files, folders and sizes. Each kind reads text and
//! says what it accepts.

mod number;
mod text;
mod word;

pub use number::{Millis, Number};
pub use text::{FILE, File, FolderAndSize, NonEmptyText, PRIVATE_FILE, Secret, Size, text};
pub use word::{OneOf, Switch};

/// What a flag takes as its value. The names of values are for the help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// Any value.
    Value(&'static str),
    /// A file. In a configuration file, relative paths start from that file's folder. The service that `cllm install` writes
    /// gets a copy of a private file.
    File {
        /// Its name in the help.
        name: &'static str,
        /// Whether only its owner may be able to read it.
        is_private: bool,
    },
    /// A folder. Relative paths as for `File`; the word `off` means no folder.
    Folder(&'static str),
    /// One of these words.
    OneOf(Vec<&'static str>, &'static str),
    /// No value: the flag turns it on, and `=false` turns it off.
    Switch,
}

impl ValueKind {
    /// Whether the help must say the default, because it doesn't list the values.
    pub fn names_no_values(&self) -> bool {
        !matches!(self, ValueKind::OneOf(..) | ValueKind::Switch)
    }

    /// Whether the value is a path.
    pub fn is_path(&self) -> bool {
        matches!(self, ValueKind::File { .. } | ValueKind::Folder(_))
    }
}

/// How a setting's text becomes its value.
pub trait Takes: Sync + 'static {
    /// What it becomes.
    type Value: Clone + Sync + 'static;

    /// What the flag takes.
    fn kind(&self) -> ValueKind;

    /// The accepted values, for the documentation.
    fn accepts(&self) -> String;

    /// Reads what was typed, without blanks around it.
    ///
    /// # Errors
    /// Why it can't be used.
    fn read(&self, text: &str) -> Result<Self::Value, String>;

    /// The value as TOML. `text`: what was typed, or the text of the default. `None`: there is no value.
    fn show(&self, value: &Self::Value, text: Option<&str>) -> Option<String>;

    /// Whether `--check` hides the value.
    fn is_secret(&self) -> bool {
        false
    }
}

/// Another kind that may be left open: not set, or one of `words`.
#[derive(Debug)]
pub struct Open<K> {
    /// The kind of the values that are set.
    pub of: K,
    /// Texts that mean the same as not set.
    pub words: &'static [&'static str],
}

impl<K: Takes> Takes for Open<K> {
    type Value = Option<K::Value>;

    fn kind(&self) -> ValueKind {
        self.of.kind()
    }

    fn accepts(&self) -> String {
        self.of.accepts()
    }

    fn read(&self, text: &str) -> Result<Self::Value, String> {
        if self.words.contains(&text) { Ok(None) } else { self.of.read(text).map(Some) }
    }

    fn show(&self, value: &Self::Value, text: Option<&str>) -> Option<String> {
        value.as_ref().and_then(|value| self.of.show(value, text))
    }

    fn is_secret(&self) -> bool {
        self.of.is_secret()
    }
}
