//! The GGUF to serve, as a path that llama.cpp can map: the user's file, or the model inside this binary.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, memfd_create};

use crate::config::ModelSource;
use crate::gguf::GgufFile;
use crate::types::StartupError;

/// The bytes of the built-in model (`vendor/model`).
static BUILT_IN: &[u8] = include_bytes!(env!("CLLM_BUILTIN_MODEL_PATH"));

/// A model file that exists as long as this value, and its pages as long as they are mapped.
pub struct ModelFile {
    path: PathBuf,
    /// The built-in model's memory; closing it removes `path`.
    _memory: Option<File>,
}

impl ModelFile {
    /// # Errors
    /// `StartupError::System` when the built-in model can't be put into memory.
    pub fn open(source: &ModelSource) -> Result<ModelFile, StartupError> {
        match source {
            ModelSource::File(path) => Ok(ModelFile { path: path.clone(), _memory: None }),
            ModelSource::BuiltIn => {
                let failed =
                    |reason: String| StartupError::System { doing: "unpack the built-in model".into(), reason };
                let fd = memfd_create("cllm-model", MemfdFlags::CLOEXEC).map_err(|e| failed(e.to_string()))?;
                let mut file = File::from(fd);
                file.write_all(BUILT_IN).map_err(|e| failed(e.to_string()))?;
                Ok(ModelFile { path: format!("/proc/self/fd/{}", file.as_raw_fd()).into(), _memory: Some(file) })
            }
        }
    }

    /// Bytes of the file that `source` names; 0 if it can't be told.
    pub fn bytes(source: &ModelSource) -> u64 {
        match source {
            ModelSource::BuiltIn => BUILT_IN.len() as u64,
            ModelSource::File(path) => std::fs::metadata(path).map_or(0, |meta| meta.len()),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its metadata.
    ///
    /// # Errors
    /// `StartupError::Model`: missing, no GGUF, or damaged.
    pub fn gguf(&self) -> Result<GgufFile, StartupError> {
        GgufFile::open(&self.path)
    }
}
