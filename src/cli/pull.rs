//! `cllm pull`: fetches a model by its name into the cache and prints its path. Other commands use it for `-hf`.

use std::path::PathBuf;

use crate::config::{LogFormat, LogLevel};
use crate::console::DownloadBar;
use crate::types::{HubModel, StartupError};
use crate::{hub, logging};

/// Download a model from Hugging Face and print its path
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without a QUANT it takes Q4_K_M, else Q8_0, else the first GGUF file. A model
in the cache comes first, and needs no network. A download that was cut off goes
on where it stopped. The cache is that of Hugging Face's own tools.

HF_TOKEN       For gated and private repositories
HF_HOME        Folder of cache and token [default: ~/.cache/huggingface]
HF_HUB_CACHE   Folder of the cache alone
HF_ENDPOINT    Another server [default: https://huggingface.co]
HF_HUB_OFFLINE 1: make no requests
SSL_CERT_FILE  PEM file of authorities to trust [default: Mozilla's]

Examples:
  cllm pull Qwen/Qwen3-0.6B-GGUF:Q8_0
  cllm serve -hf Qwen/Qwen3-0.6B-GGUF:Q8_0    Download if need be, and serve")]
pub struct PullArgs {
    /// The repository, and a quantisation such as Q4_K_M
    #[arg(value_name = "ORG/NAME[:QUANT]")]
    pub model: String,
    /// The file in the repository; of a model in parts, any part
    #[arg(long, value_name = "NAME")]
    pub file: Option<String>,
    /// Ask for a newer file, even if the cache has one
    #[arg(long)]
    pub update: bool,
}

/// Downloads the model and prints its path.
///
/// # Errors
/// The model doesn't exist or can't be fetched.
pub fn run(args: &PullArgs) -> Result<(), StartupError> {
    logging::init(LogLevel::Info, LogFormat::Text);
    let model = parse(&args.model, args.file.as_deref(), "ORG/NAME[:QUANT]")?;
    let path = hub::fetch(&model, args.update, &mut DownloadBar::default())?;
    crate::console::print(&format!("{}\n", path.display()))
}

/// Flags that name a model on the hub, for commands without settings.
#[derive(Debug, clap::Args)]
pub struct HubFlags {
    /// -hf: ORG/NAME[:QUANT] on Hugging Face
    #[arg(long, alias = "hf", value_name = "REPO")]
    hf_repo: Option<String>,
    /// -hff: the file in --hf-repo [default: by QUANT]
    #[arg(long, value_name = "NAME", requires = "hf_repo")]
    hf_file: Option<String>,
}

impl HubFlags {
    /// Fetches the model, if the flags name one, and returns its path.
    ///
    /// # Errors
    /// As `run`.
    pub(super) fn fetch(&self) -> Result<Option<PathBuf>, StartupError> {
        let Some(repo) = &self.hf_repo else { return Ok(None) };
        logging::init(LogLevel::Info, LogFormat::Text);
        let model = parse(repo, self.hf_file.as_deref(), "--hf-repo")?;
        hub::fetch(&model, false, &mut DownloadBar::default()).map(Some)
    }
}

fn parse(repo: &str, file: Option<&str>, name: &str) -> Result<HubModel, StartupError> {
    HubModel::parse(repo, file).map_err(|reason| StartupError::Config { name: name.to_owned(), reason })
}
