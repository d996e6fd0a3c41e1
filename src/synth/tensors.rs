//! The tensors of a shape, under llama.cpp's names.

use super::shape::{Arch, ModelShape, TEXT_KINDS};
use crate::llama::quantize::TensorType;

/// The use of a tensor, which decides its type and its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The embedding of tokens.
    Embedding,
    /// The output matrix, from which logits are computed.
    Output,
    /// The norm before the output matrix.
    OutputNorm,
    /// Any other norm.
    Norm,
    /// The norm of what a layer adds to the residual stream.
    AddedNorm,
    /// Added to each row of a matrix product.
    Bias,
    /// A table indexed by position or by kind of text, the kernel of a convolution, or the matrix that selects experts.
    /// Never quantised.
    Lookup,
    /// How fast each number of a state space decays. Never quantised.
    Decay,
    /// The time steps of a state space for an input of zero.
    TimeStep,
    /// The matrix of an attention's values, which some mixes give more bits.
    AttnV,
    /// The last matrix of a feed-forward part, which some mixes give more bits.
    FfnDown,
    /// Any other matrix.
    Matrix,
}

/// One tensor to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The tensor's name in the file.
    pub name: String,
    /// Elements along each dimension, the fastest first: `dims[0]` is the width of a row.
    pub dims: Vec<usize>,
    /// Its use.
    pub role: Role,
    /// The layer's index; 0 for tensors outside the layers.
    pub layer: usize,
}

impl Tensor {
    /// Elements of a row.
    pub fn width(&self) -> usize {
        self.dims[0]
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.dims[1..].iter().product()
    }

    /// Bytes of its data in the type `ty`.
    pub fn bytes(&self, ty: TensorType) -> u64 {
        ty.row_bytes(self.width()) as u64 * self.rows() as u64
    }
}

/// Tensors under construction, in the order they are written.
struct List {
    tensors: Vec<Tensor>,
    layer: usize,
}

impl List {
    fn add(&mut self, name: &str, dims: &[usize], role: Role) {
        self.tensors.push(Tensor { name: name.to_owned(), dims: dims.to_vec(), role, layer: 0 });
    }

    /// A tensor of the current layer, under its whole name.
    fn part(&mut self, name: &str, dims: &[usize], role: Role) {
        let name = format!("blk.{}.{name}", self.layer);
        self.tensors.push(Tensor { name, dims: dims.to_vec(), role, layer: self.layer });
    }

    /// Like `part`, for a tensor whose name ends in `.weight`.
    fn weight(&mut self, name: &str, dims: &[usize], role: Role) {
        self.part(&format!("{name}.weight"), dims, role);
    }

    /// A weight and the bias of its last dimension.
    fn biased(&mut self, name: &str, dims: &[usize], role: Role) {
        self.weight(name, dims, role);
        self.part(&format!("{name}.bias"), &[dims[dims.len() - 1]], Role::Bias);
    }
}

impl ModelShape {
    /// Every tensor, in the order they are written.
    pub fn tensors(&self) -> Vec<Tensor> {
        let mut list = List { tensors: Vec::new(), layer: 0 };
        if self.arch == Arch::Bert {
            self.add_bert(&mut list);
        } else {
            self.add_decoder(&mut list);
        }
        list.tensors
    }

    /// The number of parameters of the model.
    pub fn parameters(&self) -> u64 {
        self.tensors().iter().map(|tensor| tensor.dims.iter().product::<usize>() as u64).sum()
    }

    fn add_bert(&self, list: &mut List) {
        let ModelShape { embd, ffn, vocab, ctx, .. } = *self;
        let kv = self.kv_heads * self.head_dim;
        list.add("token_embd.weight", &[embd, vocab], Role::Embedding);
        list.add("token_types.weight", &[embd, TEXT_KINDS], Role::Lookup);
        list.add("position_embd.weight", &[embd, ctx], Role::Lookup);
        list.add("token_embd_norm.weight", &[embd], Role::Norm);
        list.add("token_embd_norm.bias", &[embd], Role::Bias);
        for layer in 0..self.layers {
            list.layer = layer;
            list.biased("attn_q", &[embd, embd], Role::Matrix);
            list.biased("attn_k", &[embd, kv], Role::Matrix);
            list.biased("attn_v", &[embd, kv], Role::AttnV);
            list.biased("attn_output", &[embd, embd], Role::Matrix);
            list.biased("attn_output_norm", &[embd], Role::Norm);
            list.biased("ffn_up", &[embd, ffn], Role::Matrix);
            list.biased("ffn_down", &[ffn, embd], Role::FfnDown);
            list.biased("layer_output_norm", &[embd], Role::Norm);
        }
        if self.ranks {
            list.add("cls.weight", &[embd, embd], Role::Matrix);
            list.add("cls.bias", &[embd], Role::Bias);
            list.add("cls.output.weight", &[embd, 1], Role::Lookup);
            list.add("cls.output.bias", &[1], Role::Bias);
        }
    }

