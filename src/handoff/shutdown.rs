//! How the process tells its threads to end: first drain, then now.
//!
//! Written by the thread that waits for signals, read by the batching thread once a step and by HTTP threads once a
//! request. Not model-checked: it is one word that only grows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// What the process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Running,
    /// New requests are refused, accepted ones finish.
    Draining,
    /// The grace period is over: what still runs ends with what it has.
    Now,
}

/// A handle on the process's stage. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// ORDERING: stored with Release by the signal thread, loaded with Acquire by all others; nothing is published beside the word itself.
    stage: Arc<AtomicU8>,
}

impl Shutdown {
    pub fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Running,
            1 => Stage::Draining,
            _ => Stage::Now,
        }
    }

    /// Moves on to `stage`; never back.
    pub fn advance(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::AcqRel);
    }
}
