//! llama.cpp and ggml called directly: what tests and benches compare cllm with. No part of the public interface; the server never uses
//! it.
//!
//! ```text
//! decode     the raw loop of llama.cpp over several sequences: stage 0 of `cllm bench stages`
//! logits     llama.cpp's logits at each position of a text
//! pooled     llama.cpp's embeddings, pooled by itself
//! attention  one attention as ggml's graph computes it
//! matrix     products with one matrix as ggml's CPU backend computes them
//! ```

pub mod attention;
pub mod decode;
pub mod logits;
pub mod matrix;
pub mod pooled;
