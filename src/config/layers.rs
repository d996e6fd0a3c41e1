//! For each setting, finds the strongest of flag, variable and configuration file, remembers which it was, and checks the
//! value.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use super::flags::{CONFIG_KEY, Typed};
use super::settings::{self, SETTINGS, VARIABLE_PREFIX};
use super::{Shown, file, size};
use crate::appliance;
use crate::types::StartupError;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nothing has set it: the default.
    Default,
    /// A line of the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable, by its name `CLLM_*`.
    Variable(String),
    /// A flag, by its name `--flag`.
    Flag(String),
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

/// Variables `CLLM_*` that are no settings: tests, benches and the supervisor use them.
const OTHER_VARIABLES: &[&str] = &["CLLM_SHARED_DATA", "CLLM_BENCH", "CLLM_TEST", "CLLM_SIM", "CLLM_SUPERVISOR"];

/// The name that messages give to the configuration inside an appliance.
const CARRIED: &str = "(the appliance's configuration)";

/// For each setting that was set anywhere, the text from the strongest place.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    set: BTreeMap<&'static str, (String, Origin)>,
    /// The configuration file that was read, if one was named.
    pub(super) file: Option<PathBuf>,
    /// Variables `CLLM_*` that no setting has.
    pub(super) unknown_vars: Vec<String>,
}

impl Layers {
    /// Reads the configuration file named in `flags` or `vars`, and lets variables override the file and flags override
    /// both. An empty variable counts as unset.
    pub fn read(flags: &Typed, vars: impl IntoIterator<Item = (String, String)>) -> Result<Layers, StartupError> {
        let vars: BTreeMap<String, String> =
            vars.into_iter().filter(|(name, value)| name.starts_with(VARIABLE_PREFIX) && !value.is_empty()).collect();
        let mut layers = Layers::default();
        let config_var = format!("{VARIABLE_PREFIX}CONFIG");
        let config = flags
            .get(CONFIG_KEY)
            .map(|path| (path, "--config"))
            .or(vars.get(&config_var).map(|path| (path, "CLLM_CONFIG")));
        if let Some((path, name)) = config {
            let path = PathBuf::from(path);
            let text = std::fs::read_to_string(&path).map_err(|error| StartupError::Config {
                name: name.to_owned(),
                reason: format!("{}: {error}", path.display()),
            })?;
            for entry in file::parse(&path, &text)? {
                let origin = Origin::File { path: path.clone(), line: entry.line };
                layers.set.insert(entry.key, (entry.value, origin));
            }
            layers.file = Some(path);
        }
        if let (None, Some(appliance)) = (config, appliance::own()?) {
            let path = PathBuf::from(CARRIED);
            for entry in file::parse(&path, &appliance.config)? {
                let origin = Origin::File { path: path.clone(), line: entry.line };
                layers.set.insert(entry.key, (entry.value, origin));
            }
        }
        for (name, value) in vars {
            match SETTINGS.iter().find(|setting| setting.variable() == name) {
                Some(setting) => {
                    layers.set.insert(setting.key, (value, Origin::Variable(name)));
                }
                None if name == config_var || OTHER_VARIABLES.iter().any(|other| name.starts_with(other)) => {}
                None => layers.unknown_vars.push(name),
            }
        }
        for (key, value) in flags.iter().filter(|(key, _)| **key != CONFIG_KEY) {
            layers.set.insert(key, (value.clone(), Origin::Flag(format!("--{key}"))));
        }
        Ok(layers)
    }
}

/// Takes settings out of the layers one by one, checks each, and records what `--check` prints of it.
pub(super) struct Picker {
    layers: Layers,
    shown: Vec<Shown>,
}

impl Picker {
    /// Starts with all settings of `layers` and nothing taken.
    pub fn new(layers: Layers) -> Self {
        Picker { layers, shown: Vec::new() }
    }

    /// All settings taken so far, in the order of the table.
    pub fn into_shown(mut self) -> Vec<Shown> {
        self.shown.sort_by_key(|shown| SETTINGS.iter().position(|setting| setting.key == shown.key));
        self.shown
    }

    /// The error for `key`. It names the flag, variable or line that set it.
    pub fn refuse(&self, key: &str, reason: impl Into<String>) -> StartupError {
        StartupError::Config { name: self.name_of(key), reason: reason.into() }
    }

