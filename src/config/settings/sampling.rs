//! Settings of sampling, which count where a request says nothing.

use crate::config::definition::scope::{GENERATE, SERVE};
use crate::config::definition::takes::{Number, Open};
use crate::config::definition::{About, Definition, Fallback, Picker, Setting};
use crate::types::limits::{CTX_TOTAL_MAX, TOP_K_MAX};
use crate::types::{SamplingParams, StartupError};

const GROUP: About = About { scope: SERVE | GENERATE, ..About::group("Sampling, where a request says nothing") };

group! {
    /// Most tokens of an answer.
    MAX_TOKENS: Open<Number<usize>> = Setting {
        about: About {
            key: "max-tokens",
            short: Some('n'),
            aliases: &["n-predict", "predict"],
            help: "Most tokens of an answer",
            ..GROUP
        },
        takes: Open { of: Number { name: "N", within: 1..=CTX_TOTAL_MAX as usize }, words: &["-1"] },
        default: Fallback::Unset(None, "-1, as many as fit", "as many as fit"),
    };

    /// The temperature.
    TEMP: Number<f32> = Setting {
        about: About { key: "temp", aliases: &["temperature"], help: "Temperature, 0 is greedy", ..GROUP },
        takes: Number { name: "T", within: 0.0..=100.0 },
        default: Fallback::Rule(|_| Ok(SamplingParams::default().temperature), ""),
    };

    /// How many of the most likely tokens are kept.
    TOP_K: Number<usize> = Setting {
        about: About { key: "top-k", help: "Keep the K most likely, 0 is all", ..GROUP },
        takes: Number { name: "K", within: 0..=TOP_K_MAX },
        default: Fallback::Rule(|_| Ok(SamplingParams::default().top_k), ""),
    };

    /// The sum of probabilities up to which the most likely tokens are kept.
    TOP_P: Number<f32> = Setting {
        about: About { key: "top-p", help: "Keep the most likely up to this probability", ..GROUP },
        takes: Number { name: "P", within: f32::MIN_POSITIVE..=1.0 },
        default: Fallback::Rule(|_| Ok(SamplingParams::default().top_p), ""),
    };

    /// The part of the best token's probability from which tokens are kept.
    MIN_P: Number<f32> = Setting {
        about: About { key: "min-p", help: "Drop tokens below P times the best probability", ..GROUP },
        takes: Number { name: "P", within: 0.0..=1.0 },
        default: Fallback::Rule(|_| Ok(SamplingParams::default().min_p), ""),
    };

    /// The seed.
    SEED: Open<Number<u64>> = Setting {
        about: About { key: "seed", short: Some('s'), help: "Seed of sampling", ..GROUP },
        takes: Open { of: Number { name: "SEED", within: 0..=u64::MAX }, words: &["-1"] },
        default: Fallback::Unset(None, "-1, a fresh one each request", "a fresh one each request"),
    };
}

/// The parameters of a request that sets none.
///
/// # Errors
/// One of them is out of bounds.
pub fn params(pick: &mut Picker) -> Result<SamplingParams, StartupError> {
    let usual = SamplingParams::default();
    Ok(SamplingParams {
        temperature: pick.take(&TEMP)?,
        top_k: pick.take(&TOP_K)?,
        top_p: pick.take(&TOP_P)?,
        min_p: pick.take(&MIN_P)?,
        seed: pick.take(&SEED)?.unwrap_or(usual.seed),
        ..usual
    })
}
