//! Compiles the C++ that stands between llama.cpp and Rust.

use std::path::PathBuf;

fn main() {
    let cmake = std::env::var_os("DEP_LLAMA_GGML_CMAKE_DIR").expect("llama-cpp-sys-2 says where it installed ggml");
    // <out>/lib/cmake -> <out>/include
    let include = PathBuf::from(cmake).ancestors().nth(2).expect("two folders up").join("include");
    println!("cargo:rerun-if-changed=src/llama/shim_vocab.cpp");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .cpp_link_stdlib(None) // linked statically by llama-cpp-sys-2
        .include(include)
        .file("src/llama/shim_vocab.cpp")
        .compile("cllm_shim_vocab");
}
