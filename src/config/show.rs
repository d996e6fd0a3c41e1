//! The effective configuration as text: TOML with each value's origin, fit to be saved and given to `--config`.

use std::fmt::Write;

use super::{Config, Origin};

impl Config {
    /// One line a setting, in the order of the help. Defaults are commented out, so that a saved file holds only what
    /// somebody chose; those left open say what decides them.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for shown in &self.shown {
            let setting = match &shown.value {
                Some(value) if shown.origin == Origin::Default => format!("# {} = {value}", shown.key),
                Some(value) => format!("{} = {}", shown.key, as_toml(value)),
                None => format!("# {}: {}", shown.key, shown.meaning),
            };

            let _ = writeln!(text, "{setting:<52} # {}", shown.origin);
        }
        text
    }
}

/// TOML's integers end at `i64::MAX`; a larger one is kept as text, which is read just as well.
fn as_toml(value: &str) -> String {
    match value.parse::<u64>() {
        Ok(number) if i64::try_from(number).is_err() => format!("\"{value}\""),
        _ => value.to_owned(),
    }
}
