//! Chooses the number of context tokens: what was asked for, or what the model and the machine allow.
//!
//! By default each request may have as many tokens as the model was trained for. If the cache for all of them would take
//! more than half of the memory that the model leaves, the cache is one pool of that half, and each request may take free
//! cells up to that length. A cell that has never been used takes no memory (`llama/lazy_buffer.cpp`).

use std::fmt;

use super::defaults::{cells_per_slot, flash_attention, is_small};
use crate::config::Config;
use crate::gguf::GgufFile;
use crate::llama::{FlashAttention, KvLayout, attention};
use crate::types::KvTypes;
use crate::types::limits::{CACHE_MEMORY_PARTS, CELLS_DEFAULT_MAX};

/// The number of cells of each slot is a multiple of this: llama.cpp's own padding.
const CELLS_STEP: u64 = 256;

/// What is known about the model and the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct ContextFacts {
    /// The context length that the model was trained for, in tokens; 0 if the file doesn't say.
    pub n_ctx_train: usize,
    /// Bytes of one token's keys and values in all layers; `None` if the file doesn't say.
    pub cell_bytes: Option<u64>,
    /// Bytes of the model's files.
    pub model_bytes: u64,
    /// Bytes of memory that the machine has available; `None` if it doesn't say.
    pub available_bytes: Option<u64>,
    /// Whether prompts are to be kept outside the KV cache: it was asked for, or this executable carries some.
    pub keeps_prompts: bool,
    /// A digest of the model's files, where prompts are kept on a disk; otherwise zeros.
    pub model_digest: [u8; 32],
}

/// The size and the layout of the cache.
#[derive(Clone, Debug, PartialEq)]
pub struct ContextChoice {
    /// Cells of all requests together.
    pub cells_total: u32,
    /// Most cells of one request.
    pub cells_per_request: u32,
    /// How sequences share the cells.
    pub layout: KvLayout,
    /// Bytes of a used cell, if known.
    cell_bytes: Option<u64>,
    requests: u16,
    why: Why,
    /// The context length that the model was trained for, if a request may have more.
    beyond_trained: Option<usize>,
}

#[derive(Clone, Debug, PartialEq)]
enum Why {
    /// The size that `-c` asks for.
    Asked,
    /// The context length that the model was trained for.
    Trained,
    /// Limited by memory: the model leaves this many bytes.
    Memory { spare_bytes: u64 },
    /// Limited by `CELLS_DEFAULT_MAX`.
    Bookkeeping,
    /// Limited because something is unknown; the text says what.
    Unknown(&'static str),
}

impl ContextFacts {
    /// Collects what is known of the model in `gguf`, which has `model_bytes` bytes, and of this machine.
    pub fn of(config: &Config, gguf: &GgufFile, model_bytes: u64) -> ContextFacts {
        let arch = gguf.str("general.architecture").unwrap_or_default();
        ContextFacts {
            n_ctx_train: gguf.u64(&format!("{arch}.context_length")).unwrap_or(0) as usize,
            cell_bytes: cell_bytes(gguf, arch, config.kv_types),
            model_bytes,
            available_bytes: super::memory::available_bytes(),
            keeps_prompts: config.prompt_disk.is_some() || config.prompt_ram.is_some_and(|bytes| bytes > 0),
            model_digest: [0; 32],
        }
    }
}

impl ContextChoice {
    /// Chooses size and layout. Pure.
    pub fn new(config: &Config, facts: &ContextFacts) -> ContextChoice {
        let layout = kv_layout(config, flash_attention(config), facts.keeps_prompts);
        let requests = config.parallel;
        let slots = u64::from(requests);
        let trained = u64::from(u32::try_from(facts.n_ctx_train).unwrap_or(u32::MAX));
        let (total, layout, why) = match config.ctx_total {
            Some(total) => (u64::from(total), layout, Why::Asked),
            None => {
                let least = u64::from(cells_per_slot(facts.n_ctx_train)) * slots;
                let (most, why) = affordable(facts);
                let most = most.max(least) / (CELLS_STEP * slots) * (CELLS_STEP * slots);
                if trained * slots <= most.max(least) {
                    (trained * slots, layout, Why::Trained)
                } else {
                    let is_pool = layout == KvLayout::Shares && most > least;
                    (most.max(least), if is_pool { KvLayout::Pool } else { layout }, why)
                }
            }
        };
        let (total, even) = (total.max(1), (total / slots).max(1));
        let each = match (layout, config.ctx_total) {
            (KvLayout::Pool, Some(_)) => total,
            (KvLayout::Pool, None) => total.min(trained.max(even)),
            (KvLayout::Shares | KvLayout::Separate, _) => even,
        };
        ContextChoice {
            cells_total: total as u32,
            cells_per_request: each as u32,
            layout,
            // Of a window's cells the decoder says what they take.
            cell_bytes: facts.cell_bytes.filter(|_| !config.windows_only),
            requests,
            why,
            beyond_trained: (facts.n_ctx_train > 0 && each > trained).then_some(facts.n_ctx_train),
        }
    }

