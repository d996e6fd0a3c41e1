//! cllm: a language-model server whose socket delivers what llama.cpp can decode.
//!
//! One request's way through the rooms; the thread is in brackets:
//!
//! ```text
//! [http-N]  http       reads and checks the request          chat       messages -> text
//!           constrain  a schema or grammar -> masks
//!           tokenizer  text -> tokens                         handoff    claims a reply slot, pushes into the ring
//! [batch]   engine     admits, plans rows, commits, stops     sample     logits -> token
//!           llama      decodes the rows                       handoff    pieces and one last word into the reply slot
//! [http-N]  http       wakes, makes text of bytes, writes and flushes
//! ```
//!
//! The other rooms: `cli` has one thin file a subcommand, and `cli/stack.rs` builds what `serve` and `generate` share;
//! `config` lays flags over variables over the file; `topology` says which core does what; `gguf` reads and writes the
//! file format; `synth` makes models of random weights; `null_decoder` stands in for llama.cpp and takes no time;
//! `model_file` opens the built-in model or yours; `hub` gets one by its name; `appliance` is an executable that carries a model;
//! `metrics` counts; `trace` remembers when each step did what; `page` is what browsers show; `sandbox` shuts what a server needs
//! no more;
//! `types` holds what all of them speak of: ids, limits, requests, events, errors, and the traits at the seams.
//!
//! Who may call whom:
//!
//! ```text
//! main -> cli -> everything
//! http -> chat, constrain, tokenizer, handoff -> types
//! constrain -> chat         how a model writes its calls
//! engine -> sample, handoff -> types
//! tokenizer -> gguf -> types
//! synth -> gguf, llama
//! llama -> types            the only unsafe Rust
//! ```
//!
//! `engine` and `http` never import each other or `llama`: the engine knows a `Decoder` (`types/seams.rs`), which llama.cpp
//! implements here and a fake one in the tests. `tests/tidy.rs` holds the arrows.
//!
//! Where to start reading: `engine/mod.rs` has the loop, `http/worker.rs` the other one, `handoff/mod.rs` what lies between.

pub mod appliance;
pub mod chat;
pub mod cli;
pub mod clock;
pub mod config;
pub mod constrain;
pub mod engine;
pub mod gguf;
pub mod handoff;
pub mod http;
pub mod hub;
pub mod llama;
pub mod logging;
pub mod metrics;
pub mod model_file;
pub mod null_decoder;
pub mod page;
pub mod sample;
pub mod sandbox;
pub mod synth;
pub mod tokenizer;
pub mod topology;
pub mod trace;
pub mod types;
