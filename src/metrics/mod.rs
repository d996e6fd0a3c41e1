//! What the server counts, and how Prometheus reads it.
//!
//! Atomics only. Only the batching thread writes `Metrics::engine`; HTTP threads share
//! `Metrics::http`; the two lie on cache lines of their own. `Metrics::render` runs on whichever HTTP thread answers
//! `/metrics`, beside the writers: each number is true, together they may be a step apart.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam::utils::CachePadded;

use crate::types::limits::{KV_BLOCK_TOKENS, SLOTS_MAX};
use crate::types::{FinishReason, GuessSource, RequestError};

/// How a number is added to: by one thread or by many.
pub trait Writer {
    /// Adds `n` to `cell`.
    fn add(cell: &AtomicU64, n: u64);
}

/// Any thread may add.
#[derive(Debug, Default)]
pub struct Shared;

/// Exactly one thread adds: no locked instruction.
#[derive(Debug, Default)]
pub struct Solo;

impl Writer for Shared {
    fn add(cell: &AtomicU64, n: u64) {
        // ORDERING: Relaxed; written by all HTTP threads, read by `render`. A count guards no other memory.
        cell.fetch_add(n, Ordering::Relaxed);
    }
}

impl Writer for Solo {
    fn add(cell: &AtomicU64, n: u64) {
        // ORDERING: Relaxed; one writer, so nothing can come between load and store. Read by `render`, guards nothing.
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter<W = Shared> {
    cell: AtomicU64,
    writer: PhantomData<W>,
}

impl<W: Writer> Counter<W> {
    pub fn inc(&self) {
        self.add(1);
    }

    pub fn add(&self, n: u64) {
        W::add(&self.cell, n);
    }

    pub fn get(&self) -> u64 {
        // ORDERING: Relaxed; see `Writer::add`.
        self.cell.load(Ordering::Relaxed)
    }
}

/// A number as it is now: the latest value that any thread stored.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn set(&self, value: u64) {
        // ORDERING: Relaxed; a lone number, read by `render` and the health check, guards nothing.
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        // ORDERING: Relaxed; see `set`.
        self.0.load(Ordering::Relaxed)
    }
}

/// Most bounds a histogram has; the bucket above all bounds comes extra.
const BOUNDS_MAX: usize = 20;

/// How often a time fell into each of fixed ranges. Times in microseconds; Prometheus gets seconds.
#[derive(Debug)]
pub struct Histogram<W = Shared> {
    /// Upper ends, inclusive, ascending.
    bounds_us: &'static [u64],
    /// `buckets[i]`: times in `(bounds_us[i - 1], bounds_us[i]]`; the one after the last bound takes the rest.
    buckets: [AtomicU64; BOUNDS_MAX + 1],
    sum_us: AtomicU64,
    writer: PhantomData<W>,
}

impl<W: Writer> Histogram<W> {
    /// # Panics
    /// If `bounds_us` doesn't ascend or has more than 20 entries.
    pub fn new(bounds_us: &'static [u64]) -> Self {
        assert!(bounds_us.len() <= BOUNDS_MAX && bounds_us.is_sorted_by(|a, b| a < b), "bounds {bounds_us:?}");
        Histogram { bounds_us, buckets: Default::default(), sum_us: AtomicU64::new(0), writer: PhantomData }
    }

    /// Counts one time.
    pub fn record_us(&self, us: u64) {
        let bucket = self.bounds_us.partition_point(|bound| *bound < us);
        W::add(&self.buckets[bucket], 1);
        W::add(&self.sum_us, us);
    }

