//! Prints the effective configuration as TOML, with the place that set each value. The output can be used with `--config`.

use std::fmt::Write;

use super::{Config, Origin, settings};

impl Config {
    /// One line for each setting, in the order of the help. Defaults are commented out, so that a saved file holds only
    /// values that were set. For a setting without a value, the line says what is done instead.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let order =
            settings::all().filter_map(|setting| self.shown.iter().find(|shown| shown.key == setting.about().key));
        for shown in order {
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

/// A value as TOML. TOML's integers end at `i64::MAX`; a larger number is written as text, which can be read back.
fn as_toml(value: &str) -> String {
    match value.parse::<u64>() {
        Ok(number) if i64::try_from(number).is_err() => format!("\"{value}\""),
        _ => value.to_owned(),
    }
}
