//! Downloads a model into the cache. An interrupted download is continued, also by a later process. A file gets its final
//! name only after its SHA-256 has been compared. If several processes want a file, one downloads it and the others wait.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use indicatif::HumanBytes;
use rustix::fs::statvfs;
use sha2::{Digest, Sha256};

use super::Progress;
use super::cache::{CachedRepo, HubSettings};
use super::choose::{choose, what_there_is};
use super::remote::{self, HubFailure, Listing, Remote, RemoteFile};
use crate::types::hub::HubModel;
use crate::types::limits::{HUB_CHUNK_BYTES, HUB_FAILURES_MAX, HUB_PAUSE_MS};

/// Asks the hub which files the model has, downloads missing ones, and returns the path of the first file.
pub(super) fn model(
    settings: &HubSettings,
    repo: &CachedRepo,
    model: &HubModel,
    progress: &mut dyn Progress,
) -> Result<PathBuf, String> {
    let remote = Remote::new(settings)?;
    let Listing { commit, files } = remote.list(&model.repo).map_err(HubFailure::reason)?;
    let names: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
    let chosen = choose(&names, &model.which)
        .ok_or_else(|| format!("not in the repository; {}", what_there_is(&names, &model.which)))?;
    let chosen: Vec<&RemoteFile> =
        chosen.iter().filter_map(|name| files.iter().find(|file| file.name == *name)).collect();
    let failed = |error: io::Error| format!("{}: {error}", repo.folder().display());
    fs::create_dir_all(repo.blob("", "")).map_err(failed)?;
    check_room(repo, &chosen)?;
    for file in &chosen {
        Download { remote: &remote, repo, name: &model.repo, commit: &commit, file }.run(progress)?;
        repo.link(&commit, &file.name, &file.etag).map_err(failed)?;
    }
    // Done last, so that a recorded commit has all its files in the cache.
    repo.point_at(&commit).map_err(failed)?;
    Ok(repo.path(&commit, &chosen[0].name))
}

/// # Errors
/// The disk has too little room for the missing files.
fn check_room(repo: &CachedRepo, files: &[&RemoteFile]) -> Result<(), String> {
    let missing = files.iter().map(|file| {
        let have = [repo.blob(&file.etag, ""), repo.blob(&file.etag, ".part")].iter().map(|path| bytes_of(path)).max();
        file.bytes.saturating_sub(have.unwrap_or(0))
    });
    let missing: u64 = missing.sum();
    let room = statvfs(repo.folder()).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    if missing <= room {
        return Ok(());
    }
    let (missing, room) = (HumanBytes(missing), HumanBytes(room));
    Err(format!("no room: {missing} must be downloaded, {} has {room} free", repo.folder().display()))
}

struct Download<'a> {
    remote: &'a Remote<'a>,
    repo: &'a CachedRepo,
    /// The repository's name.
    name: &'a str,
    commit: &'a str,
    file: &'a RemoteFile,
}

/// The file that grows during a download, and the hash of its content.
struct Part {
    file: File,
    path: PathBuf,
    bytes: u64,
    hash: Sha256,
}

