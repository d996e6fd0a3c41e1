//! Tests which layer wins, that every refusal names its setting, and that the output of `--check` can be read back.

use std::path::Path;

use super::*;
use crate::types::HubModel;
use crate::types::limits::PROMPT_DISK_BYTES_DEFAULT;

/// A configuration of flags (`key=value`), variables (`NAME=value`) and the text of a file.
fn config(flags: &[&str], vars: &[&str], file: Option<&str>) -> Result<Config, StartupError> {
    let mut typed = flags::Typed::new();
    for pair in flags {
        let (key, value) = pair.split_once('=').unwrap();
        typed.insert(settings::find(key).unwrap().about().key, value.to_owned());
    }
    let mut dir = None;
    if let Some(text) = file {
        let path = scratch(text);
        typed.insert(flags::CONFIG_KEY, path.to_string_lossy().into_owned());
        dir = Some(path);
    }
    let vars = vars.iter().map(|pair| pair.split_once('=').unwrap()).map(|(n, v)| (n.to_owned(), v.to_owned()));
    let result = Layers::read(&typed, vars).and_then(Config::resolve);
    if let Some(path) = dir {
        std::fs::remove_file(path).unwrap();
    }
    result
}

fn scratch(text: &str) -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // ORDERING: Relaxed; only the number's uniqueness matters.
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("cllm-config-{}-{n}.toml", std::process::id()));
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn without_anything_the_defaults_hold() {
    let config = config(&[], &[], None).unwrap();
    assert_eq!(config.model, ModelSource::BuiltIn);
    assert_eq!((config.parallel, config.queue, config.http_threads), (8, 100, 112));
    assert_eq!((config.ctx_total, config.threads, config.seed), (None, None, None));
    assert_eq!(config.listen_addr(), "127.0.0.1:8080");
    assert!(config.mmap && config.repack && !config.mlock);
    assert_eq!(config.sampling, SamplingParams::default());
}

#[test]
fn check_prints_every_setting_in_the_order_of_the_help() {
    let text = config(&[], &[], None).unwrap().to_toml();
    let shown: Vec<&str> = text.lines().map(|line| line[2..].split([' ', ':']).next().unwrap()).collect();
    let table: Vec<&str> = settings::all().map(|setting| setting.about().key).collect();
    assert_eq!(shown, table);
}

#[test]
fn flags_win_over_variables_and_these_over_the_file() {
    let file = Some("port = 1\nhost = \"a\"\nqueue = 9\n");
    let config = config(&["port=3"], &["CLLM_PORT=2", "CLLM_HOST=b", "CLLM_TOP_K="], file).unwrap();
    assert_eq!((config.port, config.host.as_str(), config.queue), (3, "b", 9));
    assert_eq!(config.sampling.top_k, 40, "an empty variable counts as unset");
    let text = config.to_toml();
    let origin =
        |key: &str| text.lines().find(|line| line.contains(key)).unwrap().rsplit_once("# ").unwrap().1.to_owned();
    assert_eq!((origin("port = 3"), origin("host = \"b\"")), ("--port".to_owned(), "CLLM_HOST".to_owned()));
    assert!(origin("queue = 9").ends_with(".toml line 3"));
    assert!(text.contains("# top-p = 0.95"), "{text}");
}

#[test]
fn what_check_prints_reads_back_the_same() {
    let flags = [
        "model=/m/x \"y\".gguf",
        "ctx-size=65536",
        "parallel=16",
        "threads=2",
        "gpu-layers=0",
        "kv-type=q8_0",
        "flash-attn=on",
        "prompt-ram=1.5GiB",
        "prompt-disk=/var/p:20GB",
        "no-mmap=true",
        "mlock=true",
        "host=::1",
        "temp=0",
        "top-p=0.5",
        "seed=18446744073709551615",
        "max-tokens=7",
        "sandbox=on",
        "log-level=debug",
        "deadline-ms=5",
        "stream-ping-ms=7",
        "alias=tab\there",
        "kv-events=tcp://*:5556",
        "kv-events-topic=kv@pod@model",
        "kv-block-size=32",
    ];
    let first = config(&flags, &[], None).unwrap();
    let again = config(&[], &[], Some(&first.to_toml())).unwrap();
    assert!(first.file.is_none() && again.file.is_some());
    let values = |config: Config| Config { shown: Vec::new(), file: None, ..config };
    assert_eq!(values(first), values(again.clone()));
    assert_eq!(again.listen_addr(), "[::1]:8080");
    assert_eq!(again.seed, Some(u64::MAX));
}

