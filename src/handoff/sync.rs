//! The machine parts of this room: atomics, the queue, parking. Nothing here is ours.
//!
//! `tests/loom_handoff/` puts a module of the same names in this one's place, made of loom's parts.
//! Whatever this room shares between threads must come from here, or loom doesn't see it.

pub use std::hint::spin_loop;
pub use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
pub use std::sync::{Arc, OnceLock};
pub use std::thread::{Thread, current, park, park_timeout, yield_now};

pub use crossbeam::queue::ArrayQueue;
