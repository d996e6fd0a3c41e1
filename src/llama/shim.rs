//! The Rust side of `shim.cpp`: declarations, and codes turned into `Result`.

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::fd::AsRawFd;

use llama_cpp_sys_2 as sys;

use crate::types::ModelPlace;
use crate::types::limits::SHIM_MESSAGE_BYTES;

unsafe extern "C" {
    /// Loads a model. The functions here do what the llama.cpp function of a similar name does; a C++ exception becomes
    /// a code, and its message is written to `err`.
    pub fn cllm_model_load(
        place: *const RawPlace,
        params: *const sys::llama_model_params,
        out: *mut *mut sys::llama_model,
        err: *mut c_char,
        err_len: usize,
    ) -> c_int;
    /// Calls `each` with the address range of each weight.
    pub fn cllm_model_weights(
        model: *const sys::llama_model,
        each: extern "C" fn(user: *mut c_void, data: *const c_void, bytes: usize),
        user: *mut c_void,
    );
    /// Makes a context.
    pub fn cllm_context_new(
        model: *mut sys::llama_model,
        params: *const sys::llama_context_params,
        out: *mut *mut sys::llama_context,
        err: *mut c_char,
        err_len: usize,
    ) -> c_int;
    /// Runs one batch; the code of `llama_decode` is written to `status`.
    pub fn cllm_decode(
        ctx: *mut sys::llama_context,
        batch: *const sys::llama_batch,
        status: *mut i32,
        err: *mut c_char,
        err_len: usize,
    ) -> c_int;
    /// The logits of one row of the last batch.
    pub fn cllm_logits(
        ctx: *mut sys::llama_context,
        row: i32,
        out: *mut *mut f32,
        err: *mut c_char,
        err_len: usize,
    ) -> c_int;
    /// The embedding of one row of the last batch.
    pub fn cllm_embedding(
        ctx: *mut sys::llama_context,
        row: i32,
        out: *mut *mut f32,
        err: *mut c_char,
        err_len: usize,
    ) -> c_int;
    /// The pooled embedding of one sequence of the last batch.
    pub fn cllm_embedding_seq(
        ctx: *mut sys::llama_context,
        seq: i32,
        out: *mut *mut f32,
        err: *mut c_char,
        err_len: usize,
    ) -> c_int;
    /// Removes cells of a sequence.
    pub fn cllm_seq_rm(
        ctx: *mut sys::llama_context,
        seq: i32,
        p0: i32,
        p1: i32,
        removed: *mut bool,
        err: *mut c_char,
        err_len: usize,
    ) -> c_int;
    /// Copies cells of a sequence to another.
    pub fn cllm_seq_cp(
        ctx: *mut sys::llama_context,
        from: i32,
        to: i32,
        p0: i32,
        p1: i32,
        err: *mut c_char,
        err_len: usize,
    ) -> c_int;
    /// The size of a sequence's state, in bytes.
    pub fn cllm_state_size(
        ctx: *mut sys::llama_context,
        seq: i32,
        bytes: *mut usize,
        err: *mut c_char,
        err_len: usize,
    ) -> c_int;
    /// Copies a sequence's state to a buffer.
    pub fn cllm_state_save(
        ctx: *mut sys::llama_context,
        seq: i32,
        to: *mut u8,
        len: usize,
        err: *mut c_char,
        err_len: usize,
    ) -> c_int;
    /// Sets a sequence's state.
    pub fn cllm_state_restore(
        ctx: *mut sys::llama_context,
        seq: i32,
        from: *const u8,
        len: usize,
        err: *mut c_char,
        err_len: usize,
    ) -> c_int;
    /// The bytes of the KV cache and of the recurrent state when all cells are used.
    pub fn cllm_memory_bytes(
        ctx: *mut sys::llama_context,
        bytes: *mut usize,
        err: *mut c_char,
        err_len: usize,
    ) -> c_int;
    /// The size of the part of a sequence's state that can't be cut, in bytes.
    pub fn cllm_checkpoint_size(
        ctx: *mut sys::llama_context,
        seq: i32,
        size: *mut usize,
        err: *mut c_char,
        err_len: usize,
    ) -> c_int;
    /// Copies this part of a sequence's state to a buffer.
    pub fn cllm_checkpoint_get(
        ctx: *mut sys::llama_context,
        seq: i32,
        to: *mut u8,
        size: usize,
        err: *mut c_char,
        err_len: usize,
    ) -> c_int;
    /// Sets this part of a sequence's state.
    pub fn cllm_checkpoint_set(
        ctx: *mut sys::llama_context,
        seq: i32,
        from: *const u8,
        size: usize,
        err: *mut c_char,
        err_len: usize,
    ) -> c_int;
    /// Makes a threadpool.
    pub fn cllm_threadpool_new(
        params: *const sys::ggml_threadpool_params,
        out: *mut *mut sys::ggml_threadpool,
        err: *mut c_char,
        err_len: usize,
    ) -> c_int;
}

/// `struct cllm_place`.
#[repr(C)]
pub struct RawPlace {
    path: *const c_char,
    fd: i32,
    offset: u64,
}

/// Calls `call` with `place` as the shim's C struct; the pointer is valid only during the call. `None`: the path holds a
/// NUL byte.
pub fn with_place<T>(place: &ModelPlace, call: impl FnOnce(*const RawPlace) -> T) -> Option<T> {
    let path = CString::new(place.path.as_os_str().as_encoded_bytes()).ok()?;
    let fd = place.file.as_ref().map_or(-1, |file| file.as_raw_fd());
    Some(call(&RawPlace { path: path.as_ptr(), fd, offset: place.offset }))
}

/// Why a call through the shim didn't succeed.
#[derive(Debug, PartialEq, Eq)]
pub enum ShimError {
    /// llama.cpp failed without an exception. The reason is in its log.
    Failed,
    /// A C++ exception, with its message.
    Exception(String),
}

/// Runs one call of the shim with a buffer for its message, and turns its code into a `Result`.
pub fn call(run: impl FnOnce(*mut c_char, usize) -> c_int) -> Result<(), ShimError> {
    let mut err = [0u8; SHIM_MESSAGE_BYTES];
    match run(err.as_mut_ptr().cast::<c_char>(), SHIM_MESSAGE_BYTES) {
        0 => Ok(()),
        1 => Err(ShimError::Failed),
        _ => {
            let end = err.iter().position(|&b| b == 0).unwrap_or(SHIM_MESSAGE_BYTES);
            Err(ShimError::Exception(String::from_utf8_lossy(&err[..end]).into_owned()))
        }
    }
}
