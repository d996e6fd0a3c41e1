//! Inspects a folder of blocks, for `cllm prompts`: lists it, verifies it, and clears it on request. Runs on the main
//! thread of a command; a server may use the folder meanwhile.

use std::io;
use std::path::Path;

use super::folder::{BlockUnread, read_header, read_state};
use super::header::{self, FileFault, Header};
use super::medium::{LOCK, Medium, Plain};

/// One file of a folder.
#[derive(Debug)]
pub struct Found {
    /// Its name in the folder.
    pub file: String,
    /// Whether it has a block's name.
    pub has_name: bool,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its header, or why it can't be used.
    pub block: Result<Header, FileFault>,
}

/// How much of each file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The header, which has a checksum of its own.
    Header,
    /// The whole file.
    Whole,
}

/// The files of a folder, sorted by name, without locking it.
///
/// # Errors
/// The folder or a file can't be read.
pub fn files(folder: &Path, depth: Depth) -> io::Result<Vec<Found>> {
    let mut medium = Plain::new(folder);
    let mut names: Vec<String> = medium.list()?.into_iter().map(|(file, _)| file).filter(|file| file != LOCK).collect();
    names.sort();
    let mut found = Vec::with_capacity(names.len());
    for file in names {
        // A server may have removed it meanwhile.
        match look(&mut medium, &file, depth) {
            Ok((bytes, block)) => {
                found.push(Found { has_name: header::block_name(&file).is_some(), file, bytes, block })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io::Error::new(error.kind(), format!("{file}: {error}"))),
        }
    }
    Ok(found)
}

fn look(medium: &mut Plain, file: &str, depth: Depth) -> io::Result<(u64, Result<Header, FileFault>)> {
    let Some(name) = header::block_name(file) else {
        let bytes = medium.open(file).map_or(0, |(_, bytes)| bytes);
        let fault = if header::is_temporary(file) { FileFault::Unfinished } else { FileFault::Foreign };
        return Ok((bytes, Err(fault)));
    };
    let (mut open, bytes) = medium.open(file)?;
    let block = read_header(&mut open, bytes).and_then(|header| match depth {
        _ if header.name != name => Err(BlockUnread::Fault(FileFault::Name)),
        Depth::Header => Ok(header),
        Depth::Whole => read_state(&header, &mut open).map(|_| header),
    });
    match block {
        Ok(header) => Ok((bytes, Ok(header))),
        Err(BlockUnread::Fault(fault)) => Ok((bytes, Err(fault))),
        Err(BlockUnread::Io(error)) => Err(error),
    }
}

/// Removes the blocks of a folder and leftovers of writes, and leaves all other files. Returns the number of files and
/// their bytes. `None`: a server uses the folder; nothing was removed.
///
/// # Errors
/// The folder can't be read or changed.
pub fn clear(folder: &Path) -> io::Result<Option<(usize, u64)>> {
    let mut medium = Plain::new(folder);
    // A folder that isn't there is not made, and no lock is made in a folder that isn't a server's. A server that uses the folder
    // has made its lock, even where no block is written yet.
    let is_a_servers = |(file, _): &(String, _)| file == LOCK || header::is_ours(file);
    if medium.list()?.iter().any(is_a_servers) && !medium.lock()? {
        return Ok(None);
    }
    // Listed under the lock, so that no server changes it meanwhile.
    let mut names: Vec<String> = medium.list()?.into_iter().map(|(file, _)| file).collect();
    names.retain(|file| header::is_ours(file));
    let (mut files, mut bytes) = (0, 0);
    for file in &names {
        bytes += medium.open(file).map_or(0, |(_, bytes)| bytes);
        medium.remove(file)?;
        files += 1;
    }
    Ok(Some((files, bytes)))
}
