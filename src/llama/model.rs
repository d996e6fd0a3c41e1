//! A loaded GGUF model: weights and metadata, read-only, shared by reference count.

use std::ffi::{CStr, CString, c_char, c_void};
use std::ops::Range;
use std::path::{Path, PathBuf};

use llama_cpp_sys_2 as sys;

use super::log::{backend_init, take_last_error};
use super::mapping::{self, FileMapping};
use super::matrix;
use super::shim::{self, ShimError};
use crate::types::{ModelPlace, StartupError};

/// The parameters for loading a model.
#[derive(Clone, Debug)]
pub struct ModelParams {
    /// The GGUF file.
    pub place: ModelPlace,
    /// Layers to place on a GPU. `None` leaves the number to llama.cpp: all of them, if there is a GPU.
    pub gpu_layers: Option<i32>,
    /// Whether the file is mapped into memory, instead of being read into it.
    pub mmap: bool,
    /// Whether weights are locked into memory.
    pub mlock: bool,
    /// Whether ggml rewrites tensors into layouts that its kernels prefer: faster, but with a second copy in memory.
    pub repack: bool,
}

impl ModelParams {
    /// Parameters for loading `path` with the usual choices.
    pub fn new(path: impl Into<PathBuf>) -> ModelParams {
        ModelParams { place: ModelPlace::at(path), gpu_layers: None, mmap: true, mlock: false, repack: true }
    }
}

/// An owned `llama_model`.
pub struct Model {
    raw: *mut sys::llama_model,
    path: PathBuf,
    mapping: FileMapping,
    has_exact_matrices: bool,
}

// SAFETY: after loading, a llama_model is only read; every method here takes `&self` and calls const functions.
unsafe impl Send for Model {}
// SAFETY: as above.
unsafe impl Sync for Model {}

/// A callback that gets the loaded fraction, 0..=1, and returns whether to continue.
type LoadProgress<'a> = &'a mut dyn FnMut(f32) -> bool;

impl Model {
    /// Loads the weights and calls `progress` with the loaded fraction, 0..=1. If it returns `false`, loading stops.
    ///
    /// # Errors
    /// `StartupError::Model` with llama.cpp's first error line.
    pub fn load(params: &ModelParams, progress: LoadProgress<'_>) -> Result<Model, StartupError> {
        backend_init();
        let failed = |reason: String| StartupError::Model { path: params.place.path.clone(), reason };
        // SAFETY: a pure function that fills a struct by value.
        let mut raw_params = unsafe { sys::llama_model_default_params() };
        if let Some(layers) = params.gpu_layers {
            raw_params.n_gpu_layers = layers;
        }
        raw_params.load_mode = match (params.mmap, params.mlock) {
            // llama.cpp would lock the whole file, including weights that have a second copy. `FileMapping::lock` locks
            // only the others.
            (true, _) => sys::LLAMA_LOAD_MODE_MMAP,
            (false, true) => sys::LLAMA_LOAD_MODE_MLOCK,
            (false, false) => sys::LLAMA_LOAD_MODE_NONE,
        };
        raw_params.use_extra_bufts = params.repack;
        // Weights that get a new layout are read from the file once. Giving their pages back at once keeps the two copies
        // from being in memory together.
        let mut read = FileMapping::default();
        let mut give_back_and_go_on = |fraction: f32| {
            if params.mmap && params.repack {
                if read.is_empty() {
                    read = FileMapping::find(&params.place.path, params.place.offset);
                    matrix::read_from(read.largest());
                }
                read.release();
            }
            progress(fraction)
        };
        let mut on_each: LoadProgress<'_> = &mut give_back_and_go_on;
        raw_params.progress_callback = Some(on_progress);
        raw_params.progress_callback_user_data = (&raw mut on_each).cast::<c_void>();
        let mut raw = std::ptr::null_mut();
        let own_before = mapping::own_bytes();
        matrix::lock(params.mlock);
        matrix::take_inexact();
        take_last_error();
        let loaded = shim::with_place(&params.place, |place| {
            // SAFETY: all pointers outlive the call; `progress` is used only by the callback during it.
            shim::call(|err, len| unsafe { shim::cllm_model_load(place, &raw_params, &mut raw, err, len) })
        });
        matrix::read_from(0..0);
        let mut unlocked_bytes = matrix::lock(false);
        let loaded = loaded.ok_or_else(|| failed("the path holds a NUL byte".into()))?;
        match loaded {
            Ok(()) => {
                let mut model = Model {
                    raw,
                    path: params.place.path.clone(),
                    mapping: FileMapping::default(),
                    has_exact_matrices: matrix::take_inexact() == 0,
                };
                if params.mmap {
                    model.mapping = FileMapping::find(&params.place.path, params.place.offset);
                    model.mapping.release();
                    let copied = mapping::own_bytes().saturating_sub(own_before);
                    model.mapping.is_copied(params.repack && !params.mlock && copied >= model.size_bytes() / 2);
                }
                if params.mlock {
                    unlocked_bytes += model.mapping.lock(&model.weights());
                }
                if unlocked_bytes > 0 {
                    tracing::warn!(unlocked_bytes, "these weights could not be locked into memory: see `ulimit -l`");
                }
                Ok(model)
            }
            Err(ShimError::Exception(what)) => Err(failed(what)),
            Err(ShimError::Failed) => Err(failed(one_line(take_last_error()))),
        }
    }