    /// How many times were recorded.
    pub fn count(&self) -> u64 {
        // ORDERING: Relaxed; see `Writer::add`.
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// Their sum.
    pub fn sum_us(&self) -> u64 {
        // ORDERING: Relaxed; see `Writer::add`.
        self.sum_us.load(Ordering::Relaxed)
    }
}

/// One step of the engine, 100 us (null decoder) to 10 s (a large prompt chunk on a small machine).
const STEP_BOUNDS_US: &[u64] = &[
    100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000,
    5_000_000, 10_000_000,
];
/// The names below and their bounds are vLLM's, which gateways and dashboards know.
const TTFT_BOUNDS_US: &[u64] = &[
    1_000,
    5_000,
    10_000,
    20_000,
    40_000,
    60_000,
    80_000,
    100_000,
    250_000,
    500_000,
    750_000,
    1_000_000,
    2_500_000,
    5_000_000,
    7_500_000,
    10_000_000,
    20_000_000,
    40_000_000,
    80_000_000,
    160_000_000,
];
const TPOT_BOUNDS_US: &[u64] = &[
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 75_000, 100_000, 150_000, 200_000, 300_000, 400_000, 500_000, 750_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];
const LATENCY_BOUNDS_US: &[u64] = &[
    10_000,
    50_000,
    100_000,
    300_000,
    500_000,
    800_000,
    1_000_000,
    1_500_000,
    2_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    15_000_000,
    20_000_000,
    30_000_000,
    40_000_000,
    60_000_000,
    120_000_000,
    240_000_000,
    480_000_000,
];

/// What the batching thread counts. It alone writes; all fields are safe to read from anywhere.
#[derive(Debug)]
pub struct EngineMetrics {
    /// Requests ended, by `FinishReason as usize`; see `finished`.
    finished: [Counter<Solo>; FINISH_REASONS],
    /// Tokens of admitted prompts, cached ones included.
    pub prompt_tokens: Counter<Solo>,
    /// Prompt tokens that went through a decode.
    pub prompt_tokens_decoded: Counter<Solo>,
    /// Prompt tokens taken from the KV cache instead.
    pub prompt_tokens_cached: Counter<Solo>,
    pub generated_tokens: Counter<Solo>,
    /// Guesses of generated tokens that had a row, by `GuessSource as usize`, and those that came true.
    pub guesses: [Counter<Solo>; GuessSource::ALL.len()],
    pub guesses_accepted: [Counter<Solo>; GuessSource::ALL.len()],
    /// Inputs whose embedding was made.
    pub embeddings: Counter<Solo>,
    /// Calls of `Decoder::decode`, whatever came of them.
    pub steps: Counter<Solo>,
    /// Rows of those calls.
    pub rows: Counter<Solo>,
    /// Steps that came back `Outcome::NoRoom`, and so on.
    pub steps_no_room: Counter<Solo>,
    pub steps_partial: Counter<Solo>,
    pub steps_invalid: Counter<Solo>,
    pub steps_fatal: Counter<Solo>,
    /// Finished sequences whose KV cells were given to another request.
    pub evictions: Counter<Solo>,
    /// States of recurrent models that were kept and gone back to, and bytes of those kept now.
    pub checkpoints_kept: Counter<Solo>,
    pub checkpoints_used: Counter<Solo>,
    pub checkpoint_bytes: Gauge,
    /// Running sequences that were set back for want of cells.
    pub preemptions: Counter<Solo>,
    /// Running batch requests that gave way to interactive ones.
    pub gave_way: Counter<Solo>,
    pub masks_awaited: Counter<Solo>,
    /// Requests taken from the ring, not in a slot yet.
    pub waiting: Gauge,
    /// Requests in slots.
    pub running: Gauge,
    pub kv_cells_used: Gauge,
    pub kv_cells_total: Gauge,
    /// When the latest step ended, in microseconds of the monotonic clock; 0: no step yet.
    pub last_step_at_us: Gauge,
    /// When the batching thread last went round its loop, with or without a step.
    pub last_round_at_us: Gauge,
    /// Duration of one step, decode and sampling.
    pub step: Histogram<Solo>,
    /// Arrival in the ring to first generated token.
    pub time_to_first_token: Histogram<Solo>,
    /// Between two tokens of one request.
    pub time_per_output_token: Histogram<Solo>,
    /// Arrival in the ring to admission into a slot.
    pub queue_time: Histogram<Solo>,
}

/// What HTTP threads count, all of them on the same cells.
#[derive(Debug)]
pub struct HttpMetrics {
    /// Refused requests; see `rejected`.
    rejected: [Counter; REJECT_CODES.len()],
    /// Times `Ring::push` gave a submission back.
    pub ring_full: Counter,
    /// Writes of event streams: pieces that wait together leave in one.
    pub stream_writes: Counter,
    /// Answers by hundreds of their status: `[0]` counts 1xx.
    answers: [Counter; 5],
    /// First byte of a generation request to the last of its answer.
    pub e2e_latency: Histogram,
}

/// The codes of refusals; `other` takes those not named here.
const REJECT_CODES: [&str; 16] = [
    "invalid_json",
    "invalid_field",
    "context_length_exceeded",
    "not_supported",
    "queue_full",
    "rate_limit_exceeded",
    "shutting_down",
    "invalid_api_key",
    "benchmark_running",
    "trace_running",
    "tracing_off",
    "admin_only",
    "model_denied",
    "kv_events_off",
    "kv_blocks_running",
    "other",
];

/// One more than the largest `FinishReason`, so that its value is an index.
const FINISH_REASONS: usize = FinishReason::Embedded as usize + 1;

/// All numbers of one server.
#[derive(Debug)]
pub struct Metrics {
    pub engine: CachePadded<EngineMetrics>,
    pub http: CachePadded<HttpMetrics>,
    /// Shared with what keeps the prompts.
    pub prompts: Arc<PromptTiers>,
    pub moves: Moves,
    /// Where KV events are published.
    kv_events: OnceLock<KvEventCounts>,
    /// Tokens of a block of the KV cache, as routers are told.
    pub kv_block_tokens: Gauge,
    /// By slot; those beyond the server's own stay idle.
    pub slots: Box<[SlotGauges]>,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            engine: CachePadded::new(EngineMetrics {
                finished: Default::default(),
                prompt_tokens: Counter::default(),
                prompt_tokens_decoded: Counter::default(),
                prompt_tokens_cached: Counter::default(),
                generated_tokens: Counter::default(),
                guesses: Default::default(),
                guesses_accepted: Default::default(),
                embeddings: Counter::default(),
                steps: Counter::default(),
                rows: Counter::default(),
                steps_no_room: Counter::default(),
                steps_partial: Counter::default(),
                steps_invalid: Counter::default(),
                steps_fatal: Counter::default(),
                evictions: Counter::default(),
                checkpoints_kept: Counter::default(),
                checkpoints_used: Counter::default(),
                checkpoint_bytes: Gauge::default(),
                preemptions: Counter::default(),
                gave_way: Counter::default(),
                masks_awaited: Counter::default(),
                waiting: Gauge::default(),
                running: Gauge::default(),
                kv_cells_used: Gauge::default(),
                kv_cells_total: Gauge::default(),
                last_step_at_us: Gauge::default(),
                last_round_at_us: Gauge::default(),
                step: Histogram::new(STEP_BOUNDS_US),
                time_to_first_token: Histogram::new(TTFT_BOUNDS_US),
                time_per_output_token: Histogram::new(TPOT_BOUNDS_US),
                queue_time: Histogram::new(LATENCY_BOUNDS_US),
            }),
            http: CachePadded::new(HttpMetrics {
                rejected: Default::default(),
                ring_full: Counter::default(),
                stream_writes: Counter::default(),
                answers: Default::default(),
                e2e_latency: Histogram::new(LATENCY_BOUNDS_US),
            }),
            prompts: Arc::default(),
            moves: Moves::default(),
            kv_events: OnceLock::new(),
            kv_block_tokens: Gauge(AtomicU64::new(KV_BLOCK_TOKENS as u64)),
            slots: (0..SLOTS_MAX).map(|_| SlotGauges::default()).collect(),
        }
    }
}

