//! The GGUF to serve, as a path and an offset that llama.cpp can map: the user's file, or the model inside this program. An
//! appliance carries its model at its end and maps it from there; other programs contain the built-in model.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::appliance::{self, Appliance, Part};
use crate::config::ModelSource;
use crate::gguf::{GgufFile, split_names};
use crate::types::{ModelPlace, StartupError};

/// The bytes of the built-in model (`vendor/model`).
static BUILT_IN: &[u8] = include_bytes!(env!("CLLM_BUILTIN_MODEL_PATH"));

/// An open model. The file exists as long as this value, and its pages as long as they are mapped.
pub struct ModelFile {
    path: PathBuf,
    /// In an appliance: the offset of the GGUF in `path`, and its bytes.
    part: Option<(u64, u64)>,
    /// The thread that compares the part with its SHA-256.
    verification: Mutex<Option<JoinHandle<Result<(), String>>>>,
    /// The memory that holds the built-in model. `path` is its name if there is `/proc`.
    memory: Option<Arc<File>>,
}

impl ModelFile {
    /// Opens the model and, in an appliance, compares it with its SHA-256.
    ///
    /// # Errors
    /// `StartupError::System` if the built-in model can't be put into memory, or the appliance's was altered.
    pub fn open(source: &ModelSource) -> Result<ModelFile, StartupError> {
        let file = ModelFile::open_unverified(source)?;
        file.verify()?;
        Ok(file)
    }

    /// Like `open`, but an appliance's model is compared with its SHA-256 on another thread meanwhile. The caller must call
    /// `verify` after loading the weights and before using them.
    ///
    /// # Errors
    /// As `open`, except that an altered model is reported by `verify`.
    pub fn open_unverified(source: &ModelSource) -> Result<ModelFile, StartupError> {
        let unaltered = || Mutex::new(None);
        match source {
            ModelSource::File(path) => {
                Ok(ModelFile { path: path.clone(), part: None, verification: unaltered(), memory: None })
            }
            // Commands fetch the model first and then name the file, so this is an error of cllm.
            ModelSource::Hub(model) => {
                Err(StartupError::Hub { model: model.to_string(), reason: "was not fetched".to_owned() })
            }
            ModelSource::BuiltIn => {
                if let Some((appliance, part)) = carried()? {
                    let verify = || appliance.verify_part(part, "model", |_| {});
                    let thread = std::thread::Builder::new().name("cllm-verify".to_owned()).spawn(verify);
                    let thread = thread.map_err(|error| StartupError::System {
                        doing: "start a thread".to_owned(),
                        reason: error.to_string(),
                    })?;
                    return Ok(ModelFile {
                        path: appliance.path.clone(),
                        part: Some((part.offset, part.bytes)),
                        verification: Mutex::new(Some(thread)),
                        memory: None,
                    });
                }
                let failed =
                    |reason: String| StartupError::System { doing: "unpack the built-in model".into(), reason };
                let fd = memfd_create("cllm-model", MemfdFlags::CLOEXEC).map_err(|e| failed(e.to_string()))?;
                let mut file = File::from(fd);
                file.write_all(BUILT_IN).map_err(|e| failed(e.to_string()))?;
                Ok(ModelFile {
                    path: format!("/proc/self/fd/{}", file.as_raw_fd()).into(),
                    part: None,
                    verification: unaltered(),
                    memory: Some(Arc::new(file)),
                })
            }
        }
    }

    /// Waits until the model has been compared with its SHA-256. Returns at once if there is nothing to compare.
    ///
    /// # Errors
    /// The model was altered.
    pub fn verify(&self) -> Result<(), StartupError> {
        let thread = self.verification.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let verified = thread.map_or(Ok(()), |thread| thread.join().unwrap_or_else(|_| Err("it panicked".to_owned())));
        verified.map_err(appliance::damaged)
    }

    /// The reason why the model can't be used: that it was altered, if it was, otherwise `error`.
    pub fn blame(&self, error: StartupError) -> StartupError {
        self.verify().err().unwrap_or(error)
    }

    /// Bytes of all files of the model that `source` names; 0 if they are unknown.
    pub fn bytes(source: &ModelSource) -> u64 {
        match source {
            ModelSource::BuiltIn => match carried() {
                Ok(Some((_, part))) => part.bytes,
                _ => BUILT_IN.len() as u64,
            },
            ModelSource::File(path) => {
                let bytes_of = |path: &Path| std::fs::metadata(path).map_or(0, |meta| meta.len());
                match path.file_name().and_then(|name| split_names(name.to_str()?)) {
                    Some((_, names)) => names.iter().map(|name| bytes_of(&path.with_file_name(name))).sum(),
                    None => bytes_of(path),
                }
            }
            ModelSource::Hub(_) => 0,
        }
    }

    /// The path of the file that holds the model.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file and the offset of the GGUF in it.
    pub fn place(&self) -> ModelPlace {
        let offset = self.part.map_or(0, |(offset, _)| offset);
        ModelPlace { path: self.path.clone(), file: self.memory.clone(), offset }
    }

    /// Reads the model's metadata.
    ///
    /// # Errors
    /// `StartupError::Model`: the file is missing, isn't a GGUF, or is damaged.
    pub fn gguf(&self) -> Result<GgufFile, StartupError> {
        if self.memory.is_some() {
            let read = GgufFile::read(BUILT_IN, BUILT_IN.len() as u64, &self.path);
            return read.map_err(|reason| StartupError::Model { path: self.path.clone(), reason });
        }
        let Some((offset, bytes)) = self.part else { return GgufFile::open(&self.path) };
        GgufFile::open_part(&self.path, offset, bytes).map_err(|error| self.blame(error))
    }
}

/// The model at the end of this executable; `None`: there is none.
fn carried() -> Result<Option<(&'static Appliance, &'static Part)>, StartupError> {
    Ok(appliance::own()?.and_then(|appliance| Some((appliance, appliance.manifest.model.as_ref()?))))
}
