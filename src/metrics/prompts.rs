//! The tiers of the prompt store, outside the KV cache: their contents, and reads and writes of the disk.

use super::render::{Page, Seconds};
use super::{Counter, Gauge};

/// Written by the batching thread and the disk thread. A block is a copy in the RAM tier, a file in the disk tier, or
/// both.
#[derive(Debug, Default)]
pub struct PromptTiers {
    /// Bytes of blocks in RAM.
    pub ram_bytes: Gauge,
    /// Most bytes of blocks in RAM; 0: there is no RAM tier.
    pub ram_bytes_max: Gauge,
    /// Blocks in RAM.
    pub ram_blocks: Gauge,
    /// Bytes of blocks on the disk.
    pub disk_bytes: Gauge,
    /// Most bytes of blocks on the disk; 0: there is no disk tier.
    pub disk_bytes_max: Gauge,
    /// Blocks on the disk.
    pub disk_blocks: Gauge,
    /// Blocks that found no room in RAM or on the disk, or whose parent block was in neither.
    pub dropped: Counter,
    /// Files that were damaged, and removed.
    pub damaged: Counter,
    /// System calls that failed: a full disk, lost permissions.
    pub disk_errors: Counter,
    /// Bytes read from the disk.
    pub disk_read_bytes: Counter,
    /// Microseconds that these reads took, including checksums.
    pub disk_read_us: Counter,
    /// Bytes written to the disk.
    pub disk_written_bytes: Counter,
}

impl PromptTiers {
    /// Writes the lines of `/metrics`.
    pub(super) fn render(&self, page: &mut Page) {
        let tiers = |page: &mut Page, name: &str, help: &str, values: [&Gauge; 2]| {
            page.head(name, "gauge", help);
            for (tier, value) in ["ram", "disk"].iter().zip(values) {
                page.line(name, &format!("{{tier=\"{tier}\"}}"), value.get());
            }
        };
        let bytes = [&self.ram_bytes, &self.disk_bytes];
        tiers(page, "cllm_prompt_memory_bytes", "Bytes of prompts that are kept outside the KV cache.", bytes);
        let most = [&self.ram_bytes_max, &self.disk_bytes_max];
        tiers(page, "cllm_prompt_memory_bytes_max", "Most bytes of each tier; 0: there is no such tier.", most);
        let blocks = [&self.ram_blocks, &self.disk_blocks];
        tiers(page, "cllm_prompt_memory_blocks", "Blocks of tokens in each tier.", blocks);
        for (name, help, counter) in [
            ("cllm_prompt_memory_dropped_total", "Blocks for which no tier had room.", &self.dropped),
            ("cllm_prompt_disk_damaged_total", "Files that couldn't be used and were removed.", &self.damaged),
            ("cllm_prompt_disk_errors_total", "Calls to the disk that failed.", &self.disk_errors),
            ("cllm_prompt_disk_read_bytes_total", "Bytes of blocks read from the disk.", &self.disk_read_bytes),
            ("cllm_prompt_disk_written_bytes_total", "Bytes of blocks written to the disk.", &self.disk_written_bytes),
        ] {
            page.counter(name, help, counter);
        }
        page.head(
            "cllm_prompt_disk_read_seconds_total",
            "counter",
            "Time that reading blocks took, checksums included.",
        );
        page.line("cllm_prompt_disk_read_seconds_total", "", Seconds(self.disk_read_us.get()));
    }
}
