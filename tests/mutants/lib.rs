//! Rooms of cllm that work without llama.cpp. `tests/mutants/run` copies this file beside them.
#![allow(dead_code, unused_imports)]

// Unit tests use helpers of `tests/support`, which name this crate.
#[cfg(test)]
extern crate self as cllm;

#[cfg(test)]
#[path = "../tests/support/dice.rs"]
mod dice;

#[cfg(feature = "chat")]
pub mod chat;
pub mod clock;
pub mod engine;
pub mod gguf;
pub mod handoff;
pub mod kv_events;
pub mod metrics;
pub mod null_decoder;
pub mod sample;
pub mod trace;
pub mod types;
