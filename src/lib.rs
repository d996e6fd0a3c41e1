//! cllm: a language-model server whose socket delivers what llama.cpp can decode.
//!
//! The rooms, and who may call whom:
//!
//! ```text
//! main -> cli -> { http, engine, llama }
//! http -> chat, tokenizer, handoff -> types
//! engine -> sample, handoff -> types
//! tokenizer -> gguf -> types
//! llama -> types            the only unsafe Rust
//! gguf                      the file format alone: bounded reader, streaming writer
//! ```
//!
//! `engine` and `http` never import each other or `llama`; `tests/tidy.rs` holds the arrows.

pub mod chat;
pub mod cli;
pub mod clock;
pub mod config;
pub mod engine;
pub mod gguf;
pub mod handoff;
pub mod http;
pub mod llama;
pub mod logging;
pub mod metrics;
pub mod model_file;
pub mod sample;
pub mod synth;
pub mod tokenizer;
pub mod topology;
pub mod types;
