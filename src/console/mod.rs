//! What commands show in a terminal: text on stdout, and progress on stderr.

mod progress;

use std::io::Write;

use crate::types::StartupError;

pub use progress::{DownloadBar, LoadingBar};

/// Writes `text` to stdout. A reader that closes the pipe early, such as `head`, is no error.
///
/// # Errors
/// stdout can't be written to.
pub fn print(text: &str) -> Result<(), StartupError> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(StartupError::System { doing: "write to stdout".to_owned(), reason: error.to_string() })
        }
        _ => Ok(()),
    }
}
