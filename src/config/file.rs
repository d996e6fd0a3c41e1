//! Reads the configuration file: TOML into keys, values as text, and line numbers.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use toml::{Spanned, Value};

use super::definition::ValueKind;
use super::settings;
use super::size::OFF;
use crate::types::StartupError;

/// A key with its value as text and its line, counted from 1.
pub struct Entry {
    /// The key.
    pub key: &'static str,
    /// Its value as text.
    pub value: String,
    /// Its line in the file, from 1.
    pub line: usize,
    /// The bytes of the file from the first byte of the key to the last of the value.
    pub span: Range<usize>,
}

/// Reads `text`, the content of `path`. A dash and an underscore in a key mean the same.
///
/// # Errors
/// `StartupError::Config` for text that isn't TOML, for an unknown key, or for a value that isn't a text, a number or a
/// boolean.
pub fn parse(path: &Path, text: &str) -> Result<Vec<Entry>, StartupError> {
    let line_of = |offset: usize| 1 + text[..offset.min(text.len())].matches('\n').count();
    let refuse = |name: &str, line: usize, reason: &str| {
        let name = format!("{name} in {} line {line}", path.display());
        Err(StartupError::Config { name, reason: reason.to_owned() })
    };
    let table: BTreeMap<Spanned<String>, Spanned<Value>> = match toml::from_str(text) {
        Ok(table) => table,
        Err(error) => {
            let name = format!("{} line {}", path.display(), line_of(error.span().map_or(0, |span| span.start)));
            let reason = error.message().replace('\n', ", ");
            return Err(StartupError::Config { name, reason });
        }
    };
    let mut entries: Vec<Entry> = Vec::new();
    for (key, value) in table {
        let (line, span) = (line_of(key.span().start), key.span().start..value.span().end);
        let Some(setting) = settings::find(&key.as_ref().replace('_', "-")) else {
            return refuse(key.as_ref(), line, "no such setting; `cllm serve --help` names them");
        };
        let about = setting.about();
        if entries.iter().any(|entry| entry.key == about.key) {
            return refuse(key.as_ref(), line, "given twice");
        }
        let value = match value.into_inner() {
            Value::String(text) if matches!(setting.kind(), ValueKind::File { .. }) => beside(path, &text),
            Value::String(text) if matches!(setting.kind(), ValueKind::Folder(_)) && !OFF.contains(&text.as_str()) => {
                beside(path, &text)
            }
            Value::String(text) => text,
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Boolean(yes) => yes.to_string(),
            _ => return refuse(key.as_ref(), line, "must be a text, a number or true or false"),
        };
        entries.push(Entry { key: about.key, value, line, span });
    }
    Ok(entries)
}

/// The path `named` in the configuration file `config`: relative paths start from that file's folder.
fn beside(config: &Path, named: &str) -> String {
    let folder = config.parent().unwrap_or(Path::new(""));
    folder.join(named).to_string_lossy().into_owned()
}
