//! What a server may still do once it serves: whoever takes it over through a request finds no files, no programs and
//! no network. Two doors are shut, each by the kernel and for good:
//!
//! - `files` (Landlock): files open by name only in the folders of those that SIGHUP reads again. It holds for the
//!   calling thread and for those that it starts from then on.
//! - `calls` (seccomp): whole families of system calls are refused. It holds for all threads at once.
//!
//! What is open or mapped already stays usable: the weights, the listening socket, the log. Called from the main thread
//! at start-up, in this order; `cli/confine.rs` knows when.

pub mod calls;
pub mod files;

use std::path::{Path, PathBuf};

/// What has to stay possible.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Files below these are read again while it serves.
    pub readable: Vec<PathBuf>,
    /// A file in it is removed at the end.
    pub removable: Option<PathBuf>,
}

impl Needs {
    /// `file` is read again while it serves, though it may have been replaced by then. Landlock's rules are about what lies
    /// on the disk, not about names, and whoever renews a file mostly puts a new one in its place: so its folder is
    /// named. If `file` is a link, the folder of what it leads to as well: certbot's links lead to another file in
    /// there each time. A folder can't be named that holds everything; then it is the file of now.
    pub fn reread(&mut self, file: &Path) {
        let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        for path in [absolute.canonicalize().ok(), Some(absolute)].into_iter().flatten() {
            let folder = path.parent().filter(|folder| folder.parent().is_some()).unwrap_or(&path);
            if !self.readable.iter().any(|known| known == folder) {
                self.readable.push(folder.to_owned());
            }
        }
    }

    /// `file` is removed at the end.
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
