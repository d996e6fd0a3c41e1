//! What each slot is doing, as the batching thread last said.

use super::Gauge;

/// How far the request in a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotPhase {
    /// Another request is prefilling a beginning that both have.
    AwaitingPrefix = 1,
    Prefill = 2,
    Decoding = 3,
    /// Its KV state comes from outside the cells.
    Restoring = 4,
}

impl SlotPhase {
    /// The phase of a gauge's value; `None`: the slot is free.
    pub fn of(value: u64) -> Option<SlotPhase> {
        [SlotPhase::AwaitingPrefix, SlotPhase::Prefill, SlotPhase::Decoding, SlotPhase::Restoring]
            .into_iter()
            .find(|phase| *phase as u64 == value)
    }
}

/// One slot. Written by the batching thread before each step and when it is idle; the fields may be a step apart.
#[derive(Debug, Default)]
pub struct SlotGauges {
    /// A `SlotPhase`; 0: idle, and the other fields are of the last request.
    pub phase: Gauge,
    /// Its `RequestId`.
    pub request: Gauge,
    pub n_prompt: Gauge,
    /// Prompt tokens that the cache already had.
    pub n_cached: Gauge,
    /// Tokens in the cache.
    pub n_past: Gauge,
    pub n_generated: Gauge,
    pub max_tokens: Gauge,
    /// By the monotonic clock.
    pub admitted_at_us: Gauge,
    /// Tokens a step lately, in hundredths; 0 where nothing is guessed.
    pub tokens_per_step: Gauge,
}
