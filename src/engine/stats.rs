//! The engine's counts. Plain numbers of the batching thread; an `Observer` gets them after each round.

use super::memory::PromptStats;
use crate::metrics::SlotPhase;
use crate::trace::StepTrace;
use crate::types::seams::Outcome;
use crate::types::{FinishReason, GuessSource, RequestId};

/// Counters since start-up and gauges of this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Steps so far.
    pub steps: u64,
    /// Rows of these steps.
    pub rows: u64,
    /// Prompt tokens that were decoded.
    pub prompt_tokens_decoded: u64,
    /// Prompt tokens that were in the cache.
    pub prompt_tokens_cached: u64,
    /// Requests that waited for another request's prefill of a common beginning.
    pub prefixes_awaited: u64,
    /// Generated tokens.
    pub generated_tokens: u64,
    /// Guesses of generated tokens, by `GuessSource`.
    pub guesses: [GuessCounts; GuessSource::ALL.len()],
    /// Inputs whose embedding was computed.
    pub embeddings: u64,
    /// Rows of logits that were kept for a later step because their mask wasn't there.
    pub masks_awaited: u64,
    /// Idle sequences whose cells were given to another request.
    pub evictions: u64,
    /// Checkpoints taken; only if the cache can't be cut.
    pub checkpoints_kept: u64,
    /// Checkpoints from which a sequence was resumed.
    pub checkpoints_used: u64,
    /// Bytes of the checkpoints that are kept now.
    pub checkpoint_bytes: usize,
    /// How often a running request was preempted for lack of room.
    pub preemptions: u64,
    /// How often a running batch request gave up its slot to a waiting interactive one.
    pub gave_way: u64,
    /// Requests without a slot.
    pub waiting: usize,
    /// Requests with a slot.
    pub running: usize,
    /// Occupied KV cells.
    pub kv_cells_used: usize,
    /// All KV cells.
    pub kv_cells_total: usize,
}

/// Guesses of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuessCounts {
    /// Guesses that had a row.
    pub tried: u64,
    /// How many of these were right.
    pub accepted: u64,
}

/// The state of a slot before a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlotState {
    /// The request's number.
    pub id: RequestId,
    /// What the request does now.
    pub phase: SlotPhase,
    /// Tokens of its prompt.
    pub n_prompt: usize,
    /// Prompt tokens that were in the cache.
    pub n_cached: usize,
    /// Its tokens that are in the cache now.
    pub n_past: usize,
    /// Tokens generated so far.
    pub n_generated: usize,
    /// Most tokens to generate.
    pub max_tokens: usize,
    /// When it was admitted, in microseconds of the clock.
    pub admitted_us: u64,
    /// Recent mean of tokens a step; `None` if no tokens are guessed, so that it is one.
    pub tokens_per_step: Option<f32>,
}

/// Gets the engine's events on the batching thread. Must be quick and must not block.
///
/// A client that has seen a request's end finds it in what was reported before: its step, its end and the counts.
pub trait Observer {
    /// Whether `traced` is called. A constant: if it is false, the loop doesn't read the clock for it.
    const TRACES: bool = false;
    /// A step took `decode_us` until `now_us`, and had this outcome. Called before its tokens are sent.
    fn step(&mut self, _outcome: Outcome, _decode_us: u64, _now_us: u64) {}
    /// What slot number `slot` serves now. Called before each step, and when there is no step.
    fn slot(&mut self, _slot: usize, _state: Option<SlotState>) {}
    /// A request got its first token.
    fn first_token(&mut self, _ttft_us: u64, _queue_us: u64) {}
    /// A request got a further token, this many microseconds after the one before.
    fn token(&mut self, _since_last_us: u64) {}
    /// A request has ended. Called before its end is sent.
    fn finished(&mut self, _reason: FinishReason, _e2e_us: u64, _generated: usize) {}
    /// What was counted so far; of moves between the cells and the store, if there is one. Called at the end of each round of the loop,
    /// and before a request's end is sent.
    fn counted(&mut self, _stats: &Stats, _moved: Option<&PromptStats>, _now_us: u64) {}
    /// The times of a step, after it.
    fn traced(&mut self, _step: StepTrace) {}
}

/// Ignores everything.
impl Observer for () {}

/// Forwards every event to both observers.
impl<A: Observer, B: Observer> Observer for (A, B) {
    const TRACES: bool = A::TRACES || B::TRACES;

    fn step(&mut self, outcome: Outcome, decode_us: u64, now_us: u64) {
        self.0.step(outcome, decode_us, now_us);
        self.1.step(outcome, decode_us, now_us);
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

    fn counted(&mut self, stats: &Stats, moved: Option<&PromptStats>, now_us: u64) {
        self.0.counted(stats, moved, now_us);
        self.1.counted(stats, moved, now_us);
    }

    fn traced(&mut self, step: StepTrace) {
        self.0.traced(step);
        self.1.traced(step);
    }
}
