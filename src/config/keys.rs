//! API keys: one in a setting, any number in a file. Read at start-up and at each SIGHUP.

use std::path::{Path, PathBuf};

use crate::types::StartupError;
use crate::types::limits::API_KEY_BYTES_MAX;

/// Where API keys come from. If there is neither, the server requires no key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KeySources {
    pub key: Option<String>,
    /// A file with one key on each line. Blank lines and lines that begin with `#` are skipped.
    pub file: Option<PathBuf>,
}

/// Prints whether there is a key, never the key.
impl std::fmt::Debug for KeySources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySources").field("key", &self.key.is_some()).field("file", &self.file).finish()
    }
}

impl KeySources {
    /// Reads all keys now.
    ///
    /// # Errors
    /// `StartupError::Config` if the file can't be read, has no key, or has a key that a header can't carry. The message
    /// names the line, never the key.
    pub fn read(&self) -> Result<Vec<String>, StartupError> {
        let mut keys: Vec<String> = self.key.iter().cloned().collect();
        if let Some(path) = &self.file {
            keys.extend(read_file(path).map_err(|reason| StartupError::Config {
                name: "--api-key-file".to_owned(),
                reason: format!("{}: {reason}", path.display()),
            })?);
        }
        Ok(keys)
    }
}

fn read_file(path: &Path) -> Result<Vec<String>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let lines = text.lines().enumerate().map(|(i, line)| (i + 1, line.trim()));
    let keys = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let keys: Vec<String> = keys
        .map(|(number, key)| match complaint(key) {
            None => Ok(key.to_owned()),
            Some(complaint) => Err(format!("line {number}: {complaint}")),
        })
        .collect::<Result<_, _>>()?;
    if keys.is_empty() { Err("holds no key".to_owned()) } else { Ok(keys) }
}

/// Why `key` can't be an API key; `None`: it can.
pub(super) fn complaint(key: &str) -> Option<String> {
    if key.len() > API_KEY_BYTES_MAX {
        return Some(format!("the key has more than {API_KEY_BYTES_MAX} bytes"));
    }
    (!key.bytes().all(|b| b.is_ascii_graphic())).then(|| "a key is printable ASCII without spaces".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        let path = std::env::temp_dir().join(format!("cllm-keys-{}-{:p}", std::process::id(), text));
        std::fs::write(&path, text).unwrap();
        let sources = KeySources { key: Some("first".to_owned()), file: Some(path.clone()) };
        let keys = sources.read().map_err(|error| error.to_string());
        std::fs::remove_file(path).unwrap();
        keys
    }

    #[test]
    fn a_file_has_a_key_a_line() {
        assert_eq!(read("# ours\n\n  alpha \nbeta\r\n").unwrap(), ["first", "alpha", "beta"]);
        for (text, reason) in [
            ("# none\n\n", "holds no key"),
            ("good\nnot good\n", "line 2: a key is printable ASCII"),
            (&"x".repeat(API_KEY_BYTES_MAX + 1), "line 1: the key has more than"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains("--api-key-file: ") && error.contains(reason), "{error}");
            assert!(!error.contains("not good") && !error.contains("xxx"), "{error}");
        }
    }

    #[test]
    fn a_key_isnt_shown() {
        let sources = KeySources { key: Some("hush".to_owned()), file: None };
        assert!(!format!("{sources:?}").contains("hush"));
    }
}
