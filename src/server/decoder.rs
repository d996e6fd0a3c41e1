//! Loads weights, and makes the decoder over them: a llama.cpp context of the chosen size, or the null decoder's capacity.

use std::sync::Arc;

use super::context::ContextChoice;
use super::defaults::{cells_per_slot, flash_attention};
use crate::config::{Config, ModelSource, size};
use crate::console::LoadingBar;
use crate::llama::{Context, ContextParams, KvLayout, LlamaDecoder, Model, ModelParams, ThreadpoolParams};
use crate::model_file::ModelFile;
use crate::topology::CorePlan;
use crate::types::StartupError;
use crate::types::limits::{ROWS_MAX, SCORED_ROWS_MAX, SLOTS_MAX};
use crate::types::seams::Capacity;

/// Loads the weights, with a progress bar on a terminal.
///
/// # Errors
/// They can't be loaded, or the model needs an encoder beside its decoder.
pub fn load_model(config: &Config, file: &ModelFile) -> Result<Arc<Model>, StartupError> {
    let bar = LoadingBar::start(&display_name(config));
    let params = ModelParams {
        place: file.place(),
        gpu_layers: config.gpu_layers.map(|layers| layers as i32),
        mmap: config.mmap,
        mlock: config.mlock,
        repack: config.repack,
    };
    let loaded = Model::load(&params, &mut |fraction| bar.set(fraction));
    let model = Arc::new(loaded.map_err(|error| file.blame(error))?);
    file.verify()?;
    bar.finish();
    if !model.has_one_input() {
        let reason = "models with an encoder beside a decoder are not served".to_owned();
        return Err(StartupError::Model { path: file.path().to_owned(), reason });
    }
    Ok(model)
}

/// The capacity of the null decoder: as much as a model's context would have. `--kv-unified on`: one buffer, which one sequence may fill;
/// otherwise each sequence has its own.
pub fn null_capacity(config: &Config, n_ctx_train: usize, n_vocab: usize) -> Capacity {
    let seqs = config.parallel;
    let cells_total = config.ctx_total.unwrap_or(cells_per_slot(n_ctx_train) * u32::from(seqs));
    let (cells_per_seq, cells_common) = match config.kv_unified {
        Some(true) => (cells_total.max(1), Some(cells_total.max(1))),
        _ => ((cells_total / u32::from(seqs)).max(1), None),
    };
    Capacity { seqs, cells_per_seq, cells_common, rows_max: ROWS_MAX, n_vocab }
}

/// The model's name in messages about loading.
fn display_name(config: &Config) -> String {
    match &config.model {
        ModelSource::BuiltIn => "the built-in model".to_owned(),
        ModelSource::Hub(model) => model.to_string(),
        ModelSource::File(path) => path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
    }
}

/// A context of `model` and the decoder that drives it: of the size in `config`, otherwise the smallest.
///
/// # Errors
/// llama.cpp can't make the context.
pub fn llama_decoder(config: &Config, plan: &CorePlan, model: &Arc<Model>) -> Result<LlamaDecoder, StartupError> {
    llama_decoder_of(config, plan, model, &ContextChoice::least(config, model.n_ctx_train()), false)
}

/// Why parts of sequences can't be saved and restored; `None`: they can.
fn reason_against_blocks(model: &Model, layout: KvLayout, seqs: u16) -> Option<&'static str> {
    if model.is_recurrent() {
        // Its sequences are saved as a whole.
        return None;
    }
    if layout == KvLayout::Separate {
        return Some("each slot has a KV buffer of its own, and llama.cpp copies no part of one");
    }
    (usize::from(seqs) >= SLOTS_MAX).then_some("llama.cpp has no sequence left for it: --parallel 255 or fewer")
}

/// A context of `model` with the layout and the cells of `choice`, and the decoder that drives it. `keeps_blocks`: it saves and restores
/// parts of sequences, where that is possible.
///
/// # Errors
/// llama.cpp can't make the context.
fn llama_decoder_of(
    config: &Config,
    plan: &CorePlan,
    model: &Arc<Model>,
    choice: &ContextChoice,
    keeps_blocks: bool,
) -> Result<LlamaDecoder, StartupError> {
    let seqs = config.parallel;
    let layout = choice.layout;
    let keeps_blocks = keeps_blocks && {
        let against = reason_against_blocks(model, layout, seqs);
        if let Some(reason) = against {
            tracing::info!(reason, "prompts are kept in KV cells only");
        }
        against.is_none()
    };
    let needs_spare = keeps_blocks && !model.is_recurrent();
    let params = ContextParams {
        cells_total: choice.cells_total,
        seqs: seqs + u16::from(needs_spare),
        layout,
        rows_max: ROWS_MAX,
        outputs_max: usize::from(seqs) + SCORED_ROWS_MAX,
        kv_types: config.kv_types,
        windows_only: config.windows_only,
        flash_attention: flash_attention(config),
        threadpool: ThreadpoolParams {
            threads: plan.compute.len(),
            cores: plan.compute.iter().map(|cpu| cpu.0).collect(),
            poll: 50,
        },
    };
    let context = Context::new(Arc::clone(model), &params)?;
    if !context.has_memory() {
        let reason = "it makes no text, only embeddings: cllm serve --embeddings".to_owned();
        return Err(StartupError::Model { path: model.path().to_owned(), reason });
    }
    if context.windows_only()
        && let Some(bytes) = context.memory_bytes()
    {
        tracing::info!(
            "sliding windows: their layers have cells for what is seen; all cells take {}",
            size::words(bytes)
        );
    } else if config.windows_only {
        tracing::info!("--swa window has no effect: the model has no sliding windows");
    }
    let decoder = LlamaDecoder::new(context, layout, seqs, ROWS_MAX);
    let decoder = match (keeps_blocks, needs_spare) {
        (false, _) => decoder,
        (true, true) => decoder.with_spare_sequence(),
        (true, false) => decoder.with_whole_sequences(),
    };
    // A pool has more cells than one request may use.
    let is_pool = layout == KvLayout::Pool && choice.is_free();
    Ok(if is_pool { decoder.with_cells_per_seq_max(choice.cells_per_request) } else { decoder })
}

/// A decoder of the chosen size, which is logged. If the machine can't provide it, a decoder of the smallest size. `keeps_blocks`: see
/// `llama_decoder_of`.
///
/// # Errors
/// llama.cpp can't make the context.
pub fn chosen_decoder(
    config: &Config,
    plan: &CorePlan,
    model: &Arc<Model>,
    choice: &ContextChoice,
    keeps_blocks: bool,
) -> Result<LlamaDecoder, StartupError> {
    tracing::info!("context: {choice}");
    if let Some(warning) = choice.warning() {
        tracing::warn!("{warning}");
    }
    let least = ContextChoice::least(config, model.n_ctx_train());
    match llama_decoder_of(config, plan, model, choice, keeps_blocks) {
        Err(error) if choice.is_free() && choice.cells_total > least.cells_total => {
            tracing::warn!(%error, "that context doesn't fit in memory, using the smallest: {least}");
            llama_decoder_of(config, plan, model, &least, keeps_blocks)
        }
        made => made,
    }
}
