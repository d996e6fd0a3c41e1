//! The server's counters, and their form for Prometheus.
//!
//! Atomics only. The batching thread alone writes `Metrics::engine` and `Metrics::moves`; HTTP threads share `Metrics::http`;
//! the batching thread and the disk thread share `Metrics::prompts`; the thread of KV events writes its own counts. `engine`
//! and `http` are on separate cache lines. `Metrics::render` runs on the HTTP thread that answers `/metrics`, while others
//! write: each number is correct, but two numbers may be a step apart.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam::utils::CachePadded;

use crate::types::limits::{HISTOGRAM_BOUNDS_MAX, KV_BLOCK_TOKENS, SLOTS_MAX};
use crate::types::{FinishReason, GuessSource, RequestError};

/// Whether one thread or several add to a counter.
pub trait CounterWriter {
    /// Adds `n` to `cell`.
    fn add(cell: &AtomicU64, n: u64);
}

/// Any thread may add: an atomic addition.
#[derive(Debug, Default)]
pub struct Shared;

/// Only one thread adds: a load and a store, without a locked instruction.
#[derive(Debug, Default)]
pub struct Solo;

impl CounterWriter for Shared {
    fn add(cell: &AtomicU64, n: u64) {
        // ORDERING: Relaxed; written by all HTTP threads, read by `render`. A count publishes no other data.
        cell.fetch_add(n, Ordering::Relaxed);
    }
}

impl CounterWriter for Solo {
    fn add(cell: &AtomicU64, n: u64) {
        // ORDERING: Relaxed; there is one writer, so nothing comes between load and store. Read by `render`; publishes
        // no other data.
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }
}

/// A number that only grows, since the start of the server.
#[derive(Debug, Default)]
pub struct Counter<W = Shared> {
    cell: AtomicU64,
    writer: PhantomData<W>,
}

impl<W: CounterWriter> Counter<W> {
    /// Adds 1.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        W::add(&self.cell, n);
    }

    /// The present count.
    pub fn get(&self) -> u64 {
        // ORDERING: Relaxed; see `CounterWriter::add`.
        self.cell.load(Ordering::Relaxed)
    }
}

