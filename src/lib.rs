//! cllm: a language-model server. Its socket delivers what llama.cpp can decode.
//!
//! The path of one request through the rooms, with the thread in brackets:
//!
//! ```text
//! [http-N]  http       reads and checks the request          chat       messages -> text
//!           constrain  a schema or grammar -> masks
//!           tokenizer  text -> tokens                         handoff    claims a reply slot, pushes into the ring
//! [batch]   engine     admits, plans rows, commits, stops     sample     logits -> token
//!           llama      decodes the rows                       handoff    pieces and one terminal into the reply slot
//! [http-N]  http       wakes, turns bytes into text, writes and flushes
//! ```
//!
//! The other rooms: `cli` has one thin file for each subcommand; `server` composes a server of the other rooms; `measure` has the
//! benches and `tune`; `console` prints;
//! `config` reads settings from flags, variables and a file; `topology` assigns cores to threads; `gguf` reads and writes the
//! file format; `synth` makes models of random weights; `null_decoder` replaces llama.cpp and computes nothing;
//! `model_file` opens the built-in model or a file; `hub` fetches a model by its name; `appliance` is an executable that carries
//! a model; `prompts` keeps KV state outside the cache, in RAM and on disk; `metrics` counts; `trace` records when each step did what; `page` is the page for browsers; `sandbox` gives up
//! rights that a running server doesn't need; `types` has the types that all rooms share: ids, limits, requests, events, errors,
//! and the traits at the seams.
//!
//! Which room may name which:
//!
//! ```text
//! main -> cli -> everything
//! measure -> server -> http, engine, llama and what they need
//! http -> chat, constrain, tokenizer, handoff -> types
//! constrain -> chat         how a model writes its calls
//! engine -> sample, handoff -> types
//! tokenizer -> gguf -> types
//! synth -> gguf, llama
//! llama -> types            the only unsafe Rust
//! ```
//!
//! `engine` and `http` never import each other or `llama`: the engine calls a `Decoder` (`types/seams.rs`), which `llama`
//! implements for real models and the tests replace with a fake. `tests/tidy.rs` checks the arrows.
//!
//! Where to start reading: `engine/mod.rs` has the batching thread's loop, `http/worker.rs` the HTTP threads' loop, and
//! `handoff/mod.rs` what the two share.

pub mod appliance;
pub mod chat;
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod constrain;
pub mod engine;
pub mod gguf;
pub mod handoff;
pub mod http;
pub mod hub;
pub mod kv_events;
pub mod llama;
pub mod logging;
pub mod measure;
pub mod metrics;
pub mod model_file;
pub mod null_decoder;
pub mod page;
pub mod prompts;
pub mod sample;
pub mod sandbox;
pub mod server;
pub mod synth;
pub mod tokenizer;
pub mod topology;
pub mod trace;
pub mod types;
