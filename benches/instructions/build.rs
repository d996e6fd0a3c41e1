//! The version stamp in the server's answers. A constant, so that it doesn't change the counts.

fn main() {
    println!("cargo:rustc-env=CLLM_BUILD=counted");
}
