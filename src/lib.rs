//! cllm: a language-model server over llama.cpp.
//!
//! The path of one request through the rooms, with the thread in brackets. ARCHITECTURE.md has it with the names of files.
//!
//! ```text
//! [http-N]  http       reads and checks the request          chat       messages -> text
//!           tokenizer  text -> tokens                         constrain  a schema or grammar -> masks
//!           handoff    claims a reply slot, pushes into the ring
//! [batch]   engine     admits, plans rows, commits, stops     sample     logits -> token
//!           llama      decodes the rows                       handoff    pieces and one terminal into the reply slot
//! [http-N]  http       wakes, turns bytes into text, writes and flushes
//! ```
//!
//! The other rooms:
//!
//! ```text
//! cli        one thin file for each subcommand            console       what a terminal shows
//! server     composes a server of the other rooms         measure       benches, `tune` and the recorder of `profile`
//! config     settings from flags, variables and a file    logging       the log
//! gguf       reads and writes the format of model files   synth         models of random weights
//! model_file opens the built-in model or a file           hub           fetches a model by its name
//! appliance  an executable that carries a model           null_decoder  replaces llama.cpp and computes nothing
//! prompts    KV state outside the cache, in RAM, on disk   kv_events     tells routers what the KV cache holds
//! metrics    counts                                       trace         records when each step did what
//! topology   assigns cores to threads                     clock         time
//! page       the page for browsers                        sandbox       gives up rights that a running server doesn't need
//! types      what all rooms share: ids, limits, requests, events, errors, and the traits at the seams
//! ```
//!
//! `tests/tidy.rs` has the list of rooms that each room may name. In short: `cli` may name all, `server` composes, `types` names none.
//! `engine` and `http` never name each other, and neither names `llama`: the engine calls a `Decoder` (`types/seams.rs`), which `llama`
//! implements for real models and tests replace with a fake. Only `llama` has unsafe Rust.
//!
//! Where to start reading: `engine/mod.rs` has the batching thread's loop, `http/worker.rs` the HTTP threads' loop, and
//! `handoff/mod.rs` what the two share.

// clippy refuses what warns (`make lint`): each public item says what it is, its errors and its panics.
#![warn(missing_docs, clippy::missing_errors_doc, clippy::missing_panics_doc)]

// Unit tests use helpers of `tests/support`, which name this crate.
#[cfg(test)]
extern crate self as cllm;

#[cfg(test)]
#[path = "../tests/support/dice.rs"]
mod dice;

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