    /// The smallest choice, used if the machine refuses the chosen one.
    pub fn least(config: &Config, n_ctx_train: usize) -> ContextChoice {
        ContextChoice::new(config, &ContextFacts { n_ctx_train, ..ContextFacts::default() })
    }

    /// Whether the size was chosen here, so that a smaller one may replace it.
    pub fn is_free(&self) -> bool {
        self.why != Why::Asked
    }

    /// A warning about this choice for the log, if there is a reason for one.
    pub fn warning(&self) -> Option<String> {
        self.beyond_trained.map(|trained| {
            format!(
                "-c gives a request {} tokens, the model was trained for {trained}: beyond those it may make no sense",
                self.cells_per_request
            )
        })
    }
}

impl fmt::Display for ContextChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ContextChoice { cells_total, cells_per_request, requests, .. } = self;
        let plural = if *requests == 1 { "" } else { "s" };
        write!(f, "{requests} request{plural} of up to {cells_per_request} tokens, ")?;
        match self.layout {
            KvLayout::Pool => write!(f, "from one pool of {cells_total}")?,
            KvLayout::Shares | KvLayout::Separate => write!(f, "{cells_total} in all")?,
        }
        if let Some(bytes) = self.cell_bytes {
            write!(f, ", {} when all are used", size(bytes * u64::from(*cells_total)))?;
        }
        match &self.why {
            Why::Asked => write!(f, " (-c)"),
            Why::Trained => write!(f, " (as the model was trained)"),
            Why::Memory { spare_bytes } => {
                write!(f, " (half of the {} that are available beside the model)", size(*spare_bytes))
            }
            Why::Bookkeeping => write!(f, " (the most without -c)"),
            Why::Unknown(what) => write!(f, " ({what}: -c for more)"),
        }
    }
}

/// The number of cells that memory allows, and what limits it.
fn affordable(facts: &ContextFacts) -> (u64, Why) {
    if cfg!(any(feature = "cuda", feature = "vulkan", feature = "metal")) {
        return (0, Why::Unknown("the memory of a GPU isn't measured"));
    }
    match (facts.cell_bytes, facts.available_bytes) {
        (None | Some(0), _) => (0, Why::Unknown("the file doesn't say how many bytes a token takes")),
        (_, None) => (0, Why::Unknown("the available memory is unknown")),
        (Some(cell_bytes), Some(available)) => {
            let spare_bytes = available.saturating_sub(facts.model_bytes);
            let cells = spare_bytes / CACHE_MEMORY_PARTS / cell_bytes;
            if cells > CELLS_DEFAULT_MAX {
                (CELLS_DEFAULT_MAX, Why::Bookkeeping)
            } else {
                (cells, Why::Memory { spare_bytes })
            }
        }
    }
}

/// The layout of the cache. One buffer is used if attention skips hidden cells: then one pass over the weights computes
/// rows of all sequences. With a buffer for each sequence the cells of each lie in order, and no bit of a text depends on
/// other requests; that matters more for a small model, because its weights take little time to read. But llama.cpp copies no part of such
/// a buffer, so that no block of it can be saved or restored: where prompts are to be kept, a small model has one buffer too.
fn kv_layout(config: &Config, flash_attention: FlashAttention, keeps_prompts: bool) -> KvLayout {
    let has_gpu = cfg!(any(feature = "cuda", feature = "vulkan", feature = "metal")) && config.gpu_layers != Some(0);
    match config.kv_unified {
        Some(true) => KvLayout::Pool,
        Some(false) => KvLayout::Separate,
        None if has_gpu || (is_small(config) && !keeps_prompts) => KvLayout::Separate,
        None if flash_attention == FlashAttention::Off || config.kv_types != KvTypes::F16 => KvLayout::Separate,
        None if attention::IS_OURS => KvLayout::Shares,
        None => KvLayout::Separate,
    }
}

/// Bytes of one token's keys and values in all layers. The result is too large for a model with layers that look back only
/// a short way.
fn cell_bytes(gguf: &GgufFile, arch: &str, kv_types: KvTypes) -> Option<u64> {
    let of_arch = |key: &str| gguf.u64(&format!("{arch}.{key}"));
    let layers = of_arch("block_count")?;
    let heads = of_arch("attention.head_count");
    let per_head = of_arch("embedding_length")?.checked_div(heads.unwrap_or(0));
    let key = of_arch("attention.key_length").or(per_head)?;
    let value = of_arch("attention.value_length").or(per_head)?;
    let name = format!("{arch}.attention.head_count_kv");
    // The file has one number for all layers, or one for each.
    let heads_of_all_layers = match (gguf.i32s(&name), gguf.u64(&name)) {
        (Some(each), _) => each.into_iter().map(|heads| u64::from(heads.unsigned_abs())).sum(),
        (None, Some(same)) => layers.checked_mul(same)?,
        (None, None) => layers.checked_mul(heads?)?,
    };
    let of_head =
        key.checked_mul(kv_types.keys.block_bytes())?.checked_add(value.checked_mul(kv_types.values.block_bytes())?)?;
    Some(heads_of_all_layers.checked_mul(of_head)?.div_ceil(32))
}

