//! Rooms of cllm that work without llama.cpp. `tests/mutants/run` copies this file beside them.
#![allow(dead_code, unused_imports)]

// Unit tests use helpers of `tests/support`, which name this crate.
#[cfg(test)]
extern crate self as cllm;

#[cfg(test)]
#[path = "../tests/support/dice.rs"]
mod dice;

#[cfg(feature = "ask")]
pub mod appliance;
#[cfg(feature = "chat")]
pub mod chat;
pub mod clock;
#[cfg(feature = "ask")]
pub mod config;
#[cfg(feature = "ask")]
pub mod constrain;
pub mod engine;
pub mod gguf;
pub mod handoff;
#[cfg(feature = "ask")]
pub mod http;
pub mod kv_events;
pub mod metrics;
pub mod null_decoder;
#[cfg(feature = "ask")]
pub mod page;
pub mod sample;
#[cfg(feature = "ask")]
pub mod tokenizer;
#[cfg(feature = "ask")]
pub mod topology;
pub mod trace;
pub mod types;
