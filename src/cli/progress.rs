//! The loading bar: a bar on a terminal, a line every quarter elsewhere.

use std::cell::Cell;
use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// Shows how far a model's loading is. Main thread only.
pub struct LoadingBar {
    bar: Option<ProgressBar>,
    name: String,
    /// Quarters already told.
    told: Cell<u32>,
}

impl LoadingBar {
    /// Begins at 0.
    pub fn start(name: &str) -> LoadingBar {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(1_000);
            if let Ok(style) = ProgressStyle::with_template("Loading {msg} [{bar:30}] {percent}%") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_message(name.to_owned());
            bar
        });
        LoadingBar { bar, name: name.to_owned(), told: Cell::new(0) }
    }

    /// `fraction` of 0..=1 is there. Returns `true`: go on.
    pub fn set(&self, fraction: f32) -> bool {
        match &self.bar {
            Some(bar) => bar.set_position((fraction * 1_000.0) as u64),
            None => {
                let quarter = (fraction * 4.0) as u32;
                if quarter > self.told.replace(quarter) {
                    tracing::info!(model = self.name, percent = quarter * 25, "loading");
                }
            }
        }
        true
    }

    /// Clears the bar.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
