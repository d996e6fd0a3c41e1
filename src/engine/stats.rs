//! What the engine counts. Plain numbers of the batching thread; an `Observer` gets them after each step.

use super::memory::PromptStats;
use crate::metrics::SlotPhase;
use crate::trace::StepTrace;
use crate::types::seams::Outcome;
use crate::types::{FinishReason, GuessSource, RequestId};

/// Counters since start-up and gauges of this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub steps: u64,
    pub rows: u64,
    /// Prompt tokens that were really decoded, and those the cache already had.
    pub prompt_tokens_decoded: u64,
    pub prompt_tokens_cached: u64,
    /// Requests that waited for another one's prefill of the same beginning.
    pub prefixes_awaited: u64,
    pub generated_tokens: u64,
    /// Guesses of generated tokens, by `GuessSource`.
    pub guesses: [Guesses; GuessSource::ALL.len()],
    /// Inputs whose embedding was made.
    pub embeddings: u64,
    /// Rows of logits put aside because their mask wasn't there yet.
    pub masks_awaited: u64,
    pub evictions: u64,
    /// States of sequences that were kept, and of those, how often one was gone back to. Only where the cache can't be cut.
    pub checkpoints_kept: u64,
    pub checkpoints_used: u64,
    /// Bytes of those that are kept now.
    pub checkpoint_bytes: usize,
    pub set_aside: u64,
    /// Running requests of class batch that gave their slots to waiting ones of class interactive.
    pub gave_way: u64,
    pub waiting: usize,
    pub running: usize,
    pub kv_cells_used: usize,
    pub kv_cells_total: usize,
}

/// Guesses that had a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guesses {
    pub tried: u64,
    /// Of those, how many came true.
    pub accepted: u64,
}

/// A slot as it is before a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlotState {
    pub id: RequestId,
    pub phase: SlotPhase,
    pub n_prompt: usize,
    /// Prompt tokens that the cache already had.
    pub n_cached: usize,
    /// Tokens in the cache.
    pub n_past: usize,
    pub n_generated: usize,
    pub max_tokens: usize,
    pub admitted_us: u64,
    /// Lately; `None` where nothing is guessed: it is one.
    pub tokens_per_step: Option<f32>,
}

/// Told what happens, on the batching thread; must be quick and must not block.
pub trait Observer {
    /// Whether `traced` is to be called. A constant: where it is false, the loop doesn't read the clock for it.
    const TRACES: bool = false;
    /// A step was decoded (or not); `now_us` is when it ended.
    fn step(&mut self, _stats: &Stats, _outcome: Outcome, _decode_us: u64, _now_us: u64) {}
    /// What slot number `slot` serves now: called before each step, and when there is no step.
    fn slot(&mut self, _slot: usize, _state: Option<SlotState>) {}
    /// A request got its first token.
    fn first_token(&mut self, _ttft_us: u64, _queue_us: u64) {}
    /// A request got another token, so long after the one before.
    fn token(&mut self, _since_last_us: u64) {}
    /// A request is over.
    fn finished(&mut self, _reason: FinishReason, _e2e_us: u64, _generated: usize) {}
    /// The loop went round without a step.
    fn idle(&mut self, _stats: &Stats, _now_us: u64) {}
    /// What was moved between the cells and what is outside of them, where there is something outside: after each step.
    fn moved(&mut self, _stats: &PromptStats) {}
    /// When a step did what, after it.
    fn traced(&mut self, _step: StepTrace) {}
}

/// Ignores everything.
impl Observer for () {}

/// Two listen.
impl<A: Observer, B: Observer> Observer for (A, B) {
    const TRACES: bool = A::TRACES || B::TRACES;

    fn step(&mut self, stats: &Stats, outcome: Outcome, decode_us: u64, now_us: u64) {
        self.0.step(stats, outcome, decode_us, now_us);
        self.1.step(stats, outcome, decode_us, now_us);
    }

    fn slot(&mut self, slot: usize, state: Option<SlotState>) {
        self.0.slot(slot, state);
        self.1.slot(slot, state);
    }

    fn first_token(&mut self, ttft_us: u64, queue_us: u64) {
        self.0.first_token(ttft_us, queue_us);
        self.1.first_token(ttft_us, queue_us);
    }

    fn token(&mut self, since_last_us: u64) {
        self.0.token(since_last_us);
        self.1.token(since_last_us);
    }

    fn finished(&mut self, reason: FinishReason, e2e_us: u64, generated: usize) {
        self.0.finished(reason, e2e_us, generated);
        self.1.finished(reason, e2e_us, generated);
    }

    fn idle(&mut self, stats: &Stats, now_us: u64) {
        self.0.idle(stats, now_us);
        self.1.idle(stats, now_us);
    }

    fn moved(&mut self, stats: &PromptStats) {
        self.0.moved(stats);
        self.1.moved(stats);
    }

    fn traced(&mut self, step: StepTrace) {
        self.0.traced(step);
        self.1.traced(step);
    }
}
