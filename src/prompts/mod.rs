//! The memory for prompts outside the KV cache: blocks of KV state in RAM, and on disk where `--prompt-disk` names a folder.
//!
//! ```text
//! engine (batching thread) --PromptStore--> store     which block is in which tier, both least recently used first out
//!                                           lru       one tier's books
//!                                             | jobs, reports: two lock-free queues
//!                                           worker    the disk thread
//!                                           folder    one file a block: written whole or not at all, checked when read
//!                                           header    the file's layout
//!                                           medium    the few calls on files
//! an appliance's blocks ----------------> carried   mapped, in front of both tiers
//! cllm prompts --------------------------> inspect    a folder from outside: list, verify, clear
//! ```
//!
//! The store is no part of a text: whatever it loses or refuses is read again as tokens. So no trouble with a disk is an error of a
//! request; it is logged once and counted in `/metrics`.

pub mod carried;
mod folder;
mod header;
pub mod inspect;
mod lru;
mod medium;
mod store;
mod worker;

#[cfg(test)]
mod tests;

pub use header::{FileFault, Header, bytes_on_disk};
pub use medium::{Medium, Plain, make_folder};
pub use store::{DiskOptions, Store, StoreOptions};
pub use worker::Worker;
