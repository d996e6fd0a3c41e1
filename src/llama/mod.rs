//! llama.cpp behind safe types: the only room with `unsafe`.
//!
//! A C handle is wrapped by the function that receives it, and `Drop` is the only place that frees it. C return codes
//! become enums on the line that receives them. Calls that could throw go through `shim.cpp`. Threads may share the model;
//! a context and its decoder belong to one thread, the batching thread.

pub mod attention;
mod context;
pub mod cpu;
mod decoder;
mod encoder;
pub mod exact;
mod log;
mod mapped;
mod mapping;
pub mod matrix;
mod model;
pub mod quantize;
#[doc(hidden)]
pub mod raw;
mod shim;
mod threadpool;
pub mod vocab;

pub use context::{Context, ContextParams, FlashAttention, KvLayout};
pub use decoder::LlamaDecoder;
pub use encoder::LlamaEncoder;
pub use log::{backend_init, system_info};
pub use mapped::MappedBytes;
pub use model::{Model, ModelParams};
pub use threadpool::ThreadpoolParams;
pub use vocab::LlamaVocab;
