//! The state of each slot, as the batching thread last reported.

use super::Gauge;

/// What the request in a slot does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotPhase {
    /// It waits until another request has prefilled the beginning that both share.
    AwaitingPrefix = 1,
    /// Its prompt is being prefilled.
    Prefill = 2,
    /// It generates tokens.
    Decoding = 3,
    /// It waits for blocks of its prompt from outside the KV cells.
    Restoring = 4,
}

impl SlotPhase {
    /// The phase that a gauge's value stands for; `None`: the slot is free.
    pub fn of(value: u64) -> Option<SlotPhase> {
        [SlotPhase::AwaitingPrefix, SlotPhase::Prefill, SlotPhase::Decoding, SlotPhase::Restoring]
            .into_iter()
            .find(|phase| *phase as u64 == value)
    }
}

/// One slot. Written by the batching thread before each step and when it is idle; the fields may be a step apart.
#[derive(Debug, Default)]
pub struct SlotGauges {
    /// A `SlotPhase`, or 0 if the slot is free; the other fields then belong to its last request.
    pub phase: Gauge,
    /// The number of its request (`RequestId`).
    pub request: Gauge,
    /// Tokens of the prompt.
    pub n_prompt: Gauge,
    /// Prompt tokens that were in the cache.
    pub n_cached: Gauge,
    /// Tokens of the request that are in the cache now.
    pub n_past: Gauge,
    /// Generated tokens.
    pub n_generated: Gauge,
    /// Most tokens to generate.
    pub max_tokens: Gauge,
    /// When the request got the slot, in microseconds of the server's clock.
    pub admitted_at_us: Gauge,
    /// Recent mean of tokens per step, in hundredths; 0 if nothing is guessed.
    pub tokens_per_step: Gauge,
}
