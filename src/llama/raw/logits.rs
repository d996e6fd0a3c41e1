//! llama.cpp's own logits at each position of a text: one batch, one call, logits for every token. A reference for tests;
//! the server never uses it.

use std::ffi::CString;
use std::path::Path;

use llama_cpp_sys_2 as sys;

use crate::llama::attention;
use crate::llama::decoder::BatchArrays;
use crate::types::seams::Row;
use crate::types::{Pos, SeqId, Token};

/// llama.cpp's logits after each of `tokens`, of which there is at least one.
///
/// # Panics
/// If any call fails.
pub fn logits(path: &Path, tokens: &[Token]) -> Vec<Vec<f32>> {
    crate::llama::backend_init();
    let path = CString::new(path.as_os_str().as_encoded_bytes()).expect("a path without NUL");
    let len = tokens.len();
    let mut arrays = BatchArrays::new(len);
    for (i, token) in tokens.iter().enumerate() {
        arrays.set(i, Row { token: *token, pos: Pos(i as u32), seq: SeqId(0), wants_logits: true });
    }
    // SAFETY: llama.cpp's own defaults fill the parameters; handles are checked and freed at the end; the arrays outlive
    // the call, and each row has `n_vocab` logits until the next call.
    unsafe {
        let model = sys::llama_model_load_from_file(path.as_ptr(), sys::llama_model_default_params());
        assert!(!model.is_null(), "the model loads");
        let mut params = sys::llama_context_default_params();
        (params.n_ctx, params.n_batch, params.n_ubatch) = (len as u32, len as u32, len as u32);
        (params.n_seq_max, params.n_outputs_max) = (1, len as u32);
        (params.n_threads, params.n_threads_batch) = (1, 1);
        params.flash_attn_type = attention::for_small_models().as_raw();
        let ctx = sys::llama_init_from_model(model, params);
        assert!(!ctx.is_null(), "the context is made");
        let n_vocab = sys::llama_vocab_n_tokens(sys::llama_model_get_vocab(model)) as usize;
        assert_eq!(sys::llama_decode(ctx, arrays.first(len)), 0);
        let row = |i: usize| std::slice::from_raw_parts(sys::llama_get_logits_ith(ctx, i as i32), n_vocab).to_vec();
        let rows = (0..len).map(row).collect();
        sys::llama_free(ctx);
        sys::llama_model_free(model);
        rows
    }
}