/// A number that may rise and fall: the latest value that any thread stored.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Stores `value`.
    pub fn set(&self, value: u64) {
        // ORDERING: Relaxed; a single number, read by `render` and the health check, which publishes no other data.
        self.0.store(value, Ordering::Relaxed);
    }

    /// The present value.
    pub fn get(&self) -> u64 {
        // ORDERING: Relaxed; see `set`.
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts of times in fixed ranges. Times are recorded in microseconds and shown to Prometheus in seconds.
#[derive(Debug)]
pub struct Histogram<W = Shared> {
    /// Upper bounds of the ranges, inclusive, ascending.
    bounds_us: &'static [u64],
    /// `buckets[i]` counts times in `(bounds_us[i - 1], bounds_us[i]]`; the one after the last bound counts larger
    /// times.
    buckets: [AtomicU64; HISTOGRAM_BOUNDS_MAX + 1],
    sum_us: AtomicU64,
    writer: PhantomData<W>,
}

impl<W: CounterWriter> Histogram<W> {
    /// A histogram with these bounds.
    ///
    /// # Panics
    /// If `bounds_us` doesn't ascend or has more than 20 entries.
    pub fn new(bounds_us: &'static [u64]) -> Self {
        assert!(
            bounds_us.len() <= HISTOGRAM_BOUNDS_MAX && bounds_us.is_sorted_by(|a, b| a < b),
            "bounds {bounds_us:?}"
        );
        Histogram { bounds_us, buckets: Default::default(), sum_us: AtomicU64::new(0), writer: PhantomData }
    }

    /// Counts one time, in microseconds.
    pub fn record_us(&self, us: u64) {
        let bucket = self.bounds_us.partition_point(|bound| *bound < us);
        W::add(&self.buckets[bucket], 1);
        W::add(&self.sum_us, us);
    }

    /// The number of recorded times.
    pub fn count(&self) -> u64 {
        // ORDERING: Relaxed; see `CounterWriter::add`.
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// The sum of recorded times, in microseconds.
    pub fn sum_us(&self) -> u64 {
        // ORDERING: Relaxed; see `CounterWriter::add`.
        self.sum_us.load(Ordering::Relaxed)
    }
}

/// Bounds for one step of the engine: 100 us (null decoder) to 10 s (a large prompt chunk on a small machine).
const STEP_BOUNDS_US: &[u64] = &[
    100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000,
    5_000_000, 10_000_000,
];
/// Bounds of the time to the first token. These names and bounds are vLLM's, which gateways and dashboards know.
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

/// Counts of the batching thread. Only that thread writes them; any thread may read them.
#[derive(Debug)]
pub struct EngineMetrics {
    /// Requests ended, by `FinishReason as usize`; see `finished`.
    finished: [Counter<Solo>; FINISH_REASONS],
    /// Tokens of admitted prompts, cached ones included.
    pub prompt_tokens: Counter<Solo>,
    /// Prompt tokens that were decoded.
    pub prompt_tokens_decoded: Counter<Solo>,
    /// Prompt tokens that were taken from the KV cache.
    pub prompt_tokens_cached: Counter<Solo>,
    /// Generated tokens.
    pub generated_tokens: Counter<Solo>,
    /// Guessed tokens that had a row in a step, by `GuessSource as usize`.
    pub guesses: [Counter<Solo>; GuessSource::ALL.len()],
    /// Guessed tokens that the sampler chose, by `GuessSource as usize`.
    pub guesses_accepted: [Counter<Solo>; GuessSource::ALL.len()],
    /// Inputs whose embedding was computed.
    pub embeddings: Counter<Solo>,
    /// Calls of `Decoder::decode`, whatever their outcome.
    pub steps: Counter<Solo>,
    /// Rows of these calls.
    pub rows: Counter<Solo>,
    /// Steps with `Outcome::NoRoom`.
    pub steps_no_room: Counter<Solo>,
    /// Steps with `Outcome::Partial`.
    pub steps_partial: Counter<Solo>,
    /// Steps with `Outcome::Invalid`.
    pub steps_invalid: Counter<Solo>,
    /// Steps with `Outcome::Fatal`.
    pub steps_fatal: Counter<Solo>,
    /// Finished sequences whose KV cells were given to another request.
    pub evictions: Counter<Solo>,
    /// Checkpoints taken, of caches that can't be cut at any position.
    pub checkpoints_kept: Counter<Solo>,
    /// Checkpoints from which a sequence was resumed.
    pub checkpoints_used: Counter<Solo>,
    /// Bytes of the checkpoints that are kept now.
    pub checkpoint_bytes: Gauge,
    /// How often a running sequence lost its KV cells because there was no room, to be decoded again later.
    pub preemptions: Counter<Solo>,
    /// How often a running batch request gave up its slot to an interactive one.
    pub gave_way: Counter<Solo>,
    /// Rows of logits that were kept for a later step, because the mask of their constrained request wasn't there yet.
    pub masks_awaited: Counter<Solo>,
    /// Requests taken from the ring that have no slot yet.
    pub waiting: Gauge,
    /// Requests in slots.
    pub running: Gauge,
    /// Occupied KV cells.
    pub kv_cells_used: Gauge,
    /// All KV cells.
    pub kv_cells_total: Gauge,
    /// When the latest step ended, in microseconds of the server's clock; 0: no step yet.
    pub last_step_at_us: Gauge,
    /// When the batching thread's loop last began a round, with or without a step, in microseconds of the server's
    /// clock.
    pub last_round_at_us: Gauge,
    /// Duration of one step: decoding and sampling.
    pub step: Histogram<Solo>,
    /// From arrival in the ring to the first generated token.
    pub time_to_first_token: Histogram<Solo>,
    /// Between two tokens of one request.
    pub time_per_output_token: Histogram<Solo>,
    /// From arrival in the ring to admission into a slot.
    pub queue_time: Histogram<Solo>,
}

/// Counts of the HTTP threads, which all add to the same cells.
#[derive(Debug)]
pub struct HttpMetrics {
    /// Refused requests, by code; see `rejected`.
    rejected: [Counter; REJECT_CODES.len()],
    /// How often the submission ring was full.
    pub ring_full: Counter,
    /// Writes of event streams. Pieces that wait at the same time leave in one write.
    pub stream_writes: Counter,
    /// Answers by the first digit of their status: `[0]` counts 1xx.
    answers: [Counter; 5],
    /// From the first byte of a request to generate to the last byte of its answer.
    pub e2e_latency: Histogram,
}

/// The codes of refusals; `other` counts all further ones.
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

/// One more than the largest `FinishReason`, which is used as an index.
const FINISH_REASONS: usize = FinishReason::Embedded as usize + 1;

/// All counters of one server.
#[derive(Debug)]
pub struct Metrics {
    /// Counts of the batching thread.
    pub engine: CachePadded<EngineMetrics>,
    /// Counts of the HTTP threads.
    pub http: CachePadded<HttpMetrics>,
    /// Counts of the prompt store, which also writes them.
    pub prompts: Arc<PromptTiers>,
    /// Counts of blocks moved between KV cells and the prompt store.
    pub moves: Moves,
    /// Counts of the thread that publishes KV events, if there is one.
    kv_events: OnceLock<KvEventCounts>,
    /// Tokens of a block of the KV cache, as told to routers.
    pub kv_block_tokens: Gauge,
    /// State of each slot. Entries beyond the server's slots stay idle.
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
    /// The counts of KV events. They are shown from the first call on.
    pub fn kv_events(&self) -> &KvEventCounts {
        self.kv_events.get_or_init(KvEventCounts::default)
    }
}

impl EngineMetrics {
    /// The counter of requests that ended for this reason.
    pub fn finished(&self, reason: FinishReason) -> &Counter<Solo> {
        &self.finished[reason as usize]
    }

    /// Microseconds since the latest step; `None` before the first.
    pub fn step_age_us(&self, now_us: u64) -> Option<u64> {
        match self.last_step_at_us.get() {
            0 => None,
            at => Some(now_us.saturating_sub(at)),
        }
    }
}

impl HttpMetrics {
    /// The counter of requests refused with this code (`RequestError::code`).
    pub fn rejected(&self, code: &str) -> &Counter {
        let other = REJECT_CODES.len() - 1;
        &self.rejected[REJECT_CODES.iter().position(|known| *known == code).unwrap_or(other)]
    }

    /// Counts one refusal, by its code.
    pub fn count_rejected(&self, error: &RequestError) {
        self.rejected(error.code()).inc();
    }

    /// The counter of answers whose status has the same first digit.
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
