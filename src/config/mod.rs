//! The settings: read as text from three places, then checked once.
//!
//! Flags override `CLLM_*` variables, and variables override the file that `--config` names. `settings` is the one table of
//! all names; `layers` combines the three places; `Config` holds the checked values that the rest of the program reads.
//! Pure, except `Config::load`, which reads the environment and the file. Runs on the main thread, before anything else.

mod check;
mod edit;
mod file;
pub mod flags;
mod keys;
mod layers;
pub mod settings;
mod show;
pub mod size;

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use edit::EditedFile;
pub use flags::Flags;
pub use keys::KeySources;
use layers::Picker;
pub use layers::{Layers, Origin, quoted};

use crate::types::limits::{
    KV_BLOCK_TOKENS, KV_BLOCK_TOKENS_MAX, PROMPT_DISK_BYTES_DEFAULT, QUEUE_MIN, QUEUE_PER_SLOT, SLOTS_MAX,
    STREAM_PING_MS,
};
use crate::types::{EventsAddress, FairBy, HubModel, KvEvents, KvType, KvTypes, Pooling, SamplingParams, StartupError};

/// HTTP threads beyond one for each running or waiting request. They answer `/health`, `/metrics` and 429 while the others
/// wait.
pub const HTTP_THREADS_SPARE: usize = 4;
/// Most threads of the HTTP pool: 256 slots, 4 waiting requests for each, and the spare threads, rounded up.
pub const HTTP_THREADS_MAX: usize = 2_048;
/// Most waiting requests. Each holds a prompt of at most one context (4 bytes for each token) and one HTTP thread.
pub const QUEUE_MAX: usize = 1_024;
/// Most cells of the KV cache: 16 Mi. At 2 bytes x 2 x 1,024 values a layer and 28 layers that is 1.8 TiB.
pub const CTX_TOTAL_MAX: usize = 1 << 24;
/// Most rows of one step. All rows of a step wait for each other; no machine gains from more.
pub const STEP_TOKENS_MAX: usize = 8_192;
/// The longest deadline and the longest grace period: a day, in milliseconds.
pub const WAIT_MS_MAX: u64 = 86_400_000;
/// The longest step of the null decoder: a second, in microseconds. The slowest machines need that long for a real step.
pub const NULL_STEP_US_MAX: u64 = 1_000_000;
/// Most compute threads: ggml's own ceiling (`GGML_MAX_N_THREADS`).
pub const THREADS_MAX: usize = 512;
/// Slots if `--parallel` isn't set.
pub const SLOTS_DEFAULT: usize = 8;

/// The beginning of a host that is the path of a socket.
const UNIX_PREFIX: &str = "unix:";

/// Where the weights come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSource {
    /// The small model inside the binary.
    BuiltIn,
    /// A GGUF file.
    File(PathBuf),
    /// A model's name on the hub. The model may not have been fetched yet.
    Hub(HubModel),
}

/// Which decoder runs the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecoderKind {
    /// llama.cpp, with a model.
    Llama,
    /// No model: each step takes a fixed time, so that everything else can be measured.
    Null {
        /// How long each step takes.
        step: Duration,
    },
}

/// Whether attention is computed in one fused operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlashAttn {
    /// llama.cpp decides, by backend and model.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// The least important level that the log shows, from few lines to many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Failures of the server.
    Error,
    /// Problems that need attention.
    Warn,
    /// The usual events, such as requests.
    Info,
    /// Details for finding problems.
    Debug,
    /// Everything.
    Trace,
}

/// Whether the server gives up, once it serves, the rights that it no longer needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxMode {
    /// It gives up what the kernel lets it give up.
    Auto,
    /// It gives them up, and doesn't start if the kernel can't enforce it.
    On,
    /// It keeps all rights.
    Off,
}

/// The format of the log's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}

/// The two files of HTTPS, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain; the server's own certificate comes first.
    pub cert: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
}

