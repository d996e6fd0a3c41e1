//! Models by name from Hugging Face's hub, or a server that speaks as it does, into the cache that its other tools share.
//!
//! ```text
//! choose    which files a name means; pure
//! cache     where they lie, after the variables that all tools read
//! remote    asks the hub
//! download  one file: goes on where it was cut off, compares the SHA-256
//! ```
//!
//! A model that is in the cache is found without a request. Runs on the main thread, before anything is served.
//!
//! The crate `hf-hub` knows the names of repositories and the layout of the cache, and is used for that. Its requests
//! aren't: `Api::metadata` of its 0.5 sends the token on to whatever host a redirect names, its downloads take any answer
//! for the rest of the file, compare neither length nor hash, and wait without end; its 1.0 brings an async runtime.

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

/// Who is told how a download goes.
pub trait Progress {
    /// `file` begins, of which `have` of `bytes` bytes are there.
    fn begin(&mut self, file: &str, bytes: u64, have: u64);
    /// So many of its bytes are there now.
    fn at(&mut self, have: u64);
    /// Something to know, such as a second attempt.
    fn say(&mut self, news: &str);
    /// It is complete, or given up.
    fn end(&mut self);
}

/// The model's first file if all of it is in the cache. Makes no request.
///
/// # Errors
/// No folder can be told for the cache.
#[cfg(feature = "hub")]
pub fn cached(model: &HubModel) -> Result<Option<PathBuf>, StartupError> {
    let refuse = |reason: String| StartupError::Hub { model: model.to_string(), reason };
    let repo = cache::Settings::from_env().map_err(refuse)?.repo(&model.repo);
    Ok(repo.find(&model.which))
}

/// The model's first file, out of the cache or downloaded into it. With `update` the hub is asked first whether it has
/// another by now.
///
/// # Errors
/// In one line: there is no such model, it may not be had, or it can't be downloaded.
#[cfg(feature = "hub")]
pub fn fetch(model: &HubModel, update: bool, progress: &mut dyn Progress) -> Result<PathBuf, StartupError> {
    let refuse = |reason: String| StartupError::Hub { model: model.to_string(), reason };
    let settings = cache::Settings::from_env().map_err(refuse)?;
    let repo = settings.repo(&model.repo);
    if let Some(path) = repo.find(&model.which).filter(|_| !update) {
        return Ok(path);
    }
    if settings.is_offline {
        return Err(refuse(match update {
            true => "HF_HUB_OFFLINE is set, and an update needs the hub".to_owned(),
            false => format!("HF_HUB_OFFLINE is set, and {} hasn't got it", repo.folder().display()),
        }));
    }
    download::model(&settings, &repo, model, progress).map_err(refuse)
}

/// A build without the feature has neither cache nor requests.
#[cfg(not(feature = "hub"))]
pub fn cached(_: &HubModel) -> Result<Option<PathBuf>, StartupError> {
    Ok(None)
}

/// A build without the feature refuses.
///
/// # Errors
/// Always.
#[cfg(not(feature = "hub"))]
pub fn fetch(model: &HubModel, _: bool, _: &mut dyn Progress) -> Result<PathBuf, StartupError> {
    let reason = "this program was built without the feature `hub`: download the file and name it with -m".to_owned();
    Err(StartupError::Hub { model: model.to_string(), reason })
}
