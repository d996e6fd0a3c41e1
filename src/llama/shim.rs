//! The Rust side of `shim.cpp`: declarations, and codes turned into `Result`.

use std::ffi::{c_char, c_int};

use llama_cpp_sys_2 as sys;

unsafe extern "C" {
    pub fn cllm_model_load(
        path: *const c_char,
        offset: u64,
        params: *const sys::llama_model_params,
        out: *mut *mut sys::llama_model,
        err: *mut c_char,
        err_len: usize,
    ) -> c_int;
    pub fn cllm_context_new(
        model: *mut sys::llama_model,
        params: *const sys::llama_context_params,
        out: *mut *mut sys::llama_context,
        err: *mut c_char,
        err_len: usize,
    ) -> c_int;
    pub fn cllm_decode(
        ctx: *mut sys::llama_context,
        batch: *const sys::llama_batch,
        status: *mut i32,
        err: *mut c_char,
        err_len: usize,
    ) -> c_int;
    pub fn cllm_logits(
        ctx: *mut sys::llama_context,
        row: i32,
        out: *mut *mut f32,
        err: *mut c_char,
        err_len: usize,
    ) -> c_int;
    pub fn cllm_embedding(
        ctx: *mut sys::llama_context,
        row: i32,
        out: *mut *mut f32,
        err: *mut c_char,
        err_len: usize,
    ) -> c_int;
    pub fn cllm_seq_rm(
        ctx: *mut sys::llama_context,
        seq: i32,
        p0: i32,
        p1: i32,
        removed: *mut bool,
        err: *mut c_char,
        err_len: usize,
    ) -> c_int;
    pub fn cllm_seq_cp(
        ctx: *mut sys::llama_context,
        from: i32,
        to: i32,
        p0: i32,
        p1: i32,
        err: *mut c_char,
        err_len: usize,
    ) -> c_int;
    pub fn cllm_threadpool_new(
        params: *const sys::ggml_threadpool_params,
        out: *mut *mut sys::ggml_threadpool,
        err: *mut c_char,
        err_len: usize,
    ) -> c_int;
}

/// Why a call through the shim didn't succeed.
#[derive(Debug, PartialEq, Eq)]
pub enum ShimError {
    /// llama.cpp said no without an exception; the reason is in its log.
    Failed,
    /// A C++ exception, with its message.
    Exception(String),
}

const ERR_BYTES: usize = 512;

/// Runs one shim call with a message buffer and turns its code into a `Result`.
pub fn call(run: impl FnOnce(*mut c_char, usize) -> c_int) -> Result<(), ShimError> {
    let mut err = [0u8; ERR_BYTES];
    match run(err.as_mut_ptr().cast::<c_char>(), ERR_BYTES) {
        0 => Ok(()),
        1 => Err(ShimError::Failed),
        _ => {
            let end = err.iter().position(|&b| b == 0).unwrap_or(ERR_BYTES);
            Err(ShimError::Exception(String::from_utf8_lossy(&err[..end]).into_owned()))
        }
    }
}
