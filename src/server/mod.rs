//! Composes a server from the other rooms: from checked settings to a running batching thread, HTTP threads and a listener.
//!
//! ```text
//! prepare     settings, machine and plan of cores; what `--check` prints
//! defaults    what settings leave open            context  how many KV cells, and in which layout
//! fetch, vocabulary, template, model_sampling     what a model's file says
//! decoder     weights and llama.cpp's context     embed    an encoder in its place
//! prompts     the sizes of the tiers that keep prompts outside the KV cache
//! stack       model, reply slots, ring and the batching thread
//! service     what HTTP threads share, and these threads
//! events      the thread that publishes KV events
//! listen, confine, notify, supervise, memory      the operating system
//! observer    the engine's counts, for metrics and the trace
//! life        the order of all this, until the last answer
//! ```

pub mod confine;
pub mod context;
pub mod decoder;
pub mod defaults;
pub mod embed;
mod events;
pub mod fetch;
mod life;
pub mod listen;
mod memory;
pub mod model_sampling;
mod notify;
pub mod observer;
mod prepare;
pub mod prompts;
pub mod service;
pub mod stack;
mod supervise;
pub mod template;
pub mod vocabulary;

pub use life::run;
pub use prepare::Prepared;
