//! Takes settings out of the layers one by one, checks each, and records what `--check` prints of it.

use std::path::PathBuf;

use super::{Definition, Fallback, Setting, Takes, ValueKind};
use crate::config::layers::{Layers, Origin};
use crate::types::StartupError;

/// One setting as `--check` prints it.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownSetting {
    /// Its key.
    pub key: &'static str,
    /// The value as TOML; `None`: not set.
    pub value: Option<String>,
    /// What the program does if the value isn't set.
    pub meaning: &'static str,
    /// The place that set it.
    pub origin: Origin,
    /// The file that it names.
    pub file: Option<PathBuf>,
}

/// The layers, and what was taken out of them.
#[derive(Debug, Default)]
pub struct Picker {
    layers: Layers,
    shown: Vec<ShownSetting>,
}

impl Picker {
    /// Starts with all settings of `layers` and nothing taken.
    pub fn new(layers: Layers) -> Self {
        Picker { layers, shown: Vec::new() }
    }

    /// All settings taken so far, in no order.
    pub fn into_shown(self) -> Vec<ShownSetting> {
        self.shown
    }

    /// The value of a setting: what was typed, or its default. May be asked again.
    ///
    /// # Errors
    /// The text can't be used; the error names the flag, variable or line that set it.
    pub fn take<K: Takes>(&mut self, setting: &Setting<K>) -> Result<K::Value, StartupError> {
        let (key, typed) = (setting.about.key, self.layers.text(setting.about.key));
        let (value, text) = match &typed {
            Some(text) => {
                let read = setting.takes.read(text);
                (read.map_err(|reason| self.refuse(setting, reason))?, Some(text.as_str()))
            }
            None => self.fall_back(setting)?,
        };
        if !self.shown.iter().any(|shown| shown.key == key) {
            let is_file = matches!(setting.kind(), ValueKind::File { .. });
            let meaning = match setting.default {
                _ if typed.is_some() && setting.takes.is_secret() => "set, not shown",
                Fallback::Unset(_, _, does) => does,
                _ => "",
            };
            self.shown.push(ShownSetting {
                key,
                value: setting.takes.show(&value, text),
                meaning,
                origin: self.layers.origin(key),
                file: typed.as_ref().filter(|_| is_file).map(PathBuf::from),
            });
        }
        Ok(value)
    }

    /// The default, and its text if it is defined as one.
    ///
    /// # Errors
    /// A setting on which it depends can't be used.
    pub fn fall_back<K: Takes>(
        &mut self,
        setting: &Setting<K>,
    ) -> Result<(K::Value, Option<&'static str>), StartupError> {
        match &setting.default {
            Fallback::Is(value) | Fallback::Unset(value, ..) => Ok((value.clone(), None)),
            Fallback::Text(text) => {
                let read = setting.takes.read(text);
                Ok((read.map_err(|reason| self.refuse(setting, reason))?, Some(*text)))
            }
            Fallback::Rule(of, _) => Ok((of(self)?, None)),
        }
    }

    /// The error for a setting. It names the flag, variable or line that set it.
    pub fn refuse(&self, setting: &dyn Definition, reason: impl Into<String>) -> StartupError {
        StartupError::Config { name: self.name_of(setting), reason: reason.into() }
    }

    /// The flag, variable, or key and line that set the setting.
    pub fn name_of(&self, setting: &dyn Definition) -> String {
        self.layers.origin(setting.about().key).name_of(setting.about().key)
    }

    /// The strength of the place that set the setting: 3 flag, 2 variable, 1 file, 0 not set.
    pub fn strength(&self, setting: &dyn Definition) -> u8 {
        match self.layers.origin(setting.about().key) {
            Origin::Default => 0,
            Origin::File { .. } => 1,
            Origin::Variable(_) => 2,
            Origin::Flag(_) => 3,
        }
    }

    /// Treats the setting as not set, because another one from a stronger place replaces it.
    pub fn forget(&mut self, setting: &dyn Definition) {
        self.layers.forget(setting.about().key);
    }
}
