//! The version stamp in the server's answers.

fn main() {
    println!("cargo:rustc-env=CLLM_BUILD=fuzzed");
}
