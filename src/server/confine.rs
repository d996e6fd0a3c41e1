//! `--sandbox`: when `serve` applies each part of the sandbox, and what it logs. Main thread, at start-up.
//!
//! Landlock binds the calling thread and threads that it starts later. So it is applied when all files are read and before
//! the first lasting thread starts: ggml's workers, the batching thread, the event loop of connections, HTTP threads.
//! seccomp binds all threads at once. It is applied last, when the server only waits for requests.

use std::path::{Path, PathBuf};

use crate::config::{Config, SandboxMode};
use crate::prompts;
use crate::sandbox::files::{Enforced, FileRules};
use crate::sandbox::{Needs, calls};
use crate::types::StartupError;

/// The driver of a GPU opens devices and compiles code while the server runs. llama.cpp doesn't say which, so such builds
/// have no sandbox.
const HAS_GPU: bool = cfg!(any(feature = "cuda", feature = "vulkan"));

/// A prepared sandbox, and how much of it is in force.
pub struct Confinement {
    must: bool,
    needs: Needs,
    rules: Result<FileRules, String>,
    files: Result<Enforced, String>,
}

impl Confinement {
    /// Looks up the files that SIGHUP reads again. `own_path`: the path of a socket that this process removes at its end.
    /// `None`: no sandbox is wanted.
    ///
    /// # Errors
    /// `--sandbox on`, and the kernel can't enforce it.
    pub fn plan(config: &Config, own_path: Option<&Path>) -> Result<Option<Confinement>, StartupError> {
        let must = match config.sandbox {
            SandboxMode::Off => return Ok(None),
            SandboxMode::On if HAS_GPU => {
                return Err(refused("this build computes on a GPU, whose driver needs refused calls"));
            }
            SandboxMode::Auto if HAS_GPU => {
                tracing::info!("no sandbox: this build computes on a GPU, whose driver needs refused calls");
                return Ok(None);
            }
            SandboxMode::On => true,
            SandboxMode::Auto => false,
        };
        let mut needs = Needs::default();
        reread(config).for_each(|file| needs.reread(file));
        own_path.into_iter().for_each(|path| needs.remove(path));
        needs.own = config.prompt_disk.as_ref().map(|(folder, _)| folder.clone());
        // A rule needs an existing folder. If it can't be made, the disk thread says why.
        needs.own.iter().for_each(|folder| drop(prompts::make_folder(folder)));
        let rules = FileRules::new(&needs);
        let files = Err("not yet".to_owned());
        let confinement = Confinement { must, needs, rules, files };
        match &confinement.rules {
            Err(why) if must => Err(refused(&format!("landlock: {why}"))),
            _ => Ok(Some(confinement)),
        }
    }

    /// Applies Landlock: from now on this thread, and those that it starts, can open only files that SIGHUP reads again.
    ///
    /// # Errors
    /// `--sandbox on`, and the kernel can't enforce it.
    pub fn files(mut self) -> Result<Confinement, StartupError> {
        let nothing = Err(String::new());
        let rules = std::mem::replace(&mut self.rules, nothing);
        self.files = rules.and_then(|rules| match threads() {
            Some(2..) => Err("other threads are running already".to_owned()),
            _ => rules.enforce(),
        });
        match &self.files {
            Err(why) if self.must => Err(refused(&format!("landlock: {why}"))),
            _ => Ok(self),
        }
    }

    /// Applies seccomp: from now on system calls are refused in all threads. Logs what is in force.
    ///
    /// # Errors
    /// `--sandbox on`, and the kernel can't enforce it.
    pub fn calls(self) -> Result<(), StartupError> {
        let calls = calls::refuse(&self.needs);
        if let (Err(why), true) = (&calls, self.must) {
            return Err(refused(&format!("seccomp: {why}")));
        }
        let readable: Vec<String> = self.needs.readable.iter().map(|path| path.display().to_string()).collect();
        let readable = (!readable.is_empty()).then(|| readable.join(":"));
        let writable = self.needs.own.as_ref().map(|folder| folder.display().to_string());
        match (self.files, calls) {
            (Ok(files), Ok(())) => tracing::info!(readable, writable, "sandbox: {files}, seccomp"),
            (Err(why), Ok(())) if self.needs.own.is_some() => {
                tracing::warn!(
                    "sandbox: seccomp; no landlock, so with --prompt-disk the process may open any file: {why}"
                );
            }
            (Err(why), Ok(())) => tracing::warn!("sandbox: seccomp; no landlock: {why}"),
            (Ok(files), Err(why)) => tracing::warn!(readable, writable, "sandbox: {files}; no seccomp: {why}"),
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

/// The number of threads of this process; `None` without `/proc`.
fn threads() -> Option<usize> {
    std::fs::read_dir("/proc/self/task").ok().map(Iterator::count)
}

fn refused(reason: &str) -> StartupError {
    StartupError::Config { name: "--sandbox on".to_owned(), reason: reason.to_owned() }
}
