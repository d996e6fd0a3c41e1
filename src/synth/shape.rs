//! The dimensions of a model and the tensors they imply: llama.cpp's names, for its `qwen3`, `llama` and `bert`
//! architectures.

use crate::gguf::{GgufWriter, Value};
use crate::llama::quantize::TensorType;

/// Most layers of a model: llama.cpp's ceiling (`LLAMA_MAX_LAYERS`).
const LAYERS_MAX: usize = 512;
/// Most elements of a width or a vocabulary, above the largest known models. Keeps products of sizes within 64 bits.
const WIDTH_MAX: usize = 1 << 20;

/// The architecture, which decides the graph that llama.cpp builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// Like Llama, with normalised queries and keys.
    Qwen3,
    Llama,
    /// Attends in both directions, with learned positions. Makes embeddings, not text.
    Bert,
}

impl Arch {
    /// The name with which metadata keys begin.
    fn key(self) -> &'static str {
        match self {
            Arch::Qwen3 => "qwen3",
            Arch::Llama => "llama",
            Arch::Bert => "bert",
        }
    }

    /// The name in the output of commands.
    pub fn name(self) -> &'static str {
        match self {
            Arch::Qwen3 => "Qwen3",
            Arch::Llama => "Llama",
            Arch::Bert => "BERT",
        }
    }
}

/// A model's dimensions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    pub name: &'static str,
    pub arch: Arch,
    pub layers: usize,
    /// Width of the residual stream, in elements.
    pub embd: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Width of the feed-forward part, in elements.
    pub ffn: usize,
    pub vocab: usize,
    /// The context length in the metadata, in tokens.
    pub ctx: usize,
    pub rope_base: f32,
    /// Added inside a norm, so that it never divides by zero.
    pub rms_eps: f32,
    /// Whether the output matrix is the embedding matrix.
    pub tied: bool,
    /// Whether a BERT model has a head that ranks texts.
    pub ranks: bool,
}

/// The use of a tensor, which decides its type and its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Embedding,
    Output,
    OutputNorm,
    Norm,
    /// Added to each row of a matrix product.
    Bias,
    /// A table that is indexed by position or by kind of text. Never quantised.
    Lookup,
    AttnV,
    FfnDown,
    /// Any other matrix.
    Matrix,
}

/// One tensor to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub name: String,
    /// Elements along each dimension, the fastest first: `dims[0]` is the width of a row.
    pub dims: Vec<usize>,
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

const QWEN3: Shape = Shape {
    name: "",
    arch: Arch::Qwen3,
    layers: 28,
    embd: 1024,
    heads: 16,
    kv_heads: 8,
    head_dim: 128,
    ffn: 3072,
    vocab: 151_936,
    ctx: 40_960,
    rope_base: 1e6,
    rms_eps: 1e-6,
    tied: true,
    ranks: false,
};

const LLAMA3: Shape = Shape {
    arch: Arch::Llama,
    layers: 16,
    embd: 2048,
    heads: 32,
    head_dim: 64,
    ffn: 8192,
    vocab: 128_256,
    ctx: 131_072,
    rope_base: 5e5,
    rms_eps: 1e-5,
    ..QWEN3
};

const BERT: Shape = Shape {
    arch: Arch::Bert,
    layers: 6,
    embd: 384,
    heads: 12,
    kv_heads: 12,
    head_dim: 32,
    ffn: 1536,
    vocab: 30_522,
    ctx: 512,
    rms_eps: 1e-12,
    ..QWEN3
};

/// Kinds of text that a BERT model distinguishes. llama.cpp always uses the first.
const TEXT_KINDS: usize = 2;

