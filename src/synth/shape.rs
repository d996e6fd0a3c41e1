//! The dimensions of a model, and the metadata from which llama.cpp reads them. `tensors` has the tensors that they imply.

use crate::gguf::{GgufWriter, Value};
use crate::types::limits::SYNTH_WIDTH_MAX;

/// Most layers of a model: llama.cpp's ceiling (`LLAMA_MAX_LAYERS`).
const LAYERS_MAX: usize = 512;

/// The architecture, which decides the graph that llama.cpp builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// Like Llama, with normalised queries and keys.
    Qwen3,
    /// Llama 2 and 3.
    Llama,
    /// Attends in both directions, with learned positions. Makes embeddings, not text.
    Bert,
    /// Hybrid: short convolutions in most layers, attention in the others (`ATTENTION_OF_LFM2`).
    Lfm2,
    /// Recurrent: a state space in each layer, no attention.
    Mamba,
    /// Most layers attend to a sliding window.
    Gemma3,
    /// Every second layer attends to a sliding window; each head has a sink; a mixture of experts.
    GptOss,
}

/// Of 16 layers of LFM2, these have attention (the published configuration of 350M, `full_attn_idxs`).
const ATTENTION_OF_LFM2: [usize; 6] = [2, 5, 8, 10, 12, 14];

impl Arch {
    /// The name with which metadata keys begin.
    fn key(self) -> &'static str {
        match self {
            Arch::Qwen3 => "qwen3",
            Arch::Llama => "llama",
            Arch::Bert => "bert",
            Arch::Lfm2 => "lfm2",
            Arch::Mamba => "mamba",
            Arch::Gemma3 => "gemma3",
            Arch::GptOss => "gpt-oss",
        }
    }

    /// The name in the output of commands.
    pub fn name(self) -> &'static str {
        match self {
            Arch::Qwen3 => "Qwen3",
            Arch::Llama => "Llama",
            Arch::Bert => "BERT",
            Arch::Lfm2 => "LFM2",
            Arch::Mamba => "Mamba",
            Arch::Gemma3 => "Gemma 3",
            Arch::GptOss => "GPT-OSS",
        }
    }
}

/// A model's dimensions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModelShape {
    /// The shape's name in `--shape`.
    pub name: &'static str,
    /// The architecture.
    pub arch: Arch,
    /// Number of layers.
    pub layers: usize,
    /// Width of the residual stream, in elements.
    pub embd: usize,
    /// Query heads; 0 in a model without attention.
    pub heads: usize,
    /// Key and value heads; they divide `heads`.
    pub kv_heads: usize,
    /// Elements of one head.
    pub head_dim: usize,
    /// Width of the feed-forward part, or of one expert's if there are experts, in elements; 0: there is none.
    pub ffn: usize,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// The context length in the metadata, in tokens.
    pub ctx: usize,
    /// The base of the rotary position embedding's frequencies.
    pub rope_base: f32,
    /// Added to the mean square in a norm, so that it never divides by zero.
    pub rms_eps: f32,
    /// Whether the output matrix is the embedding matrix.
    pub tied: bool,
    /// Whether a BERT model has a head that ranks texts.
    pub ranks: bool,
    /// Tokens that a layer with a sliding window sees; 0 without such layers.
    pub window: usize,
    /// Experts of each layer; 0: there are none.
    pub experts: usize,
    /// Experts that compute each token.
    pub experts_used: usize,
    /// Tokens that a convolution spans, in LFM2 and Mamba.
    pub conv: usize,
    /// Numbers of a state of Mamba, for each element of its inner width.
    pub state: usize,
    /// Width from which Mamba's time steps are computed.
    pub time_rank: usize,
}

const QWEN3: ModelShape = ModelShape {
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
    window: 0,
    experts: 0,
    experts_used: 0,
    conv: 0,
    state: 0,
    time_rank: 0,
};

