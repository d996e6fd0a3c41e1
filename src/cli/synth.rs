//! `cllm synth`: writes a model of a real shape with random weights.

use std::path::PathBuf;
use std::time::Instant;

use clap::builder::PossibleValuesParser;
use clap::{ValueEnum, ValueHint};
use indicatif::{ProgressBar, ProgressStyle};

use crate::gguf::GgufFile;
use crate::synth::shape::SHAPES;
use crate::synth::{ModelShape, Quant, Spec, SynthVocab};
use crate::types::StartupError;

/// Write a model of a real shape with random weights, for benchmarks
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cllm synth --shape qwen3-0.6b --quant q4_k_m
  cllm synth --shape llama-3.1-8b --quant q8_0 -o random.gguf
  cllm synth --shape tiny --vocab-from model.gguf --layers 4 -o small.gguf")]
pub struct SynthArgs {
    /// The file to write [default: SHAPE-MIX-random.gguf]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    /// The model to look like
    #[arg(long, value_name = "NAME", default_value = "tiny",
          value_parser = PossibleValuesParser::new(SHAPES.iter().map(|shape| shape.name)))]
    shape: String,
    /// How the weights are stored: f16, q8_0, q6_k, q5_k_m, q4_k_m, q4_0
    #[arg(long, value_name = "MIX", default_value = "q4_k_m", hide_possible_values = true)]
    quant: Quant,
    /// Copy the vocabulary of this GGUF, instead of a made-up one
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    vocab_from: Option<PathBuf>,
    /// Seed of the weights
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Layers
    #[arg(long, value_name = "N", help_heading = "Instead of the shape's own")]
    layers: Option<usize>,
    /// Width of the residual stream
    #[arg(long, value_name = "N", help_heading = "Instead of the shape's own")]
    embd: Option<usize>,
    /// Attention heads
    #[arg(long, value_name = "N", help_heading = "Instead of the shape's own")]
    heads: Option<usize>,
    /// Heads of keys and values
    #[arg(long, value_name = "N", help_heading = "Instead of the shape's own")]
    kv_heads: Option<usize>,
    /// Width of a head
    #[arg(long, value_name = "N", help_heading = "Instead of the shape's own")]
    head_dim: Option<usize>,
    /// Width of the feed-forward part
    #[arg(long, value_name = "N", help_heading = "Instead of the shape's own")]
    ffn: Option<usize>,
    /// Tokens of the vocabulary
    #[arg(long, value_name = "N", help_heading = "Instead of the shape's own")]
    vocab: Option<usize>,
    /// Context it claims to be trained for
    #[arg(long, value_name = "TOKENS", help_heading = "Instead of the shape's own")]
    ctx: Option<usize>,
    /// Whether the output is the embedding again
    #[arg(long, value_name = "BOOL", help_heading = "Instead of the shape's own")]
    tied: Option<bool>,
}

/// Writes the file, with a progress bar on a terminal, and prints one line at the end.
///
/// # Errors
/// The flags contradict each other or the shape, or the file can't be written.
pub fn run(args: &SynthArgs) -> Result<(), StartupError> {
    let started = Instant::now();
    let spec = spec(args)?;
    let mix = args.quant.to_possible_value().map_or_else(String::new, |mix| mix.get_name().to_owned());
    let default = || PathBuf::from(format!("{}-{mix}-random.gguf", args.shape));
    let path = args.output.clone().unwrap_or_else(default);
    let bar = ProgressBar::new(spec.data_bytes());
    let style = ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let mut unheard = 0;
    spec.write(&path, args.force, |bytes| {
        // Rows are small: updating the bar after each would cost more than the row.
        unheard += bytes;
        if unheard > 1 << 20 {
            bar.inc(std::mem::take(&mut unheard));
        }
    })?;
    bar.finish_and_clear();
    let bytes = std::fs::metadata(&path).map_or(0, |about| about.len());
    crate::console::print(&format!(
        "{}: {:.1} M parameters, {:.1} MiB, {:.1} s\n",
        path.display(),
        spec.shape.parameters() as f64 / 1e6,
        bytes as f64 / (1 << 20) as f64,
        started.elapsed().as_secs_f64()
    ))
}

fn spec(args: &SynthArgs) -> Result<Spec, StartupError> {
    let named = ModelShape::named(&args.shape).ok_or_else(|| StartupError::Config {
        name: "--shape".to_owned(),
        reason: "no such shape; cllm synth --help lists them".to_owned(),
    })?;
    let mut shape = ModelShape {
        layers: args.layers.unwrap_or(named.layers),
        embd: args.embd.unwrap_or(named.embd),
        heads: args.heads.unwrap_or(named.heads),
        kv_heads: args.kv_heads.unwrap_or(named.kv_heads),
        head_dim: args.head_dim.unwrap_or(named.head_dim),
        ffn: args.ffn.unwrap_or(named.ffn),
        vocab: args.vocab.unwrap_or(named.vocab),
        ctx: args.ctx.unwrap_or(named.ctx),
        tied: args.tied.unwrap_or(named.tied),
        ..named
    };
    let refuse = |(name, reason): (&str, String)| StartupError::Config { name: name.to_owned(), reason };
    shape.check().map_err(refuse)?;
    let vocab = match &args.vocab_from {
        None => SynthVocab::for_shape(&shape),
        Some(path) => {
            let file = GgufFile::open(path)?;
            SynthVocab::copied(&file, shape.vocab)
                .map_err(|reason| StartupError::Model { path: path.clone(), reason })?
        }
    };
    shape.vocab = vocab.len();
    shape.check().map_err(refuse)?;
    let kind = shape.arch.name();
    let name = format!("{kind} shape {} with random weights", named.name);
    Ok(Spec { name, shape, quant: args.quant, vocab, seed: args.seed })
}
