//! Compiles the C++ shims against the llama.cpp headers that `llama-cpp-sys-2` installed, chooses the built-in model,
//! and stamps the version.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    compile_shims();
    choose_model();
    stamp_version();
}

/// `DEP_LLAMA_GGML_CMAKE_DIR` is `<out>/lib/cmake`; the headers lie in `<out>/include`.
fn compile_shims() {
    let cmake_dir = PathBuf::from(std::env::var_os("DEP_LLAMA_GGML_CMAKE_DIR").expect("set by llama-cpp-sys-2"));
    let include = cmake_dir.ancestors().nth(2).expect("two folders above the cmake folder").join("include");
    let shims = glob_shims();
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").include(include).warnings(true).flag_if_supported("-Wno-unused-parameter");
    // llama-cpp-sys-2 links libstdc++ itself, statically.
    build.cpp_link_stdlib(None);
    for shim in &shims {
        build.file(shim);
        println!("cargo:rerun-if-changed={}", shim.display());
    }
    println!("cargo:rerun-if-changed=src/llama/shim.h");
    build.compile("cllm_shim");
}

fn glob_shims() -> Vec<PathBuf> {
    let mut shims: Vec<PathBuf> = std::fs::read_dir("src/llama")
        .expect("src/llama exists")
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "cpp"))
        .collect();
    shims.sort();
    shims
}

/// `CLLM_BUILTIN_MODEL` names another GGUF to build in than `vendor/model/cllm-tiny.gguf`.
fn choose_model() {
    const VARIABLE: &str = "CLLM_BUILTIN_MODEL";
    let here = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let model = std::env::var_os(VARIABLE).map_or_else(|| here.join("vendor/model/cllm-tiny.gguf"), PathBuf::from);
    println!("cargo:rustc-env=CLLM_BUILTIN_MODEL_PATH={}", model.display());
    println!("cargo:rerun-if-env-changed={VARIABLE}");
    println!("cargo:rerun-if-changed={}", model.display());
}

/// `CLLM_BUILD` is the commit, or "unknown" outside a checkout.
fn stamp_version() {
    let commit = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map(|commit| commit.trim().to_owned())
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=CLLM_BUILD={commit}");
    println!("cargo:rerun-if-changed=.git/HEAD");
}
