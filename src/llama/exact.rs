//! Says whether a row's logits have the same bits whatever other rows its step has, however its prompt was cut into steps,
//! and wherever its cells lie; and if not, why. For that, the CPU must compute matrix products and attention with
//! `kernels/` and `attention/`.

use llama_cpp_sys_2 as sys;

use super::context::FlashAttention;
use super::model::Model;
use super::{attention, matrix};
use crate::types::KvTypes;

/// The version of what computes keys and values on a CPU: `kernels/`, `attention/`, and llama.cpp. Raise it with each change that may give
/// other bits: states of cells that are kept on a disk are then computed anew.
pub const KERNELS: u32 = 2;

/// Most query heads that share a key head in `attention/` (`attention/problem.h`: rows of a block).
const HEADS_OF_A_GROUP_MAX: i32 = 64;

/// Why logits may differ in their last bits; `None`: they never do.
pub fn reason_against(model: &Model, kv_types: KvTypes, flash_attention: FlashAttention) -> Option<&'static str> {
    // SAFETY: a constant of the build.
    let has_gpu = cfg!(any(feature = "cuda", feature = "vulkan", feature = "metal"))
        && unsafe { sys::llama_supports_gpu_offload() };
    // A model that attends nowhere has a state, and no keys and values.
    let has_cells = model.heads().0 > 0;
    let all = [
        (has_gpu, "a GPU computes"),
        (!matrix::IS_OURS || !attention::IS_OURS, "this build has ggml's kernels only"),
        (!model.has_exact_matrices(), "some of its weights are of a type that only ggml has kernels for"),
        (!model.can_cut() && !has_state_by_token(model), "its recurrent state is computed in chunks"),
        (has_cells && kv_types != KvTypes::F16, "attention over a cache of fewer than 16 bits is ggml's"),
        (has_cells && flash_attention == FlashAttention::Off, "attention isn't fused"),
        (!has_heads_of_ours(model), "its attention is of a shape that only ggml has"),
    ];
    all.into_iter().find(|(holds, _)| *holds).map(|(_, reason)| reason)
}

/// Recurrent and hybrid architectures whose state ggml moves on token by token in one way, however many tokens a step has
/// (`tests/bits`): short convolutions, and the scan of Mamba. Others multiply the tokens of a chunk as a matrix.
const STATE_BY_TOKEN: [&str; 2] = ["lfm2", "mamba"];

fn has_state_by_token(model: &Model) -> bool {
    model.meta("general.architecture").is_some_and(|arch| STATE_BY_TOKEN.contains(&arch.as_str()))
}

/// Whether the model's heads have the shape that `describe` in `attention/attention.cpp` requires.
fn has_heads_of_ours(model: &Model) -> bool {
    let (heads, kv_heads, embd) = model.heads();
    let arch = model.meta("general.architecture").unwrap_or_default();
    let number = |key: &str| model.meta(&format!("{arch}.attention.{key}")).and_then(|text| text.parse::<f64>().ok());
    if heads == 0 {
        return true;
    }
    let of_head = |key: &str| number(key).unwrap_or(f64::from(embd) / f64::from(heads.max(1)));
    let fills_vectors = |numbers: f64| numbers % 16.0 == 0.0;
    let has_bias = number("max_alibi_bias").is_some_and(|bias| bias != 0.0);
    fills_vectors(of_head("key_length"))
        && fills_vectors(of_head("value_length"))
        && !has_bias
        // Of the first layer; 0 where that one has no attention, and others have some.
        && heads <= kv_heads.max(1).saturating_mul(HEADS_OF_A_GROUP_MAX)
}