/// Every setting, checked. `None` means that the value is decided later, from the model or the machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub model: ModelSource,
    /// The model's name in answers; `None`: the name in the GGUF.
    pub alias: Option<String>,
    /// A `tokenizer.json` to use instead of the GGUF's vocabulary.
    pub tokenizer: Option<PathBuf>,
    /// A Jinja file to use instead of the GGUF's chat template.
    pub chat_template: Option<PathBuf>,
    /// Make embeddings, even with a model that generates text.
    pub embeddings: bool,
    /// How embeddings are pooled; `None`: as the model says.
    pub pooling: Option<Pooling>,

    /// Cells of the KV cache for all slots together, as in llama.cpp; `None`: chosen from the model.
    pub ctx_total: Option<u32>,
    /// Number of slots: requests that run at the same time, `1..=SLOTS_MAX`.
    pub parallel: u16,
    /// The number formats of cached keys and values.
    pub kv_types: KvTypes,
    /// Whether all slots use one KV buffer: one slot may use all of it, but attention reads the cells of all slots. `None`:
    /// one buffer if attention skips hidden cells, with a share for each slot.
    pub kv_unified: Option<bool>,
    /// Whether attention is fused.
    pub flash_attn: FlashAttn,
    /// Most bytes in RAM for prompts that the KV cache no longer holds, 0 for none; `None`: a share of the free memory.
    pub prompt_ram: Option<u64>,
    /// The folder for prompts on disk, and its most bytes.
    pub prompt_disk: Option<(PathBuf, u64)>,
    /// A file of prompts that are prefilled before the server is ready.
    pub warm: Option<PathBuf>,
    /// Most rows of one step; `None`: the measured default.
    pub step_tokens: Option<usize>,
    /// Whether tokens are guessed and checked in the same step; `None`: only if that can't change a single bit of the text.
    pub speculate: Option<bool>,
    /// Most requests that wait in the ring.
    pub queue: usize,

    /// What runs the steps.
    pub decoder: DecoderKind,
    /// Compute threads; `None`: chosen from the machine's cores.
    pub threads: Option<usize>,
    /// Layers on the GPU; `None`: all, if the build has a GPU backend.
    pub gpu_layers: Option<u32>,
    /// Whether the model's file is mapped into memory.
    pub mmap: bool,
    /// Whether the weights are locked into memory.
    pub mlock: bool,
    /// Whether ggml may repack the weights into a layout for this CPU.
    pub repack: bool,

    /// An address, a host name, or `unix:` and a path.
    pub host: String,
    /// The port; 0: any free one.
    pub port: u16,
    /// Certificate and key; `None`: HTTP without TLS.
    pub tls: Option<TlsFiles>,
    /// The API keys.
    pub api_keys: KeySources,
    /// Whether `GET /metrics` requires no key.
    pub metrics_are_open: bool,
    /// Where KV events are published; `None`: nowhere.
    pub kv_events: Option<KvEvents>,
    /// Tokens of a block of the KV cache, as routers are told.
    pub kv_block_tokens: usize,
    /// Which requests belong to one account, where accounts take turns.
    pub fair_by: FairBy,
    /// Origins of web pages that may send requests; `*` allows all.
    pub cors: Vec<String>,
    /// Number of HTTP threads.
    pub http_threads: usize,
    /// The longest time for a request, from its last byte read; `None`: no limit.
    pub deadline: Option<Duration>,
    /// The longest time in which a stream sends nothing.
    pub stream_ping: Duration,
    /// The longest time that running requests may continue after SIGTERM.
    pub grace: Duration,
    /// Whether the engine records its steps.
    pub trace: bool,
    /// Whether a second process without a model watches the server and restarts it after a crash.
    pub supervise: bool,
    /// Whether the running server gives up rights that it no longer needs.
    pub sandbox: SandboxMode,

    /// `max_tokens` of a request that doesn't set it; `None`: as many as fit in the context.
    pub max_tokens: Option<usize>,
    /// Sampling parameters of a request that sets none.
    pub sampling: SamplingParams,
    /// The seed of a request that sets none; `None`: a new one for each request.
    pub seed: Option<u64>,

    /// The least important level that the log shows.
    pub log_level: LogLevel,
    /// The format of the log.
    pub log_format: LogFormat,
    /// Whether the log line of a request contains its prompt.
    pub log_prompts: bool,
    /// Whether requests of one API key may reuse KV cells of another key's requests.
    pub share_prompts: bool,

    /// The configuration file that was read. SIGHUP reads it again.
    pub file: Option<PathBuf>,
    shown: Vec<Shown>,
    unknown_vars: Vec<String>,
}

/// One setting as `--check` prints it.
#[derive(Clone, Debug, PartialEq)]
struct Shown {
    key: &'static str,
    /// The value as TOML; `None`: not set.
    value: Option<String>,
    /// What the program does if the value isn't set.
    meaning: &'static str,
    origin: Origin,
}

