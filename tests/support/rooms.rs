// The rooms of src/ that work without llama.cpp. Crates that compile them anew (benches/instructions, tests/fuzzing) include this list
// at their root, with `include!`: a module of their own would give the rooms other paths.

#[path = "../../src/appliance/mod.rs"]
mod appliance;
#[path = "../../src/kv_events/hash.rs"]
pub mod block_names;
#[path = "../../src/chat/mod.rs"]
pub mod chat;
#[path = "../../src/clock.rs"]
pub mod clock;
#[path = "../../src/config/mod.rs"]
pub mod config;
#[path = "../../src/constrain/mod.rs"]
pub mod constrain;
#[path = "../../src/engine/mod.rs"]
pub mod engine;
#[path = "../../src/gguf/mod.rs"]
pub mod gguf;
#[path = "../../src/handoff/mod.rs"]
pub mod handoff;
#[path = "../../src/http/mod.rs"]
pub mod http;
/// Names of blocks alone, which a route reports.
pub mod kv_events {
    pub use crate::block_names as hash;
}
#[path = "../../src/metrics/mod.rs"]
pub mod metrics;
#[path = "../../src/null_decoder.rs"]
pub mod null_decoder;
#[path = "../../src/page/mod.rs"]
pub mod page;
#[path = "../../src/sample/mod.rs"]
pub mod sample;
#[path = "../../src/tokenizer/mod.rs"]
pub mod tokenizer;
#[path = "../../src/topology.rs"]
pub mod topology;
#[path = "../../src/trace/mod.rs"]
pub mod trace;
#[path = "../../src/types/mod.rs"]
pub mod types;
