//! How the process tells its threads to end: first the stage of draining, then the stage of ending at once.
//!
//! Written by the thread that waits for signals, read by the batching thread once a step and by HTTP threads once a
//! request. It isn't model-checked, because it is a single word that only grows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// A stage of the process's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Requests are accepted.
    Running,
    /// New requests are refused; accepted ones are finished.
    Draining,
    /// The grace period is over: running requests end with the text that they have.
    Now,
}

/// A handle on the process's stage. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// ORDERING: stored with Release by the signal thread, loaded with Acquire by all others; no other data is
    /// published with it.
    stage: Arc<AtomicU8>,
}

impl Shutdown {
    /// The present stage.
    pub fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Running,
            1 => Stage::Draining,
            _ => Stage::Now,
        }
    }

    /// Moves on to `stage`. An earlier stage than the present one is ignored.
    pub fn advance(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::AcqRel);
    }
}
