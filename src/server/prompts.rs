//! Which tiers keep prompts outside the KV cache, and their sizes: as configured, or a share of the machine's memory.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::context::ContextFacts;
use super::defaults::flash_attention;
use crate::appliance;
use crate::config::{Config, size};
use crate::engine::PromptMemory;
use crate::handoff::WakeHandle;
use crate::llama::{self, FlashAttention, MappedBytes};
use crate::metrics::PromptTiers;
use crate::prompts::carried::{self, Carried};
use crate::prompts::{DiskOptions, Store, StoreOptions};
use crate::types::StartupError;
use crate::types::limits::{PROMPT_BLOCK_TOKENS, PROMPT_MEMORY_PARTS, PROMPT_STAGING_BYTES};
use crate::types::prompts::{BlockBytes, Identity};

/// The sizes of both tiers, and what their blocks depend on.
#[derive(Debug, Default)]
pub struct Prompts {
    /// Most bytes in RAM; 0: prompts are kept in the KV cache only.
    ram_bytes: u64,
    /// The folder, and its most bytes.
    disk: Option<(PathBuf, u64)>,
    identity: Identity,
    carried: Vec<Carried>,
}

impl Prompts {
    /// No tiers: for a single request, or for measuring speed.
    pub fn none() -> Prompts {
        Prompts::default()
    }

    /// Chooses the sizes of the tiers, from the configuration or from the machine's memory.
    pub fn new(config: &Config, facts: &ContextFacts) -> Prompts {
        let spare = facts.available_bytes.unwrap_or(0).saturating_sub(facts.model_bytes);
        let ram = config.prompt_ram.unwrap_or((spare / PROMPT_MEMORY_PARTS) >> 20 << 20);
        let least = if config.prompt_disk.is_some() { PROMPT_STAGING_BYTES } else { 0 };
        Prompts {
            ram_bytes: ram.max(least),
            disk: config.prompt_disk.clone(),
            identity: identity(config, facts),
            carried: Vec::new(),
        }
    }

    /// Adds the blocks that this executable carries.
    #[must_use]
    pub fn carrying(mut self, carried: Vec<Carried>) -> Prompts {
        self.carried = carried;
        self
    }

    /// Whether there are no tiers.
    pub fn is_none(&self) -> bool {
        self.ram_bytes == 0
    }

    /// Opens the tiers for the engine; `None`: there are none.
    ///
    /// `wake`: wakes the batching thread when a block that it waits for has come from the disk.
    ///
    /// # Errors
    /// The system can't start a thread.
    pub fn open(self, wake: WakeHandle, metrics: Arc<PromptTiers>) -> Result<Option<PromptMemory>, StartupError> {
        if self.is_none() {
            return Ok(None);
        }
        tracing::info!("prompts: {self}");
        let Prompts { ram_bytes, disk, identity, carried } = self;
        let disk = disk.map(|(folder, bytes)| DiskOptions { folder, bytes });
        let wake = Box::new(move || wake.wake());
        let store = Store::open(StoreOptions { ram_bytes, disk, identity: identity.clone(), wake, metrics })?;
        let store = store.carrying(carried);
        Ok(Some(PromptMemory { store: Box::new(store), identity, block_tokens: PROMPT_BLOCK_TOKENS }))
    }
}

/// The blocks that this executable carries, mapped. Called before the sandbox hides the executable.
///
/// # Errors
/// They can't be mapped, or were altered.
pub fn carried() -> Result<Vec<Carried>, StartupError> {
    let part = appliance::own()?.and_then(|appliance| Some((appliance, appliance.manifest.prompts.as_ref()?)));
    let Some((appliance, part)) = part else { return Ok(Vec::new()) };
    let damaged = |reason: String| appliance::damaged(reason);
    let mapped = MappedBytes::of_part(&appliance.path, part.offset, part.bytes);
    let mapped = mapped.map_err(|error| damaged(error.to_string()))?;
    let blocks = carried::unpack(mapped.as_ref(), |range| mapped.part(range).map(BlockBytes::new)).map_err(damaged)?;
    tracing::info!(blocks = blocks.len(), mib = part.bytes >> 20, "prompts: this program carries some");
    Ok(blocks)
}

/// What the state of a cell depends on besides the tokens. A CPU with other instructions, weights in another layout and
/// other kernels give other bits, and without fused attention the values have another layout.
fn identity(config: &Config, facts: &ContextFacts) -> Identity {
    let layout = match flash_attention(config) {
        FlashAttention::Off => "columns",
        _ => "rows",
    };
    let computed_by = format!("{} {} {}", llama::exact::KERNELS, config.repack, llama::system_info());
    let digest = Sha256::digest(computed_by);
    let kernels = digest[..4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
    let windows = if config.windows_only { "/window" } else { "" };
    Identity { model: facts.model_digest, kv_type: format!("{}/{layout}{windows}", config.kv_types), kernels }
}

impl fmt::Display for Prompts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.ram_bytes, &self.disk) {
            (0, _) => f.write_str("in the KV cache only"),
            (ram, None) => write!(f, "up to {} of RAM", size::words(ram)),
            (ram, Some((folder, bytes))) => {
                let (ram, bytes) = (size::words(ram), size::words(*bytes));
                write!(f, "up to {ram} of RAM and {bytes} in {}", folder.display())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;
    use crate::config::flags::Typed;

    fn prompts(flags: &[(&'static str, &str)], facts: &ContextFacts) -> Prompts {
        let typed: Typed = flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        Prompts::new(&Config::resolve(Layers::read(&typed, []).unwrap()).unwrap(), facts)
    }

    #[test]
    fn the_sizes_are_what_was_asked_for_or_a_share_of_memory() {
        let facts = ContextFacts { available_bytes: Some(9 << 30), model_bytes: 1 << 30, ..ContextFacts::default() };
        assert_eq!(prompts(&[], &facts).to_string(), "up to 1.0 GiB of RAM");
        assert!(prompts(&[], &ContextFacts::default()).is_none(), "how much is free is unknown");
        assert_eq!(prompts(&[("prompt-ram", "off")], &facts).to_string(), "in the KV cache only");
        assert_eq!(prompts(&[("prompt-ram", "4MiB")], &facts).ram_bytes, 4 << 20);
        let both = prompts(&[("prompt-ram", "off"), ("prompt-disk", "/a:2GiB")], &facts);
        assert_eq!(both.to_string(), "up to 128.0 MiB of RAM and 2.0 GiB in /a", "blocks pass through RAM");
    }

    #[test]
    fn blocks_of_another_cache_are_others() {
        let identity = |flags: &[(&'static str, &str)]| prompts(flags, &ContextFacts::default()).identity;
        let usual = identity(&[]);
        assert_eq!(usual, identity(&[("port", "1"), ("parallel", "3")]));
        for flag in [("swa", "window"), ("kv-type", "q8_0"), ("flash-attn", "off"), ("no-repack", "true")] {
            assert_ne!(usual, identity(&[flag]), "{flag:?}");
        }
    }
}
