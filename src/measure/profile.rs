//! The files that `cllm profile` writes about a recorded bench.
//!
//! ```text
//! report.txt     what the bench printed
//! cpu.svg        flame graph of CPU time, to be opened in a browser; cpu.folded: its stacks as text
//! timeline.json  what each engine did when, for ui.perfetto.dev
//! ```
//!
//! The bench runs in this process. Another process, such as a server under `bench http`, isn't recorded.

use std::fs;
use std::path::{Path, PathBuf};

use super::witness::Seen;
use crate::trace::write_timeline;
use crate::types::StartupError;

const FILES: [&str; 4] = ["report.txt", "cpu.svg", "cpu.folded", "timeline.json"];

/// A folder that holds the files, empty at first.
pub struct ProfileFolder(PathBuf);

impl ProfileFolder {
    /// Makes the folder, if it doesn't exist, and the empty files: a folder that can't be written is found before a long bench.
    ///
    /// # Errors
    /// The folder or a file can't be written.
    pub fn make(path: &Path) -> Result<ProfileFolder, StartupError> {
        fs::create_dir_all(path).map_err(|error| failed(path, &error))?;
        for name in FILES {
            let path = path.join(name);
            fs::write(&path, "").map_err(|error| failed(&path, &error))?;
        }
        Ok(ProfileFolder(path.to_owned()))
    }

    /// Writes the files and removes those for which nothing was recorded. `title` stands above the flame graph. Returns a summary
    /// in words.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn write(self, seen: &Seen, title: &str) -> Result<String, StartupError> {
        let (contents, summary) = written(seen, title);
        for (name, content) in FILES.into_iter().zip(contents) {
            let path = self.0.join(name);
            let done = content.map_or_else(|| fs::remove_file(&path), |content| fs::write(&path, content));
            done.map_err(|error| failed(&path, &error))?;
        }
        Ok(summary)
    }
}

fn failed(path: &Path, error: &std::io::Error) -> StartupError {
    StartupError::Config { name: "--out".to_owned(), reason: format!("{}: {error}", path.display()) }
}

/// The contents of `FILES`, and a summary in words. `None`: there is nothing to write into that file.
fn written(seen: &Seen, title: &str) -> ([Option<Vec<u8>>; 4], String) {
    let report = (!seen.report.is_empty()).then(|| seen.report.clone().into_bytes());
    let mut said = Vec::new();
    let (mut svg, mut folded) = (None, None);
    if let Some(samples) = &seen.samples {
        let threads: Vec<String> =
            samples.by_thread().iter().take(6).map(|(name, count)| format!("{name} {count}")).collect();
        let words = format!("{} samples of CPU time ({})", samples.count(), threads.join(", "));
        svg = samples.to_svg(title, &words);
        folded = svg.is_some().then(|| samples.to_folded().into_bytes());
        said.push(if svg.is_some() { format!("cpu.svg, {words}") } else { "no CPU time to sample".to_owned() });
    }
    let timeline = !(seen.marks.is_empty() && seen.tracks.is_empty());
    if timeline {
        let steps: usize = seen.tracks.iter().map(|track| track.steps.len()).sum();
        let lost: u64 = seen.tracks.iter().map(|track| track.lost).sum();
        let less = if lost > 0 { format!(", the first of {}", steps as u64 + lost) } else { String::new() };
        said.push(format!("timeline.json, {steps} steps{less}"));
    }
    let timeline = timeline.then(|| write_timeline(&seen.tracks, &seen.marks).into_bytes());
    ([report, svg, folded, timeline], said.join("; "))
}
