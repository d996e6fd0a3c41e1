//! Settings of the KV cache and of the steps: how much is kept of how many requests, and what one step computes.

use crate::config::FlashAttn;
use crate::config::definition::scope::{BENCH, GENERATE, SERVE, TUNE};
use crate::config::definition::takes::{FILE, File, FolderAndSize, Number, OneOf, Open, Size, Switch};
use crate::config::definition::{About, Definition, Fallback, Picker, Setting};
use crate::types::limits::{
    CTX_TOTAL_MAX, PROMPT_DISK_BYTES_DEFAULT, QUEUE_MAX, QUEUE_MIN, QUEUE_PER_SLOT, SLOTS_MAX, STEP_TOKENS_MAX,
};
use crate::types::{KvType, KvTypes, StartupError};

/// Slots if `--parallel` isn't set.
const SLOTS_DEFAULT: u16 = 8;

const GROUP: About = About::group("Context and batching");

group! {
    /// Cells of the KV cache for all slots together, as in llama.cpp.
    CTX_SIZE: Open<Number<u32>> = Setting {
        about: About {
            key: "ctx-size",
            short: Some('c'),
            help: "Tokens of context, for all requests together",
            scope: SERVE | GENERATE,
            ..GROUP
        },
        takes: Open { of: Number { name: "TOKENS", within: 0..=CTX_TOTAL_MAX }, words: &["0"] },
        default: Fallback::Unset(None, "by model", "as the model and memory allow"),
    };

    /// Slots: requests that run at the same time.
    PARALLEL: Number<u16> = Setting {
        about: About {
            key: "parallel",
            two_letters: Some("-np"),
            help: "Requests served at once",
            scope: SERVE | TUNE,
            ..GROUP
        },
        takes: Number { name: "N", within: 1..=SLOTS_MAX as u16 },
        default: Fallback::Is(SLOTS_DEFAULT),
    };

    /// Most requests that wait in the ring.
    QUEUE: Number<usize> = Setting {
        about: About { key: "queue", help: "Requests that may wait, then 429", ..GROUP },
        takes: Number { name: "N", within: 1..=QUEUE_MAX },
        default: Fallback::Rule(
            |pick| Ok((usize::from(pick.take(&PARALLEL)?) * QUEUE_PER_SLOT).clamp(QUEUE_MIN, QUEUE_MAX)),
            "4 a slot, at least 100",
        ),
    };

    /// Most rows of one step.
    STEP_TOKENS: Open<Number<usize>> = Setting {
        about: About {
            key: "step-tokens",
            help: "Prompt tokens in a step while answers are generated",
            scope: SERVE | GENERATE | BENCH | TUNE,
            ..GROUP
        },
        takes: Open { of: Number { name: "N", within: 1..=STEP_TOKENS_MAX }, words: &["0"] },
        default: Fallback::Unset(None, "measured", "as measured"),
    };

    /// Whether tokens are guessed and checked in the same step.
    SPECULATE: OneOf<Option<bool>> = Setting {
        about: About {
            key: "speculate",
            help: "Guess tokens and check them: auto (if exact), on or off",
            scope: SERVE | GENERATE,
            ..GROUP
        },
        takes: OneOf { name: "WHEN", words: &[("auto", None), ("on", Some(true)), ("off", Some(false))] },
        default: Fallback::Is(None),
    };

    /// The type of the cache's numbers.
    KV_TYPE: OneOf<KvType> = Setting {
        about: About {
            key: "kv-type",
            help: "KV cache: f16 (default), q8_0 (half the memory) or smaller",
            scope: SERVE | GENERATE | BENCH | TUNE,
            ..GROUP
        },
        takes: OneOf { name: "TYPE", words: &KvType::NAMED },
        default: Fallback::Is(KvType::F16),
    };

    /// The type of cached keys.
    CACHE_TYPE_K: OneOf<KvType> = Setting {
        about: About {
            key: "cache-type-k",
            two_letters: Some("-ctk"),
            help: "Type of the cached keys",
            scope: SERVE | GENERATE | BENCH | TUNE,
            ..GROUP
        },
        takes: OneOf { name: "TYPE", words: &KvType::NAMED },
        default: Fallback::Rule(|pick| pick.take(&KV_TYPE), "as --kv-type"),
    };

    /// The type of cached values.
    CACHE_TYPE_V: OneOf<KvType> = Setting {
        about: About {
            key: "cache-type-v",
            two_letters: Some("-ctv"),
            help: "Type of the cached values",
            scope: SERVE | GENERATE | BENCH | TUNE,
            ..GROUP
        },
        takes: OneOf { name: "TYPE", words: &KvType::NAMED },
        default: Fallback::Rule(|pick| pick.take(&KV_TYPE), "as --kv-type"),
    };

    /// Whether one slot may use the whole cache.
    KV_UNIFIED: Open<Switch> = Setting {
        about: About {
            key: "kv-unified",
            help: "One KV pool, which one request may fill",
            scope: SERVE | BENCH | TUNE,
            ..GROUP
        },
        takes: Open { of: Switch { on: true }, words: &[] },
        default: Fallback::Unset(None, "shares", "one if that is faster, with a share for each slot"),
    };

    /// Whether layers with a sliding window have cells only for that.
    SWA: OneOf<bool> = Setting {
        about: About {
            key: "swa",
            help: "Cells of sliding windows: full (default), or window: fewer",
            scope: SERVE | GENERATE | BENCH,
            ..GROUP
        },
        takes: OneOf { name: "CELLS", words: &[("full", false), ("window", true)] },
        default: Fallback::Is(false),
    };

    /// Most bytes in RAM for prompts that the KV cache no longer holds.
    PROMPT_RAM: Open<Size> = Setting {
        about: About { key: "prompt-ram", help: "RAM for prompts beside the cache, or off", ..GROUP },
        takes: Open { of: Size, words: &[] },
        default: Fallback::Unset(None, "by memory", "an eighth of free memory"),
    };

    /// The folder for prompts on disk.
    PROMPT_DISK: FolderAndSize = Setting {
        about: About { key: "prompt-disk", help: "Folder that keeps prompts over restarts", ..GROUP },
        takes: FolderAndSize { size: PROMPT_DISK_BYTES_DEFAULT },
        default: Fallback::Unset(None, "off", "off"),
    };

    /// A file of prompts that are prefilled before the server is ready.
    WARM: Open<File> = Setting {
        about: About { key: "warm", help: "JSON file of prompts to read before serving", ..GROUP },
        takes: FILE,
        default: Fallback::Unset(None, "", "none"),
    };

    /// Whether attention is computed in one fused operation.
    FLASH_ATTN: OneOf<FlashAttn> = Setting {
        about: About {
            key: "flash-attn",
            two_letters: Some("-fa"),
            help: "Fused attention: auto (default), on or off",
            scope: SERVE | GENERATE | BENCH | TUNE,
            ..GROUP
        },
        takes: OneOf {
            name: "WHEN",
            words: &[("auto", FlashAttn::Auto), ("on", FlashAttn::On), ("off", FlashAttn::Off)],
        },
        default: Fallback::Is(FlashAttn::Auto),
    };
}

/// The types of cached keys and values.
///
/// # Errors
/// llama.cpp reads values of this type only with flash attention, which is off.
pub fn kv_types(pick: &mut Picker) -> Result<KvTypes, StartupError> {
    let (both, keys, values) = (pick.take(&KV_TYPE)?, pick.take(&CACHE_TYPE_K)?, pick.take(&CACHE_TYPE_V)?);
    if values != KvType::F16 && pick.take(&FLASH_ATTN)? == FlashAttn::Off {
        let named: &dyn Definition = if values == both { &KV_TYPE } else { &CACHE_TYPE_V };
        return Err(pick.refuse(named, format!("{} needs flash attention, which is off", values.as_str())));
    }
    Ok(KvTypes { keys, values })
}
