//! Progress of loading and downloading: a bar on a terminal, otherwise a line from time to time.

use std::cell::Cell;
use std::io::IsTerminal;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::hub;

/// The progress of loading a model. Main thread only.
pub struct LoadingBar {
    bar: Option<ProgressBar>,
    name: String,
    /// The number of quarters already reported.
    told: Cell<u32>,
}

impl LoadingBar {
    /// Starts at 0.
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

    /// Shows that `fraction`, 0..=1, is loaded. Always returns `true`, which means continue.
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

/// The progress of a download. Main thread only.
#[derive(Default)]
pub struct DownloadBar {
    bar: Option<ProgressBar>,
    file: String,
    bytes: u64,
    /// The number of tenths already reported.
    told: u64,
}

impl hub::Progress for DownloadBar {
    fn begin(&mut self, file: &str, bytes: u64, have: u64) {
        (self.file, self.bytes) = (file.to_owned(), bytes);
        self.told = self.tenths(have);
        let from = if have > 0 { format!(", from {} on", HumanBytes(have)) } else { String::new() };
        self.say(&format!("downloading {file}, {}{from}", HumanBytes(bytes)));
        self.bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(bytes).with_position(have);
            let template = "{percent:>3}% [{wide_bar}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            // The bytes that were there before must not count in the rate.
            bar.reset_eta();
            bar
        });
    }

    fn at(&mut self, have: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(have);
            return;
        }
        let tenths = self.tenths(have);
        if tenths != self.told {
            self.told = tenths;
            tracing::info!(file = self.file, percent = tenths * 10, "downloading");
        }
    }

    fn say(&mut self, news: &str) {
        match &self.bar {
            Some(bar) => {
                bar.suspend(|| eprintln!("{news}"));
                // The pause before this attempt must not count in the rate.
                bar.reset_eta();
            }
            None if std::io::stderr().is_terminal() => eprintln!("{news}"),
            None => tracing::info!("{news}"),
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl DownloadBar {
    fn tenths(&self, have: u64) -> u64 {
        have.saturating_mul(10) / self.bytes.max(1)
    }
}
