//! KV events: which blocks of tokens the KV cache holds, published for routers in the format of vLLM's KV events.
//!
//! The batching thread tells which blocks each sequence holds (`handoff/blocks.rs`). One thread, `kv-events`, does all the rest:
//!
//! ```text
//! hash      names of blocks: a hash of the model's name and of all tokens up to the block's end
//! mirror    what the cache holds, by sequence and by name; what has changed since the last message
//! message   events as MessagePack
//! history   the latest messages, for subscribers that lost some
//! zmtp      ZeroMQ's protocol, without sockets
//! outlet    the listening socket and the connections
//! publisher the thread's loop
//! ```
//!
//! Nothing waits for a subscriber: each has a queue of bounded size, beyond which messages to it are dropped and counted.

pub mod hash;
pub mod history;
pub mod message;
pub mod mirror;
pub mod outlet;
pub mod publisher;
pub mod zmtp;

pub use outlet::Outlet;
pub use publisher::{Publisher, PublisherParts};
