//! The real models that `make test` downloads into `target/models`.

use std::path::PathBuf;

/// SmolLM2-135M-Instruct, Q4_1: a Llama shape with a ChatML template.
pub const SMOLLM2: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
/// Gemma 3 270M, the base model, Q4_K_M: a sliding window, heads of 256 numbers.
pub const GEMMA3: &str = "gemma-3-270m.Q4_K_M.gguf";

/// The path of a model. If it isn't there, prints that the test was not run and returns `None`; the test then returns.
///
/// # Panics
/// The model isn't there, and `CLLM_REAL_MODELS=required` is set.
pub fn real_model(name: &str) -> Option<PathBuf> {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let path = target.parent().expect("cargo's folder for tests lies in the target folder").join("models").join(name);
    if path.exists() {
        return Some(path);
    }
    let required = std::env::var("CLLM_REAL_MODELS").is_ok_and(|value| value == "required");
    assert!(!required, "{} is missing: tests/models.sh fetches it", path.display());
    println!("NOT RUN: {name} is missing; `make test` fetches it");
    None
}