/// A number of bytes in the form `1.5 GiB`.
fn size(bytes: u64) -> String {
    let mib = bytes as f64 / (1u64 << 20) as f64;
    if mib < 1_024.0 { format!("{mib:.0} MiB") } else { format!("{:.1} GiB", mib / 1_024.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Qwen3-0.6B: 28 layers of 8 key heads, with 128 numbers each for keys and values.
    const QWEN: ContextFacts = ContextFacts {
        n_ctx_train: 40_960,
        cell_bytes: Some(114_688),
        model_bytes: 400 << 20,
        available_bytes: None,
        keeps_prompts: false,
        model_digest: [0; 32],
    };
    const GIB: u64 = 1 << 30;

    fn choice(ctx_total: Option<u32>, kv_unified: Option<bool>, facts: ContextFacts) -> ContextChoice {
        let mut config = Config::resolve(crate::config::Layers::default()).expect("the defaults are valid");
        config.model = crate::config::ModelSource::File("/no/such/model.gguf".into());
        (config.ctx_total, config.kv_unified) = (ctx_total, kv_unified);
        ContextChoice::new(&config, &facts)
    }

    #[test]
    fn with_memory_enough_each_has_what_the_model_was_trained_for() {
        let all = choice(None, None, ContextFacts { n_ctx_train: 8_192, available_bytes: Some(64 * GIB), ..QWEN });
        assert_eq!((all.cells_total, all.cells_per_request, &all.why), (8 * 8_192, 8_192, &Why::Trained));
        assert_ne!(all.layout, KvLayout::Pool);
        assert_eq!(
            all.to_string(),
            "8 requests of up to 8192 tokens, 65536 in all, 7.0 GiB when all are used (as the model was trained)"
        );
        let short = choice(None, None, ContextFacts { n_ctx_train: 512, ..QWEN });
        assert_eq!((short.cells_total, short.cells_per_request, short.why), (8 * 512, 512, Why::Trained));
    }

    #[test]
    fn otherwise_a_request_takes_what_is_free_of_what_memory_allows() {
        for gib in [3, 8, 20, 40] {
            let some = choice(None, None, ContextFacts { available_bytes: Some(gib * GIB), ..QWEN });
            let bytes = u64::from(some.cells_total) * 114_688;
            assert!(bytes <= (gib * GIB - (400 << 20)) / 2 || some.cells_total == 8 * 2_048, "{some}");
            assert!(some.cells_total >= 8 * 2_048 && some.cells_total.is_multiple_of(2_048), "{some}");
            match some.layout {
                KvLayout::Pool => assert_eq!(some.cells_per_request, some.cells_total.min(40_960)),
                _ => assert_eq!(some.cells_per_request, some.cells_total / 8),
            }
        }
        let unified = choice(None, Some(true), ContextFacts { available_bytes: Some(20 * GIB), ..QWEN });
        assert_eq!((unified.layout, unified.cells_per_request), (KvLayout::Pool, 40_960));
        let most =
            choice(None, Some(true), ContextFacts { available_bytes: Some(900 * GIB), n_ctx_train: 131_072, ..QWEN });
        assert_eq!(
            (u64::from(most.cells_total), most.cells_per_request, most.why),
            (CELLS_DEFAULT_MAX, 131_072, Why::Bookkeeping)
        );
    }

    #[test]
    fn it_is_never_less_than_a_share_for_certain() {
        for facts in [
            ContextFacts { available_bytes: Some(0), ..QWEN },
            QWEN,
            ContextFacts { cell_bytes: None, available_bytes: Some(64 * GIB), ..QWEN },
        ] {
            let least = choice(None, None, facts);
            assert_eq!((least.cells_total, least.cells_per_request), (8 * 2_048, 2_048), "{least}");
            assert_ne!(least.layout, KvLayout::Pool);
        }
    }

    #[test]
    fn what_is_asked_for_is_taken_and_a_length_beyond_training_is_named() {
        let asked = choice(Some(65_536), Some(false), ContextFacts { available_bytes: Some(GIB), ..QWEN });
        assert_eq!((asked.cells_total, asked.cells_per_request, asked.warning()), (65_536, 8_192, None));
        assert!(!asked.is_free());
        let beyond = choice(Some(1 << 20), Some(false), QWEN);
        assert_eq!(
            beyond.warning().as_deref(),
            Some(
                "-c gives a request 131072 tokens, the model was trained for 40960: beyond those it may make no sense"
            )
        );
        assert!(choice(Some(1 << 20), Some(false), ContextFacts { n_ctx_train: 0, ..QWEN }).warning().is_none());
    }
}