    pub(super) fn as_ptr(&self) -> *mut sys::llama_model {
        self.raw
    }

    /// The address range of each weight: in the mapped file, in memory, or on a device.
    fn weights(&self) -> Vec<Range<usize>> {
        extern "C" fn add(weights: *mut c_void, data: *const c_void, bytes: usize) {
            // SAFETY: `cllm_model_weights` passes back the pointer that it was given, which nothing else uses during the
            // call.
            let weights = unsafe { &mut *weights.cast::<Vec<Range<usize>>>() };
            weights.push(data.addr()..data.addr() + bytes);
        }
        let mut weights: Vec<Range<usize>> = Vec::new();
        // SAFETY: `raw` is a live model; the list outlives the call.
        unsafe { shim::cllm_model_weights(self.raw, add, (&raw mut weights).cast()) };
        weights
    }

    /// Gives back the pages of the file that were read since the last call, if the weights have a second copy.
    pub(super) fn release_file_pages(&self) {
        self.mapping.release_read();
    }

    /// The path of the file it was loaded from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The context length the model was trained for, tokens.
    pub fn n_ctx_train(&self) -> usize {
        // SAFETY: `raw` is a live model.
        usize::try_from(unsafe { sys::llama_model_n_ctx_train(self.raw) }).unwrap_or(0)
    }

    /// The number of parameters.
    pub fn n_params(&self) -> u64 {
        // SAFETY: `raw` is a live model.
        unsafe { sys::llama_model_n_params(self.raw) }
    }

    /// Bytes of all tensors.
    pub fn size_bytes(&self) -> u64 {
        // SAFETY: `raw` is a live model.
        unsafe { sys::llama_model_size(self.raw) }
    }

    /// The number of tokens of the vocabulary.
    pub fn n_vocab(&self) -> usize {
        // SAFETY: `raw` is a live model, which owns its vocabulary.
        usize::try_from(unsafe { sys::llama_vocab_n_tokens(sys::llama_model_get_vocab(self.raw)) }).unwrap_or(0)
    }

    /// Length of an embedding, in numbers.
    pub fn n_embd_out(&self) -> usize {
        // SAFETY: `raw` is a live model.
        usize::try_from(unsafe { sys::llama_model_n_embd_out(self.raw) }).unwrap_or(0)
    }

    /// Whether each product with the weights adds in the same order for every number of rows.
    pub(super) fn has_exact_matrices(&self) -> bool {
        self.has_exact_matrices
    }

    /// The number of heads, the number of key heads, and the length of an embedding.
    pub(super) fn heads(&self) -> (i32, i32, i32) {
        // SAFETY: `raw` is a live model.
        unsafe {
            (sys::llama_model_n_head(self.raw), sys::llama_model_n_head_kv(self.raw), sys::llama_model_n_embd(self.raw))
        }
    }

