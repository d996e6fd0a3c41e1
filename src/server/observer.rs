//! Counts the engine's events in the metrics. Batching thread only.

use std::sync::Arc;

use crate::engine::{Observer, PromptStats, SlotState, Stats};
use crate::metrics::Metrics;
use crate::trace::{StepTrace, TraceWriter};
use crate::types::FinishReason;
use crate::types::seams::Outcome;

/// Adds the engine's events to the metrics.
pub struct MetricsObserver {
    metrics: Arc<Metrics>,
    last: Stats,
}

impl MetricsObserver {
    /// An observer that counts in `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> MetricsObserver {
        MetricsObserver { metrics, last: Stats::default() }
    }

    fn publish(&mut self, stats: &Stats) {
        let (engine, last) = (&self.metrics.engine, &self.last);
        engine.rows.add(stats.rows - last.rows);
        let decoded = stats.prompt_tokens_decoded - last.prompt_tokens_decoded;
        let cached = stats.prompt_tokens_cached - last.prompt_tokens_cached;
        engine.prompt_tokens_decoded.add(decoded);
        engine.prompt_tokens_cached.add(cached);
        engine.prompt_tokens.add(decoded + cached);
        engine.masks_awaited.add(stats.masks_awaited - last.masks_awaited);
        engine.generated_tokens.add(stats.generated_tokens - last.generated_tokens);
        for (i, (now, before)) in stats.guesses.iter().zip(&last.guesses).enumerate() {
            engine.guesses[i].add(now.tried - before.tried);
            engine.guesses_accepted[i].add(now.accepted - before.accepted);
        }
        engine.embeddings.add(stats.embeddings - last.embeddings);
        engine.evictions.add(stats.evictions - last.evictions);
        engine.checkpoints_kept.add(stats.checkpoints_kept - last.checkpoints_kept);
        engine.checkpoints_used.add(stats.checkpoints_used - last.checkpoints_used);
        engine.checkpoint_bytes.set(stats.checkpoint_bytes as u64);
        engine.gave_way.add(stats.gave_way - last.gave_way);
        engine.preemptions.add(stats.preemptions - last.preemptions);
        engine.waiting.set(stats.waiting as u64);
        engine.running.set(stats.running as u64);
        engine.kv_cells_used.set(stats.kv_cells_used as u64);
        self.last = *stats;
    }
}

impl Observer for MetricsObserver {
    fn step(&mut self, outcome: Outcome, decode_us: u64, now_us: u64) {
        let engine = &self.metrics.engine;
        engine.steps.inc();
        engine.step.record_us(decode_us);
        engine.last_step_at_us.set(now_us);
        match outcome {
            Outcome::Done => {}
            Outcome::NoRoom => engine.steps_no_room.inc(),
            Outcome::Partial => engine.steps_partial.inc(),
            Outcome::Invalid => engine.steps_invalid.inc(),
            Outcome::Fatal => engine.steps_fatal.inc(),
        }
    }

    fn slot(&mut self, slot: usize, state: Option<SlotState>) {
        let Some(gauges) = self.metrics.slots.get(slot) else { return };
        let Some(state) = state else { return gauges.phase.set(0) };
        gauges.request.set(state.id.0);
        gauges.n_prompt.set(state.n_prompt as u64);
        gauges.n_cached.set(state.n_cached as u64);
        gauges.n_past.set(state.n_past as u64);
        gauges.n_generated.set(state.n_generated as u64);
        gauges.max_tokens.set(state.max_tokens as u64);
        gauges.admitted_at_us.set(state.admitted_us);
        if let Some(tokens) = state.tokens_per_step {
            gauges.tokens_per_step.set((tokens * 100.0) as u64);
        }
        gauges.phase.set(state.phase as u64);
    }

    fn first_token(&mut self, ttft_us: u64, queue_us: u64) {
        self.metrics.engine.time_to_first_token.record_us(ttft_us);
        self.metrics.engine.queue_time.record_us(queue_us);
    }

    fn token(&mut self, since_last_us: u64) {
        self.metrics.engine.time_per_output_token.record_us(since_last_us);
    }

    fn finished(&mut self, reason: FinishReason, _e2e_us: u64, _generated: usize) {
        self.metrics.engine.finished(reason).inc();
    }

    fn counted(&mut self, stats: &Stats, moved: Option<&PromptStats>, now_us: u64) {
        self.publish(stats);
        self.metrics.engine.last_round_at_us.set(now_us);
        let Some(stats) = moved else { return };
        let moves = &self.metrics.moves;
        for (gauges, restored) in moves.restored.iter().zip(&stats.restored) {
            gauges.requests.set(restored.requests);
            gauges.tokens.set(restored.tokens);
            gauges.bytes.set(restored.bytes);
        }
        moves.restore_us.set(stats.restore_us);
        moves.broken_off.set(stats.broken_off);
        moves.saved_blocks.set(stats.saved_blocks);
        moves.saved_bytes.set(stats.saved_bytes);
        moves.save_us.set(stats.save_us);
        moves.restoring.set(stats.restoring as u64);
        moves.read_ns.set(stats.rates.read_ns);
        moves.restore_ns.set(stats.rates.restore_ns);
        moves.await_ns.set(stats.rates.disk_ns);
        moves.save_ns.set(stats.rates.save_ns);
    }
}

/// Records each step with its times.
pub struct StepTracer(pub TraceWriter);

impl Observer for StepTracer {
    const TRACES: bool = true;

    fn traced(&mut self, step: StepTrace) {
        self.0.record(step);
    }
}
