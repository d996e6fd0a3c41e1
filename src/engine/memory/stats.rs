//! What was moved between the cells and the store. Plain numbers of the batching thread.

use super::rates::Rates;
use crate::types::Tier;

/// Counters since start-up, and gauges of this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PromptStats {
    /// By `Tier`: what requests got instead of reading it.
    pub restored: [Restored; Tier::ALL.len()],
    /// Microseconds in which blocks were put into cells.
    pub restore_us: u64,
    /// Requests that were to get more blocks than came.
    pub broken_off: u64,
    pub saved_blocks: u64,
    pub saved_bytes: u64,
    /// Microseconds in which blocks were saved.
    pub save_us: u64,
    /// Requests that wait for their blocks.
    pub restoring: usize,
    /// What reading and moving have cost lately.
    pub rates: Rates,
}

/// What one tier has given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Requests whose first block from outside the cells came from this tier.
    pub requests: u64,
    pub tokens: u64,
    pub bytes: u64,
}

impl PromptStats {
    /// A request got a block from `tier`, which took `us` microseconds.
    pub(super) fn took(&mut self, tier: Tier, is_its_first: bool, tokens: usize, bytes: usize, us: u64) {
        let restored = &mut self.restored[tier as usize];
        restored.requests += u64::from(is_its_first);
        restored.tokens += tokens as u64;
        restored.bytes += bytes as u64;
        self.restore_us += us;
    }

    /// The store got a block, which took `us` microseconds.
    pub(super) fn gave(&mut self, bytes: u64, us: u64) {
        self.saved_blocks += 1;
        self.saved_bytes += bytes;
        self.save_us += us;
    }
}
