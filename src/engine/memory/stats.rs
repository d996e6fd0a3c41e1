//! Counts of what was moved between the cells and the store. Plain numbers of the batching thread.

use super::rates::Rates;
use crate::types::Tier;

/// Counters since start-up, and gauges of this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PromptStats {
    /// Restored blocks, by `Tier`.
    pub restored: [Restored; Tier::ALL.len()],
    /// Microseconds spent putting blocks into cells.
    pub restore_us: u64,
    /// Requests that got fewer blocks than were found for them.
    pub broken_off: u64,
    /// Blocks saved.
    pub saved_blocks: u64,
    /// Bytes of these blocks.
    pub saved_bytes: u64,
    /// Microseconds spent saving blocks.
    pub save_us: u64,
    /// Requests that wait for blocks now.
    pub restoring: usize,
    /// The recent costs of prefilling and moving.
    pub rates: Rates,
}

/// What was restored from one tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Requests whose first block from outside the cells came from this tier.
    pub requests: u64,
    /// Prompt tokens in these blocks.
    pub tokens: u64,
    /// Bytes of these blocks.
    pub bytes: u64,
}

impl PromptStats {
    /// Counts a block restored from `tier`, which took `us` microseconds.
    pub(super) fn took(&mut self, tier: Tier, is_its_first: bool, tokens: usize, bytes: usize, us: u64) {
        let restored = &mut self.restored[tier as usize];
        restored.requests += u64::from(is_its_first);
        restored.tokens += tokens as u64;
        restored.bytes += bytes as u64;
        self.restore_us += us;
    }

    /// Counts a saved block, which took `us` microseconds.
    pub(super) fn gave(&mut self, bytes: u64, us: u64) {
        self.saved_blocks += 1;
        self.saved_bytes += bytes;
        self.save_us += us;
    }
}
