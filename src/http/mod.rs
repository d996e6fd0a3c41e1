//! HTTP threads: one request from its first byte to its last. Parse, template, tokenise, submit, wait, write.
//!
//! Any number of threads share one `Service`, which is read-only but for its counters. Nothing here calls llama.cpp's
//! context or knows how the engine plans.
//!
//! ```text
//! worker    the loop of one HTTP thread; route: path and method -> what to do
//! caller    the name a request goes by; log_line: what it leaves in the log
//! access    keys, and pages of other sites; account: as what a request comes, and the books of its key; rate: limits (pure)
//! ask       what a request means: fields, sampling, formats
//! run       a generation from its submission to its answer
//! dialect   the names and shapes that families of clients read: native, openai, responses, anthropic, llama_server, ollama
//! plain     routes about the server itself
//! service   what the threads share
//! fault     headers and JSON bodies of answers; path: paths of URLs
//! traceparent   which span of which trace sent a request
//! ```

mod access;
mod account;
mod ask;
mod caller;
mod dialect;
mod fault;
mod log_line;
mod path;
mod plain;
mod rate;
mod route;
mod run;
mod service;
mod traceparent;
mod worker;

pub use access::Access;
pub use ask::generation::Defaults;
pub use plain::info::first_request;
pub use plain::warm;
pub use service::{Embedding, ModelInfo, Service, ServiceParts};
pub use worker::serve_requests;
