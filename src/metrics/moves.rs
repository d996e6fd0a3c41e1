//! Blocks moved between KV cells and the prompt store, as the batching thread last reported.

use super::Gauge;
use super::render::{Page, Seconds};
use crate::types::Tier;

/// Counts since the start, and moving means. Written by the batching thread after each step, and when it is idle; the
/// fields may be a step apart. All stay 0 if there is no prompt store.
#[derive(Debug, Default)]
pub struct Moves {
    /// Restored blocks, by the tier that they came from (`Tier as usize`).
    pub restored: [RestoredGauges; Tier::ALL.len()],
    /// Microseconds spent putting blocks into cells.
    pub restore_us: Gauge,
    /// Requests that got fewer blocks than were found for them; the rest of the prompt was prefilled.
    pub broken_off: Gauge,
    /// Blocks saved from cells to the store.
    pub saved_blocks: Gauge,
    /// Bytes of these blocks.
    pub saved_bytes: Gauge,
    /// Microseconds spent saving them.
    pub save_us: Gauge,
    /// Requests that wait for blocks now.
    pub restoring: Gauge,
    /// Mean nanoseconds to prefill one token.
    pub read_ns: Gauge,
    /// Mean nanoseconds to put one block into cells.
    pub restore_ns: Gauge,
    /// Mean nanoseconds to wait for one block from the disk.
    pub await_ns: Gauge,
    /// Mean nanoseconds to save one block.
    pub save_ns: Gauge,
}

/// What was restored from one tier.
#[derive(Debug, Default)]
pub struct RestoredGauges {
    /// Requests that got blocks from this tier.
    pub requests: Gauge,
    /// Prompt tokens in these blocks.
    pub tokens: Gauge,
    /// Bytes of these blocks.
    pub bytes: Gauge,
}

impl Moves {
    pub(super) fn render(&self, page: &mut Page) {
        type Of = fn(&RestoredGauges) -> &Gauge;
        let by_tier: [(&str, &str, Of); 3] = [
            ("cllm_prompt_hits_total", "Requests that began with blocks from outside the KV cells.", |of| &of.requests),
            ("cllm_prompt_restored_tokens_total", "Prompt tokens from outside the KV cells.", |of| &of.tokens),
            ("cllm_prompt_restored_bytes_total", "Bytes put into KV cells from outside.", |of| &of.bytes),
        ];
        for (name, help, of) in by_tier {
            page.head(name, "counter", help);
            for tier in Tier::ALL {
                let label = format!("{{tier=\"{}\"}}", tier.as_str());
                page.line(name, &label, of(&self.restored[tier as usize]).get());
            }
        }
        for (name, help, gauge) in [
            ("cllm_prompt_broken_off_total", "Requests that were to get more blocks than came.", &self.broken_off),
            ("cllm_prompt_saved_blocks_total", "Blocks saved from KV cells.", &self.saved_blocks),
            ("cllm_prompt_saved_bytes_total", "Bytes saved from KV cells.", &self.saved_bytes),
        ] {
            page.head(name, "counter", help);
            page.line(name, "", gauge.get());
        }
        for (name, help, us) in [
            ("cllm_prompt_restore_seconds_total", "Time in which blocks were put into KV cells.", &self.restore_us),
            ("cllm_prompt_save_seconds_total", "Time in which blocks were saved.", &self.save_us),
        ] {
            page.head(name, "counter", help);
            page.line(name, "", Seconds(us.get()));
        }
        page.gauge("cllm_prompt_restoring", "Requests that wait for blocks.", self.restoring.get());
        page.head("cllm_prompt_cost_seconds", "gauge", "What reading a token and moving a block cost lately.");
        for (what, ns) in [
            ("read_token", &self.read_ns),
            ("restore_block", &self.restore_ns),
            ("await_block", &self.await_ns),
            ("save_block", &self.save_ns),
        ] {
            page.line("cllm_prompt_cost_seconds", &format!("{{of=\"{what}\"}}"), ns.get() as f64 / 1e9);
        }
    }
}
