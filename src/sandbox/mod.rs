//! What the process may still do once it serves. An attacker who takes over the process through a request can start no
//! program, make no connection, and open no files but a few. The kernel enforces two limits, which can't be lifted again:
//!
//! - `files` (Landlock): files can be opened only in the folders of files that SIGHUP reads again. It holds for the calling
//!   thread and for threads that it starts later.
//! - `calls` (seccomp): whole groups of system calls are refused. It holds for all threads at once.
//!
//! Files that are open and memory that is mapped stay usable: the weights, the listening socket, the log. The main thread
//! calls both at start-up, in this order; `server/confine.rs` decides when.

pub mod calls;
pub mod files;

use std::path::{Path, PathBuf};

/// What must stay allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Folders with files that are read again while the server runs.
    pub readable: Vec<PathBuf>,
    /// A folder in which a file is removed when the server ends.
    pub removable: Option<PathBuf>,
    /// A folder whose files are listed, read, made, renamed within it and removed: that of `--prompt-disk`.
    pub own: Option<PathBuf>,
}

impl Needs {
    /// Allows `file` to be read again while the server runs. Landlock's rules belong to files on the disk, not to names,
    /// and renewing a file usually puts a new file in its place. So the file's folder is allowed. If `file` is a link, the
    /// folder of its target is allowed, too: certbot's links lead to a new file in that folder each time. If the folder is
    /// the root, only the present file is allowed.
    pub fn reread(&mut self, file: &Path) {
        let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        for path in [absolute.canonicalize().ok(), Some(absolute)].into_iter().flatten() {
            let folder = path.parent().filter(|folder| folder.parent().is_some()).unwrap_or(&path);
            if !self.readable.iter().any(|known| known == folder) {
                self.readable.push(folder.to_owned());
            }
        }
    }

    /// Allows `file` to be removed when the server ends.
    pub fn remove(&mut self, file: &Path) {
        let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        self.removable = absolute.parent().map(Path::to_owned);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_reread_names_its_folder_and_that_of_its_target() {
        let folder = std::env::temp_dir().join(format!("cllm-needs-{}", std::process::id()));
        let archive = folder.join("archive");
        std::fs::create_dir_all(&archive).unwrap();
        let folder = folder.canonicalize().unwrap();
        std::fs::write(archive.join("1.pem"), "").unwrap();
        std::os::unix::fs::symlink("archive/1.pem", folder.join("cert.pem")).unwrap();
        let mut needs = Needs::default();
        needs.reread(&folder.join("cert.pem"));
        needs.reread(&folder.join("key.pem"));
        assert_eq!(needs.readable, [archive.canonicalize().unwrap(), folder.clone()]);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_root_is_never_named_whole() {
        let mut needs = Needs::default();
        needs.reread(Path::new("/keys"));
        assert_eq!(needs.readable, [PathBuf::from("/keys")]);
    }
}
