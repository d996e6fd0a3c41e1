//! Changes a configuration file: removes the lines of some settings and keeps all other text as the user wrote it.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use super::file::{self, Entry};
use crate::types::StartupError;

/// A configuration file and its content; empty if the file doesn't exist.
pub struct EditedFile {
    path: PathBuf,
    text: String,
    entries: Vec<Entry>,
}

impl EditedFile {
    /// Reads `path`, or the file that it links to. A file that doesn't exist counts as empty.
    ///
    /// # Errors
    /// The file can't be read, or isn't a configuration.
    pub fn read(path: &Path) -> Result<EditedFile, StartupError> {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            read => read.map_err(|error| refused(&path, &error))?,
        };
        let entries = file::parse(&path, &text)?;
        Ok(EditedFile { path, text, entries })
    }

    /// The value that the file gives `key`. A relative path is already joined to the configuration file's folder.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
    }

    /// The file's text without the lines that set one of `keys`, and without comment lines that begin with `mark`.
    pub fn without(&self, keys: &[&str], mark: &str) -> String {
        let gone = |at: usize| self.entries.iter().any(|entry| keys.contains(&entry.key) && entry.holds(at));
        let mut at = 0;
        let mut left = String::new();
        for line in self.text.split_inclusive('\n') {
            let is_marked = line.starts_with(mark) && !self.entries.iter().any(|entry| entry.holds(at));
            // A key may be indented. A blank line sets no key.
            let indent = line.find(|c: char| !c.is_whitespace()).unwrap_or(0);
            if !is_marked && !gone(at) && !gone(at + indent) {
                left += line;
            }
            at += line.len();
        }
        left
    }

    /// Checks that the file could be replaced now. Callers ask before they begin long work.
    ///
    /// # Errors
    /// The file, or a new file beside it, can't be written.
    pub fn check_writable(&self) -> Result<(), StartupError> {
        let beside = self.beside();
        let open = |path: &Path, new| fs::OpenOptions::new().write(true).create_new(new).open(path);
        let existing = if self.path.exists() { open(&self.path, false).map(drop) } else { Ok(()) };
        existing.and_then(|()| open(&beside, true).map(drop)).map_err(|error| refused(&self.path, &error))?;
        fs::remove_file(&beside).map_err(|error| refused(&self.path, &error))
    }

    /// Replaces the file's content with `text`. A reader sees the old content or the new one, never a mixture. Mode and
    /// owner stay.
    ///
    /// # Errors
    /// `text` isn't a configuration, or can't be written; then the old file is unchanged.
    pub fn replace(&self, text: &str) -> Result<(), StartupError> {
        file::parse(&self.path, text)?;
        let beside = self.beside();
        let write = || {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&beside)?;
            if let Ok(about) = fs::metadata(&self.path) {
                file.set_permissions(about.permissions())?;
                chown(&beside, Some(about.uid()), Some(about.gid()))?;
            }
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, &self.path)
        };
        write().map_err(|error| {
            let _ = fs::remove_file(&beside);
            refused(&self.path, &error)
        })
    }

    fn beside(&self) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{}.partial", std::process::id()));
        PathBuf::from(name)
    }
}

impl Entry {
    fn holds(&self, at: usize) -> bool {
        self.span.contains(&at)
    }
}

fn refused(path: &Path, error: &std::io::Error) -> StartupError {
    StartupError::Config { name: "--config".to_owned(), reason: format!("{}: {error}", path.display()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A temporary folder for one test, removed at its end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let folder = std::env::temp_dir().join(format!("cllm-edit-{}-{name}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Scratch(folder)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn only_the_settings_named_leave() {
        let scratch = Scratch::new("leave");
        let path = scratch.0.join("cllm.toml");
        let text = "# ours\n\nport = 1 # stays\n  \"threads\" = 2 # goes\nflash_attn = \"\"\"\noff\"\"\"\n\
                    alias = \"\"\"\n# mark: in a text\nthreads = 4\"\"\"\n# mark: goes\nqueue = 9";
        fs::write(&path, text).unwrap();
        let file = EditedFile::read(&path).unwrap();
        assert_eq!((file.value("threads"), file.value("host")), (Some("2"), None));
        let left = file.without(&["threads", "flash-attn"], "# mark:");
        assert_eq!(left, "# ours\n\nport = 1 # stays\nalias = \"\"\"\n# mark: in a text\nthreads = 4\"\"\"\nqueue = 9");
        assert_eq!(EditedFile::read(&scratch.0.join("none.toml")).unwrap().without(&["port"], "#"), "");
    }

    #[test]
    fn a_replaced_file_keeps_its_mode_and_its_link_and_leaves_nothing_beside() {
        let scratch = Scratch::new("replace");
        let (path, link) = (scratch.0.join("cllm.toml"), scratch.0.join("link.toml"));
        fs::write(&path, "port = 1\n").unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        symlink(&path, &link).unwrap();
        let file = EditedFile::read(&link).unwrap();
        file.check_writable().unwrap();
        file.replace("port = 2\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "port = 2\n");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(file.replace("no toml").is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "port = 2\n");
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 2);
    }
}
