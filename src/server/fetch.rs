//! Replaces a model that is named on the hub by its file.

use crate::config::ModelSource;
use crate::console::DownloadBar;
use crate::hub;
use crate::types::StartupError;

/// If `source` is a model on the hub, fetches it and replaces `source` by its file.
///
/// # Errors
/// The model doesn't exist or can't be fetched.
pub fn fetch(source: &mut ModelSource) -> Result<(), StartupError> {
    if let ModelSource::Hub(model) = source {
        *source = ModelSource::File(hub::fetch(model, false, &mut DownloadBar::default())?);
    }
    Ok(())
}

/// If `source` is a model on the hub and its file is in the cache, replaces `source` by the file. Makes no request.
///
/// # Errors
/// The cache's folder is unknown.
pub fn look_up(source: &mut ModelSource) -> Result<(), StartupError> {
    if let ModelSource::Hub(model) = source
        && let Some(path) = hub::cached(model)?
    {
        *source = ModelSource::File(path);
    }
    Ok(())
}