impl Config {
    /// Reads flags, the environment and the file they name.
    ///
    /// # Errors
    /// `StartupError::Config` for the first name or value that can't be used.
    pub fn load(flags: &flags::Typed) -> Result<Config, StartupError> {
        let vars = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())));
        Config::resolve(Layers::read(flags, vars)?)
    }

    /// Like `load`, but doesn't read the environment.
    ///
    /// # Errors
    /// As `load`.
    pub fn from_flags(flags: &flags::Typed) -> Result<Config, StartupError> {
        Config::resolve(Layers::read(flags, [])?)
    }

    /// Checks all values of `layers`. Pure.
    pub fn resolve(layers: Layers) -> Result<Config, StartupError> {
        let (unknown_vars, file) = (layers.unknown_vars.clone(), layers.file.clone());
        let mut pick = Picker::new(layers);
        let model = model(&mut pick)?;
        let alias = pick.text("alias", "the model's own name")?;
        let tokenizer = pick.path("tokenizer", "the GGUF's vocabulary")?;
        let chat_template = pick.path("chat-template", "the GGUF's template")?;

        let embeddings = pick.switch("embeddings")?;
        let poolings =
            [("auto", None), ("mean", Some(Pooling::Mean)), ("cls", Some(Pooling::Cls)), ("last", Some(Pooling::Last))];
        let pooling = pick.one_of("pooling", "auto", &poolings)?;

        let parallel = pick.count("parallel", SLOTS_DEFAULT, 1..=SLOTS_MAX)?;
        let ctx_total = pick.open_count("ctx-size", &["0"], 0..=CTX_TOTAL_MAX, "as the model and memory allow")?;
        let queue = pick.count("queue", (parallel * QUEUE_PER_SLOT).clamp(QUEUE_MIN, QUEUE_MAX), 1..=QUEUE_MAX)?;
        let step_tokens = pick.open_count("step-tokens", &["0"], 1..=STEP_TOKENS_MAX, "as measured")?;
        let whether = [("auto", None), ("on", Some(true)), ("off", Some(false))];
        let speculate = pick.one_of("speculate", "auto", &whether)?;
        let kv_type = pick.one_of("kv-type", KvType::F16.as_str(), &KvType::NAMED)?;
        let keys = pick.one_of("cache-type-k", kv_type.as_str(), &KvType::NAMED)?;
        let values = pick.one_of("cache-type-v", kv_type.as_str(), &KvType::NAMED)?;
        let kv_types = KvTypes { keys, values };
        let kv_unified = pick.open_switch("kv-unified", "one if that is faster, with a share for each slot")?;
        let flash = [("auto", FlashAttn::Auto), ("on", FlashAttn::On), ("off", FlashAttn::Off)];
        let flash_attn = pick.one_of("flash-attn", "auto", &flash)?;
        if values != KvType::F16 && flash_attn == FlashAttn::Off {
            let named = if values == kv_type { "kv-type" } else { "cache-type-v" };
            let reason = format!("{} needs flash attention, which is off", values.as_str());
            return Err(pick.refuse(named, reason));
        }

        let prompt_ram = pick.size("prompt-ram", "an eighth of free memory")?;
        let prompt_disk = pick.folder("prompt-disk", PROMPT_DISK_BYTES_DEFAULT, "off")?;

        let warm = pick.path("warm", "none")?;
        let is_null = pick.one_of("decoder", "llama", &[("llama", false), ("null", true)])?;
        if is_null && embeddings {
            return Err(pick.refuse("embeddings", "the null decoder makes no embeddings"));
        }
        let null_step_us = pick.number("null-step-us", 0, 0..=NULL_STEP_US_MAX)?;
        let decoder = match is_null {
            true => DecoderKind::Null { step: Duration::from_micros(null_step_us) },
            false => DecoderKind::Llama,
        };
        let threads = pick.open_count("threads", &["0", "-1"], 1..=THREADS_MAX, "planned from the machine")?;
        let gpu_layers = pick.open_count("gpu-layers", &["all", "auto", "-1"], 0..=9_999, "all, given a GPU build")?;
        let mmap = !pick.switch("no-mmap")?;
        let mlock = pick.switch("mlock")?;
        let repack = !pick.switch("no-repack")?;

        let host = pick.text_or("host", "127.0.0.1")?;
        match host.strip_prefix(UNIX_PREFIX) {
            Some("") => return Err(pick.refuse("host", "unix: needs a path after it")),
            None if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '/') => {
                return Err(pick.refuse("host", "not an address, a host name or unix:PATH"));
            }
            _ => {}
        }
        let port = pick.count("port", 8080, 0..=65_535)?;
        let tls = match (pick.path("tls-cert", "plain HTTP")?, pick.path("tls-key", "plain HTTP")?) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
            (None, None) => None,
            (Some(_), None) => return Err(pick.refuse("tls-cert", "needs --tls-key as well")),
            (None, Some(_)) => return Err(pick.refuse("tls-key", "needs --tls-cert as well")),
        };
        let api_key = pick.secret("api-key", "no key is required")?;
        if let Some(complaint) = api_key.as_deref().and_then(keys::complaint) {
            return Err(pick.refuse("api-key", complaint));
        }
        let api_keys = KeySources { key: api_key, file: pick.path("api-key-file", "no key is required")? };
        let metrics_are_open = pick.one_of("metrics-key", "same", &[("same", false), ("none", true)])?;
        let kv_events = pick.text("kv-events", "none are published")?;
        let kv_events = kv_events.as_deref().map(EventsAddress::parse).transpose();
        let kv_events = kv_events.map_err(|reason| pick.refuse("kv-events", reason))?;
        let topic = pick.text("kv-events-topic", "none")?.unwrap_or_default();
        let kv_events = kv_events.map(|address| KvEvents { address, topic });
        let kv_block_tokens = pick.count("kv-block-size", KV_BLOCK_TOKENS, 1..=KV_BLOCK_TOKENS_MAX)?;
        let fair_by = [("none", FairBy::None), ("key", FairBy::Key), ("address", FairBy::Address)];
        let fair_by = pick.one_of("fair-by", if api_keys.are_there() { "key" } else { "none" }, &fair_by)?;
        let cors = pick.text("cors", "pages of other sites are refused")?;
        let cors: Vec<String> =
            cors.iter().flat_map(|list| list.split(',')).map(|origin| origin.trim().to_owned()).collect();
        if let Some(bad) = cors.iter().find(|origin| !is_origin(origin)) {
            return Err(pick.refuse("cors", format!("{bad:?} is no origin like https://example.org, nor *")));
        }
        let http_threads = (parallel + queue + HTTP_THREADS_SPARE).min(HTTP_THREADS_MAX);
        let http_threads = pick.count("http-threads", http_threads, 1..=HTTP_THREADS_MAX)?;
        let deadline = pick.open("deadline-ms", &["0", "-1"], 1..=WAIT_MS_MAX, "none")?;
        let stream_ping = pick.number("stream-ping-ms", STREAM_PING_MS, 1..=WAIT_MS_MAX)?;
        let grace = pick.number("grace-ms", 30_000, 0..=WAIT_MS_MAX)?;
        let supervise = pick.switch("supervise")?;
        let sandboxes = [("auto", SandboxMode::Auto), ("on", SandboxMode::On), ("off", SandboxMode::Off)];
        let sandbox = pick.one_of("sandbox", "auto", &sandboxes)?;

        let usual = SamplingParams::default();
        let max_tokens = pick.open_count("max-tokens", &["-1"], 1..=CTX_TOTAL_MAX, "as many as fit")?;
        let temperature = pick.number("temp", usual.temperature, 0.0..=100.0)?;
        let top_k = pick.count("top-k", usual.top_k, 0..=1 << 24)?;
        let top_p = pick.number("top-p", usual.top_p, f32::MIN_POSITIVE..=1.0)?;
        let min_p = pick.number("min-p", usual.min_p, 0.0..=1.0)?;
        let seed = pick.open("seed", &["-1"], 0..=u64::MAX, "a fresh one each request")?;
        let sampling = SamplingParams { temperature, top_k, top_p, min_p, seed: seed.unwrap_or(usual.seed), ..usual };

        let levels = [
            ("error", LogLevel::Error),
            ("warn", LogLevel::Warn),
            ("info", LogLevel::Info),
            ("debug", LogLevel::Debug),
            ("trace", LogLevel::Trace),
        ];
        let log_level = pick.one_of("log-level", "info", &levels)?;
        let trace = pick.switch("trace")?;
        let formats = [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
        let log_format = pick.one_of("log-format", "auto", &formats)?;
        let log_prompts = pick.switch("log-prompts")?;
        let share_prompts = pick.switch("share-prompts")?;

        Ok(Config {
            model,
            alias,
            tokenizer,
            chat_template,
            embeddings,
            pooling,
            ctx_total: ctx_total.filter(|total| *total > 0).map(|total| total as u32),
            parallel: parallel as u16,
            kv_types,
            kv_unified,
            flash_attn,
            prompt_ram,
            prompt_disk,
            warm,
            step_tokens,
            speculate,
            queue,
            decoder,
            threads,
            gpu_layers: gpu_layers.map(|layers| layers as u32),
            mmap,
            mlock,
            repack,
            host,
            port: port as u16,
            tls,
            api_keys,
            metrics_are_open,
            kv_events,
            kv_block_tokens,
            fair_by,
            cors,
            http_threads,
            deadline: deadline.map(Duration::from_millis),
            stream_ping: Duration::from_millis(stream_ping),
            grace: Duration::from_millis(grace),
            supervise,
            sandbox,
            max_tokens,
            sampling,
            seed,
            log_level,
            trace,
            log_format,
            log_prompts,
            share_prompts,
            file,
            shown: pick.into_shown(),
            unknown_vars,
        })
    }

    /// The path of `--host unix:PATH`.
    pub fn unix_path(&self) -> Option<&Path> {
        self.host.strip_prefix(UNIX_PREFIX).map(Path::new)
    }

    /// `host:port` as sockets take it, an IPv6 address in brackets; `unix:PATH` unchanged.
    pub fn listen_addr(&self) -> String {
        if self.unix_path().is_some() {
            self.host.clone()
        } else if self.host.contains(':') && !self.host.starts_with('[') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The GGUF file; `None`: the built-in model, or a model on the hub.
    pub fn model_path(&self) -> Option<&Path> {
        match &self.model {
            ModelSource::BuiltIn | ModelSource::Hub(_) => None,
            ModelSource::File(path) => Some(path),
        }
    }

    /// The place that set `key`.
    pub fn origin(&self, key: &str) -> &Origin {
        self.shown.iter().find(|shown| shown.key == key).map_or(&Origin::Default, |shown| &shown.origin)
    }

    /// `CLLM_*` variables that no setting has, which are probably misspelt. Start-up logs them.
    pub fn unknown_vars(&self) -> &[String] {
        &self.unknown_vars
    }
}

