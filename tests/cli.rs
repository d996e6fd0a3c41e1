//! Runs the command line: exit codes, what is written to which stream, and files that are written and described.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use cllm::llama::{
    Context, ContextParams, FlashAttention, KvLayout, LlamaDecoder, Model, ModelParams, ThreadpoolParams,
};
use cllm::types::seams::{Decoder, Outcome, Row};
use cllm::types::{KvTypes, Pos, SeqId, Token};

/// Runs `cllm` with only the given variables.
fn cllm(args: &[&str], vars: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cllm"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CLLM_")) {
        command.env_remove(name);
    }
    command.args(args).envs(vars.iter().copied()).stdin(Stdio::null());
    command.output().expect("the program runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("output is UTF-8")
}

/// Checks a refusal: exit code 1, nothing on stdout, and one line on stderr that contains `named`.
fn refused(args: &[&str], vars: &[(&str, &str)], named: &str) {
    let output = cllm(args, vars);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{args:?} wrote to stdout");
    assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    assert!(stderr.starts_with("cllm: ") && stderr.contains(named), "{args:?} doesn't say {named:?}: {stderr}");
}

/// A temporary folder for one test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cllm-cli-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }

    fn with(&self, name: &str, content: &[u8]) -> String {
        std::fs::write(self.0.join(name), content).unwrap();
        self.file(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn alone_it_prints_help_that_names_the_built_in_model() {
    let output = cllm(&[], &[]);
    assert!(output.status.success() && output.stderr.is_empty());
    let text = stdout(&output);
    assert!(text.contains("Usage: cllm") && text.contains("built-in model") && text.contains("serve"), "{text}");
    assert_eq!(text, stdout(&cllm(&["-h"], &[])));
    assert_eq!(stdout(&cllm(&["--version"], &[])).trim(), concat!("cllm ", env!("CARGO_PKG_VERSION")));
}

/// The null decoder has no compute threads, so HTTP threads get the cores that they'd get if compute threads used every
/// CPU.
#[test]
fn with_the_null_decoder_http_threads_go_round_all_cpus() {
    let http = |args: &[&str]| {
        let said = stdout(&cllm(&[&["serve", "--check"], args].concat(), &[]));
        let at = said.find("HTTP on ").unwrap_or_else(|| panic!("{args:?}: {said}"));
        said[at..].split_whitespace().nth(2).unwrap_or_default().to_owned()
    };
    let cpus = core_affinity::get_core_ids().expect("Linux").len().to_string();
    assert_eq!(http(&["--decoder", "null"]), http(&["--threads", &cpus]));
}

#[test]
fn whatever_is_wrong_is_one_line_and_exit_code_1() {
    let scratch = Scratch::new("wrong");
    let text = scratch.with("notes.txt", b"not a model");
    let short = scratch.with("short.gguf", b"GGUF\x03\0\0\0");
    let unknown = scratch.with("unknown.toml", b"# settings\nprot = 1\n");
    let broken = scratch.with("broken.toml", b"port = \n");
    let folder = scratch.0.to_string_lossy().into_owned();
    refused(&["serve", "--prot", "1"], &[], "--prot");
    refused(&["swim"], &[], "swim");
    refused(&["serve", "--check", "--port", "http"], &[], "--port: \"http\"");
    refused(&["serve", "--check", "-np", "0"], &[], "--parallel: \"0\"");
    refused(&["serve", "--check", "--threads", "500"], &[], "--threads");
    refused(&["serve", "--check"], &[("CLLM_CTX_SIZE", "-1")], "CLLM_CTX_SIZE");
    refused(&["serve", "--check", "--config", &unknown], &[], "prot in ");
    refused(&["serve", "--check", "--config", &unknown], &[], "unknown.toml line 2: no such setting");
    refused(&["serve", "--check", "--config", &broken], &[], "broken.toml line 1");
    refused(&["serve", "--check", "--config", "/nowhere.toml"], &[], "--config: /nowhere.toml");
    refused(&["serve", "--tls-cert", &text], &[], "--tls-cert: needs --tls-key");
    refused(&["serve", "--tls-key", &text], &[], "--tls-key: needs --tls-cert");
    refused(&["serve", "--tls-cert", "/nowhere.pem", "--tls-key", &text], &[], "--tls-cert: /nowhere.pem: ");
    refused(&["serve", "--tls-cert", &text, "--tls-key", "/nowhere.pem"], &[], "--tls-key: /nowhere.pem: ");
    refused(&["serve", "--check", "--tls-cert", &text, "--tls-key", &text], &[], "no PEM certificate");
    refused(&["serve", "--host", "unix:/nowhere/cllm.sock"], &[], "listen on unix:/nowhere/cllm.sock: ");
    refused(&["serve", "--check", "-m", "/nowhere.gguf"], &[], "model /nowhere.gguf: ");
    refused(&["serve", "--check", "-m", &text], &[], "notes.txt: not a GGUF file");
    refused(&["serve", "--check", "-m", &folder], &[], "is a folder");
    refused(&["serve", "--check", "--chat-template", "/nowhere.jinja"], &[], "--chat-template: /nowhere.jinja");
    refused(&["info", "/nowhere.gguf"], &[], "/nowhere.gguf");
    refused(&["info", &text], &[], "notes.txt");
    refused(&["info", &short], &[], "short.gguf");
    refused(&["synth", "--quant", "q9"], &[], "--quant");
    refused(&["synth", "--shape", "huge", "-o", "x.gguf"], &[], "--shape");
    refused(&["synth", "--kv-heads", "3", "-o", "x.gguf"], &[], "--kv-heads: 4 heads");
    refused(&["synth", "-o", "/nowhere/x.gguf"], &[], "write /nowhere/x.gguf");
    refused(&["synth", "-o", &text], &[], "--force");
    refused(&["synth", "--vocab-from", &text, "--force", "-o", &text], &[], "notes.txt");
}

#[test]
fn check_shows_no_key() {
    let scratch = Scratch::new("key");
    let file = scratch.with("keys", b"whisper\n");
    let output = cllm(&["serve", "--check", "--api-key-file", &file], &[("CLLM_API_KEY", "hush")]);
    let text = stdout(&output);
    assert!(text.contains("# api-key: set, not shown") && text.contains("CLLM_API_KEY"), "{text}");
    assert!(!text.contains("hush") && !text.contains("whisper"), "{text}");
}

#[test]
fn check_prints_each_value_and_where_it_came_from() {
    let scratch = Scratch::new("check");
    let file = scratch.with("cllm.toml", b"port = 1\nqueue = 9\nhost = \"0.0.0.0\"\n");
    let vars = [("CLLM_PORT", "2"), ("CLLM_HOST", "::1"), ("CLLM_PROT", "7")];
    let output = cllm(&["serve", "--check", "--config", &file, "--port", "3", "-np", "4"], &vars);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = stdout(&output);
    let origin = |setting: &str| {
        let line = text.lines().find(|line| line.starts_with(setting)).unwrap_or_else(|| panic!("{setting}: {text}"));
        line.rsplit_once("# ").unwrap().1.to_owned()
    };
    assert_eq!((origin("port = 3"), origin("host = \"::1\"")), ("--port".to_owned(), "CLLM_HOST".to_owned()));
    assert!(origin("queue = 9").ends_with("cllm.toml line 2"));
    assert_eq!((origin("parallel = 4"), origin("# temp = 0.8")), ("--parallel".to_owned(), "default".to_owned()));
    assert!(text.contains("batch on CPU") && text.contains("CLLM_PROT is set, but"), "{text}");

    // The output is a configuration file with the same settings.
    let saved = scratch.with("saved.toml", text.as_bytes());
    let again = stdout(&cllm(&["serve", "--check", "--config", &saved], &[]));
    let settings = |text: &str| -> Vec<String> {
        let set = text.lines().filter(|line| !line.starts_with('#'));
        set.map(|line| line.split('#').next().unwrap_or("").trim().to_owned()).collect()
    };
    assert_eq!(settings(&text), settings(&again));
}

#[test]
fn every_shell_gets_its_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = cllm(&["completions", shell], &[]);
        assert!(output.status.success() && stdout(&output).contains("ctx-size"), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cllm"));
    let mut child =
        command.args(["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_synthetic_model_is_written_and_described() {
    let scratch = Scratch::new("synth");
    let path = scratch.file("tiny.gguf");
    let output = cllm(&["synth", "--shape", "tiny", "--layers", "3", "-o", &path], &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let left: Vec<_> = std::fs::read_dir(&scratch.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["tiny.gguf"], "nothing is left beside it");

    let text = stdout(&cllm(&["info", &path], &[]));
    for expected in ["qwen3", "Q4_K_M", "2048 tokens, byte-level BPE", "4096 tokens", "Chat template yes"] {
        assert!(text.contains(expected), "no {expected:?} in {text}");
    }
    let facts: serde_json::Value = serde_json::from_str(&stdout(&cllm(&["info", "--json", &path], &[]))).unwrap();
    assert_eq!((facts["layers"].as_u64(), facts["architecture"].as_str()), (Some(3), Some("qwen3")));

    let bert = scratch.file("bert.gguf");
    assert!(cllm(&["synth", "--shape", "bert-tiny", "--quant", "q8_0", "-o", &bert], &[]).status.success());
    let text = stdout(&cllm(&["info", &bert], &[]));
    for expected in ["BERT shape bert-tiny", "2048 tokens, WordPiece", "512 tokens", "Embeddings    mean pooling"] {
        assert!(text.contains(expected), "no {expected:?} in {text}");
    }
    std::fs::remove_file(&bert).unwrap();

    // A model with another shape and a copied vocabulary; then truncated, as by an interrupted download.
    let other = scratch.file("other.gguf");
    assert!(
        cllm(&["synth", "--vocab-from", &path, "--embd", "320", "--quant", "q8_0", "-o", &other], &[]).status.success()
    );
    let whole = std::fs::read(&other).unwrap();
    let cut = scratch.with("cut.gguf", &whole[..whole.len() - 1000]);
    let output = cllm(&["info", &cut], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1);
}

#[test]
fn llama_cpp_decodes_what_synth_writes() {
    let scratch = Scratch::new("load");
    for quant in ["q4_k_m", "q5_k_m", "q6_k", "q8_0", "q4_0", "f16"] {
        let path = scratch.file(&format!("{quant}.gguf"));
        assert!(cllm(&["synth", "--shape", "tiny", "--quant", quant, "-o", &path], &[]).status.success());
        let model = Model::load(&ModelParams::new(&path), &mut |_| true).expect("a synthetic model loads");
        assert_eq!((model.n_vocab(), model.n_ctx_train()), (2048, 4096));
        let params = ContextParams {
            cells_total: 64,
            seqs: 1,
            layout: KvLayout::Pool,
            rows_max: 8,
            outputs_max: 1,
            kv_types: KvTypes::F16,
            windows_only: false,
            flash_attention: FlashAttention::Auto,
            threadpool: ThreadpoolParams { threads: 1, cores: Vec::new(), poll: 0 },
        };
        let context = Context::new(Arc::new(model), &params).expect("it has a context");
        let mut decoder = LlamaDecoder::new(context, params.layout, params.seqs, params.rows_max);
        let row = Row { token: Token(65), pos: Pos(0), seq: SeqId(0), wants_logits: true };
        assert_eq!(decoder.decode(&[row]), Outcome::Done);
        let logits = decoder.logits(0);
        assert!(logits.iter().all(|logit| logit.is_finite()), "{quant}");
        // The logits are spread as a trained model's: standard deviation near 4, and no two equal ones at the top.
        let mean = logits.iter().sum::<f32>() / logits.len() as f32;
        let deviation = (logits.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / logits.len() as f32).sqrt();
        assert!((3.0..5.0).contains(&deviation), "{quant}: {deviation}");
        logits.sort_by(|a, b| b.total_cmp(a));
        assert!(logits[..10].windows(2).all(|pair| pair[0] > pair[1]), "{quant}: {:?}", &logits[..10]);
    }
}
