//! The file, and the bytes in it, that hold a model.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

/// A GGUF inside a file, which may hold other data before and after it.
#[derive(Clone, Debug)]
pub struct ModelPlace {
    /// The file's path.
    pub path: PathBuf,
    /// The open file, for a model that can't be opened again by its path: memory has a path only where `/proc` is mounted.
    pub file: Option<Arc<File>>,
    /// Byte of the file at which the GGUF begins: a multiple of the page size.
    pub offset: u64,
}

impl ModelPlace {
    /// A GGUF that is the whole file at `path`.
    pub fn at(path: impl Into<PathBuf>) -> ModelPlace {
        ModelPlace { path: path.into(), file: None, offset: 0 }
    }
}
