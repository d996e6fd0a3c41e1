//! The type of each tensor: the mixes of llama.cpp's `llama-quantize`, for the architectures in `shape`.
//!
//! Follows `llama_tensor_get_type_impl` and `tensor_type_fallback` in llama.cpp's llama-quant.cpp, without an importance
//! matrix. `tests` checks the main rules.

use super::shape::ModelShape;
use super::tensors::{Role, Tensor};
use crate::llama::quantize::TensorType;

/// The quantisation of a whole model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Quant {
    /// 16-bit floats
    F16,
    /// 8 bits a weight
    #[value(name = "q8_0")]
    Q8_0,
    /// 6 bits a weight in most tensors
    #[value(name = "q6_k")]
    Q6K,
    /// 5 bits a weight, 6 in some tensors
    #[value(name = "q5_k_m")]
    Q5KM,
    /// 4 bits a weight, 6 in some tensors
    #[value(name = "q4_k_m")]
    Q4KM,
    /// 4 bits a weight, in the oldest format
    #[value(name = "q4_0")]
    Q4_0,
}

impl Quant {
    /// The value of `general.file_type`, from llama.cpp's `enum llama_ftype`.
    pub fn file_type(self) -> u32 {
        match self {
            Quant::F16 => 1,
            Quant::Q4_0 => 2,
            Quant::Q8_0 => 7,
            Quant::Q4KM => 15,
            Quant::Q5KM => 17,
            Quant::Q6K => 18,
        }
    }

    /// The type of most matrices.
    fn base(self) -> TensorType {
        match self {
            Quant::F16 => TensorType::F16,
            Quant::Q4_0 => TensorType::Q4_0,
            Quant::Q8_0 => TensorType::Q8_0,
            Quant::Q4KM => TensorType::Q4K,
            Quant::Q5KM => TensorType::Q5K,
            Quant::Q6K => TensorType::Q6K,
        }
    }

    /// The type of `tensor` in a model of this shape.
    pub fn type_of(self, tensor: &Tensor, shape: &ModelShape) -> TensorType {
        let is_plain = matches!(tensor.role, Role::Lookup | Role::Bias | Role::Decay | Role::TimeStep);
        if tensor.dims.len() == 1 || is_plain {
            return TensorType::F32;
        }
        let base = self.base();
        let is_output = tensor.role == Role::Output || (shape.tied && tensor.role == Role::Embedding);
        let wanted = match self {
            Quant::F16 | Quant::Q8_0 => base,
            _ if is_output && !tensor.width().is_multiple_of(base.block_elements()) => TensorType::Q8_0,
            _ if is_output => TensorType::Q6K,
            Quant::Q4KM | Quant::Q5KM => match tensor.role {
                Role::AttnV | Role::FfnDown if use_more_bits(tensor.layer, shape.layers) => TensorType::Q6K,
                _ => base,
            },
            _ => base,
        };
        fitting(wanted, tensor.width())
    }
}

/// Whether `attn_v` and `ffn_down` of this layer get more bits: those in the first and last eighth, and every third
/// between.
fn use_more_bits(layer: usize, layers: usize) -> bool {
    layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2
}

/// `wanted`, or the type that replaces it if a row isn't a whole number of its blocks.
fn fitting(wanted: TensorType, width: usize) -> TensorType {
    if width.is_multiple_of(wanted.block_elements()) {
        return wanted;
    }
    let smaller = match wanted {
        TensorType::Q4K => TensorType::Q5_0,
        TensorType::Q5K => TensorType::Q5_1,
        TensorType::Q6K => TensorType::Q8_0,
        other => other,
    };
    if width.is_multiple_of(smaller.block_elements()) { smaller } else { TensorType::F16 }
}
