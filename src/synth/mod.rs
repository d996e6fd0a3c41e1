//! Synthetic models: real shapes, random weights and any vocabulary, to measure a machine without a download.
//!
//! `shape` says how large a model is, `tensors` which tensors it has, `mix` which type each gets, `weights` their values, and
//! `vocab` the tokens; `Spec::write` writes one GGUF. The text of such a model is meaningless; its speed is that of a real model.

mod alphabet;
pub mod mix;
pub mod shape;
pub mod tensors;
pub mod vocab;
mod weights;

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

pub use mix::Quant;
pub use shape::{Arch, ModelShape};
pub use vocab::SynthVocab;

use crate::gguf::{GgufWriter, Value};
use crate::types::StartupError;

/// The description of one synthetic model.
#[derive(Debug)]
pub struct Spec {
    /// The model's name in the file.
    pub name: String,
    /// The dimensions.
    pub shape: ModelShape,
    /// The quantisation.
    pub quant: Quant,
    /// The tokens.
    pub vocab: SynthVocab,
    /// The seed of the weights.
    pub seed: u64,
}

impl Spec {
    /// A named shape with a synthetic vocabulary of its size; `None`: no such shape.
    pub fn named(shape: &str, quant: Quant, seed: u64) -> Option<Spec> {
        let shape = ModelShape::named(shape)?;
        let vocab = SynthVocab::for_shape(&shape);
        Some(Spec { name: format!("{} with random weights", shape.name), shape, quant, vocab, seed })
    }

    /// Bytes of all tensors.
    pub fn data_bytes(&self) -> u64 {
        self.shape.tensors().iter().map(|tensor| tensor.bytes(self.quant.type_of(tensor, &self.shape))).sum()
    }

    /// Writes the model to `path`. It is written to a file beside `path` first, so that `path` is complete or absent.
    /// `progress` gets the number of bytes of tensor data written since its last call.
    ///
    /// # Errors
    /// `path` exists and `overwrite` is false, or writing fails.
    pub fn write(&self, path: &Path, overwrite: bool, progress: impl FnMut(u64)) -> Result<(), StartupError> {
        let refuse = |reason: String| StartupError::System { doing: format!("write {}", path.display()), reason };
        if !overwrite && path.exists() {
            return Err(refuse("it exists; --force replaces it".to_owned()));
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let written = self.write_data(&partial, progress).and_then(|()| fs::rename(&partial, path));
        written.map_err(|error| {
            // Errors of the removal are ignored, because the first error is the one to report.
            let _ = fs::remove_file(&partial);
            refuse(error.to_string())
        })
    }

    fn write_data(&self, path: &Path, mut progress: impl FnMut(u64)) -> io::Result<()> {
        assert_eq!(self.vocab.len(), self.shape.vocab, "the vocabulary fills the embedding");
        let mut writer = GgufWriter::new();
        self.shape.describe(&mut writer);
        writer.add_kv("general.name", Value::str(&self.name));
        writer.add_kv("general.description", Value::str("Random weights, for measuring. Its words mean nothing."));
        writer.add_kv("general.file_type", Value::U32(self.quant.file_type()));
        writer.add_kv("general.quantization_version", Value::U32(2));
        self.vocab.describe(&mut writer);

        let tensors = self.shape.tensors();
        let types: Vec<_> = tensors.iter().map(|tensor| self.quant.type_of(tensor, &self.shape)).collect();
        for (tensor, ty) in tensors.iter().zip(&types) {
            let dims: Vec<u64> = tensor.dims.iter().map(|dim| *dim as u64).collect();
            writer.add_tensor(&tensor.name, &dims, *ty as u32, tensor.bytes(*ty));
        }
        let mut stream = writer.start(BufWriter::with_capacity(1 << 20, File::create(path)?))?;
        let mut weights = weights::Weights::new(self.seed);
        for (tensor, ty) in tensors.iter().zip(types) {
            weights.write(tensor, ty, |row| {
                progress(row.len() as u64);
                stream.write(row)
            })?;
        }
        let file = stream.finish()?.into_inner().map_err(|error| error.into_error())?;
        file.sync_all()
    }
}

#[cfg(test)]
mod tests;
