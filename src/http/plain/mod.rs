//! Routes that answer about the server itself.
//!
//! ```text
//! info       /model/info, /health, /ready, /metrics, /encode, /decode and the list of routes
//! benchmark  /benchmark: a load from inside
//! keys       /keys: what each API key has got
//! kv_blocks  /debug/kv-blocks: what the KV cache holds, by names of blocks
//! slots      /slots
//! trace      /debug/trace: a timeline of the engine's steps
//! warm       --warm: prompts that are read at start
//! page       the page for people
//! openapi    /openapi.json
//! ```

mod benchmark;
pub mod info;
mod keys;
mod kv_blocks;
mod openapi;
pub mod page;
mod slots;
mod trace;
pub mod warm;
