//! llama.cpp behind safe types: the only room with `unsafe`.
//!
//! Whoever receives a C handle wraps it at once; `Drop` is its only free. C return codes become enums on the line
//! that receives them. What could throw goes through `shim.cpp`. The model may be shared between threads; a context
//! and its decoder belong to one thread, the batching thread.

pub mod attention;
mod context;
pub mod cpu;
mod decoder;
mod encoder;
pub mod exact;
mod log;
mod mapping;
pub mod matrix;
mod model;
pub mod quantize;
pub mod raw;
pub mod raw_attention;
pub mod raw_logits;
pub mod raw_matrix;
pub mod raw_pooled;
mod shim;
mod threadpool;
pub mod vocab;

pub use context::{Context, ContextParams, FlashAttention, KvLayout, KvType};
pub use decoder::LlamaDecoder;
pub use encoder::LlamaEncoder;
pub use log::{backend_init, system_info};
pub use model::{Model, ModelParams};
pub use threadpool::ThreadpoolParams;
pub use vocab::LlamaVocab;
