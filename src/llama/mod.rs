//! The C boundary, and the only unsafe Rust: every handle is freed by `Drop`, every return code becomes an enum or a
//! `Result` on the line that receives it, and no C++ exception gets past `shim*.cpp`.

pub mod quantize;
pub mod vocab;

pub use vocab::LlamaVocab;