#[test]
fn a_host_may_be_a_path() {
    let config = config(&["host=unix:/run/a socket"], &[], None).unwrap();
    assert_eq!(config.unix_path(), Some(Path::new("/run/a socket")));
    assert_eq!(config.listen_addr(), "unix:/run/a socket");
    assert_eq!(self::config(&["host=::1"], &[], None).unwrap().unix_path(), None);
}

#[test]
fn open_values_can_be_said() {
    let config =
        config(&["ctx-size=0", "max-tokens=-1", "seed=-1", "gpu-layers=all", "threads=-1"], &[], None).unwrap();
    assert_eq!((config.ctx_total, config.max_tokens, config.seed), (None, None, None));
    assert_eq!((config.gpu_layers, config.threads), (None, None));
}

#[test]
fn every_refusal_names_what_the_user_wrote() {
    /// Flags, variables, the file's text, and a part of the expected message.
    type Case<'a> = (&'a [&'a str], &'a [&'a str], Option<&'a str>, &'a str);
    let cases: &[Case] = &[
        (&["port=65536"], &[], None, "--port: \"65536\" isn't a number from 0 to 65535"),
        (&[], &["CLLM_PORT=x"], None, "CLLM_PORT: \"x\" isn't a number"),
        (&[], &[], Some("\nport = 70000"), "line 2: \"70000\" isn't a number"),
        (&[], &[], Some("# one\n# two\nprot = 1\n"), "prot in "),
        (&[], &[], Some("# one\n# two\nprot = 1\n"), ".toml line 3: no such setting"),
        (&[], &[], Some("port = \n"), ".toml line 1: "),
        (&[], &[], Some("port = [1]\n"), "port in "),
        (&[], &[], Some("[server]\nport = 1\n"), "server in "),
        (&[], &[], Some("top-k = 1\ntop_k = 2\n"), "given twice"),
        (&["parallel=0"], &[], None, "--parallel: "),
        (&["parallel=257"], &[], None, "from 1 to 256"),
        (&["temp=NaN"], &[], None, "--temp: "),
        (&["temp=-0.1"], &[], None, "--temp: "),
        (&["top-p=0"], &[], None, "--top-p: "),
        (&["top-k=16777217"], &[], None, "from 0 to 16777216"),
        (&["min-p=inf"], &[], None, "--min-p: "),
        (&["ctx-size=-5"], &[], None, "--ctx-size: "),
        (&["host="], &[], None, "--host: "),
        (&["host=http://x"], &[], None, "--host: "),
        (&["host=unix:"], &[], None, "--host: unix: needs a path"),
        (&["api-key=two words"], &[], None, "--api-key: a key is printable"),
        (&[], &["CLLM_CORS=https://a.example,example.org"], None, "CLLM_CORS: \"example.org\" is no origin"),
        (&["kv-events=5556"], &[], None, "--kv-events: \"5556\" is no address like tcp://"),
        (&["kv-block-size=0"], &[], None, "--kv-block-size: "),
        (&["cors=https://a.example/"], &[], None, "is no origin"),
        (&["tls-cert=c.pem"], &[], None, "--tls-cert: needs --tls-key"),
        (&[], &["CLLM_TLS_KEY=k.pem"], None, "CLLM_TLS_KEY: needs --tls-cert"),
        (&["model="], &[], None, "--model: "),
        (
            &["model=m.gguf", "hf-repo=a/b"],
            &[],
            None,
            "--model: can't be used with --hf-repo, because each names a model",
        ),
        (&[], &[], Some("model = \"m\"\nhf-repo = \"a/b\"\n"), "can't be used with hf-repo in "),
        (&["hf-repo=a"], &[], None, "--hf-repo: \"a\" is no repository like ORG/NAME"),
        (&[], &["CLLM_HF_REPO=a/b:../c"], None, "CLLM_HF_REPO: \"../c\" is no quantisation"),
        (&["hf-repo=a/b", "hf-file=x.bin"], &[], None, "--hf-repo: \"x.bin\" is no GGUF's name"),
        (&["hf-file=x.gguf"], &[], None, "--hf-file: needs --hf-repo"),
        (&[], &["CLLM_MLOCK=maybe"], None, "CLLM_MLOCK: \"maybe\" is neither"),
        (&["prompt-ram=lots"], &[], None, "--prompt-ram: \"lots\" isn't a size like 512MB or 2GB, or off"),
        (&["prompt-disk=/a:2XB"], &[], None, "--prompt-disk: \"2XB\" isn't a size"),
        (&["log-level=loud"], &[], None, "--log-level: \"loud\" is none of error, warn"),
        (&["kv-type=q8_0", "flash-attn=off"], &[], None, "--kv-type: q8_0 needs flash attention"),
    ];
    for (flags, vars, file, named) in cases {
        let error = config(flags, vars, *file).expect_err(named).to_string();
        assert!(error.contains(named) && !error.contains('\n'), "{error:?} doesn't say {named:?}");
    }
}

#[test]
fn the_memory_for_prompts_is_named_by_size_and_folder() {
    let tiers = |flags: &[&str]| config(flags, &[], None).map(|config| (config.prompt_ram, config.prompt_disk));
    assert_eq!(tiers(&[]).unwrap(), (None, None));
    assert_eq!(tiers(&["prompt-ram=off", "prompt-disk=off"]).unwrap(), (Some(0), None));
    let disk = Some(("/a/b".into(), 2_000_000_000));
    assert_eq!(tiers(&["prompt-ram=2GiB", "prompt-disk=/a/b:2GB"]).unwrap(), (Some(2 << 30), disk));
    assert_eq!(tiers(&["prompt-disk=c"]).unwrap().1, Some(("c".into(), PROMPT_DISK_BYTES_DEFAULT)));
    let file = config(&[], &[], Some("prompt-disk = \"p:1GB\"\nprompt_ram = 4096\n")).unwrap();
    let (folder, size) = file.prompt_disk.unwrap();
    assert_eq!((file.prompt_ram, folder, size), (Some(4096), std::env::temp_dir().join("p"), 1_000_000_000));
    assert_eq!(config(&[], &[], Some("prompt-disk = \"off\"")).unwrap().prompt_disk, None);
}

#[test]
fn of_two_models_the_stronger_place_wins() {
    let named = |repo: &str| ModelSource::Hub(HubModel::parse(repo, None).unwrap());
    let file = Some("hf-repo = \"a/file\"\nhf-file = \"x.gguf\"\n");
    assert_eq!(config(&[], &[], Some("hf-repo = \"a/b:Q8_0\"")).unwrap().model, named("a/b:Q8_0"));
    assert_eq!(config(&["hf-repo=a/b"], &["CLLM_MODEL=m.gguf"], None).unwrap().model, named("a/b"));
    let config = config(&["model=m.gguf"], &["CLLM_HF_REPO=a/variable"], file).unwrap();
    assert_eq!(config.model, ModelSource::File("m.gguf".into()));
    assert!(!config.to_toml().contains("a/variable") && !config.to_toml().contains("x.gguf"), "{}", config.to_toml());
}

#[test]
fn a_missing_file_is_named() {
    let typed = flags::Typed::from([(flags::CONFIG_KEY, "/nowhere/cllm.toml".to_owned())]);
    let error = Layers::read(&typed, []).unwrap_err().to_string();
    assert!(error.starts_with("--config: /nowhere/cllm.toml: "), "{error}");
}

#[test]
fn files_named_in_the_file_lie_beside_it() {
    let config = config(&[], &[], Some("model = \"weights/m.gguf\"\n")).unwrap();
    assert_eq!(config.model_path(), Some(std::env::temp_dir().join("weights/m.gguf").as_path()));
    let absolute = self::config(&[], &[], Some("model = \"/m.gguf\"\n")).unwrap();
    assert_eq!(absolute.model_path(), Some(Path::new("/m.gguf")));
}

#[test]
fn a_mistyped_variable_is_noticed() {
    let config = config(&[], &["CLLM_PROT=1", "CLLM_SHARED_DATA=x", "PATH=y"], None).unwrap();
    assert_eq!(config.unknown_vars(), ["CLLM_PROT"]);
}
