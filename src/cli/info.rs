//! `cllm info`: prints what a GGUF contains, without loading the model.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::ValueHint;
use serde_json::{Map, Value, json};

use super::pull::HubFlags;
use crate::appliance;
use crate::config::ModelSource;
use crate::gguf::GgufFile;
use crate::llama::quantize::type_name;
use crate::model_file::ModelFile;
use crate::types::StartupError;

/// Print what a GGUF file holds
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cllm info model.gguf
  cllm info --json model.gguf | jq .context")]
pub struct InfoArgs {
    /// A GGUF file [default: the model inside this program]
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "hf_repo")]
    pub file: Option<PathBuf>,
    /// The flags that name a model on the hub.
    #[command(flatten)]
    pub hub: HubFlags,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}

/// Prints the summary.
///
/// # Errors
/// The file can't be fetched or read, or stdout can't be written to. If the file lacks data of tensors, the summary is printed first.
pub fn run(args: &InfoArgs) -> Result<(), StartupError> {
    let named = args.hub.fetch()?.or_else(|| args.file.clone());
    let file = match &named {
        Some(path) => GgufFile::open(path)?,
        None => ModelFile::open(&ModelSource::BuiltIn)?.gguf()?,
    };
    let facts = summary(&file);
    if args.json {
        crate::console::print(&format!("{:#}\n", Value::Object(facts)))?;
    } else {
        if let (None, Some(appliance)) = (&named, appliance::own()?) {
            crate::console::print(&super::bundle::contents(appliance))?;
        }
        crate::console::print(&lines(&facts))?;
    }
    file.check_complete()
}

/// The facts, in the order in which they are shown. A fact that the file lacks is null.
pub fn summary(file: &GgufFile) -> Map<String, Value> {
    let arch = file.str("general.architecture").unwrap_or("unknown");
    let of_arch = |key: &str| file.u64(&format!("{arch}.{key}"));
    let mut by_type: BTreeMap<u32, u64> = BTreeMap::new();
    let mut parameters = 0u64;
    for tensor in file.tensors() {
        *by_type.entry(tensor.ggml_type).or_default() += 1;
        parameters = parameters.saturating_add(tensor.dims.iter().fold(1u64, |n, dim| n.saturating_mul(*dim)));
    }
    let mut by_count: Vec<_> = by_type.into_iter().collect();
    by_count.sort_by_key(|(ty, count)| (std::cmp::Reverse(*count), *ty));
    let types: Map<String, Value> = by_count.into_iter().map(|(ty, count)| (name_of(ty), json!(count))).collect();
    let tokens = file.strs("tokenizer.ggml.tokens").map(|tokens| tokens.len());
    let facts = json!({
        "file": file.path().display().to_string(),
        "bytes": file.file_bytes(),
        "name": file.str("general.name"),
        "architecture": arch,
        "quantisation": file.u32("general.file_type").map(file_type_name),
        "parameters": parameters,
        "tensors": file.tensors().len(),
        "tensor_types": types,
        "context": of_arch("context_length"),
        "layers": of_arch("block_count"),
        "embedding": of_arch("embedding_length"),
        "heads": of_arch("attention.head_count"),
        "kv_heads": of_arch("attention.head_count_kv"),
        "vocabulary": tokens,
        "vocabulary_kind": file.str("tokenizer.ggml.model").map(vocabulary_kind),
        "pre_tokenizer": file.str("tokenizer.ggml.pre"),
        "chat_template": file.str("tokenizer.chat_template").is_some(),
        "pooling": of_arch("pooling_type").map(pooling_name),
    });
    match facts {
        Value::Object(facts) => facts,
        _ => Map::new(),
    }
}

fn name_of(ggml_type: u32) -> String {
    type_name(ggml_type).map_or_else(|| format!("type {ggml_type}"), str::to_owned)
}

/// The name of the commonest values of `enum llama_ftype`.
fn file_type_name(number: u32) -> String {
    let name = match number {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        25 => "IQ4_NL",
        30 => "IQ4_XS",
        32 => "BF16",
        other => return format!("type {other}"),
    };
    name.to_owned()
}

/// The kind of vocabulary in `tokenizer.ggml.model`, in words.
fn vocabulary_kind(model: &str) -> String {
    let kind = match model {
        "gpt2" => "byte-level BPE",
        "llama" => "SentencePiece BPE with byte fallback",
        "bert" => "WordPiece",
        "t5" => "Unigram",
        "rwkv" => "RWKV",
        "none" | "no_vocab" => "none",
        other => other,
    };
    kind.to_owned()
}

/// A value of `enum llama_pooling_type`, in words.
fn pooling_name(number: u64) -> String {
    match number {
        0 => "none".to_owned(),
        1 => "mean".to_owned(),
        2 => "cls".to_owned(),
        3 => "last".to_owned(),
        4 => "rank".to_owned(),
        other => format!("type {other}"),
    }
}

fn lines(facts: &Map<String, Value>) -> String {
    let text = |key: &str| match facts.get(key) {
        None | Some(Value::Null) => "-".to_owned(),
        // Texts of the file may contain control characters, which a terminal would obey.
        Some(Value::String(text)) => text.chars().filter(|c| !c.is_control()).collect(),
        Some(value) => value.to_string(),
    };
    let bytes = facts.get("bytes").and_then(Value::as_u64).unwrap_or(0);
    let parameters = facts.get("parameters").and_then(Value::as_u64).unwrap_or(0);
    let types = facts.get("tensor_types").and_then(Value::as_object);
    let types: Vec<_> = types.into_iter().flatten().map(|(name, count)| format!("{count} {name}")).collect();
    let has_template = facts.get("chat_template") == Some(&Value::Bool(true));
    let rows = [
        ("File", text("file")),
        ("Name", text("name")),
        ("Architecture", text("architecture")),
        ("Quantisation", text("quantisation")),
        ("Size", format!("{:.1} MiB, {:.1} M parameters", bytes as f64 / 1_048_576.0, parameters as f64 / 1e6)),
        ("Tensors", format!("{}: {}", text("tensors"), types.join(", "))),
        ("Context", format!("{} tokens", text("context"))),
        ("Layers", format!("{}, {} wide", text("layers"), text("embedding"))),
        ("Heads", format!("{}, {} of keys and values", text("heads"), text("kv_heads"))),
        ("Vocabulary", format!("{} tokens, {}", text("vocabulary"), text("vocabulary_kind"))),
        ("Pre-tokenizer", text("pre_tokenizer")),
        ("Chat template", if has_template { "yes" } else { "no" }.to_owned()),
    ];
    // Shown only if the file says how embeddings are pooled; few files do.
    let pooling = facts.get("pooling").is_some_and(|pooling| !pooling.is_null());
    let pooling = pooling.then(|| ("Embeddings", format!("{} pooling", text("pooling"))));
    rows.iter().chain(&pooling).map(|(name, value)| format!("{name:<14}{value}\n")).collect()
}