impl Metrics {
    /// The counts of KV events. From the first call on they are shown.
    pub fn kv_events(&self) -> &KvEventCounts {
        self.kv_events.get_or_init(KvEventCounts::default)
    }
}

impl EngineMetrics {
    /// Requests that ended so.
    pub fn finished(&self, reason: FinishReason) -> &Counter<Solo> {
        &self.finished[reason as usize]
    }

    /// Microseconds since the latest step, `None` before the first.
    pub fn step_age_us(&self, now_us: u64) -> Option<u64> {
        match self.last_step_at_us.get() {
            0 => None,
            at => Some(now_us.saturating_sub(at)),
        }
    }
}

impl HttpMetrics {
    /// Requests refused with this code (`RequestError::code`).
    pub fn rejected(&self, code: &str) -> &Counter {
        let other = REJECT_CODES.len() - 1;
        &self.rejected[REJECT_CODES.iter().position(|known| *known == code).unwrap_or(other)]
    }

    /// Counts one refusal.
    pub fn count_rejected(&self, error: &RequestError) {
        self.rejected(error.code()).inc();
    }

    /// Answers with a status of this hundred.
    pub fn answers(&self, status: u16) -> &Counter {
        &self.answers[usize::from(status / 100).clamp(1, 5) - 1]
    }
}

mod keys;
mod kv_events;
mod moves;
mod prompts;
mod render;
mod slots;

pub use keys::{KeyCounts, render_keys};
pub use kv_events::KvEventCounts;
pub use moves::{Moves, RestoredGauges};
pub use prompts::PromptTiers;
pub use render::{CONTENT_TYPE, OPEN_METRICS_TYPE, open_metrics};
pub use slots::{SlotGauges, SlotPhase};

#[cfg(test)]
mod tests;
