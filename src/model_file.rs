//! The GGUF to serve, as a path and an offset that llama.cpp can map: the user's file, or the model inside this program. An
//! appliance carries its model at its end and maps it from there; other programs contain the built-in model.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::fs::{MemfdFlags, memfd_create};
use sha2::{Digest, Sha256};

use crate::appliance::{self, Appliance, AppliancePart};
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
                files(path).iter().map(|path| std::fs::metadata(path).map_or(0, |meta| meta.len())).sum()
            }
            ModelSource::Hub(_) => 0,
        }
    }

    /// A digest of everything in the model's files: SHA-256 over the length of each file and the CRC-32 of each MiB. Two models that
    /// differ have different digests, except by a chance of 2^-32; it is no protection against a forged file. Reads at the speed of
    /// memory what loading reads anyway.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn digest(&self) -> io::Result<[u8; 32]> {
        let mut digest = Sha256::new();
        if let Some(memory) = &self.memory {
            digest_part(memory, 0, BUILT_IN.len() as u64, &mut digest)?;
            return Ok(digest.finalize().into());
        }
        if let Some((_, bytes)) = self.part {
            // The manifest's SHA-256, with which the part is compared anyway.
            let carried = carried().ok().flatten().map(|(_, part)| part.sha256.as_bytes());
            digest.update(bytes.to_le_bytes());
            digest.update(carried.unwrap_or_default());
            return Ok(digest.finalize().into());
        }
        for path in files(&self.path) {
            let file = File::open(path)?;
            let bytes = file.metadata()?.len();
            digest_part(&file, 0, bytes, &mut digest)?;
        }
        Ok(digest.finalize().into())
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

/// All files of the model whose first file is `path`.
fn files(path: &Path) -> Vec<PathBuf> {
    match path.file_name().and_then(|name| split_names(name.to_str()?)) {
        Some((_, names)) => names.iter().map(|name| path.with_file_name(name)).collect(),
        None => vec![path.to_owned()],
    }
}

/// Adds the `bytes` bytes of `file` from `offset` on, as `ModelFile::digest` has them.
fn digest_part(file: &File, offset: u64, bytes: u64, digest: &mut Sha256) -> io::Result<()> {
    digest.update(bytes.to_le_bytes());
    let mut chunk = vec![0; 1 << 20];
    let mut at = 0;
    while at < bytes {
        let part = &mut chunk[..(bytes - at).min(1 << 20) as usize];
        file.read_exact_at(part, offset + at)?;
        digest.update(crc32fast::hash(part).to_le_bytes());
        at += part.len() as u64;
    }
    Ok(())
}

/// The model at the end of this executable; `None`: there is none.
fn carried() -> Result<Option<(&'static Appliance, &'static AppliancePart)>, StartupError> {
    Ok(appliance::own()?.and_then(|appliance| Some((appliance, appliance.manifest.model.as_ref()?))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_depends_on_every_part_of_the_content_and_not_on_the_name() {
        let digest = |name: &str, change: Option<usize>| {
            let path = std::env::temp_dir().join(format!("cllm-digest-{}-{name}", std::process::id()));
            let mut content = vec![3; (2 << 20) + 5];
            change.into_iter().for_each(|at| content[at] ^= 1);
            std::fs::write(&path, content).unwrap();
            let digest = ModelFile::open(&ModelSource::File(path.clone())).unwrap().digest().unwrap();
            std::fs::remove_file(path).unwrap();
            digest
        };
        let whole = digest("a", None);
        assert_eq!(whole, digest("b", None));
        assert!([0, 1 << 20, (2 << 20) + 4].into_iter().all(|at| digest("a", Some(at)) != whole));
        let built_in = ModelFile::open(&ModelSource::BuiltIn).unwrap();
        assert_ne!(built_in.digest().unwrap(), whole);
    }
}
