//! Compiles the C++ shims against the llama.cpp headers that `llama-cpp-sys-2` installed, attention and products of matrices for
//! CPUs that can do them, and the check of the CPU; keeps the program from needing more than glibc, chooses the built-in model, stamps the version.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    compile_shims();
    compile_attention();
    compile_matrix();
    compile_cpu_check();
    need_only_glibc();
    choose_model();
    stamp_version();
}

/// C++ against llama.cpp's headers. `DEP_LLAMA_GGML_CMAKE_DIR` is `<out>/lib/cmake`; they lie in `<out>/include`.
fn cpp() -> cc::Build {
    let cmake_dir = PathBuf::from(std::env::var_os("DEP_LLAMA_GGML_CMAKE_DIR").expect("set by llama-cpp-sys-2"));
    let include = cmake_dir.ancestors().nth(2).expect("two folders above the cmake folder").join("include");
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").include(include).warnings(true).flag_if_supported("-Wno-unused-parameter");
    // llama-cpp-sys-2 links libstdc++ itself, statically.
    build.cpp_link_stdlib(None);
    build
}

fn compile_shims() {
    let shims = sources_in("src/llama");
    let mut build = cpp();
    for shim in &shims {
        build.file(shim);
        println!("cargo:rerun-if-changed={}", shim.display());
    }
    println!("cargo:rerun-if-changed=src/llama/shim.h");
    build.compile("cllm_shim");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // llama.cpp's calls go to `lazy_buffer.cpp`. The linker reads its archive before ggml's, when no symbol refers to it yet:
        // without --undefined it would be left out.
        println!("cargo:rustc-link-arg=-Wl,--wrap=ggml_backend_buffer_clear");
        println!("cargo:rustc-link-arg=-Wl,--undefined=__wrap_ggml_backend_buffer_clear");
    }
}

/// The C++ files of `folder`, not of those in it.
fn sources_in(folder: &str) -> Vec<PathBuf> {
    let mut sources: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{folder}: {error}"))
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "cpp"))
        .collect();
    sources.sort();
    sources
}

/// Compiles `attention/`, puts it before ggml's function, and has it overhear where llama.cpp puts cells. The crate sees the cfg
/// `own_attention` then.
fn compile_attention() {
    println!("cargo:rustc-check-cfg=cfg(own_attention)");
    println!("cargo:rerun-if-changed=src/llama/attention");
    if let Some(mut build) = for_capable_cpus(&["avx512f"]) {
        build.files(sources_in("src/llama/attention")).compile("cllm_attention");
        println!("cargo:rustc-cfg=own_attention");
        put_before(&[
            "ggml_compute_forward_flash_attn_ext",
            "_ZNK22llama_kv_cache_context16set_input_k_idxsEP11ggml_tensorPK12llama_ubatch",
            "_ZNK22llama_kv_cache_context17set_input_kq_maskEP11ggml_tensorPK12llama_ubatchb",
        ]);
    }
}

/// Compiles `kernels/`, and puts it before those of ggml's functions whose sums depend on the number of rows. The crate sees the
/// cfg `own_matrix` then.
fn compile_matrix() {
    println!("cargo:rustc-check-cfg=cfg(own_matrix)");
    println!("cargo:rerun-if-changed=src/llama/kernels");
    if let Some(mut build) = for_capable_cpus(&["avx512f", "avx512bw", "avx512vl", "avx512vnni"]) {
        build.files(sources_in("src/llama/kernels")).compile("cllm_matrix");
        println!("cargo:rustc-cfg=own_matrix");
        put_before(&["llamafile_sgemm", "ggml_compute_forward_mul_mat_tiled", "ggml_compute_forward_mul_mat_id_tiled"]);
    }
}

