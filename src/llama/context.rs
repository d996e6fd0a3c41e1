//! A llama.cpp context: the KV cache and the compute graph of one model, owned by the batching thread.

use std::sync::Arc;

use llama_cpp_sys_2 as sys;

use super::log::take_last_error;
use super::model::Model;
use super::shim::{self, ShimError};
use super::threadpool::{Threadpool, ThreadpoolParams};
use crate::types::{KvType, KvTypes, StartupError};

/// Whether attention is computed without materialising the score matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlashAttention {
    /// llama.cpp decides, by what its backend supports.
    Auto,
    /// Computed without materialising the score matrix.
    On,
    /// Computed with the whole score matrix.
    Off,
}

/// Where the cells of each sequence lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvLayout {
    /// Each sequence has its own buffer: attention reads only that sequence's cells.
    Separate,
    /// One buffer for all sequences, in which each is sure of its share. Prefixes are shared without a copy, and one pass
    /// computes rows of all sequences. Unless attention skips hidden cells, each row reads the cells of all sequences.
    Shares,
    /// One buffer for all sequences, like `Shares`, but one sequence may use all of it.
    Pool,
}

/// The parameters of a context.
#[derive(Clone, Debug)]
pub struct ContextParams {
    /// Cells of all sequences together.
    pub cells_total: u32,
    /// Number of sequences.
    pub seqs: u16,
    /// How sequences share the KV buffer.
    pub layout: KvLayout,
    /// Most rows of a step.
    pub rows_max: usize,
    /// Most rows of a step that ask for logits.
    pub outputs_max: usize,
    /// The number formats of cached keys and values.
    pub kv_types: KvTypes,
    /// Whether layers with a sliding window have cells only for what the window shows, and for the rows of a step.
    pub windows_only: bool,
    /// How attention is computed.
    pub flash_attention: FlashAttention,
    /// The threads that compute.
    pub threadpool: ThreadpoolParams,
}

/// An owned `llama_context` with the threadpool it computes on.
pub struct Context {
    raw: *mut sys::llama_context,
    // Must outlive `raw`: `drop` frees `raw` first, then Rust drops the fields.
    threadpool: Threadpool,
    model: Arc<Model>,
    windows_only: bool,
}

// SAFETY: a context is made on one thread and then handed to the batching thread; llama.cpp ties no state to a thread.
unsafe impl Send for Context {}

/// ggml's number of a type.
fn raw_type(kv_type: KvType) -> sys::ggml_type {
    match kv_type {
        KvType::F16 => sys::GGML_TYPE_F16,
        KvType::Q8_0 => sys::GGML_TYPE_Q8_0,
        KvType::Q5_1 => sys::GGML_TYPE_Q5_1,
        KvType::Q5_0 => sys::GGML_TYPE_Q5_0,
        KvType::Q4_1 => sys::GGML_TYPE_Q4_1,
        KvType::Q4_0 => sys::GGML_TYPE_Q4_0,
        KvType::Iq4Nl => sys::GGML_TYPE_IQ4_NL,
    }
}

impl FlashAttention {
    /// llama.cpp's value for this.
    pub(super) fn as_raw(self) -> sys::llama_flash_attn_type {
        match self {
            FlashAttention::Auto => sys::LLAMA_FLASH_ATTN_TYPE_AUTO,
            FlashAttention::On => sys::LLAMA_FLASH_ATTN_TYPE_ENABLED,
            FlashAttention::Off => sys::LLAMA_FLASH_ATTN_TYPE_DISABLED,
        }
    }
}

impl Context {
    /// Allocates the KV cache and reserves the compute buffers.
    ///
    /// # Errors
    /// `StartupError::Model` if llama.cpp refuses (too little memory, an unsupported combination).
    pub fn new(model: Arc<Model>, params: &ContextParams) -> Result<Context, StartupError> {
        Context::build(model, params, None)
    }

    /// Like `new`, for embeddings: each row gives one, and llama.cpp pools none. `outputs_max` is ignored.
    ///
    /// # Errors
    /// As for `new`.
    pub fn for_embeddings(model: Arc<Model>, params: &ContextParams) -> Result<Context, StartupError> {
        Context::build(model, params, Some(sys::LLAMA_POOLING_TYPE_NONE))
    }

