//! For each setting that was set anywhere, its text from the strongest of flag, variable and configuration file, and which
//! of them it was.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nothing has set it: the default.
    Default,
    /// A line of the configuration file.
    File {
        /// The configuration file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable, by its name `CLLM_*`.
    Variable(String),
    /// A flag, by its name `--flag`.
    Flag(String),
}

impl Origin {
    /// How messages name the setting `key` that was set here: the flag, the variable, or the key and its line.
    pub fn name_of(&self, key: &str) -> String {
        match self {
            Origin::File { path, line } => format!("{key} in {} line {line}", path.display()),
            Origin::Default => format!("--{key}"),
            Origin::Variable(name) | Origin::Flag(name) => name.clone(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{} line {line}", path.display()),
            Origin::Variable(name) | Origin::Flag(name) => f.write_str(name),
        }
    }
}

/// For each setting that was set anywhere, the text from the strongest place. `Layers::read` fills it.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    set: BTreeMap<&'static str, (String, Origin)>,
    /// The configuration file that was read, if one was named.
    pub(super) file: Option<PathBuf>,
    /// Variables `CLLM_*` that no setting has.
    pub(super) unknown_vars: Vec<String>,
}

impl Layers {
    /// Sets `key`, in place of what a weaker place has set.
    pub fn set(&mut self, key: &'static str, text: String, origin: Origin) {
        self.set.insert(key, (text, origin));
    }

    /// Treats `key` as not set.
    pub fn forget(&mut self, key: &str) {
        self.set.remove(key);
    }

    /// The text of `key` without blanks around it; `None`: not set.
    pub fn text(&self, key: &str) -> Option<String> {
        self.set.get(key).map(|(text, _)| text.trim().to_owned())
    }

    /// The place that set `key`.
    pub fn origin(&self, key: &str) -> Origin {
        self.set.get(key).map_or(Origin::Default, |(_, origin)| origin.clone())
    }
}

/// `text` as a TOML string. Messages quote what was typed in the same way.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}
