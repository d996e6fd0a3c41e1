//! The one table of settings: each row is a flag, a `CLLM_*` variable and a key of the configuration file.
//!
//! Names follow llama.cpp where the meaning is the same. Values are checked in `Config::resolve`.

/// Which subcommands take a setting as a flag, as bits. The file and the variables may set all of them for every
/// subcommand.
pub mod scope {
    /// `cllm serve`.
    pub const SERVE: u8 = 1;
    /// `cllm generate`.
    pub const GENERATE: u8 = 2;
    /// `cllm encode` and `cllm decode`.
    pub const TEXT: u8 = 4;
    /// `cllm bench stages`.
    pub const BENCH: u8 = 8;
    /// `cllm tune`.
    pub const TUNE: u8 = 16;
}

use scope::{BENCH, GENERATE, SERVE, TEXT, TUNE};

/// What the flag takes as its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any value; the string is its name in the help.
    Value(&'static str),
    /// A file; the string is its name in the help. In a configuration file, relative paths start from that file's folder.
    File(&'static str),
    /// A folder; the string is its name in the help. Relative paths as for `File`; the word `off` means no folder.
    Folder(&'static str),
    /// One of these words; the second string is their name in the help.
    OneOf(&'static [&'static str], &'static str),
    /// No value: the flag turns it on, and `=false` turns it off.
    Switch,
}

/// One row of the table.
#[derive(Debug)]
pub struct Setting {
    /// The long flag without its dashes, which is also the key in the file.
    pub key: &'static str,
    /// The one-letter flag, if there is one.
    pub short: Option<char>,
    /// Other long flags for this setting, as llama.cpp spells them.
    pub aliases: &'static [&'static str],
    /// What it takes as its value.
    pub kind: Kind,
    /// The group in `--help`.
    pub heading: &'static str,
    /// Its description in `--help`.
    pub help: &'static str,
    /// The subcommands that take the flag.
    pub scope: u8,
}

impl Setting {
    /// The variable's name: `CLLM_CTX_SIZE` for `ctx-size`.
    pub fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.key.replace('-', "_").to_uppercase())
    }
}

/// The beginning of all variables' names.
pub const VARIABLE_PREFIX: &str = "CLLM_";

/// Flags of two letters that users of llama.cpp type and clap can't parse, with the long flags that replace them.
pub const TWO_LETTER_FLAGS: &[(&str, &str)] = &[
    ("-np", "--parallel"),
    ("-ngl", "--gpu-layers"),
    ("-fa", "--flash-attn"),
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
    ("-hf", "--hf-repo"),
    ("-hff", "--hf-file"),
];

/// The row of `key`; `None`: there is no such setting.
pub fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

const MODEL: &str = "Model";
const CONTEXT: &str = "Context and batching";
const COMPUTE: &str = "Compute";
const HTTP: &str = "HTTP";
const SAMPLING: &str = "Sampling, where a request says nothing";
const LOG: &str = "Log";

const fn row(
    key: &'static str,
    short: Option<char>,
    kind: Kind,
    scope: u8,
    heading: &'static str,
    help: &'static str,
) -> Setting {
    Setting { key, short, aliases: &[], kind, heading, help, scope }
}

const fn also(aliases: &'static [&'static str], mut setting: Setting) -> Setting {
    setting.aliases = aliases;
    setting
}

use Kind::{File, Folder, OneOf, Switch, Value};

/// The names of `KvType`; a test compares them.
const KV_TYPES: &[&str] = &["f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"];

