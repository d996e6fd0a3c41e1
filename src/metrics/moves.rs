//! What moved between KV cells and what is kept outside of them, as the batching thread last said.

use super::Gauge;
use super::render::{Page, Seconds};
use crate::types::Tier;

/// Counts since the start, and moving means. Written by the batching thread after each step, and when it is idle; the fields may be a step
/// apart. All stay 0 where nothing is kept outside the cells.
#[derive(Debug, Default)]
pub struct Moves {
    /// By `Tier as usize`.
    pub restored: [RestoredGauges; Tier::ALL.len()],
    pub restore_us: Gauge,
    /// Requests that were to get more blocks than came.
    pub broken_off: Gauge,
    pub saved_blocks: Gauge,
    pub saved_bytes: Gauge,
    pub save_us: Gauge,
    /// Requests that wait for their blocks.
    pub restoring: Gauge,
    /// Nanoseconds: to read a token, to put a block into cells, to wait for one from the disk, to save one.
    pub read_ns: Gauge,
    pub restore_ns: Gauge,
    pub await_ns: Gauge,
    pub save_ns: Gauge,
}

/// What one tier has given.
#[derive(Debug, Default)]
pub struct RestoredGauges {
    pub requests: Gauge,
    pub tokens: Gauge,
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
