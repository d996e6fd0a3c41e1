//! The input that runs now, in a file. libFuzzer saves the input of a panic or a timeout itself, but not one that overflows the stack
//! or that the system ends: then `run` takes it from here.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

static FILE: OnceLock<Option<File>> = OnceLock::new();

/// Writes `input` into the file that the variable `CLLM_FUZZ_LAST` names, behind its length in 8 digits.
///
/// # Panics
/// If the file can't be written.
pub fn keep(input: &[u8]) {
    let open = || std::env::var_os("CLLM_FUZZ_LAST").map(|path| File::create(path).expect("the file can be made"));
    if let Some(file) = FILE.get_or_init(open) {
        let mut bytes = format!("{:08}", input.len()).into_bytes();
        bytes.extend_from_slice(input);
        file.write_all_at(&bytes, 0).expect("the file can be written");
    }
}
