//! HTTP threads: one request from its first byte to its last. Parse, template, tokenise, submit, wait, write.
//!
//! Any number of threads share one `Service`, which is read-only but for its counters. Nothing here calls llama.cpp's
//! context or knows how the engine plans.
//!
//! ```text
//! worker    the loop of one HTTP thread; caller: the name a request goes by; log_line: what it leaves in the log
//! route     path and method -> what to do
//! notes     what the parsers look for, noted while they look; openapi: the document made of that
//! fields    JSON object -> typed values, each error naming its field
//! generate  the native routes that generate (params: what they accept; answer: what they say)
//! benchmark /benchmark: a load from inside
//! info      /model/info, /health, /ready, /metrics, /encode, /decode and the list of routes
//! anthropic /v1/messages
//! dialect   which route speaks whose names, and how each says an error; every refusal comes through here
//! responses /v1/responses
//! deliver   answers on their way, brought to their client: whole, or in events
//! openai    the other routes under /v1 (choices: answers as they come; format: the shape a text must have)
//! ollama    /api/..., as Ollama has it
//! service   what the threads share; submit: from tokens to reply slots
//! access    who may ask: keys, and pages of other sites
//! page      the page for people
//! llama_server  /completion, /tokenize, /detokenize, /apply-template, /props; slots: /slots
//! trace     /debug/trace: a timeline of the engine's steps
//! fault     native errors, headers, JSON answers; refused: what the layer below refuses
//! surrogates  halves of surrogate pairs in a body
//! warnings  what was ignored or changed in a request, for X-Cllm-Warning
//! ```

mod access;
mod answer;
mod anthropic;
mod benchmark;
mod caller;
mod choices;
mod deliver;
mod dialect;
mod fault;
mod fields;
mod format;
mod generate;
mod info;
mod llama_server;
mod log_line;
mod notes;
mod ollama;
mod openai;
mod openapi;
mod page;
mod params;
mod refused;
mod rerank;
mod responses;
mod route;
mod sampling;
mod service;
mod slots;
mod submit;
mod surrogates;
mod trace;
mod warnings;
mod worker;

pub use access::Access;
pub use info::first_request;
pub use service::{Defaults, Embedding, ModelInfo, Service, ServiceParts};
pub use worker::serve_requests;
