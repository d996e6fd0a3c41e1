//! Models by name from Hugging Face's hub, or from a server with the same interface, kept in the cache that its other tools use.
//!
//! ```text
//! choose    which files a name means; pure
//! cache     the files on the disk, and the variables that say where
//! remote    requests to the hub
//! download  downloads files, continues where an attempt ended, compares SHA-256
//! ```
//!
//! A model that is in the cache is found without a request. Runs on the main thread, before the server starts.
//!
//! The crate `hf-hub` supplies names of repositories and the layout of the cache. Its requests are not used: `Api::metadata` of
//! version 0.5 sends the token to any host that a redirect names; its downloads take any response for the rest of the file,
//! compare neither length nor hash, and have no timeout. Version 1.0 needs an async runtime.

#[cfg(feature = "hub")]
mod cache;
#[cfg(feature = "hub")]
mod choose;
#[cfg(feature = "hub")]
mod download;
#[cfg(feature = "hub")]
mod remote;

use std::path::PathBuf;

use crate::types::StartupError;
use crate::types::hub::HubModel;

/// Receives a download's progress.
pub trait Progress {
    /// The download of `file` begins. It has `bytes` bytes, of which `have` are already on the disk.
    fn begin(&mut self, file: &str, bytes: u64, have: u64);
    /// `have` bytes of the file are on the disk now.
    fn at(&mut self, have: u64);
    /// Another message for the user, such as that an attempt is repeated.
    fn say(&mut self, news: &str);
    /// The file is complete, or its download failed.
    fn end(&mut self);
}

/// The path of the model's first file, if all its files are in the cache. Makes no request.
///
/// # Errors
/// The cache's folder is unknown.
#[cfg(feature = "hub")]
pub fn cached(model: &HubModel) -> Result<Option<PathBuf>, StartupError> {
    let refuse = |reason: String| StartupError::Hub { model: model.to_string(), reason };
    let repo = cache::HubSettings::from_env().map_err(refuse)?.repo(&model.repo);
    Ok(repo.find(&model.which))
}

/// The path of the model's first file, which is downloaded if the cache doesn't have it. With `update` the hub is always
/// asked whether it has a newer version.
///
/// # Errors
/// One line: the model doesn't exist, access to it is refused, or the download failed.
#[cfg(feature = "hub")]
pub fn fetch(model: &HubModel, update: bool, progress: &mut dyn Progress) -> Result<PathBuf, StartupError> {
    let refuse = |reason: String| StartupError::Hub { model: model.to_string(), reason };
    let settings = cache::HubSettings::from_env().map_err(refuse)?;
    let repo = settings.repo(&model.repo);
    if let Some(path) = repo.find(&model.which).filter(|_| !update) {
        return Ok(path);
    }
    if settings.is_offline {
        return Err(refuse(match update {
            true => "HF_HUB_OFFLINE is set, and an update needs the hub".to_owned(),
            false => format!("HF_HUB_OFFLINE is set, and the model is not in {}", repo.folder().display()),
        }));
    }
    download::model(&settings, &repo, model, progress).map_err(refuse)
}

/// In a build without the feature `hub`: no model is in the cache.
#[cfg(not(feature = "hub"))]
pub fn cached(_: &HubModel) -> Result<Option<PathBuf>, StartupError> {
    Ok(None)
}

/// In a build without the feature `hub`: always an error.
///
/// # Errors
/// Always.
#[cfg(not(feature = "hub"))]
pub fn fetch(model: &HubModel, _: bool, _: &mut dyn Progress) -> Result<PathBuf, StartupError> {
    let reason = "this program was built without the feature `hub`: download the file and name it with -m".to_owned();
    Err(StartupError::Hub { model: model.to_string(), reason })
}
