//! Where the bytes of a model lie.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

/// A GGUF, in a file that may hold other things before and behind it.
#[derive(Clone, Debug)]
pub struct ModelPlace {
    /// The file's name.
    pub path: PathBuf,
    /// The file itself, where the name may lead nowhere: memory has one only with `/proc`.
    pub file: Option<Arc<File>>,
    /// Where in the file it begins: a multiple of the page size.
    pub offset: u64,
}

impl ModelPlace {
    /// The whole file at `path`.
    pub fn at(path: impl Into<PathBuf>) -> ModelPlace {
        ModelPlace { path: path.into(), file: None, offset: 0 }
    }
}
