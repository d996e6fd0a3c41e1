//! What a definition of a setting consists of: its names, what it takes, its default, its help and the subcommands that have
//! it as a flag.
//!
//! The definitions themselves are in `config/settings`. Everything that names a setting is made from them: clap's flags
//! (`flags.rs`), the `CLLM_*` variables (`read.rs`), the keys of the file (`file.rs`), the print-out of `--check`
//! (`show.rs`) and the tables of docs/configuration.md (`docs.rs`). The form is that of ripgrep's table of flags.

mod picker;
pub mod takes;

pub use picker::{Picker, ShownSetting};
pub use takes::{Takes, ValueKind};

use crate::types::StartupError;

/// Which subcommands take a setting as a flag, as bits. The file and the variables may set all of them for every
/// subcommand.
pub mod scope {
    /// `cllm serve` and `cllm install`.
    pub const SERVE: u8 = 1;
    /// `cllm generate`.
    pub const GENERATE: u8 = 2;
    /// `cllm encode` and `cllm decode`.
    pub const TEXT: u8 = 4;
    /// `cllm bench`.
    pub const BENCH: u8 = 8;
    /// `cllm tune`.
    pub const TUNE: u8 = 16;
}

/// The beginning of all variables' names.
pub const VARIABLE_PREFIX: &str = "CLLM_";

/// The names of a setting, its help, and where it is a flag.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// The long flag without its dashes, which is also the key in the file.
    pub key: &'static str,
    /// The flag of one letter.
    pub short: Option<char>,
    /// A flag of two or three letters that users of llama.cpp type, with its dash. clap can't parse it, so
    /// `flags::expand_two_letter_flags` replaces it.
    pub two_letters: Option<&'static str>,
    /// Other long flags, as llama.cpp spells them.
    pub aliases: &'static [&'static str],
    /// The group in `--help` and in the documentation.
    pub heading: &'static str,
    /// One line, without `two_letters` and without the default, which `Definition::help` adds.
    pub help: &'static str,
    /// The subcommands that take the flag: bits of `scope`.
    pub scope: u8,
}

impl About {
    /// A setting without names, in the group `heading`, for `cllm serve` only: what a definition begins with.
    pub const fn group(heading: &'static str) -> About {
        About { key: "", short: None, two_letters: None, aliases: &[], heading, help: "", scope: scope::SERVE }
    }
}

/// The value of a setting that is not set.
#[derive(Debug)]
pub enum Fallback<T: 'static> {
    /// This value.
    Is(T),
    /// This text, read like one that was typed.
    Text(&'static str),
    /// A value that depends on other settings, and the rule in words for the help; without words the help shows the value.
    Rule(fn(&mut Picker) -> Result<T, StartupError>, &'static str),
    /// A value that says that nothing is set; the words for the help, which may be empty; and what the program does then,
    /// for `--check` and the documentation.
    Unset(T, &'static str, &'static str),
}

/// One setting: all that is known about it, in one value.
#[derive(Debug)]
pub struct Setting<K: Takes> {
    /// Its names, its help and its scope.
    pub about: About,
    /// What it accepts, with bounds, and how text becomes its value.
    pub takes: K,
    /// Its value while it isn't set.
    pub default: Fallback<K::Value>,
}

/// A setting whose type of values is not known: a row of the table.
pub trait Definition: Sync {
    /// Names, help and scope.
    fn about(&self) -> &About;
    /// What the flag takes as its value.
    fn kind(&self) -> ValueKind;
    /// The accepted values, for the documentation: `from 1 to 256`.
    fn accepts(&self) -> String;
    /// Checks `text` as a value of this setting alone.
    ///
    /// # Errors
    /// Why it can't be used, as every place that sets it says.
    fn check(&self, text: &str) -> Result<(), String>;
    /// The default.
    fn usual(&self) -> Usual;

    /// The variable's name: `CLLM_CTX_SIZE` for `ctx-size`.
    fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.about().key.replace('-', "_").to_uppercase())
    }

    /// The line of `--help`: `-np: requests served at once [default: 8]`.
    fn help(&self) -> String {
        let About { two_letters, help, .. } = self.about();
        let help = match two_letters {
            Some(two) => format!("{two}: {}", uncapitalised(help)),
            None => (*help).to_owned(),
        };
        let Usual { value, rule, .. } = self.usual();
        let default = match (rule, &value) {
            ("", Some(value)) if self.kind().names_no_values() => value.trim_matches('"'),
            (rule, _) => rule,
        };
        if default.is_empty() { help } else { format!("{help} [default: {default}]") }
    }
}

/// `text` with a small first letter, unless its first word is written in capitals.
fn uncapitalised(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}

/// The default of a setting in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usual {
    /// The value as TOML, while all other settings have their defaults; `None`: not set.
    pub value: Option<String>,
    /// The words for the help; empty if the value says it all.
    pub rule: &'static str,
    /// What the program does if the setting isn't set; empty if there is a value.
    pub does: &'static str,
}

impl<K: Takes> Definition for Setting<K> {
    fn about(&self) -> &About {
        &self.about
    }

    fn kind(&self) -> ValueKind {
        self.takes.kind()
    }

    fn accepts(&self) -> String {
        self.takes.accepts()
    }

    fn check(&self, text: &str) -> Result<(), String> {
        self.takes.read(text).map(|_| ())
    }

    fn usual(&self) -> Usual {
        let (rule, does) = match self.default {
            Fallback::Is(_) | Fallback::Text(_) => ("", ""),
            Fallback::Rule(_, rule) => (rule, ""),
            Fallback::Unset(_, rule, does) => (rule, does),
        };
        // Nothing is typed, so only a faulty default could be refused, which a test excludes.
        let value = Picker::default().fall_back(self).ok().and_then(|(value, text)| self.takes.show(&value, text));
        Usual { value, rule, does }
    }
}
