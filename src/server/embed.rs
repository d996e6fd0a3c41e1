//! Decides whether a model makes embeddings, and builds the encoder for them.

use std::sync::Arc;

use super::defaults::{cells_per_slot, flash_attention};
use crate::config::Config;
use crate::gguf::GgufFile;
use crate::llama::{Context, ContextParams, KvLayout, LlamaEncoder, Model, ThreadpoolParams};
use crate::topology::CorePlan;
use crate::types::limits::{EMBED_LOGITS_BYTES_MAX, ENCODER_SEQS, ROWS_MAX, SLOTS_MAX, TILE_ROWS};
use crate::types::seams::EncoderCapacity;
use crate::types::{KvTypes, Pooling, StartupError};

/// The value of `enum llama_pooling_type` for models that rank.
const RANK: u64 = 4;

/// How the model's embeddings are pooled; `None`: the model generates text. A model makes embeddings if its file says how
/// to pool them or that attention isn't causal, and with `--embeddings`.
///
/// # Errors
/// The model ranks texts in a form that is not supported here.
pub fn pooling(config: &Config, gguf: &GgufFile) -> Result<Option<Pooling>, StartupError> {
    let arch = gguf.str("general.architecture").unwrap_or_default();
    let named = gguf.u64(&format!("{arch}.pooling_type"));
    let of_model = match named {
        Some(1) => Some(Pooling::Mean),
        Some(2) => Some(Pooling::Cls),
        Some(3) => Some(Pooling::Last),
        _ => None,
    };
    let whole = reads_whole(gguf);
    if !config.embeddings && !whole && of_model.is_none() && named != Some(RANK) {
        return Ok(None);
    }
    // For models that don't say, this is the choice of sentence-transformers and vLLM.
    let usual = if whole { Pooling::Mean } else { Pooling::Last };
    match config.pooling {
        None if named == Some(RANK) && gguf.str("tokenizer.chat_template.rerank").is_some() => {
            Err(StartupError::Model {
                path: gguf.path().to_owned(),
                reason:
                    "it ranks texts by a prompt template, which is not supported; --pooling makes embeddings instead"
                        .to_owned(),
            })
        }
        None if named == Some(RANK) => Ok(Some(Pooling::Rank)),
        chosen => Ok(Some(chosen.or(of_model).unwrap_or(usual))),
    }
}

/// Whether each token attends to all others.
fn reads_whole(gguf: &GgufFile) -> bool {
    let arch = gguf.str("general.architecture").unwrap_or_default();
    gguf.bool(&format!("{arch}.attention.causal")) == Some(false)
}

/// Makes a context of `model` for embeddings, and the encoder that drives it.
///
/// # Errors
/// llama.cpp can't make the context.
pub fn encoder(
    config: &Config,
    plan: &CorePlan,
    model: &Arc<Model>,
    gguf: &GgufFile,
) -> Result<LlamaEncoder, StartupError> {
    let n_ctx_train = model.n_ctx_train();
    let ranks = pooling(config, gguf)? == Some(Pooling::Rank);
    let asked = config.ctx_total.map_or(cells_per_slot(n_ctx_train), |total| total / u32::from(config.parallel)).max(1);
    // The head that ranks sees only the tokens of one step.
    let whole = ranks || reads_whole(gguf);
    // An encoder has no learned positions beyond these.
    let input_max = if whole { asked.min(n_ctx_train.max(1) as u32) } else { asked } as usize;
    let joined = joined_rows(model.n_vocab());
    let rows_max = if whole { input_max.max(joined) } else { joined };
    let context = |seqs: u16| {
        let params = ContextParams {
            cells_total: (input_max * usize::from(seqs)).max(rows_max) as u32,
            seqs,
            layout: KvLayout::Separate,
            rows_max,
            outputs_max: rows_max,
            kv_types: KvTypes::F16,
            windows_only: false,
            flash_attention: flash_attention(config),
            threadpool: ThreadpoolParams {
                threads: plan.compute.len(),
                cores: plan.compute.iter().map(|cpu| cpu.0).collect(),
                poll: 50,
            },
        };
        if ranks {
            Context::for_ranks(Arc::clone(model), &params)
        } else {
            Context::for_embeddings(Arc::clone(model), &params)
        }
    };
    let mut seqs = config.parallel;
    let mut made = context(seqs)?;
    // Without a cache, further sequences take no memory.
    if !made.has_memory() && seqs < ENCODER_SEQS {
        drop(made);
        seqs = ENCODER_SEQS;
        made = context(seqs)?;
    }
    let whole = whole || !made.has_memory();
    let n_embd = if ranks { 1 } else { model.n_embd_out() };
    let capacity = EncoderCapacity { seqs, rows_max, rows_joined: joined, input_max, whole, n_embd };
    Ok(if ranks { LlamaEncoder::ranking(made, capacity) } else { LlamaEncoder::new(made, capacity) })
}

/// Rows of a step that joins several inputs: as many as the memory for their logits allows, in whole tiles, and at least
/// one for each possible sequence.
fn joined_rows(n_vocab: usize) -> usize {
    let rows = EMBED_LOGITS_BYTES_MAX / (size_of::<f32>() * n_vocab.max(1));
    (rows / TILE_ROWS * TILE_ROWS).clamp(SLOTS_MAX, ROWS_MAX)
}

#[cfg(test)]
mod tests {
    use super::joined_rows;

    #[test]
    fn a_large_vocabulary_means_smaller_steps() {
        assert_eq!((joined_rows(30_522), joined_rows(100_000), joined_rows(262_144)), (512, 320, 256));
    }
}