impl Download<'_> {
    fn run(&self, progress: &mut dyn Progress) -> Result<(), String> {
        let blob = self.repo.blob(&self.file.etag, "");
        let _lock = self.lock(progress)?;
        if bytes_of(&blob) == self.file.bytes && blob.exists() {
            return Ok(());
        }
        let mut part = Part::open(self.repo.blob(&self.file.etag, ".part"), self.file.bytes)?;
        progress.begin(&self.file.name, self.file.bytes, part.bytes);
        let got = self.fill(&mut part, progress);
        progress.end();
        got?;
        part.check(self.file)?;
        let placed = part.file.sync_data().and_then(|()| fs::rename(&part.path, &blob));
        placed.map_err(|error| part.failed(&error))
    }

    /// Locks this file for one process; waits while another process downloads it.
    fn lock(&self, progress: &mut dyn Progress) -> Result<File, String> {
        let path = self.repo.blob(&self.file.etag, ".lock");
        let failed = |error: io::Error| format!("{}: {error}", path.display());
        let file = File::create(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                progress.say(&format!("{}: another process downloads it, waiting", self.file.name));
                file.lock().map_err(failed)?;
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        Ok(file)
    }

    /// Downloads until the part is complete. Attempts that add nothing are counted, and the pause doubles after each.
    fn fill(&self, part: &mut Part, progress: &mut dyn Progress) -> Result<(), String> {
        let (mut failures, mut furthest) = (0, part.bytes);
        while part.bytes < self.file.bytes {
            let reason = match self.read_on(part, progress) {
                Ok(()) => continue,
                Err(HubFailure::Refused(reason)) => return Err(reason),
                Err(HubFailure::Lost(reason)) => reason,
            };
            failures = if part.bytes > furthest { 1 } else { failures + 1 };
            furthest = furthest.max(part.bytes);
            let (have, all) = (HumanBytes(part.bytes), HumanBytes(self.file.bytes));
            if failures > HUB_FAILURES_MAX {
                return Err(format!("{reason}; {have} of {all} are kept, the next attempt goes on from there"));
            }
            progress.say(&format!("{reason}; going on at {have} of {all}"));
            sleep(Duration::from_millis(HUB_PAUSE_MS << (failures - 1)));
        }
        Ok(())
    }

    /// Makes one connection and reads until the file is complete or the connection ends.
    fn read_on(&self, part: &mut Part, progress: &mut dyn Progress) -> Result<(), HubFailure> {
        let mut opened = self.remote.open(self.name, self.commit, self.file, part.bytes)?;
        if opened.from != part.bytes {
            progress.say("the server can't continue in the middle of a file: the download starts again");
            part.empty().map_err(HubFailure::Refused)?;
        }
        let mut buffer = vec![0; HUB_CHUNK_BYTES];
        while part.bytes < self.file.bytes {
            let lost = |what: &dyn std::fmt::Display| HubFailure::Lost(format!("the connection was lost: {what}"));
            match opened.body.read(&mut buffer) {
                Ok(0) => return Err(lost(&"it ended early")),
                Ok(n) if n as u64 > self.file.bytes - part.bytes => {
                    let _ = fs::remove_file(&part.path);
                    let endpoint = self.remote.endpoint();
                    return Err(HubFailure::Refused(format!(
                        "{endpoint} sends more than the {} bytes that it announced",
                        self.file.bytes
                    )));
                }
                Ok(n) => part.push(&buffer[..n]).map_err(HubFailure::Refused)?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(lost(&remote::reason(&error))),
            }
            progress.at(part.bytes);
        }
        Ok(())
    }
}

impl Part {
    /// Opens what an earlier attempt left, or a new file. One that is longer than the whole file is emptied.
    fn open(path: PathBuf, bytes_max: u64) -> Result<Part, String> {
        let failed = |error: io::Error| format!("{}: {error}", path.display());
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(failed)?;
        let mut hash = Sha256::new();
        let bytes = if bytes_of(&path) > bytes_max { 0 } else { copy(&mut file, &mut hash).map_err(failed)? };
        file.set_len(bytes).map_err(failed)?;
        Ok(Part { file, path, bytes, hash })
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.file.write_all(bytes).map_err(|error| self.failed(&error))?;
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn empty(&mut self) -> Result<(), String> {
        self.file.set_len(0).map_err(|error| self.failed(&error))?;
        (self.bytes, self.hash) = (0, Sha256::new());
        Ok(())
    }

    /// # Errors
    /// Its SHA-256 isn't the hub's. The part is then removed, because it can't be repaired.
    fn check(&self, file: &RemoteFile) -> Result<(), String> {
        let is: String = self.hash.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        match &file.sha256 {
            Some(should) if *should != is => {
                let _ = fs::remove_file(&self.path);
                Err(format!(
                    "{} arrived damaged and was removed: its SHA-256 is {is}, the hub says {should}",
                    file.name
                ))
            }
            _ => Ok(()),
        }
    }

    fn failed(&self, error: &io::Error) -> String {
        let (path, have) = (self.path.display(), HumanBytes(self.bytes));
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                format!("{path}: the disk is full; {have} are kept, the next attempt goes on from there")
            }
            _ => format!("{path}: {error}"),
        }
    }
}

fn copy(from: &mut File, hash: &mut Sha256) -> io::Result<u64> {
    let (mut buffer, mut bytes) = (vec![0; HUB_CHUNK_BYTES], 0);
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(bytes),
            n => {
                hash.update(&buffer[..n]);
                bytes += n as u64;
            }
        }
    }
}

fn bytes_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |about| about.len())
}