    /// The flag, variable, or key and line that set `key`.
    pub fn name_of(&self, key: &str) -> String {
        match self.layers.set.get(key) {
            Some((_, Origin::File { path, line })) => format!("{key} in {} line {line}", path.display()),
            Some((_, origin)) => origin.to_string(),
            None => format!("--{key}"),
        }
    }

    /// The strength of the place that set `key`: 3 flag, 2 variable, 1 file, 0 not set.
    pub fn strength(&self, key: &str) -> u8 {
        match self.layers.set.get(key) {
            None | Some((_, Origin::Default)) => 0,
            Some((_, Origin::File { .. })) => 1,
            Some((_, Origin::Variable(_))) => 2,
            Some((_, Origin::Flag(_))) => 3,
        }
    }

    /// Treats `key` as not set, because another setting from a stronger place replaces it.
    pub fn forget(&mut self, key: &str) {
        self.layers.set.remove(key);
    }

    fn typed(&self, key: &'static str) -> Option<String> {
        debug_assert!(settings::find(key).is_some(), "{key} isn't in the table");
        self.layers.set.get(key).map(|(text, _)| text.trim().to_owned())
    }

    fn show(&mut self, key: &'static str, value: Option<String>, meaning: &'static str) {
        let origin = self.layers.set.get(key).map_or(Origin::Default, |(_, origin)| origin.clone());
        self.shown.push(Shown { key, value, meaning, origin });
    }

    /// A text; `None` if it isn't set. `meaning` says what `None` means and is printed by `--check`.
    pub fn text(&mut self, key: &'static str, meaning: &'static str) -> Result<Option<String>, StartupError> {
        let text = self.typed(key);
        if text.as_ref().is_some_and(String::is_empty) {
            return Err(self.refuse(key, "is empty"));
        }
        self.show(key, text.as_deref().map(quoted), meaning);
        Ok(text)
    }

    /// Like `text`, but `--check` doesn't print the value.
    pub fn secret(&mut self, key: &'static str, meaning: &'static str) -> Result<Option<String>, StartupError> {
        let text = self.typed(key);
        if text.as_ref().is_some_and(String::is_empty) {
            return Err(self.refuse(key, "is empty"));
        }
        self.show(key, None, if text.is_some() { "set, not shown" } else { meaning });
        Ok(text)
    }

    /// A text with a default.
    pub fn text_or(&mut self, key: &'static str, default: &str) -> Result<String, StartupError> {
        let text = self.typed(key).unwrap_or_else(|| default.to_owned());
        self.show(key, Some(quoted(&text)), "");
        Ok(text)
    }

    /// A file's path; `None` if it isn't set. Whether the file exists is checked later.
    pub fn path(&mut self, key: &'static str, meaning: &'static str) -> Result<Option<PathBuf>, StartupError> {
        Ok(self.text(key, meaning)?.map(PathBuf::from))
    }

    /// A size in bytes; `off` and `none` are 0, and `None` if it isn't set.
    pub fn size(&mut self, key: &'static str, meaning: &'static str) -> Result<Option<u64>, StartupError> {
        let text = self.typed(key);
        let bytes = match text.as_deref() {
            None => None,
            Some(text) if size::OFF.contains(&text) => Some(0),
            Some(text) => match size::parse(text) {
                Some(bytes) => Some(bytes),
                None => {
                    return Err(self.refuse(key, format!("{} isn't a size like 512MB or 2GB, or off", quoted(text))));
                }
            },
        };
        self.show(key, text.as_deref().map(quoted), meaning);
        Ok(bytes)
    }

    /// A folder and its size in bytes, which is `default` if it isn't named; `None` if it isn't set or is `off`.
    pub fn folder(
        &mut self,
        key: &'static str,
        default: u64,
        meaning: &'static str,
    ) -> Result<Option<(PathBuf, u64)>, StartupError> {
        let text = self.typed(key);
        let folder = match text.as_deref().filter(|text| !size::OFF.contains(text)) {
            None => None,
            Some(text) => Some(size::parse_folder(text, default).map_err(|reason| self.refuse(key, reason))?),
        };
        self.show(key, text.as_deref().map(quoted), meaning);
        Ok(folder)
    }

