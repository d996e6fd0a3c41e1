//! The CPU that this program was compiled for. `cpu.c` compares it with the CPU of the machine before `main` runs.

use std::ffi::{CStr, c_char};

unsafe extern "C" {
    fn cllm_cpu() -> *const c_char;
    fn cllm_cpu_features() -> *const c_char;
}

/// The CPU that rustc and llama.cpp were told to compile for: `native`, `x86-64-v3`, or `generic` if none was named.
pub fn built_for() -> &'static str {
    // SAFETY: returns a pointer to a static, NUL-terminated string.
    unsafe { CStr::from_ptr(cllm_cpu()) }.to_str().unwrap_or_default()
}

/// The instruction sets that the program may use, by rustc's names.
pub fn features() -> impl Iterator<Item = &'static str> {
    // SAFETY: returns a pointer to a static, NUL-terminated string.
    let names = unsafe { CStr::from_ptr(cllm_cpu_features()) }.to_str().unwrap_or_default();
    names.split(',').filter(|name| !name.is_empty())
}

/// Instruction sets of this machine's CPU that the program was not compiled for and that would make decoding faster.
pub fn unused() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    let here = [("avx512f", is_x86_feature_detected!("avx512f")), ("avx2", is_x86_feature_detected!("avx2"))];
    #[cfg(not(target_arch = "x86_64"))]
    let here: [(&str, bool); 0] = [];
    let is_used = |name: &str| features().any(|feature| feature == name);
    here.into_iter().filter(|(name, is_here)| *is_here && !is_used(name)).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" {
        fn cllm_cpu_checks(name: *const c_char) -> bool;
    }

    #[test]
    fn every_instruction_set_it_was_compiled_for_is_checked() {
        assert!(!built_for().is_empty() && features().count() > 0);
        for name in features() {
            let c_name = std::ffi::CString::new(name).expect("no NUL");
            // SAFETY: the name is NUL-terminated and lives during the call.
            assert!(unsafe { cllm_cpu_checks(c_name.as_ptr()) }, "cpu.c doesn't know {name}");
        }
    }
}
