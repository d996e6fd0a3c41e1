//! What settings leave open, decided for the model and the machine.

use crate::config::settings::compute::THREADS;
use crate::config::{Config, DecoderKind, FlashAttn};
use crate::llama::{FlashAttention, attention};
use crate::model_file::ModelFile;
use crate::topology::{CorePlan, Machine};
use crate::types::limits::{CTX_PER_SLOT_DEFAULT, ONE_THREAD_MODEL_BYTES_MAX};
use crate::types::{KvTypes, StartupError};

/// Assigns cores to threads. A small model gets one compute thread unless `--threads` says otherwise. The null decoder
/// computes nothing, so HTTP threads get every CPU.
///
/// # Errors
/// More threads than CPUs.
pub fn plan(machine: &Machine, config: &Config) -> Result<CorePlan, StartupError> {
    let threads = config.threads.or(is_small(config).then_some(1));
    let plan = machine.plan(threads).map_err(|reason| config.refuse(&THREADS, reason))?;
    Ok(match config.decoder {
        DecoderKind::Llama => plan,
        DecoderKind::Null { .. } => CorePlan { http: machine.all(), ..plan },
    })
}

/// Cells of a slot if `--ctx-size` isn't set.
pub fn cells_per_slot(n_ctx_train: usize) -> u32 {
    n_ctx_train.clamp(1, CTX_PER_SLOT_DEFAULT) as u32
}

/// Whether the model is so small that a second compute thread would slow it down.
pub fn is_small(config: &Config) -> bool {
    (1..=ONE_THREAD_MODEL_BYTES_MAX).contains(&ModelFile::bytes(&config.model))
}

/// Whether attention is fused, decided here if the setting is `auto`.
pub fn flash_attention(config: &Config) -> FlashAttention {
    match config.flash_attn {
        // Values of fewer than 16 bits need fused attention.
        FlashAttn::Auto if is_small(config) && config.kv_types == KvTypes::F16 => attention::for_small_models(),
        FlashAttn::Auto => FlashAttention::Auto,
        FlashAttn::On => FlashAttention::On,
        FlashAttn::Off => FlashAttention::Off,
    }
}
