//! Counts of the thread that publishes KV events. Only that thread writes them.

use super::render::Page;
use super::{Counter, Gauge, Solo};

/// Counts since the start, and gauges.
#[derive(Debug, Default)]
pub struct KvEventCounts {
    /// Messages published, with or without subscribers.
    pub messages: Counter<Solo>,
    /// Messages that a subscriber didn't get because its queue was full.
    pub lost: Counter<Solo>,
    /// How often a new subscriber was sent all blocks that the cache holds.
    pub snapshots: Counter<Solo>,
    /// Requests of subscribers for earlier messages.
    pub replays: Counter<Solo>,
    /// Connected subscribers.
    pub subscribers: Gauge,
    /// Different blocks in the cache.
    pub blocks: Gauge,
}

impl KvEventCounts {
    pub(super) fn render(&self, page: &mut Page) {
        page.counter("cllm_kv_events_messages_total", "Messages of KV events.", &self.messages);
        page.counter(
            "cllm_kv_events_lost_total",
            "Messages of KV events that a slow subscriber didn't get.",
            &self.lost,
        );
        page.counter("cllm_kv_events_snapshots_total", "Times a subscriber was told all blocks.", &self.snapshots);
        page.counter("cllm_kv_events_replays_total", "Requests for earlier KV events.", &self.replays);
        page.gauge("cllm_kv_events_subscribers", "Subscribers to KV events.", self.subscribers.get());
        page.gauge("cllm_kv_blocks", "Different blocks of tokens in the KV cache.", self.blocks.get());
    }
}
