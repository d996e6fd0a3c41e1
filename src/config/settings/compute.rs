//! Settings about what computes: the decoder, its threads, the GPU, and how the weights lie in memory.

use std::time::Duration;

use super::model::EMBEDDINGS;
use crate::config::DecoderKind;
use crate::config::definition::scope::{BENCH, GENERATE, SERVE, TUNE};
use crate::config::definition::takes::{Number, OneOf, Open, Switch};
use crate::config::definition::{About, Definition, Fallback, Picker, Setting};
use crate::types::StartupError;
use crate::types::limits::{GPU_LAYERS_MAX, NULL_STEP_US_MAX};

/// Most compute threads: ggml's own ceiling (`GGML_MAX_N_THREADS`).
const THREADS_MAX: usize = 512;

const GROUP: About = About::group("Compute");

group! {
    /// Whether the null decoder runs the steps.
    DECODER: OneOf<bool> = Setting {
        about: About {
            key: "decoder",
            help: "llama (default), or null: no model, to measure the rest",
            scope: SERVE | BENCH,
            ..GROUP
        },
        takes: OneOf { name: "KIND", words: &[("llama", false), ("null", true)] },
        default: Fallback::Is(false),
    };

    /// Microseconds of one step of the null decoder.
    NULL_STEP_US: Number<u64> = Setting {
        about: About {
            key: "null-step-us",
            help: "Microseconds a step of the null decoder",
            scope: SERVE | BENCH,
            ..GROUP
        },
        takes: Number { name: "US", within: 0..=NULL_STEP_US_MAX },
        default: Fallback::Is(0),
    };

    /// Compute threads.
    THREADS: Open<Number<usize>> = Setting {
        about: About {
            key: "threads",
            short: Some('t'),
            help: "Compute threads",
            scope: SERVE | GENERATE | BENCH | TUNE,
            ..GROUP
        },
        takes: Open { of: Number { name: "N", within: 1..=THREADS_MAX }, words: &["0", "-1"] },
        default: Fallback::Unset(None, "from the cores", "planned from the machine"),
    };

    /// Layers on the GPU.
    GPU_LAYERS: Open<Number<u32>> = Setting {
        about: About {
            key: "gpu-layers",
            two_letters: Some("-ngl"),
            aliases: &["n-gpu-layers"],
            help: "Layers on the GPU, if any",
            scope: SERVE | GENERATE | BENCH | TUNE,
            ..GROUP
        },
        takes: Open { of: Number { name: "N", within: 0..=GPU_LAYERS_MAX }, words: &["all", "auto", "-1"] },
        default: Fallback::Unset(None, "all", "all, given a GPU build"),
    };

    /// Whether the file of the weights is mapped.
    NO_MMAP: Switch = Setting {
        about: About {
            key: "no-mmap",
            help: "Read the weights instead of mapping the file",
            scope: SERVE | GENERATE | BENCH | TUNE,
            ..GROUP
        },
        takes: Switch { on: false },
        default: Fallback::Is(true),
    };

    /// Whether the weights are locked in memory.
    MLOCK: Switch = Setting {
        about: About {
            key: "mlock",
            help: "Keep the weights in memory, never swapped",
            scope: SERVE | GENERATE,
            ..GROUP
        },
        takes: Switch { on: true },
        default: Fallback::Is(false),
    };

    /// Whether ggml may repack the weights into a layout for this CPU.
    NO_REPACK: Switch = Setting {
        about: About {
            key: "no-repack",
            help: "Keep weights as in the file: less memory, slower",
            scope: SERVE | GENERATE | BENCH | TUNE,
            ..GROUP
        },
        takes: Switch { on: false },
        default: Fallback::Is(true),
    };
}

/// Which decoder runs the steps.
///
/// # Errors
/// Embeddings are wanted of the null decoder, which makes none.
pub fn decoder(pick: &mut Picker) -> Result<DecoderKind, StartupError> {
    let (is_null, step_us) = (pick.take(&DECODER)?, pick.take(&NULL_STEP_US)?);
    if is_null && pick.take(&EMBEDDINGS)? {
        return Err(pick.refuse(&EMBEDDINGS, "the null decoder makes no embeddings"));
    }
    Ok(match is_null {
        true => DecoderKind::Null { step: Duration::from_micros(step_us) },
        false => DecoderKind::Llama,
    })
}