/// All settings, in the order of the help.
#[rustfmt::skip]
pub static SETTINGS: &[Setting] = &[
    row("model", Some('m'), File("FILE"), SERVE | GENERATE | TEXT | BENCH | TUNE, MODEL,
        "A GGUF file [default: the built-in model]"),
    also(&["hf"], row("hf-repo", None, Value("REPO"), SERVE | GENERATE | TEXT | BENCH, MODEL,
        "-hf: ORG/NAME[:QUANT] on Hugging Face")),
    row("hf-file", None, Value("NAME"), SERVE | GENERATE | TEXT | BENCH, MODEL,
        "-hff: this file of --hf-repo [default: by QUANT]"),
    row("alias", Some('a'), Value("NAME"), SERVE, MODEL,
        "The model's name in answers [default: its own]"),
    row("tokenizer", None, File("FILE"), SERVE | GENERATE | TEXT | TUNE, MODEL,
        "A tokenizer.json instead of the GGUF's vocabulary"),
    row("chat-template", None, File("FILE"), SERVE | GENERATE, MODEL,
        "A Jinja file instead of the GGUF's chat template"),
    row("embeddings", None, Switch, SERVE, MODEL,
        "Embeddings instead of text, of any model"),
    row("pooling", None, OneOf(&["auto", "mean", "cls", "last"], "HOW"), SERVE, MODEL,
        "Of embeddings: the model's own (auto), mean, cls or last"),

    row("ctx-size", Some('c'), Value("TOKENS"), SERVE | GENERATE, CONTEXT,
        "KV cache, shared by all slots [default: by model]"),
    row("parallel", None, Value("N"), SERVE | TUNE, CONTEXT,
        "-np: requests served at once [default: 8]"),
    row("queue", None, Value("N"), SERVE, CONTEXT,
        "Requests that may wait, then 429 [default: 4 a slot, at least 100]"),
    row("step-tokens", None, Value("N"), SERVE | GENERATE | BENCH | TUNE, CONTEXT,
        "Prompt tokens a step while others generate [default: measured]"),
    row("speculate", None, OneOf(&["auto", "on", "off"], "WHEN"), SERVE | GENERATE, CONTEXT,
        "Guess tokens and check them: auto (if exact), on or off"),
    row("kv-type", None, OneOf(KV_TYPES, "TYPE"), SERVE | GENERATE | BENCH | TUNE, CONTEXT,
        "KV cache: f16 (default), q8_0 for half the memory, or less"),
    row("cache-type-k", None, OneOf(KV_TYPES, "TYPE"), SERVE | GENERATE | BENCH | TUNE, CONTEXT,
        "-ctk: of its keys [default: as --kv-type]"),
    row("cache-type-v", None, OneOf(KV_TYPES, "TYPE"), SERVE | GENERATE | BENCH | TUNE, CONTEXT,
        "-ctv: of its values [default: as --kv-type]"),
    row("kv-unified", None, Switch, SERVE | BENCH | TUNE, CONTEXT,
        "One KV pool: a slot may take all [default: shares]"),
    row("prompt-ram", None, Value("SIZE"), SERVE, CONTEXT,
        "RAM for prompts beside the cache, or off [default: by memory]"),
    row("prompt-disk", None, Folder("DIR[:SIZE]"), SERVE, CONTEXT,
        "Folder for prompts, which outlive restarts [default: off]"),
    row("warm", None, File("FILE"), SERVE, CONTEXT,
        "Prompts to read before it is ready, as JSON"),
    row("flash-attn", None, OneOf(&["auto", "on", "off"], "WHEN"), SERVE | GENERATE | BENCH | TUNE, CONTEXT,
        "-fa: fused attention: auto (default), on or off"),

    row("decoder", None, OneOf(&["llama", "null"], "WHO"), SERVE | BENCH, COMPUTE,
        "llama (default), or null: no model, to measure the rest"),
    row("null-step-us", None, Value("US"), SERVE | BENCH, COMPUTE,
        "Microseconds a step of the null decoder [default: 0]"),
    row("threads", Some('t'), Value("N"), SERVE | GENERATE | BENCH | TUNE, COMPUTE,
        "Compute threads [default: from the cores]"),
    also(&["n-gpu-layers"], row("gpu-layers", None, Value("N"), SERVE | GENERATE | BENCH | TUNE, COMPUTE,
        "-ngl: layers on the GPU, if any [default: all]")),
    row("no-mmap", None, Switch, SERVE | GENERATE | BENCH | TUNE, COMPUTE,
        "Read the weights instead of mapping the file"),
    row("mlock", None, Switch, SERVE | GENERATE, COMPUTE,
        "Keep the weights in memory, never swapped"),
    row("no-repack", None, Switch, SERVE | GENERATE | BENCH | TUNE, COMPUTE,
        "Weights as in the file: less memory, slower"),

    row("host", None, Value("ADDRESS"), SERVE, HTTP,
        "Address, or unix:PATH [default: 127.0.0.1]"),
    row("port", None, Value("PORT"), SERVE, HTTP,
        "Port to listen on, 0 for any [default: 8080]"),
    row("tls-cert", None, File("FILE"), SERVE, HTTP,
        "PEM certificate chain: HTTPS; reread on SIGHUP"),
    row("tls-key", None, File("FILE"), SERVE, HTTP,
        "PEM private key of --tls-cert"),
    row("api-key", None, Value("KEY"), SERVE, HTTP,
        "Key that clients must send; better as CLLM_API_KEY"),
    row("api-key-file", None, File("FILE"), SERVE, HTTP,
        "Keys and their terms, one a line; reread on SIGHUP"),
    row("metrics-key", None, OneOf(&["same", "none"], "WHEN"), SERVE, HTTP,
        "Key of GET /metrics: the same (default), or none"),
    row("kv-events", None, Value("ADDRESS"), SERVE, HTTP,
        "Publish KV events: tcp://HOST:PORT or ipc://PATH"),
    row("kv-events-topic", None, Value("TOPIC"), SERVE, HTTP,
        "Their topic; llm-d wants kv@POD@MODEL [default: none]"),
    row("kv-block-size", None, Value("TOKENS"), SERVE, HTTP,
        "Tokens of a block in them [default: 16]"),
    row("fair-by", None, OneOf(&["none", "key", "address"], "WHAT"), SERVE, HTTP,
        "Fair turns by none, key or address [default: key, given keys]"),
    row("share-prompts", None, Switch, SERVE, HTTP,
        "Keys use each other's cached prompts; timing may tell which"),
    row("cors", None, Value("ORIGINS"), SERVE, HTTP,
        "Origins of allowed web pages, with commas, or *"),
    row("http-threads", None, Value("N"), SERVE, HTTP,
        "HTTP threads [default: slots + queue + 4]"),
    row("deadline-ms", None, Value("MS"), SERVE | GENERATE, HTTP,
        "Longest time for one request [default: none]"),
    row("stream-ping-ms", None, Value("MS"), SERVE, HTTP,
        "Longest silence of a stream [default: 10000]"),
    row("grace-ms", None, Value("MS"), SERVE, HTTP,
        "Longest wait for requests on exit [default: 30000]"),
    row("supervise", None, Switch, SERVE, HTTP,
        "Restart the server when it crashes"),
    row("sandbox", None, OneOf(&["auto", "on", "off"], "WHEN"), SERVE, HTTP,
        "Confined once it serves: auto (default), on or off"),

    also(&["n-predict", "predict"], row("max-tokens", Some('n'), Value("N"), SERVE | GENERATE, SAMPLING,
        "Most tokens [default: -1, as many as fit]")),
    also(&["temperature"], row("temp", None, Value("T"), SERVE | GENERATE, SAMPLING,
        "Temperature, 0 is greedy [default: 0.8]")),
    row("top-k", None, Value("K"), SERVE | GENERATE, SAMPLING,
        "Keep the K most likely, 0 is all [default: 40]"),
    row("top-p", None, Value("P"), SERVE | GENERATE, SAMPLING,
        "Keep the most likely up to this sum [default: 0.95]"),
    row("min-p", None, Value("P"), SERVE | GENERATE, SAMPLING,
        "Keep P of the best one's chance [default: 0.05]"),
    row("seed", Some('s'), Value("SEED"), SERVE | GENERATE, SAMPLING,
        "Seed [default: -1, a fresh one each request]"),

    row("log-level", None, OneOf(&["error", "warn", "info", "debug", "trace"], "LEVEL"), SERVE | GENERATE | TEXT | BENCH | TUNE, LOG,
        "Show error, warn, info (default), debug or trace"),
    row("trace", None, Switch, SERVE, LOG,
        "Record every step for GET /debug/trace"),
    row("log-format", None, OneOf(&["auto", "text", "json"], "FORMAT"), SERVE | GENERATE | TEXT, LOG,
        "As text, json or auto: by terminal (default)"),
    row("log-prompts", None, Switch, SERVE, LOG,
        "Show the prompt in each request's log line"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_well_formed() {
        let mut names = std::collections::BTreeSet::new();
        for setting in SETTINGS {
            assert!(setting.key.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", setting.key);
            for name in std::iter::once(&setting.key).chain(setting.aliases) {
                assert!(names.insert(*name), "{name} twice");
            }
        }
        for (_, long) in TWO_LETTER_FLAGS {
            assert!(find(long.trim_start_matches('-')).is_some(), "{long}");
        }
        assert_eq!(find("ctx-size").unwrap().variable(), "CLLM_CTX_SIZE");
        assert_eq!(KV_TYPES, crate::types::KvType::NAMED.map(|(name, _)| name));
    }
}
