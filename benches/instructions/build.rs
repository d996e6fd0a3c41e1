//! The stamp that the server's answers carry; always the same, so that it doesn't change what is counted.

fn main() {
    println!("cargo:rustc-env=CLLM_BUILD=counted");
}