    /// Like `for_embeddings`, for a model with a head that ranks texts: each sequence of a step gives the head's
    /// output.
    ///
    /// # Errors
    /// As for `new`.
    pub fn for_ranks(model: Arc<Model>, params: &ContextParams) -> Result<Context, StartupError> {
        Context::build(model, params, Some(sys::LLAMA_POOLING_TYPE_RANK))
    }

    /// `pooling`: how llama.cpp pools embeddings; `None`: the context generates text.
    fn build(
        model: Arc<Model>,
        params: &ContextParams,
        pooling: Option<sys::llama_pooling_type>,
    ) -> Result<Context, StartupError> {
        let failed = |error: ShimError| StartupError::Model {
            path: model.path().to_owned(),
            reason: match error {
                ShimError::Exception(what) => what,
                ShimError::Failed => take_last_error().unwrap_or_else(|| "the context could not be made".into()),
            },
        };
        let threads = i32::try_from(params.threadpool.threads).unwrap_or(1);
        // SAFETY: a pure function that fills a struct by value.
        let mut raw_params = unsafe { sys::llama_context_default_params() };
        raw_params.n_ctx = params.cells_total;
        raw_params.n_batch = params.rows_max as u32;
        raw_params.n_ubatch = params.rows_max as u32;
        raw_params.n_seq_max = u32::from(params.seqs);
        raw_params.n_outputs_max = params.outputs_max as u32;
        raw_params.n_threads = threads;
        raw_params.n_threads_batch = threads;
        raw_params.kv_unified = params.layout != KvLayout::Separate;
        raw_params.no_perf = true;
        raw_params.type_k = raw_type(params.kv_types.keys);
        raw_params.type_v = raw_type(params.kv_types.values);
        raw_params.swa_full = !params.windows_only;
        raw_params.flash_attn_type = params.flash_attention.as_raw();
        if let Some(pooling) = pooling {
            raw_params.embeddings = true;
            raw_params.pooling_type = pooling;
            raw_params.n_outputs_max = raw_params.n_batch;
        }
        take_last_error();
        let threadpool = Threadpool::new(&params.threadpool).map_err(failed)?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: `Arc` keeps the model alive longer than the context. The handle is wrapped at once.
        shim::call(|err, len| unsafe { shim::cllm_context_new(model.as_ptr(), &raw_params, &mut raw, err, len) })
            .map_err(failed)?;
        // SAFETY: both handles are live, and the pool outlives the context.
        unsafe { sys::llama_attach_threadpool(raw, threadpool.as_ptr(), threadpool.as_ptr()) };
        let windows_only = params.windows_only && model.window().is_some();
        Ok(Context { raw, threadpool, model, windows_only })
    }

    /// Puts the compute threads to sleep until the next decode; otherwise they poll for it.
    pub(super) fn rest(&self) {
        self.threadpool.pause();
    }

    pub(super) fn as_ptr(&self) -> *mut sys::llama_context {
        self.raw
    }

    /// The model that the context belongs to.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Whether the context has a KV cache or a recurrent state. Encoders have neither: each call starts from nothing.
    pub fn has_memory(&self) -> bool {
        // SAFETY: `raw` is a live context; a null result means that it has no memory.
        unsafe { !sys::llama_get_memory(self.raw).is_null() }
    }

    /// Whether layers with a sliding window have fewer cells than the others.
    pub fn windows_only(&self) -> bool {
        self.windows_only
    }

    /// Bytes of the KV cache, or of the recurrent state, when all cells are used. `None`: llama.cpp doesn't say.
    pub fn memory_bytes(&self) -> Option<u64> {
        let mut bytes = 0;
        // SAFETY: `raw` is a live context.
        shim::call(|err, len| unsafe { shim::cllm_memory_bytes(self.raw, &mut bytes, err, len) }).ok()?;
        Some(bytes as u64)
    }

    /// Cells that one sequence can hold, as llama.cpp rounded the number.
    pub fn cells_per_seq(&self) -> u32 {
        // SAFETY: `raw` is a live context.
        unsafe { sys::llama_n_ctx_seq(self.raw) }
    }

    /// Cells of all sequences together, as llama.cpp rounded the number.
    pub fn cells_total(&self) -> u32 {
        // SAFETY: `raw` is a live context.
        unsafe { sys::llama_n_ctx(self.raw) }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: made by llama_init_from_model, freed once, before the threadpool it is detached from.
        unsafe {
            sys::llama_detach_threadpool(self.raw);
            sys::llama_free(self.raw);
        }
    }
}