/// From the models' published configurations; `tiny` and `bert-tiny...` are for tests.
#[rustfmt::skip]
pub static SHAPES: &[Shape] = &[
    Shape { name: "tiny", layers: 2, embd: 256, heads: 4, kv_heads: 2, head_dim: 64, ffn: 512, vocab: 2048, ctx: 4096, ..QWEN3 },
    Shape { name: "qwen3-0.6b", ..QWEN3 },
    Shape { name: "qwen3-1.7b", embd: 2048, ffn: 6144, ..QWEN3 },
    Shape { name: "qwen3-4b", layers: 36, embd: 2560, heads: 32, ffn: 9728, ..QWEN3 },
    Shape { name: "qwen3-8b", layers: 36, embd: 4096, heads: 32, ffn: 12_288, tied: false, ..QWEN3 },
    Shape { name: "llama-3.2-1b", ..LLAMA3 },
    Shape { name: "llama-3.2-3b", layers: 28, embd: 3072, heads: 24, head_dim: 128, ..LLAMA3 },
    Shape { name: "llama-3.1-8b", layers: 32, embd: 4096, head_dim: 128, ffn: 14_336, tied: false, ..LLAMA3 },
    Shape { name: "bert-tiny", layers: 2, embd: 128, heads: 4, kv_heads: 4, ffn: 256, vocab: 2048, ..BERT },
    Shape { name: "bert-tiny-rank", layers: 2, embd: 128, heads: 4, kv_heads: 4, ffn: 256, vocab: 2048, ranks: true, ..BERT },
    Shape { name: "minilm-l6", ..BERT },
    Shape { name: "bge-base", layers: 12, embd: 768, head_dim: 64, ffn: 3072, ..BERT },
];

impl Shape {
    /// The shape of this name; `None`: there is none.
    pub fn named(name: &str) -> Option<Shape> {
        SHAPES.iter().find(|shape| shape.name == name).copied()
    }

