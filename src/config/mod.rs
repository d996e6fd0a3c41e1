//! The settings: defined once each, read as text from three places, then checked.
//!
//! Flags override `CLLM_*` variables, and variables override the file that `--config` names. `settings` has the definitions,
//! `definition` says what one consists of; `layers` combines the three places; `Config` holds the checked values that the
//! rest of the program reads. Pure, except `Config::load`, which reads the environment and the file. Runs on the main
//! thread, before anything else.

mod check;
pub mod definition;
pub mod docs;
mod edit;
mod file;
pub mod flags;
mod keys;
mod layers;
mod read;
pub mod settings;
mod show;
pub mod size;
mod values;

use std::path::{Path, PathBuf};
use std::time::Duration;

use definition::{Definition, Picker, ShownSetting};
pub use edit::EditedFile;
pub use flags::Flags;
pub use keys::KeySources;
pub use layers::{Layers, Origin, quoted};
use settings::{compute, context, http, log, model, sampling};
use values::UNIX_PREFIX;
pub use values::{DecoderKind, FlashAttn, LogFormat, LogLevel, ModelSource, SandboxMode, TlsFiles};

use crate::types::{FairBy, KvEvents, KvTypes, Pooling, SamplingParams, StartupError};

/// Declares `Config`: each field with its type and how it is taken out of the `Picker` of the given name.
macro_rules! config {
    ($(#[$about:meta])* $Config:ident from $pick:ident { $($(#[$doc:meta])* $field:ident: $type:ty = $value:expr;)* }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $Config {
            $($(#[$doc])* pub $field: $type,)*
            /// The configuration file that was read. SIGHUP reads it again.
            pub file: Option<PathBuf>,
            shown: Vec<ShownSetting>,
            unknown_vars: Vec<String>,
        }

        impl $Config {
            /// Checks all values of `layers`. Pure.
            ///
            /// # Errors
            /// `StartupError::Config` for the first value that can't be used.
            pub fn resolve(layers: Layers) -> Result<$Config, StartupError> {
                let (unknown_vars, file) = (layers.unknown_vars.clone(), layers.file.clone());
                let mut picker = Picker::new(layers);
                let $pick = &mut picker;
                $(let $field = $value?;)*
                Ok($Config { $($field,)* file, shown: picker.into_shown(), unknown_vars })
            }
        }
    };
}

config! {
    /// Every setting, checked. `None` means that the value is decided later, from the model or the machine.
    Config from pick {
        /// Where the weights come from.
        model: ModelSource = model::source(pick);
        /// The model's name in answers; `None`: the name in the GGUF.
        alias: Option<String> = pick.take(&model::ALIAS);
        /// A `tokenizer.json` to use instead of the GGUF's vocabulary.
        tokenizer: Option<PathBuf> = pick.take(&model::TOKENIZER);
        /// A Jinja file to use instead of the GGUF's chat template.
        chat_template: Option<PathBuf> = pick.take(&model::CHAT_TEMPLATE);
        /// Make embeddings, even with a model that generates text.
        embeddings: bool = pick.take(&model::EMBEDDINGS);
        /// How embeddings are pooled; `None`: as the model says.
        pooling: Option<Pooling> = pick.take(&model::POOLING);

        /// Cells of the KV cache for all slots together, as in llama.cpp; `None`: chosen from the model.
        ctx_total: Option<u32> = pick.take(&context::CTX_SIZE).map(|cells| cells.filter(|cells| *cells > 0));
        /// Number of slots: requests that run at the same time, `1..=SLOTS_MAX`.
        parallel: u16 = pick.take(&context::PARALLEL);
        /// The number formats of cached keys and values.
        kv_types: KvTypes = context::kv_types(pick);
        /// Whether all slots use one KV buffer: one slot may use all of it, but attention reads the cells of all slots.
        /// `None`: one buffer if attention skips hidden cells, with a share for each slot.
        kv_unified: Option<bool> = pick.take(&context::KV_UNIFIED);
        /// Whether attention is fused.
        flash_attn: FlashAttn = pick.take(&context::FLASH_ATTN);
        /// Whether layers with a sliding window have cells only for that.
        windows_only: bool = pick.take(&context::SWA);
        /// Most bytes in RAM for prompts that the KV cache no longer holds, 0 for none; `None`: a share of the free memory.
        prompt_ram: Option<u64> = pick.take(&context::PROMPT_RAM);
        /// The folder for prompts on disk, and its most bytes.
        prompt_disk: Option<(PathBuf, u64)> = pick.take(&context::PROMPT_DISK);
        /// A file of prompts that are prefilled before the server is ready.
        warm: Option<PathBuf> = pick.take(&context::WARM);
        /// Most rows of one step; `None`: the measured default.
        step_tokens: Option<usize> = pick.take(&context::STEP_TOKENS);
        /// Whether tokens are guessed and checked in the same step; `None`: only if that can't change a single bit of the
        /// text.
        speculate: Option<bool> = pick.take(&context::SPECULATE);
        /// Most requests that wait in the ring.
        queue: usize = pick.take(&context::QUEUE);

        /// What runs the steps.
        decoder: DecoderKind = compute::decoder(pick);
        /// Compute threads; `None`: chosen from the machine's cores.
        threads: Option<usize> = pick.take(&compute::THREADS);
        /// Layers on the GPU; `None`: all, if the build has a GPU backend.
        gpu_layers: Option<u32> = pick.take(&compute::GPU_LAYERS);
        /// Whether the model's file is mapped into memory.
        mmap: bool = pick.take(&compute::NO_MMAP);
        /// Whether the weights are locked into memory.
        mlock: bool = pick.take(&compute::MLOCK);
        /// Whether ggml may repack the weights into a layout for this CPU.
        repack: bool = pick.take(&compute::NO_REPACK);

        /// An address, a host name, or `unix:` and a path.
        host: String = pick.take(&http::HOST);
        /// The port; 0: any free one.
        port: u16 = pick.take(&http::PORT);
        /// Certificate and key; `None`: HTTP without TLS.
        tls: Option<TlsFiles> = http::tls(pick);
        /// The API keys.
        api_keys: KeySources = http::api_keys(pick);
        /// Whether `GET /metrics` requires no key.
        metrics_are_open: bool = pick.take(&http::METRICS_KEY);
        /// Where KV events are published; `None`: nowhere.
        kv_events: Option<KvEvents> = http::kv_events(pick);
        /// Tokens of a block of the KV cache, as routers are told.
        kv_block_tokens: usize = pick.take(&http::KV_BLOCK_SIZE);
        /// Which requests belong to one account, where accounts take turns.
        fair_by: FairBy = pick.take(&http::FAIR_BY);
        /// Whether requests of one API key may reuse KV cells of another key's requests.
        share_prompts: bool = pick.take(&http::SHARE_PROMPTS);
        /// Origins of web pages that may send requests; `*` allows all.
        cors: Vec<String> = pick.take(&http::CORS).map(Option::unwrap_or_default);
        /// Number of HTTP threads.
        http_threads: usize = pick.take(&http::HTTP_THREADS);
        /// The longest time for a request, from its last byte read; `None`: no limit.
        deadline: Option<Duration> = pick.take(&http::DEADLINE_MS);
        /// The longest time in which a stream sends nothing.
        stream_ping: Duration = pick.take(&http::STREAM_PING);
        /// The longest time that running requests may continue after SIGTERM.
        grace: Duration = pick.take(&http::GRACE_MS);
        /// Whether a second process without a model watches the server and restarts it after a crash.
        supervise: bool = pick.take(&http::SUPERVISE);
        /// Whether the running server gives up rights that it no longer needs.
        sandbox: SandboxMode = pick.take(&http::SANDBOX);

        /// `max_tokens` of a request that doesn't set it; `None`: as many as fit in the context.
        max_tokens: Option<usize> = pick.take(&sampling::MAX_TOKENS);
        /// Sampling parameters of a request that sets none.
        sampling: SamplingParams = sampling::params(pick);
        /// The seed of a request that sets none; `None`: a new one for each request.
        seed: Option<u64> = pick.take(&sampling::SEED);

        /// The least important level that the log shows.
        log_level: LogLevel = pick.take(&log::LOG_LEVEL);
        /// Whether the engine records its steps.
        trace: bool = pick.take(&log::TRACE);
        /// The format of the log.
        log_format: LogFormat = pick.take(&log::LOG_FORMAT);
        /// Whether the log line of a request contains its prompt.
        log_prompts: bool = pick.take(&log::LOG_PROMPTS);
    }
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

    /// The files that settings name, the model's included: each with its setting and its path.
    pub fn files(&self) -> impl Iterator<Item = (&'static dyn Definition, &Path)> {
        self.shown.iter().filter_map(|shown| Some((settings::find(shown.key)?, shown.file.as_deref()?)))
    }

    /// The place that set `setting`.
    pub fn origin(&self, setting: &dyn Definition) -> &Origin {
        let key = setting.about().key;
        self.shown.iter().find(|shown| shown.key == key).map_or(&Origin::Default, |shown| &shown.origin)
    }

    /// The error for `setting`. It names the flag, variable or line that set it.
    pub fn refuse(&self, setting: &dyn Definition, reason: impl Into<String>) -> StartupError {
        StartupError::Config { name: self.origin(setting).name_of(setting.about().key), reason: reason.into() }
    }

    /// `CLLM_*` variables that no setting has, which are probably misspelt. Start-up logs them.
    pub fn unknown_vars(&self) -> &[String] {
        &self.unknown_vars
    }
}

/// Checks whether `text`, the content of `path`, can be put into an appliance: it must be valid, and name no file and no
/// model.
///
/// # Errors
/// The setting that names a file or a model, or the value that can't be used.
pub fn check_carried(path: &Path, text: &str) -> Result<(), StartupError> {
    for entry in file::parse(path, text)? {
        let is_path = settings::find(entry.key).is_some_and(|setting| setting.kind().is_path());
        if is_path || [model::HF_REPO.about.key, model::HF_FILE.about.key].contains(&entry.key) {
            let name = format!("{} in {} line {}", entry.key, path.display(), entry.line);
            let reason = "names a file, which an appliance doesn't carry; -m names the model".to_owned();
            return Err(StartupError::Config { name, reason });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
