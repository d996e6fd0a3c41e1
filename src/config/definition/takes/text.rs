//! Texts, and what texts name: files, folders and sizes.

use std::path::PathBuf;

use super::{Open, Takes, ValueKind};
use crate::config::layers::quoted;
use crate::config::size;

/// A text that isn't empty, and what is made of it.
#[derive(Debug)]
pub struct NonEmptyText<T: 'static> {
    /// Its name in the help.
    pub name: &'static str,
    /// Makes the value, or says why the text can't be used.
    pub read: fn(&str) -> Result<T, String>,
}

/// Any text that isn't empty, unset by default.
pub const fn text(name: &'static str) -> Open<NonEmptyText<String>> {
    Open { of: NonEmptyText { name, read: |text| Ok(text.to_owned()) }, words: &[] }
}

impl<T: Clone + Sync + 'static> Takes for NonEmptyText<T> {
    type Value = T;

    fn kind(&self) -> ValueKind {
        ValueKind::Value(self.name)
    }

    fn accepts(&self) -> String {
        "text".to_owned()
    }

    fn read(&self, text: &str) -> Result<T, String> {
        if text.is_empty() { Err("is empty".to_owned()) } else { (self.read)(text) }
    }

    fn show(&self, _: &T, text: Option<&str>) -> Option<String> {
        text.map(quoted)
    }
}

/// A text that `--check` doesn't print.
#[derive(Debug)]
pub struct Secret(pub NonEmptyText<String>);

impl Takes for Secret {
    type Value = String;

    fn kind(&self) -> ValueKind {
        self.0.kind()
    }

    fn accepts(&self) -> String {
        self.0.accepts()
    }

    fn read(&self, text: &str) -> Result<String, String> {
        self.0.read(text)
    }

    fn show(&self, _: &String, _: Option<&str>) -> Option<String> {
        None
    }

    fn is_secret(&self) -> bool {
        true
    }
}

/// A file's path. Whether the file exists is checked later, by `Config::check_files`.
#[derive(Debug)]
pub struct File {
    /// Whether only its owner may be able to read it.
    pub is_private: bool,
}

/// A file, unset by default.
pub const FILE: Open<File> = Open { of: File { is_private: false }, words: &[] };
/// A file that only its owner may be able to read, unset by default.
pub const PRIVATE_FILE: Open<File> = Open { of: File { is_private: true }, words: &[] };

impl Takes for File {
    type Value = PathBuf;

    fn kind(&self) -> ValueKind {
        ValueKind::File { name: "FILE", is_private: self.is_private }
    }

    fn accepts(&self) -> String {
        "a file".to_owned()
    }

    fn read(&self, text: &str) -> Result<PathBuf, String> {
        if text.is_empty() { Err("is empty".to_owned()) } else { Ok(PathBuf::from(text)) }
    }

    fn show(&self, _: &PathBuf, text: Option<&str>) -> Option<String> {
        text.map(quoted)
    }
}

/// A folder and its most bytes, `DIR[:SIZE]`; `None` for `off`.
#[derive(Debug)]
pub struct FolderAndSize {
    /// Bytes if no size is named.
    pub size: u64,
}

impl Takes for FolderAndSize {
    type Value = Option<(PathBuf, u64)>;

    fn kind(&self) -> ValueKind {
        ValueKind::Folder("DIR[:SIZE]")
    }

    fn accepts(&self) -> String {
        "a folder, `off`".to_owned()
    }

    fn read(&self, text: &str) -> Result<Self::Value, String> {
        if size::OFF.contains(&text) { Ok(None) } else { size::parse_folder(text, self.size).map(Some) }
    }

    fn show(&self, _: &Self::Value, text: Option<&str>) -> Option<String> {
        text.map(quoted)
    }
}

/// A size in bytes; `off` is 0.
#[derive(Debug)]
pub struct Size;

impl Takes for Size {
    type Value = u64;

    fn kind(&self) -> ValueKind {
        ValueKind::Value("SIZE")
    }

    fn accepts(&self) -> String {
        "a size like `512MB`, `off`".to_owned()
    }

    fn read(&self, text: &str) -> Result<u64, String> {
        let bytes = if size::OFF.contains(&text) { Some(0) } else { size::parse(text) };
        bytes.ok_or_else(|| format!("{} isn't a size like 512MB or 2GB, or off", quoted(text)))
    }

    fn show(&self, _: &u64, text: Option<&str>) -> Option<String> {
        text.map(quoted)
    }
}
