//! Primitives that this room takes from crates: atomics, the queue, parking.
//!
//! `tests/loom_handoff/` replaces this module by one of the same names made of loom's primitives. Everything that this
//! room shares between threads must come from here, or loom doesn't see it.

pub use std::hint::spin_loop;
pub use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
pub use std::sync::{Arc, OnceLock};
pub use std::thread::{Thread, current, park, park_timeout, yield_now};

pub use crossbeam::queue::ArrayQueue;
