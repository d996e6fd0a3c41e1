//! `--sandbox`: when `serve` shuts which door, and what it says of it. Main thread, at start-up.
//!
//! Landlock binds the thread that asks and those it starts later. So it is asked for as soon as everything is read and
//! before the first thread is started that stays: ggml's workers, the batching thread, the keeper of connections, HTTP
//! threads. seccomp binds all threads at once and comes last, when nothing but requests is left to wait for.

use std::path::{Path, PathBuf};

use crate::config::{Config, SandboxMode};
use crate::sandbox::files::{Enforced, FileRules};
use crate::sandbox::{Needs, calls};
use crate::types::StartupError;

/// A GPU's driver opens devices and compiles code while it serves; llama.cpp says of none which.
const HAS_GPU: bool = cfg!(any(feature = "cuda", feature = "vulkan"));

/// What is to be shut, and what is.
pub(super) struct Confinement {
    must: bool,
    needs: Needs,
    rules: Result<FileRules, String>,
    files: Result<Enforced, String>,
}

impl Confinement {
    /// Looks up what SIGHUP will read again. `own_path`: that of a socket which this process removes at the end. `None`: it
    /// isn't wanted.
    ///
    /// # Errors
    /// It must be had and can't.
    pub fn plan(config: &Config, own_path: Option<&Path>) -> Result<Option<Confinement>, StartupError> {
        let must = match config.sandbox {
            SandboxMode::Off => return Ok(None),
            SandboxMode::On if HAS_GPU => return Err(refused("this build computes on a GPU, whose driver needs more")),
            SandboxMode::Auto if HAS_GPU => {
                tracing::info!("no sandbox: this build computes on a GPU, whose driver needs more");
                return Ok(None);
            }
            SandboxMode::On => true,
            SandboxMode::Auto => false,
        };
        let mut needs = Needs::default();
        reread(config).for_each(|file| needs.reread(file));
        own_path.into_iter().for_each(|path| needs.remove(path));
        let rules = FileRules::new(&needs);
        let files = Err("not yet".to_owned());
        let confinement = Confinement { must, needs, rules, files };
        match &confinement.rules {
            Err(why) if must => Err(refused(&format!("landlock: {why}"))),
            _ => Ok(Some(confinement)),
        }
    }

    /// Everything is read: from now on only what SIGHUP reads again can be opened, by this thread and those it will start.
    ///
    /// # Errors
    /// It must be had and can't.
    pub fn files(mut self) -> Result<Confinement, StartupError> {
        let nothing = Err(String::new());
        let rules = std::mem::replace(&mut self.rules, nothing);
        self.files = rules.and_then(|rules| match threads() {
            Some(2..) => Err("other threads run already".to_owned()),
            _ => rules.enforce(),
        });
        match &self.files {
            Err(why) if self.must => Err(refused(&format!("landlock: {why}"))),
            _ => Ok(self),
        }
    }

    /// Everything is started: from now on calls are refused, to all threads. Says what is in force.
    ///
    /// # Errors
    /// It must be had and can't.
    pub fn calls(self) -> Result<(), StartupError> {
        let calls = calls::refuse(&self.needs);
        if let (Err(why), true) = (&calls, self.must) {
            return Err(refused(&format!("seccomp: {why}")));
        }
        let readable: Vec<String> = self.needs.readable.iter().map(|path| path.display().to_string()).collect();
        let readable = (!readable.is_empty()).then(|| readable.join(":"));
        match (self.files, calls) {
            (Ok(files), Ok(())) => tracing::info!(readable, "sandbox: {files}, seccomp"),
            (Err(why), Ok(())) => tracing::warn!("sandbox: seccomp; no landlock: {why}"),
            (Ok(files), Err(why)) => tracing::warn!(readable, "sandbox: {files}; no seccomp: {why}"),
            (Err(files), Err(calls)) => tracing::warn!("no sandbox: landlock: {files}; seccomp: {calls}"),
        }
        Ok(())
    }
}

/// The files that SIGHUP reads again.
fn reread(config: &Config) -> impl Iterator<Item = &Path> {
    let (cert, key) = config.tls.as_ref().map(|tls| (&tls.cert, &tls.key)).unzip();
    [config.file.as_ref(), config.api_keys.file.as_ref(), cert, key].into_iter().flatten().map(PathBuf::as_path)
}

/// Threads of this process; `None` where there is no `/proc`.
fn threads() -> Option<usize> {
    std::fs::read_dir("/proc/self/task").ok().map(Iterator::count)
}

fn refused(reason: &str) -> StartupError {
    StartupError::Config { name: "--sandbox on".to_owned(), reason: reason.to_owned() }
}
