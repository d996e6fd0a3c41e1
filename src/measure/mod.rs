//! The laboratory: benches, `tune` and the recorder of `profile`.
//!
//! ```text
//! stages       the serving stack built up layer by layer, from the raw loop to the socket
//! decode       llama.cpp's loop alone              http         a load over HTTP against a running server
//! speculation  with guesses and without            tune         which settings are fastest here
//! witness      records a bench: steps and samples of CPU time (cpu)
//! profile      writes what was recorded
//! ```

pub mod cpu;
pub mod decode;
pub mod http;
pub mod profile;
pub mod speculation;
pub mod stages;
pub mod tune;
pub mod witness;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::SIGINT;
use signal_hook::flag;

use crate::types::StartupError;

/// A flag that Ctrl-C sets, so that a bench can still print its results. A second Ctrl-C ends the program.
///
/// # Errors
/// The system refuses the signal handler.
pub(super) fn stop_on_ctrl_c() -> Result<Arc<AtomicBool>, StartupError> {
    let stop = Arc::new(AtomicBool::new(false));
    let listening = flag::register_conditional_shutdown(SIGINT, 130, Arc::clone(&stop))
        .and_then(|_| flag::register(SIGINT, Arc::clone(&stop)));
    let failed =
        |error: std::io::Error| StartupError::System { doing: "listen for signals".into(), reason: error.to_string() };
    listening.map(|_| stop).map_err(failed)
}

/// The median of `values`; NaN if there are none.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[half],
        _ => (sorted[half - 1] + sorted[half]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0, 2.0, 1.0])), (2.0, 1.5));
        assert!(median(&[]).is_nan());
    }
}
