//! `cllm pull`: a model by its name into the cache, and its path. Also what the other commands do with `-hf`.

use std::path::PathBuf;

use super::progress::DownloadBar;
use crate::config::{LogFormat, LogLevel, ModelSource};
use crate::types::{HubModel, StartupError};
use crate::{hub, logging};

/// Download a model from Hugging Face and print its path
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without a QUANT it is Q4_K_M, else Q8_0, else the first GGUF; what is in the
cache already comes first, and needs no network. A download that was cut off
goes on where it stopped. The cache is the one that Hugging Face's tools share.

HF_TOKEN       For gated and private repositories
HF_HOME        The cache and a token's file [default: ~/.cache/huggingface]
HF_HUB_CACHE   The cache alone
HF_ENDPOINT    Another server [default: https://huggingface.co]
HF_HUB_OFFLINE 1: no requests at all
SSL_CERT_FILE  Authorities to trust, PEM [default: Mozilla's]

Examples:
  cllm pull Qwen/Qwen3-0.6B-GGUF:Q8_0
  cllm serve -hf Qwen/Qwen3-0.6B-GGUF:Q8_0    Download at need, and serve")]
pub struct PullArgs {
    /// The repository, and a quantisation such as Q4_K_M
    #[arg(value_name = "ORG/NAME[:QUANT]")]
    pub model: String,
    /// This file of it; of a model in parts, any of them
    #[arg(long, value_name = "NAME")]
    pub file: Option<String>,
    /// Ask for a newer one, even if it is in the cache
    #[arg(long)]
    pub update: bool,
}

/// Downloads and prints the path.
///
/// # Errors
/// There is no such model, or it can't be had.
pub fn run(args: &PullArgs) -> Result<(), StartupError> {
    logging::init(LogLevel::Info, LogFormat::Text);
    let model = parse(&args.model, args.file.as_deref(), "ORG/NAME[:QUANT]")?;
    let path = hub::fetch(&model, args.update, &mut DownloadBar::default())?;
    super::print(&format!("{}\n", path.display()))
}

/// Puts a file in the place of a name.
///
/// # Errors
/// As `run`.
pub(super) fn fetch(source: &mut ModelSource) -> Result<(), StartupError> {
    if let ModelSource::Hub(model) = source {
        *source = ModelSource::File(hub::fetch(model, false, &mut DownloadBar::default())?);
    }
    Ok(())
}

/// The same where the file is in the cache; else it stays a name.
///
/// # Errors
/// The cache has no place.
pub(super) fn look_up(source: &mut ModelSource) -> Result<(), StartupError> {
    if let ModelSource::Hub(model) = source
        && let Some(path) = hub::cached(model)?
    {
        *source = ModelSource::File(path);
    }
    Ok(())
}

/// A model by name, for commands without settings.
#[derive(Debug, clap::Args)]
pub struct HubFlags {
    /// -hf: ORG/NAME[:QUANT] on Hugging Face
    #[arg(long, alias = "hf", value_name = "REPO")]
    hf_repo: Option<String>,
    /// -hff: this file of --hf-repo [default: by QUANT]
    #[arg(long, value_name = "NAME", requires = "hf_repo")]
    hf_file: Option<String>,
}

impl HubFlags {
    /// The path of the model, if one was named.
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
