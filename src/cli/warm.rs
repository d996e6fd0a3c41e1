//! The state of an appliance's prompts: the appliance is started once, reads them, and saves their blocks in a folder.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::prompts::carried;
use crate::types::StartupError;

/// A folder for the blocks, which is removed at the end.
pub struct ScratchFolder {
    folder: PathBuf,
    blocks: PathBuf,
}

impl ScratchFolder {
    /// Makes the folder.
    ///
    /// # Errors
    /// It can't be made.
    pub fn new() -> Result<ScratchFolder, StartupError> {
        let folder = std::env::temp_dir().join(format!("cllm-bundle-{}", std::process::id()));
        crate::prompts::make_folder(&folder).map_err(|error| failed(&error))?;
        Ok(ScratchFolder { blocks: folder.join("blocks"), folder })
    }

    /// The file of all blocks that `blocks` writes.
    pub fn blocks(&self) -> &Path {
        &self.blocks
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn failed(reason: &dyn std::fmt::Display) -> StartupError {
    StartupError::System { doing: "read the prompts of --warm".to_owned(), reason: reason.to_string() }
}

/// Ends with the value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Has `appliance` read the prompts in the file `warm`, and writes their blocks to `scratch.blocks()`. Returns their number and tokens.
///
/// # Errors
/// The appliance doesn't start on this machine, or can't read a prompt.
pub fn blocks(appliance: &Path, warm: &Path, scratch: &ScratchFolder) -> Result<(usize, u64), StartupError> {
    let appliance = appliance.canonicalize().map_err(|error| failed(&error))?;
    let kept = scratch.folder.join("kept");
    let mut command = Command::new(appliance);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CLLM_")) {
        command.env_remove(name);
    }
    let socket = format!("unix:{}", scratch.folder.join("socket").display());
    command.args(["serve", "--log-format", "json", "--log-level", "info", "--host", &socket, "--prompt-disk"]);
    command.arg(format!("{}:1TB", kept.display())).arg("--warm").arg(warm).stderr(Stdio::piped());
    let mut child = Running(command.spawn().map_err(|error| failed(&error))?);
    let log = child.0.stderr.take().ok_or_else(|| failed(&"it has no log"))?;
    let (mut is_ready, mut latest) = (false, String::new());
    for line in BufReader::new(log).lines().map_while(Result::ok) {
        let message = serde_json::from_str::<serde_json::Value>(&line).ok();
        let message = message.as_ref().and_then(|line| line["message"].as_str()).unwrap_or(&line);
        if message.starts_with("--warm: ") {
            return Err(failed(
                &message.trim_start_matches("--warm: ").trim_end_matches("; serving without these prompts"),
            ));
        }
        if message.starts_with("listening on ") {
            is_ready = true;
            let pid = i32::try_from(child.0.id()).ok().and_then(Pid::from_raw);
            let ended = pid.map(|pid| kill_process(pid, Signal::TERM));
            ended.transpose().map_err(|error| failed(&error))?;
        }
        latest = message.to_owned();
    }
    let ended = child.0.wait().map_err(|error| failed(&error))?;
    if !is_ready || !ended.success() {
        return Err(failed(&latest));
    }
    let write = || {
        let mut out = BufWriter::new(File::create(&scratch.blocks)?);
        let packed = carried::pack(&kept, &mut out)?;
        out.flush().map(|()| packed)
    };
    write().map_err(|error| failed(&error))
}