    /// A number within `bounds`. NaN is refused.
    pub fn number<T>(&mut self, key: &'static str, default: T, bounds: RangeInclusive<T>) -> Result<T, StartupError>
    where
        T: FromStr + PartialOrd + fmt::Display + fmt::Debug + Copy,
    {
        let value = match self.typed(key) {
            Some(text) => self.parse(key, &text, &bounds)?,
            None => default,
        };
        self.show(key, Some(format!("{value:?}")), "");
        Ok(value)
    }

    /// A whole number within `bounds`.
    pub fn count(
        &mut self,
        key: &'static str,
        default: usize,
        bounds: RangeInclusive<usize>,
    ) -> Result<usize, StartupError> {
        self.number(key, default, bounds)
    }

    /// A number within `bounds`; `None` if it isn't set or is one of the words `open`.
    pub fn open<T>(
        &mut self,
        key: &'static str,
        open: &[&str],
        bounds: RangeInclusive<T>,
        meaning: &'static str,
    ) -> Result<Option<T>, StartupError>
    where
        T: FromStr + PartialOrd + fmt::Display + fmt::Debug + Copy,
    {
        let value = match self.typed(key) {
            Some(text) if !open.contains(&text.as_str()) => Some(self.parse(key, &text, &bounds)?),
            _ => None,
        };
        self.show(key, value.map(|value| format!("{value:?}")), meaning);
        Ok(value)
    }

    /// Like `open`, for a whole number within `bounds`.
    pub fn open_count(
        &mut self,
        key: &'static str,
        open: &[&str],
        bounds: RangeInclusive<usize>,
        meaning: &'static str,
    ) -> Result<Option<usize>, StartupError> {
        self.open(key, open, bounds, meaning)
    }

    /// The value that belongs to one of the names.
    pub fn one_of<T: Copy>(
        &mut self,
        key: &'static str,
        default: &'static str,
        named: &[(&'static str, T)],
    ) -> Result<T, StartupError> {
        let text = self.typed(key).unwrap_or_else(|| default.to_owned());
        let Some((name, value)) = named.iter().find(|(name, _)| *name == text) else {
            let names: Vec<_> = named.iter().map(|(name, _)| *name).collect();
            return Err(self.refuse(key, format!("{} is none of {}", quoted(&text), names.join(", "))));
        };
        self.show(key, Some(quoted(name)), "");
        Ok(*value)
    }

    /// True or false; false if it isn't set.
    pub fn switch(&mut self, key: &'static str) -> Result<bool, StartupError> {
        let on = self.on_or_off(key)?.unwrap_or(false);
        self.show(key, Some(on.to_string()), "");
        Ok(on)
    }

    /// True or false; `None` if it isn't set.
    pub fn open_switch(&mut self, key: &'static str, meaning: &'static str) -> Result<Option<bool>, StartupError> {
        let on = self.on_or_off(key)?;
        self.show(key, on.map(|on| on.to_string()), meaning);
        Ok(on)
    }

    fn on_or_off(&self, key: &'static str) -> Result<Option<bool>, StartupError> {
        match self.typed(key).as_deref() {
            None => Ok(None),
            Some("false" | "0" | "off" | "no") => Ok(Some(false)),
            Some("true" | "1" | "on" | "yes") => Ok(Some(true)),
            Some(other) => Err(self.refuse(key, format!("{} is neither true nor false", quoted(other)))),
        }
    }

    fn parse<T>(&self, key: &str, text: &str, bounds: &RangeInclusive<T>) -> Result<T, StartupError>
    where
        T: FromStr + PartialOrd + fmt::Display + Copy,
    {
        match text.parse::<T>() {
            Ok(value) if bounds.contains(&value) => Ok(value),
            _ => Err(self.refuse(key, format!("{} isn't a number {}", quoted(text), in_words(bounds)))),
        }
    }
}

/// The bounds in words: `from 1 to 256`. The smallest positive float is written as "above 0".
fn in_words<T: fmt::Display>(bounds: &RangeInclusive<T>) -> String {
    let (least, most) = (bounds.start().to_string(), bounds.end());
    if least == f32::MIN_POSITIVE.to_string() {
        format!("above 0 and up to {most}")
    } else {
        format!("from {least} to {most}")
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