/// A build with AVX2 and what came with it, and what there is of `more`; `None` where the CPU that everything is compiled for lacks
/// AVX2, or the linker doesn't know --wrap.
fn for_capable_cpus(more: &[&str]) -> Option<cc::Build> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let features = variable("CARGO_CFG_TARGET_FEATURE");
    let has = |feature: &&str| features.split(',').any(|one| one == *feature);
    let needed = ["avx2", "fma", "f16c", "bmi2", "popcnt"];
    let linux_on_x86 = variable("CARGO_CFG_TARGET_OS") == "linux" && variable("CARGO_CFG_TARGET_ARCH") == "x86_64";
    if !linux_on_x86 || !needed.iter().all(has) {
        return None;
    }
    let mut build = cpp();
    for feature in needed.iter().chain(more).copied().filter(has) {
        build.flag(format!("-m{feature}"));
    }
    // gcc 12 believes it of its own header for AVX-512.
    build.flag_if_supported("-Wno-maybe-uninitialized").flag_if_supported("-Wno-uninitialized");
    Some(build)
}

/// Has the linker put `__wrap_FUNCTION` before each of ggml's `functions`. It reads our archives before ggml's, when no symbol
/// refers to them yet: without --undefined they would be left out.
fn put_before(functions: &[&str]) {
    for function in functions {
        println!("cargo:rustc-link-arg=-Wl,--wrap={function}");
        println!("cargo:rustc-link-arg=-Wl,--undefined=__wrap_{function}");
    }
}

/// `cpu.c`, for the oldest CPU of its kind, told for which one everything else is compiled.
fn compile_cpu_check() {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let flags = variable("CARGO_ENCODED_RUSTFLAGS");
    let named = flags.split('\x1f').filter_map(|flag| flag.rsplit_once("target-cpu=")).next_back();
    let target_cpu = named.map_or("generic", |(_, name)| name);
    let mut build = cc::Build::new();
    build.define("CLLM_CPU", &*format!("{target_cpu:?}"));
    // With `native`, what this machine has.
    build.define("CLLM_CPU_FEATURES", &*format!("{:?}", variable("CARGO_CFG_TARGET_FEATURE")));
    if variable("CARGO_CFG_TARGET_ARCH") == "x86_64" {
        build.flag("-march=x86-64");
    }
    build.warnings(true).file("src/llama/cpu.c").compile("cllm_cpu");
    println!("cargo:rerun-if-changed=src/llama/cpu.c");
}

/// rustc asks for libgcc_s, which comes with gcc and not with glibc; and libstdc++ for a glibc as new as its own.
fn need_only_glibc() {
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux")
        || std::env::var("CARGO_CFG_TARGET_ENV").as_deref() != Ok("gnu")
    {
        return;
    }
    let compiler = cc::Build::new().get_compiler();
    let printed = compiler.to_command().arg("-print-file-name=libgcc_eh.a").output();
    let library = printed.ok().and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    let library = PathBuf::from(library.trim());
    if library.is_absolute() {
        // That unwinder as a static library, under the name by which it is asked for, in a folder that is searched first.
        let folder = PathBuf::from(std::env::var_os("OUT_DIR").expect("set by cargo")).join("unwinder");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::copy(&library, folder.join("libgcc_s.a")).expect("libgcc_eh.a can be copied");
        println!("cargo:rustc-link-search=native={}", folder.display());
    }
    cc::Build::new().warnings(true).file("src/llama/glibc.c").compile("cllm_glibc");
    println!("cargo:rustc-link-arg=-Wl,--undefined=arc4random");
    println!("cargo:rerun-if-changed=src/llama/glibc.c");
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
    // In a worktree it lies elsewhere, and a file that isn't there would have everything compiled anew each time.
    let head = Command::new("git").args(["rev-parse", "--git-path", "HEAD"]).output();
    let head =
        head.ok().filter(|output| output.status.success()).and_then(|output| String::from_utf8(output.stdout).ok());
    if let Some(head) = head {
        println!("cargo:rerun-if-changed={}", head.trim());
    }
}
