//! The disk thread's interface to the folder: a few calls on files by name. `Plain` is a real folder; tests use others,
//! which fail at a chosen call or keep files in memory.

use std::fs::{File, FileTimes, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The files of one folder. All names are within it.
pub trait Medium: Send + 'static {
    /// A file that is being read.
    type In: Read;
    /// A file that is being written.
    type Out: Write;

    /// Locks the folder for this process, and makes it if it doesn't exist. Returns `false` if another process has
    /// locked it.
    ///
    /// # Errors
    /// The folder can't be made or written to.
    fn lock(&mut self) -> io::Result<bool>;
    /// The names of all files, and when each was last written or used.
    ///
    /// # Errors
    /// The folder can't be read.
    fn list(&mut self) -> io::Result<Vec<(String, SystemTime)>>;
    /// Opens a file to read; also returns its length in bytes.
    ///
    /// # Errors
    /// There is no such file, or it can't be read.
    fn open(&mut self, name: &str) -> io::Result<(Self::In, u64)>;
    /// Records that a file was used now, for the order at the next start. A failure only makes that order less exact.
    fn used(&mut self, file: &Self::In);
    /// Makes a new file that only its owner may read and write.
    ///
    /// # Errors
    /// It can't be made, or exists.
    fn create(&mut self, name: &str) -> io::Result<Self::Out>;
    /// Waits until the file's content is on the disk.
    ///
    /// # Errors
    /// It can't be written there.
    fn sync(&mut self, file: &mut Self::Out) -> io::Result<()>;
    /// Renames a file, and replaces a file with the new name.
    ///
    /// # Errors
    /// The folder can't be changed.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// The folder can't be changed, or there is no such file.
    fn remove(&mut self, name: &str) -> io::Result<()>;
}

/// The file whose lock shows which process uses the folder. It is empty and is never removed: its lock ends with the
/// process that holds it, however that ends.
pub const LOCK: &str = "lock";

/// A real folder.
#[derive(Debug)]
pub struct Plain {
    folder: PathBuf,
    /// The locked file, as long as this process uses the folder.
    lock: Option<File>,
}

impl Plain {
    /// The folder at this path, which need not exist.
    pub fn new(folder: &Path) -> Plain {
        Plain { folder: folder.to_owned(), lock: None }
    }
}

/// Makes the folder, which only its owner may enter, if it doesn't exist.
///
/// # Errors
/// It can't be made.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

impl Medium for Plain {
    type In = File;
    type Out = File;

    fn lock(&mut self) -> io::Result<bool> {
        make_folder(&self.folder)?;
        let path = self.folder.join(LOCK);
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => self.lock = Some(file),
            Err(std::fs::TryLockError::WouldBlock) => return Ok(false),
            Err(std::fs::TryLockError::Error(error)) => return Err(error),
        }
        Ok(true)
    }

    fn list(&mut self) -> io::Result<Vec<(String, SystemTime)>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let used = entry.metadata().and_then(|about| about.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            files.push((entry.file_name().to_string_lossy().into_owned(), used));
        }
        Ok(files)
    }

    fn open(&mut self, name: &str) -> io::Result<(File, u64)> {
        // Doesn't follow links out of the folder, and doesn't block on a pipe.
        let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
        let file = OpenOptions::new().read(true).custom_flags(flags as i32).open(self.folder.join(name))?;
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        Ok((file, about.len()))
    }

    fn used(&mut self, file: &File) {
        let _ = file.set_times(FileTimes::new().set_modified(SystemTime::now()));
    }

    fn create(&mut self, name: &str) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.folder.join(name))
    }

    fn sync(&mut self, file: &mut File) -> io::Result<()> {
        file.sync_data()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.folder.join(from), self.folder.join(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.folder.join(name))
    }
}