const LLAMA3: ModelShape = ModelShape {
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

const BERT: ModelShape = ModelShape {
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

const LFM2: ModelShape = ModelShape {
    arch: Arch::Lfm2,
    layers: 16,
    heads: 16,
    kv_heads: 8,
    head_dim: 64,
    ffn: 4608,
    vocab: 65_536,
    ctx: 128_000,
    rms_eps: 1e-5,
    conv: 3,
    ..QWEN3
};

const MAMBA: ModelShape = ModelShape {
    arch: Arch::Mamba,
    layers: 24,
    embd: 768,
    heads: 0,
    kv_heads: 0,
    head_dim: 0,
    ffn: 0,
    vocab: 50_280,
    ctx: 1 << 20,
    rms_eps: 1e-5,
    conv: 4,
    state: 16,
    time_rank: 48,
    ..QWEN3
};

const GEMMA3: ModelShape = ModelShape {
    arch: Arch::Gemma3,
    layers: 18,
    embd: 640,
    heads: 4,
    kv_heads: 1,
    head_dim: 256,
    ffn: 2048,
    vocab: 262_144,
    ctx: 32_768,
    window: 512,
    ..QWEN3
};

/// Kinds of text that a BERT model distinguishes. llama.cpp always uses the first.
pub const TEXT_KINDS: usize = 2;

/// The shapes, from the models' published configurations. Those with `tiny` in their names are for tests.
/// `gpt-oss-tiny` has the parts of GPT-OSS 20B, whose experts alone take 12 GB.
#[rustfmt::skip]
pub static SHAPES: &[ModelShape] = &[
    ModelShape { name: "tiny", layers: 2, embd: 256, heads: 4, kv_heads: 2, head_dim: 64, ffn: 512, vocab: 2048, ctx: 4096, ..QWEN3 },
    ModelShape { name: "qwen3-0.6b", ..QWEN3 },
    ModelShape { name: "qwen3-1.7b", embd: 2048, ffn: 6144, ..QWEN3 },
    ModelShape { name: "qwen3-4b", layers: 36, embd: 2560, heads: 32, ffn: 9728, ..QWEN3 },
    ModelShape { name: "qwen3-8b", layers: 36, embd: 4096, heads: 32, ffn: 12_288, tied: false, ..QWEN3 },
    ModelShape { name: "llama-3.2-1b", ..LLAMA3 },
    ModelShape { name: "llama-3.2-3b", layers: 28, embd: 3072, heads: 24, head_dim: 128, ..LLAMA3 },
    ModelShape { name: "llama-3.1-8b", layers: 32, embd: 4096, head_dim: 128, ffn: 14_336, tied: false, ..LLAMA3 },
    ModelShape { name: "lfm2-350m", ..LFM2 },
    ModelShape { name: "lfm2-tiny", layers: 4, embd: 256, heads: 4, kv_heads: 2, ffn: 512, vocab: 2048, ctx: 4096, ..LFM2 },
    ModelShape { name: "mamba-130m", ..MAMBA },
    ModelShape { name: "mamba-tiny", layers: 2, embd: 256, time_rank: 16, vocab: 2048, ctx: 4096, ..MAMBA },
    ModelShape { name: "gemma3-270m", ..GEMMA3 },
    ModelShape { name: "gemma3-tiny", layers: 6, embd: 256, head_dim: 64, ffn: 512, vocab: 2048, ctx: 4096, window: 64, ..GEMMA3 },
    ModelShape { name: "gpt-oss-tiny", arch: Arch::GptOss, layers: 4, embd: 256, heads: 8, kv_heads: 2, head_dim: 64, ffn: 256,
            vocab: 2048, ctx: 4096, rope_base: 150_000.0, rms_eps: 1e-5, tied: false, window: 128, experts: 8, experts_used: 4, ..QWEN3 },
    ModelShape { name: "bert-tiny", layers: 2, embd: 128, heads: 4, kv_heads: 4, ffn: 256, vocab: 2048, ..BERT },
    ModelShape { name: "bert-tiny-rank", layers: 2, embd: 128, heads: 4, kv_heads: 4, ffn: 256, vocab: 2048, ranks: true, ..BERT },
    ModelShape { name: "minilm-l6", ..BERT },
    ModelShape { name: "bge-base", layers: 12, embd: 768, head_dim: 64, ffn: 3072, ..BERT },
];

impl ModelShape {
    /// The shape of this name; `None`: there is none.
    pub fn named(name: &str) -> Option<ModelShape> {
        SHAPES.iter().find(|shape| shape.name == name).copied()
    }

    /// Checks all dimensions.
    ///
    /// # Errors
    /// The flag of the first dimension that a model can't have, and why.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let attends = self.arch != Arch::Mamba;
        let bounds = [
            ("--layers", self.layers, 1, LAYERS_MAX),
            ("--embd", self.embd, 32, SYNTH_WIDTH_MAX),
            ("--heads", self.heads, usize::from(attends), if attends { 1024 } else { 0 }),
            ("--kv-heads", self.kv_heads, usize::from(attends), if attends { 1024 } else { 0 }),
            ("--head-dim", self.head_dim, if attends { 32 } else { 0 }, if attends { 512 } else { 0 }),
            ("--ffn", self.ffn, if attends { 32 } else { 0 }, if attends { SYNTH_WIDTH_MAX } else { 0 }),
            ("--vocab", self.vocab, self.vocab_min(), SYNTH_WIDTH_MAX),
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
        if attends && !self.heads.is_multiple_of(self.kv_heads) {
            return Err((
                "--kv-heads",
                format!("{} heads can't be divided evenly among {}", self.heads, self.kv_heads),
            ));
        }
        if matches!(self.arch, Arch::Bert | Arch::Lfm2) && self.heads * self.head_dim != self.embd {
            let (heads, head_dim, embd) = (self.heads, self.head_dim, self.embd);
            return Err((
                "--head-dim",
                format!("{heads} heads of {head_dim} must together be as wide as --embd, {embd}"),
            ));
        }
        if self.arch == Arch::Bert && !self.tied {
            return Err(("--tied", "BERT has no output matrix besides the embedding".to_owned()));
        }
        if self.arch == Arch::GptOss && self.tied {
            return Err(("--tied", "GPT-OSS has an output matrix besides the embedding".to_owned()));
        }
        Ok(())
    }

    /// The smallest vocabulary that can be generated for this shape.
    pub fn vocab_min(&self) -> usize {
        if self.arch == Arch::Bert { super::alphabet::WORDPIECE_SIZE_MIN } else { super::alphabet::SIZE_MIN }
    }

    /// Whether this layer has attention.
    pub fn attends(&self, layer: usize) -> bool {
        match self.arch {
            Arch::Mamba => false,
            Arch::Lfm2 => ATTENTION_OF_LFM2.contains(&(layer % 16)),
            _ => true,
        }
    }

    /// Adds the metadata keys from which llama.cpp reads the shape.
    pub fn describe(&self, writer: &mut GgufWriter) {
        let arch = self.arch.key();
        writer.add_kv("general.architecture", Value::str(arch));
        writer.add_kv("general.type", Value::str("model"));
        let mut number = |key: &str, value: usize| {
            writer.add_kv(&format!("{arch}.{key}"), Value::U32(value as u32));
        };
        for (key, value) in [
            ("block_count", self.layers),
            ("context_length", self.ctx),
            ("embedding_length", self.embd),
            ("feed_forward_length", self.ffn),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.kv_heads),
            ("vocab_size", self.vocab),
        ] {
            number(key, value);
        }
        let particular: &[(&str, usize)] = match self.arch {
            Arch::Qwen3 | Arch::Llama | Arch::Bert => &[],
            Arch::Lfm2 => &[("shortconv.l_cache", self.conv)],
            Arch::Mamba => &[
                ("ssm.conv_kernel", self.conv),
                ("ssm.inner_size", self.inner()),
                ("ssm.state_size", self.state),
                ("ssm.time_step_rank", self.time_rank),
            ],
            Arch::Gemma3 => &[("attention.sliding_window", self.window)],
            Arch::GptOss => &[
                ("attention.sliding_window", self.window),
                ("expert_feed_forward_length", self.ffn),
                ("expert_count", self.experts),
                ("expert_used_count", self.experts_used),
            ],
        };
        particular.iter().for_each(|(key, value)| number(key, *value));
        if self.arch == Arch::Lfm2 {
            let heads = |layer| if self.attends(layer) { self.kv_heads as i32 } else { 0 };
            let each: Vec<i32> = (0..self.layers).map(heads).collect();
            writer.add_kv("lfm2.attention.head_count_kv", Value::i32s(&each));
        }
        if self.arch == Arch::Bert {
            writer.add_kv("bert.attention.layer_norm_epsilon", Value::F32(self.rms_eps));
            writer.add_kv("bert.attention.causal", Value::Bool(false));
            // 4: the head's output. 1: the mean over all tokens. These are llama.cpp's numbers.
            writer.add_kv("bert.pooling_type", Value::U32(if self.ranks { 4 } else { 1 }));
            writer.add_kv("tokenizer.ggml.token_type_count", Value::U32(TEXT_KINDS as u32));
            return;
        }
        if self.heads > 0 {
            for key in ["attention.key_length", "attention.value_length", "rope.dimension_count"] {
                writer.add_kv(&format!("{arch}.{key}"), Value::U32(self.head_dim as u32));
            }
            writer.add_kv(&format!("{arch}.rope.freq_base"), Value::F32(self.rope_base));
        }
        writer.add_kv(&format!("{arch}.attention.layer_norm_rms_epsilon"), Value::F32(self.rms_eps));
    }

    /// Width of Mamba's layers: llama.cpp takes only twice that of the residual stream.
    pub fn inner(&self) -> usize {
        2 * self.embd
    }
}