    /// Whether a sequence's memory can be cut at any position. Not so in recurrent models: their state has no positions.
    pub fn can_cut(&self) -> bool {
        // SAFETY: a live model; both read its hyperparameters.
        unsafe { !sys::llama_model_is_recurrent(self.raw) && !sys::llama_model_is_hybrid(self.raw) }
    }

    /// Whether a sequence's memory is a state of one size and nothing else.
    pub fn is_recurrent(&self) -> bool {
        // SAFETY: a live model; reads its hyperparameters.
        unsafe { sys::llama_model_is_recurrent(self.raw) }
    }

    /// Tokens that a layer with a sliding window sees, itself included; `None`: the model has no such layers.
    pub fn window(&self) -> Option<u32> {
        // SAFETY: `raw` is a live model.
        u32::try_from(unsafe { sys::llama_model_n_swa(self.raw) }).ok().filter(|tokens| *tokens > 0)
    }

    /// Whether the model reads a text as one sequence of tokens, without a separate encoder. Embedding models also do; the
    /// context of a model that can't generate has no memory.
    pub fn has_one_input(&self) -> bool {
        // SAFETY: `raw` is a live model.
        unsafe { sys::llama_model_has_decoder(self.raw) && !sys::llama_model_has_encoder(self.raw) }
    }

    /// The mix of tensor types, in llama.cpp's words: `Q4_K - Medium`.
    pub fn quantisation(&self) -> String {
        // SAFETY: `raw` is a live model; the name is a static, NUL-terminated string.
        let name = unsafe { CStr::from_ptr(sys::llama_ftype_name(sys::llama_model_ftype(self.raw))) };
        name.to_string_lossy().into_owned()
    }

    /// llama.cpp's one-line description, e.g. `qwen3 0.6B Q4_K - Medium`.
    pub fn description(&self) -> String {
        let mut buf = [0 as c_char; 256];
        // SAFETY: writes at most `buf.len()` bytes with a NUL.
        unsafe {
            sys::llama_model_desc(self.raw, buf.as_mut_ptr(), buf.len());
            CStr::from_ptr(buf.as_ptr()).to_string_lossy().into_owned()
        }
    }

    /// A scalar of the GGUF metadata as text; `None`: there is no such key.
    pub fn meta(&self, key: &str) -> Option<String> {
        let key = CString::new(key).ok()?;
        // SAFETY: with a null buffer of size 0 it only returns the length; llama.cpp uses snprintf.
        let len = unsafe { sys::llama_model_meta_val_str(self.raw, key.as_ptr(), std::ptr::null_mut(), 0) };
        let mut buf = vec![0u8; usize::try_from(len).ok()? + 1];
        // SAFETY: writes at most `buf.len()` bytes with a NUL.
        unsafe { sys::llama_model_meta_val_str(self.raw, key.as_ptr(), buf.as_mut_ptr().cast(), buf.len()) };
        buf.pop();
        Some(String::from_utf8_lossy(&buf).into_owned())
    }

    /// The model's own chat template (Jinja); `None`: it has none.
    pub fn chat_template(&self) -> Option<String> {
        // SAFETY: returns null or a string owned by the model.
        let text = unsafe { sys::llama_model_chat_template(self.raw, std::ptr::null()) };
        if text.is_null() {
            return None;
        }
        // SAFETY: NUL-terminated, and alive as long as the model.
        Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: made by llama_model_load_from_file, freed once; contexts hold the model by `Arc`.
        unsafe { sys::llama_model_free(self.raw) }
    }
}

/// Called on the loading thread. Must not unwind; the closure is ours and doesn't panic.
extern "C" fn on_progress(fraction: f32, user: *mut c_void) -> bool {
    // SAFETY: `user` is the `LoadProgress` that `load` passed. It is alive during the load, and nothing else uses it.
    let progress = unsafe { &mut *user.cast::<LoadProgress<'_>>() };
    progress(fraction)
}

fn one_line(reason: Option<String>) -> String {
    let reason = reason.unwrap_or_else(|| "llama.cpp could not load it".into());
    reason.lines().next().unwrap_or_default().trim().to_owned()
}