/// The model of `model` or `hf-repo`: the one set in the stronger place.
fn model(pick: &mut Picker) -> Result<ModelSource, StartupError> {
    match pick.strength("model").cmp(&pick.strength("hf-repo")) {
        Ordering::Less => pick.forget("model"),
        Ordering::Greater => ["hf-repo", "hf-file"].into_iter().for_each(|key| pick.forget(key)),
        Ordering::Equal if pick.strength("model") > 0 => {
            let reason = format!("can't be used with {}, because each names a model", pick.name_of("hf-repo"));
            return Err(pick.refuse("model", reason));
        }
        Ordering::Equal => {}
    }
    let path = pick.path("model", "the built-in model")?;
    let repo = pick.text("hf-repo", "none")?;
    let file = pick.text("hf-file", "by its QUANT")?;
    match (path, repo) {
        (Some(path), _) => Ok(ModelSource::File(path)),
        (None, Some(repo)) => match HubModel::parse(&repo, file.as_deref()) {
            Ok(model) => Ok(ModelSource::Hub(model)),
            Err(reason) => Err(pick.refuse("hf-repo", reason)),
        },
        (None, None) if file.is_some() => Err(pick.refuse("hf-file", "needs --hf-repo as well")),
        (None, None) => Ok(ModelSource::BuiltIn),
    }
}

/// Checks whether `text`, the content of `path`, can be put into an appliance: it must be valid, and name no file and no
/// model.
///
/// # Errors
/// The setting that names a file or a model, or the value that can't be used.
pub fn check_carried(path: &Path, text: &str) -> Result<(), StartupError> {
    for entry in file::parse(path, text)? {
        let is_file = settings::find(entry.key)
            .is_some_and(|setting| matches!(setting.kind, settings::Kind::File(_) | settings::Kind::Folder(_)));
        if is_file || ["hf-repo", "hf-file"].contains(&entry.key) {
            let name = format!("{} in {} line {}", entry.key, path.display(), entry.line);
            let reason = "names a file, which an appliance doesn't carry; -m names the model".to_owned();
            return Err(StartupError::Config { name, reason });
        }
    }
    Ok(())
}

/// Whether `text` is an origin as browsers send it: scheme, host and perhaps a port; no path and no slash at the end. `*`
/// also counts as one.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    text == "*"
        || host
            .is_some_and(|host| !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && !b"/?#,".contains(&b)))
}

#[cfg(test)]
mod tests;
