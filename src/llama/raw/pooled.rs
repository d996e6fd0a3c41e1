//! llama.cpp's own pooled embeddings: one input, one micro-batch, one call. A reference for tests; the server never uses
//! it.

use std::ffi::CString;
use std::path::Path;

use llama_cpp_sys_2 as sys;

use crate::llama::attention;

/// How llama.cpp pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawPooling {
    /// As the model's metadata says.
    Model,
    /// The mean over all tokens.
    Mean,
    /// The first token.
    Cls,
    /// The last token.
    Last,
    /// The model's own head: one number.
    Rank,
}

/// llama.cpp's own embeddings of `inputs`, not normalised.
///
/// # Panics
/// If any call fails.
pub fn pooled(path: &Path, inputs: &[Vec<i32>], pooling: RawPooling) -> Vec<Vec<f32>> {
    crate::llama::backend_init();
    let path = CString::new(path.as_os_str().as_encoded_bytes()).expect("a path without NUL");
    let longest = inputs.iter().map(Vec::len).max().expect("an input") as u32;
    // SAFETY: llama.cpp's own defaults fill the parameters; handles are checked and freed at the end.
    unsafe {
        let model = sys::llama_model_load_from_file(path.as_ptr(), sys::llama_model_default_params());
        assert!(!model.is_null(), "the model loads");
        let mut params = sys::llama_context_default_params();
        params.n_ctx = longest;
        params.n_batch = longest;
        params.n_ubatch = longest;
        params.n_seq_max = 1;
        params.n_threads = 1;
        params.n_threads_batch = 1;
        params.embeddings = true;
        params.flash_attn_type = attention::for_small_models().as_raw();
        params.pooling_type = match pooling {
            RawPooling::Model => sys::LLAMA_POOLING_TYPE_UNSPECIFIED,
            RawPooling::Mean => sys::LLAMA_POOLING_TYPE_MEAN,
            RawPooling::Cls => sys::LLAMA_POOLING_TYPE_CLS,
            RawPooling::Last => sys::LLAMA_POOLING_TYPE_LAST,
            RawPooling::Rank => sys::LLAMA_POOLING_TYPE_RANK,
        };
        let ctx = sys::llama_init_from_model(model, params);
        assert!(!ctx.is_null(), "the context is made");
        let n_embd = match pooling {
            RawPooling::Rank => sys::llama_model_n_cls_out(model) as usize,
            _ => sys::llama_model_n_embd_out(model) as usize,
        };
        let embeddings = inputs.iter().map(|input| one(ctx, input, n_embd)).collect();
        sys::llama_free(ctx);
        sys::llama_model_free(model);
        embeddings
    }
}

/// # Safety
/// `ctx` is live, made for embeddings, with a micro-batch as long as `input`.
unsafe fn one(ctx: *mut sys::llama_context, input: &[i32], n_embd: usize) -> Vec<f32> {
    let mut token = input.to_vec();
    let mut pos: Vec<i32> = (0..input.len() as i32).collect();
    let mut count = vec![1; input.len()];
    let mut seq = vec![0; input.len()];
    let mut seq_ptr: Vec<*mut i32> = seq.iter_mut().map(|seq| seq as *mut _).collect();
    let mut output = vec![1i8; input.len()];
    let batch = sys::llama_batch {
        n_tokens: input.len() as i32,
        token: token.as_mut_ptr(),
        embd: std::ptr::null_mut(),
        pos: pos.as_mut_ptr(),
        n_seq_id: count.as_mut_ptr(),
        seq_id: seq_ptr.as_mut_ptr(),
        logits: output.as_mut_ptr(),
    };
    // SAFETY: the arrays outlive the call; llama.cpp keeps `n_embd` floats for the sequence until the next one.
    unsafe {
        sys::llama_memory_clear(sys::llama_get_memory(ctx), true);
        assert_eq!(sys::llama_decode(ctx, batch), 0);
        let pooled = sys::llama_get_embeddings_seq(ctx, 0);
        assert!(!pooled.is_null(), "llama.cpp pooled");
        std::slice::from_raw_parts(pooled, n_embd).to_vec()
    }
}