    /// Checks all dimensions.
    ///
    /// # Errors
    /// The flag of the first dimension that a model can't have, and why.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let bounds = [
            ("--layers", self.layers, 1, LAYERS_MAX),
            ("--embd", self.embd, 32, WIDTH_MAX),
            ("--heads", self.heads, 1, 1024),
            ("--kv-heads", self.kv_heads, 1, 1024),
            ("--head-dim", self.head_dim, 32, 512),
            ("--ffn", self.ffn, 32, WIDTH_MAX),
            ("--vocab", self.vocab, self.vocab_min(), WIDTH_MAX),
            ("--ctx", self.ctx, 1, 1 << 24),
        ];
        for (name, value, least, most) in bounds {
            if !(least..=most).contains(&value) {
                return Err((name, format!("{value} isn't from {least} to {most}")));
            }
        }
        // 32 values are the smallest block of a quantised row.
        for (name, value) in [("--embd", self.embd), ("--head-dim", self.head_dim), ("--ffn", self.ffn)] {
            if value % 32 != 0 {
                return Err((name, format!("{value} isn't a multiple of 32")));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err((
                "--kv-heads",
                format!("{} heads can't be divided evenly among {}", self.heads, self.kv_heads),
            ));
        }
        if self.arch == Arch::Bert && self.heads * self.head_dim != self.embd {
            let (heads, head_dim, embd) = (self.heads, self.head_dim, self.embd);
            return Err((
                "--head-dim",
                format!("{heads} heads of {head_dim} must together be as wide as --embd, {embd}"),
            ));
        }
        if self.arch == Arch::Bert && !self.tied {
            return Err(("--tied", "BERT has no output matrix besides the embedding".to_owned()));
        }
        Ok(())
    }

    /// The smallest vocabulary that can be generated for this shape.
    pub fn vocab_min(&self) -> usize {
        if self.arch == Arch::Bert { super::vocab::WORDPIECE_SIZE_MIN } else { super::vocab::SIZE_MIN }
    }

    /// Every tensor, in the order they are written.
    pub fn tensors(&self) -> Vec<Tensor> {
        if self.arch == Arch::Bert { self.bert_tensors() } else { self.decoder_tensors() }
    }

    fn bert_tensors(&self) -> Vec<Tensor> {
        let Shape { embd, ffn, vocab, ctx, .. } = *self;
        let kv = self.kv_heads * self.head_dim;
        let mut tensors = Vec::new();
        let mut add = |name: String, dims: &[usize], role: Role, layer: usize| {
            tensors.push(Tensor { name, dims: dims.to_vec(), role, layer });
        };
        add("token_embd.weight".to_owned(), &[embd, vocab], Role::Embedding, 0);
        add("token_types.weight".to_owned(), &[embd, TEXT_KINDS], Role::Lookup, 0);
        add("position_embd.weight".to_owned(), &[embd, ctx], Role::Lookup, 0);
        add("token_embd_norm.weight".to_owned(), &[embd], Role::Norm, 0);
        add("token_embd_norm.bias".to_owned(), &[embd], Role::Bias, 0);
        for layer in 0..self.layers {
            let mut part = |name: &str, dims: &[usize], role: Role| {
                let last = dims[dims.len() - 1];
                add(format!("blk.{layer}.{name}.weight"), dims, role, layer);
                add(format!("blk.{layer}.{name}.bias"), &[last], Role::Bias, layer);
            };
            part("attn_q", &[embd, embd], Role::Matrix);
            part("attn_k", &[embd, kv], Role::Matrix);
            part("attn_v", &[embd, kv], Role::AttnV);
            part("attn_output", &[embd, embd], Role::Matrix);
            part("attn_output_norm", &[embd], Role::Norm);
            part("ffn_up", &[embd, ffn], Role::Matrix);
            part("ffn_down", &[ffn, embd], Role::FfnDown);
            part("layer_output_norm", &[embd], Role::Norm);
        }
        if self.ranks {
            add("cls.weight".to_owned(), &[embd, embd], Role::Matrix, 0);
            add("cls.bias".to_owned(), &[embd], Role::Bias, 0);
            add("cls.output.weight".to_owned(), &[embd, 1], Role::Lookup, 0);
            add("cls.output.bias".to_owned(), &[1], Role::Bias, 0);
        }
        tensors
    }

    fn decoder_tensors(&self) -> Vec<Tensor> {
        let Shape { embd, ffn, head_dim, vocab, .. } = *self;
        let (q, kv) = (self.heads * head_dim, self.kv_heads * head_dim);
        let mut tensors = Vec::new();
        let mut add = |name: String, dims: &[usize], role: Role, layer: usize| {
            tensors.push(Tensor { name, dims: dims.to_vec(), role, layer });
        };
        add("token_embd.weight".to_owned(), &[embd, vocab], Role::Embedding, 0);
        add("output_norm.weight".to_owned(), &[embd], Role::OutputNorm, 0);
        if !self.tied {
            add("output.weight".to_owned(), &[embd, vocab], Role::Output, 0);
        }
        for layer in 0..self.layers {
            let mut part =
                |name: &str, dims: &[usize], role| add(format!("blk.{layer}.{name}.weight"), dims, role, layer);
            part("attn_norm", &[embd], Role::Norm);
            part("attn_q", &[embd, q], Role::Matrix);
            part("attn_k", &[embd, kv], Role::Matrix);
            part("attn_v", &[embd, kv], Role::AttnV);
            part("attn_output", &[q, embd], Role::Matrix);
            if self.arch == Arch::Qwen3 {
                part("attn_q_norm", &[head_dim], Role::Norm);
                part("attn_k_norm", &[head_dim], Role::Norm);
            }
            part("ffn_norm", &[embd], Role::Norm);
            part("ffn_gate", &[embd, ffn], Role::Matrix);
            part("ffn_up", &[embd, ffn], Role::Matrix);
            part("ffn_down", &[ffn, embd], Role::FfnDown);
        }
        tensors
    }

    /// The number of parameters of the model.
    pub fn parameters(&self) -> u64 {
        self.tensors().iter().map(|tensor| tensor.dims.iter().product::<usize>() as u64).sum()
    }

    /// Adds the metadata keys from which llama.cpp reads the shape.
    pub fn describe(&self, writer: &mut GgufWriter) {
        let arch = self.arch.key();
        writer.add_kv("general.architecture", Value::str(arch));
        writer.add_kv("general.type", Value::str("model"));
        for (key, value) in [
            ("block_count", self.layers),
            ("context_length", self.ctx),
            ("embedding_length", self.embd),
            ("feed_forward_length", self.ffn),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.kv_heads),
            ("vocab_size", self.vocab),
        ] {
            writer.add_kv(&format!("{arch}.{key}"), Value::U32(value as u32));
        }
        if self.arch == Arch::Bert {
            writer.add_kv("bert.attention.layer_norm_epsilon", Value::F32(self.rms_eps));
            writer.add_kv("bert.attention.causal", Value::Bool(false));
            // 4: the head's output. 1: the mean over all tokens. These are llama.cpp's numbers.
            writer.add_kv("bert.pooling_type", Value::U32(if self.ranks { 4 } else { 1 }));
            writer.add_kv("tokenizer.ggml.token_type_count", Value::U32(TEXT_KINDS as u32));
            return;
        }
        for key in ["attention.key_length", "attention.value_length", "rope.dimension_count"] {
            writer.add_kv(&format!("{arch}.{key}"), Value::U32(self.head_dim as u32));
        }
        writer.add_kv(&format!("{arch}.attention.layer_norm_rms_epsilon"), Value::F32(self.rms_eps));
        writer.add_kv(&format!("{arch}.rope.freq_base"), Value::F32(self.rope_base));
    }
}