    fn add_decoder(&self, list: &mut List) {
        let ModelShape { embd, vocab, .. } = *self;
        list.add("token_embd.weight", &[embd, vocab], Role::Embedding);
        // llama.cpp names the output norm of LFM2 as the first converted files did.
        let norm = if self.arch == Arch::Lfm2 { "token_embd_norm.weight" } else { "output_norm.weight" };
        list.add(norm, &[embd], Role::OutputNorm);
        if !self.tied {
            list.add("output.weight", &[embd, vocab], Role::Output);
        }
        for layer in 0..self.layers {
            list.layer = layer;
            list.weight("attn_norm", &[embd], Role::Norm);
            if self.attends(layer) {
                self.add_attention(list);
            } else if self.arch == Arch::Lfm2 {
                list.weight("shortconv.conv", &[self.conv, embd], Role::Lookup);
                list.weight("shortconv.in_proj", &[embd, 3 * embd], Role::Matrix);
                list.weight("shortconv.out_proj", &[embd, embd], Role::Matrix);
            } else {
                self.add_state_space(list);
            }
            if self.arch == Arch::GptOss {
                self.add_experts(list);
            } else if self.arch != Arch::Mamba {
                list.weight("ffn_norm", &[embd], Role::Norm);
                list.weight("ffn_gate", &[embd, self.ffn], Role::Matrix);
                list.weight("ffn_up", &[embd, self.ffn], Role::Matrix);
                list.weight("ffn_down", &[self.ffn, embd], Role::FfnDown);
            }
            if self.arch == Arch::Gemma3 {
                list.weight("post_ffw_norm", &[embd], Role::AddedNorm);
            }
        }
    }

    fn add_attention(&self, list: &mut List) {
        let ModelShape { embd, head_dim, .. } = *self;
        let (q, kv) = (self.heads * head_dim, self.kv_heads * head_dim);
        if self.arch == Arch::GptOss {
            list.biased("attn_q", &[embd, q], Role::Matrix);
            list.biased("attn_k", &[embd, kv], Role::Matrix);
            list.biased("attn_v", &[embd, kv], Role::AttnV);
            list.biased("attn_output", &[q, embd], Role::Matrix);
            list.weight("attn_sinks", &[self.heads], Role::Bias);
        } else {
            list.weight("attn_q", &[embd, q], Role::Matrix);
            list.weight("attn_k", &[embd, kv], Role::Matrix);
            list.weight("attn_v", &[embd, kv], Role::AttnV);
            list.weight("attn_output", &[q, embd], Role::Matrix);
        }
        if matches!(self.arch, Arch::Qwen3 | Arch::Gemma3 | Arch::Lfm2) {
            list.weight("attn_q_norm", &[head_dim], Role::Norm);
            list.weight("attn_k_norm", &[head_dim], Role::Norm);
        }
        match self.arch {
            Arch::Gemma3 => list.weight("post_attention_norm", &[embd], Role::AddedNorm),
            // Despite its name this is the norm before the experts.
            Arch::GptOss => list.weight("post_attention_norm", &[embd], Role::Norm),
            _ => {}
        }
    }

    fn add_state_space(&self, list: &mut List) {
        let ModelShape { embd, conv, state, time_rank, .. } = *self;
        let inner = self.inner();
        list.weight("ssm_in", &[embd, 2 * inner], Role::Matrix);
        list.weight("ssm_conv1d", &[conv, inner], Role::Lookup);
        list.part("ssm_conv1d.bias", &[inner], Role::Bias);
        list.weight("ssm_x", &[inner, time_rank + 2 * state], Role::Matrix);
        list.weight("ssm_dt", &[time_rank, inner], Role::Matrix);
        list.part("ssm_dt.bias", &[inner], Role::TimeStep);
        list.part("ssm_a", &[state, inner], Role::Decay);
        list.part("ssm_d", &[inner], Role::Norm);
        list.weight("ssm_out", &[inner, embd], Role::Matrix);
    }

    fn add_experts(&self, list: &mut List) {
        let ModelShape { embd, ffn, experts, .. } = *self;
        list.biased("ffn_gate_inp", &[embd, experts], Role::Lookup);
        for (name, rows, columns, role) in [
            ("ffn_gate_exps", embd, ffn, Role::Matrix),
            ("ffn_up_exps", embd, ffn, Role::Matrix),
            ("ffn_down_exps", ffn, embd, Role::FfnDown),
        ] {
            list.weight(name, &[rows, columns, experts], role);
            list.part(&format!("{name}.bias"), &[columns, experts], Role::Bias);
        }
    }
}
