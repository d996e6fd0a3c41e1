//! A running request, and its phase.

use super::request::AcceptedRequest;
use super::stats::SlotState;
use crate::metrics::SlotPhase;
use crate::types::{SeqId, SlotId, Token};

/// A request in a slot.
#[derive(Debug)]
pub struct Live {
    /// The request.
    pub request: AcceptedRequest,
    /// The sequence that it owns.
    pub seq: SeqId,
    /// What it does now.
    pub phase: Phase,
    /// The number of admissions before it: lower is older.
    pub order: u64,
    /// Steps in a row that failed midway for this request.
    pub failures: u32,
    /// Whether it may be displaced by an interactive request: it is of class batch, and no interactive request waited
    /// when it was admitted.
    pub gives_way: bool,
}

/// What a running request does. Its position is always the number of tokens that its sequence holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It waits until the request `leader_order` in slot `leader` has prefilled `len` tokens that both share.
    AwaitingPrefix { leader: SlotId, leader_order: u64, len: usize },
    /// Waits for blocks from outside the cells: its sequence holds whole blocks, and will hold this many tokens.
    Restoring { until: usize },
    /// Its tokens are being prefilled.
    Prefill,
    /// It generates. All tokens but `next`, the latest, are in the cache.
    Decoding { next: Token },
    /// It waits for a mask. All tokens are in the cache, and the logits of the last are in `Slot::kept_logits`.
    AwaitingMask,
}

impl Live {
    /// Whether a token was chosen since it was admitted, or is about to be.
    pub fn is_generating(&self) -> bool {
        matches!(self.phase, Phase::Decoding { .. } | Phase::AwaitingMask)
    }

    /// The token that was chosen and isn't in the cache yet.
    pub fn next(&self) -> Option<Token> {
        match self.phase {
            Phase::Decoding { next } => Some(next),
            _ => None,
        }
    }

    /// Its state for metrics. `n_past`: tokens that its sequence holds; `tokens_per_step`: recent mean, if tokens are
    /// guessed.
    pub fn state(&self, n_past: usize, tokens_per_step: Option<f32>) -> SlotState {
        let phase = match self.phase {
            Phase::AwaitingPrefix { .. } => SlotPhase::AwaitingPrefix,
            Phase::Restoring { .. } => SlotPhase::Restoring,
            Phase::Prefill => SlotPhase::Prefill,
            Phase::Decoding { .. } | Phase::AwaitingMask => SlotPhase::Decoding,
        };
        let request = &self.request;
        SlotState {
            id: request.id,
            phase,
            n_prompt: request.n_prompt(),
            n_cached: request.n_cached(),
            n_past,
            n_generated: request.generated(),
            max_tokens: request.params.max_tokens,
            admitted_us: request.admitted_us().unwrap_or_default(),
            tokens_per_step,
        }
    }

    /// Whether its prompt is being prefilled, rather than waiting.
    pub fn is_prefilling(&self) -> bool {
        matches!(self.phase, Phase::AwaitingPrefix { .. } | Phase::Restoring { .. } | Phase::Prefill)
            && self.request.reply_has_room()
    }
}
