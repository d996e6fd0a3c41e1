//! The folder of the disk tier: one file for each block.
//!
//! Why a file a block: a rename makes it visible whole or not at all, removing one frees exactly its bytes, and damage ends with it. A
//! block has 1 to 20 MB, so names and headers cost nothing beside it.
//!
//! A block is written under a temporary name, brought to the disk (`fdatasync`), and renamed. A process that is killed leaves at
//! most a temporary file, which the next start removes. After a loss of power a renamed file is complete, or the rename is lost
//! and with it one block: the folder itself isn't synced. Checksums of headers are compared at start and checksums of states when they are
//! read. One process at a time uses a folder (`lock`); a second one serves without it and takes it over when it is free.
//! Runs on the disk thread.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use super::header::{self, FileFault, HEADER_BYTES, Header};
use super::lru::Lru;
use super::medium::{LOCK, Medium};
use crate::types::prompts::{BlockName, Identity};

/// An opened folder.
#[derive(Debug)]
pub struct PromptFolder<M> {
    medium: M,
    /// Most bytes of all files together, in whole pages.
    size: u64,
    identity: Identity,
    /// Bytes of each block's file.
    files: HashMap<BlockName, u64>,
    /// The sum of `files`.
    bytes: u64,
}

/// What was found in a folder when it was opened.
#[derive(Debug)]
pub struct OpenedFolder {
    /// The blocks, in the order of their latest use.
    pub index: Lru<()>,
    /// Files that aren't blocks; they are left alone.
    pub foreign: usize,
    /// Blocks that can't be used; they were removed.
    pub removed: usize,
    /// The name of the first unusable file, and why it can't be used.
    pub first: Option<(String, FileFault)>,
}

/// Why a block wasn't read.
#[derive(Debug)]
pub enum BlockUnread {
    /// The file can't be used, and was removed.
    Fault(FileFault),
    /// The file can't be read, or doesn't exist.
    Io(io::Error),
}

impl std::fmt::Display for BlockUnread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BlockUnread::Fault(fault) => fault.fmt(f),
            BlockUnread::Io(error) => error.fmt(f),
        }
    }
}

impl<M: Medium> PromptFolder<M> {
    /// Opens a folder of at most `size` bytes: removes leftovers, reads all headers, and removes the blocks that were
    /// used longest ago until the rest fits. If another process uses the folder, the error is `(medium, None)`.
    ///
    /// # Errors
    /// The folder can't be made, written to or read.
    pub fn open(
        mut medium: M,
        size: u64,
        identity: Identity,
    ) -> Result<(PromptFolder<M>, OpenedFolder), (M, Option<io::Error>)> {
        let list = match medium.lock() {
            Ok(true) => medium.list(),
            Ok(false) => return Err((medium, None)),
            Err(error) => return Err((medium, Some(error))),
        };
        let mut list = match list {
            Ok(list) => list,
            Err(error) => return Err((medium, Some(error))),
        };
        // Oldest first, because adding a block counts as a use of it and of those before it in its chain.
        list.sort_by(|(a, used_a), (b, used_b)| (used_a, a).cmp(&(used_b, b)));
        let mut folder = PromptFolder { medium, size, identity, files: HashMap::new(), bytes: 0 };
        let mut opened = OpenedFolder { index: Lru::new(u64::MAX), foreign: 0, removed: 0, first: None };
        for (file, _) in list.iter().filter(|(file, _)| file != LOCK) {
            folder.take_in(file, &mut opened);
        }
        let mut evicted = Vec::new();
        opened.index.resize(size, &mut evicted);
        for name in &evicted {
            // A file that can't be removed still counts, so that its room isn't used again.
            let _ = folder.remove(name);
        }
        Ok((folder, opened))
    }

    /// Reads the header of one file and keeps or removes the file.
    fn take_in(&mut self, file: &str, opened: &mut OpenedFolder) {
        if header::is_temporary(file) {
            let _ = self.medium.remove(file);
            return;
        }
        let Some(name) = header::block_name(file) else {
            opened.foreign += 1;
            opened.first.get_or_insert((file.to_owned(), FileFault::Foreign));
            return;
        };
        match self.header(&name) {
            Ok((header, _)) => {
                let bytes = header::bytes_on_disk(header.bytes);
                self.files.insert(name, bytes);
                self.bytes += bytes;
                opened.index.insert(name, header.parent, bytes, ());
            }
            Err(BlockUnread::Io(_)) => {
                opened.foreign += 1;
                opened.first.get_or_insert((file.to_owned(), FileFault::Foreign));
            }
            Err(BlockUnread::Fault(fault)) => {
                opened.removed += usize::from(self.medium.remove(file).is_ok());
                opened.first.get_or_insert((file.to_owned(), fault));
            }
        }
    }

    /// Reads the header of a block's file. The file is then positioned at its state.
    fn header(&mut self, name: &BlockName) -> Result<(Header, M::In), BlockUnread> {
        let (mut file, length) = self.medium.open(&header::file_name(name)).map_err(BlockUnread::Io)?;
        let header = read_header(&mut file, length)?;
        if header.name != *name {
            return Err(BlockUnread::Fault(FileFault::Name));
        }
        Ok((header, file))
    }

    /// Reads a block: its tokens and its state. The file of a block that can't be used is removed.
    ///
    /// # Errors
    /// Why there is no block.
    pub fn read(&mut self, name: &BlockName) -> Result<(u32, Vec<u8>), BlockUnread> {
        let read = self.header(name).and_then(|(header, mut file)| {
            let state = read_state(&header, &mut file)?;
            if header.identity != self.identity {
                // The name depends on the identity, so this can't be a coincidence.
                return Err(BlockUnread::Fault(FileFault::Name));
            }
            self.medium.used(&file);
            Ok((header.tokens, state))
        });
        match &read {
            Err(BlockUnread::Fault(_)) => drop(self.remove(name)),
            Err(BlockUnread::Io(error)) if error.kind() == io::ErrorKind::NotFound => self.forget(name),
            _ => {}
        }
        read
    }

    /// Writes a block. Afterwards its file is complete, or there is none.
    ///
    /// # Errors
    /// The folder would become larger than its size, or can't be written to.
    pub fn write(
        &mut self,
        name: BlockName,
        parent: Option<BlockName>,
        tokens: u32,
        state: &[u8],
    ) -> Result<(), io::Error> {
        let bytes = header::bytes_on_disk(state.len() as u64);
        let old = self.files.get(&name).copied().unwrap_or(0);
        if self.bytes - old + bytes > self.size {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "files that can't be removed fill it"));
        }
        let header = Header::of(name, parent, tokens, state, &self.identity);
        let file = header::file_name(&name);
        let temporary = header::temporary_name(&name);
        // Both files exist for a moment, so an old file of this name is removed first, to keep within the size.
        if old > 0 {
            self.remove(&name)?;
        }
        if let Err(error) =
            self.write_as(&temporary, &header, state).and_then(|()| self.medium.rename(&temporary, &file))
        {
            let _ = self.medium.remove(&temporary);
            return Err(error);
        }
        self.files.insert(name, bytes);
        self.bytes += bytes;
        Ok(())
    }

    fn write_as(&mut self, temporary: &str, header: &Header, state: &[u8]) -> io::Result<()> {
        let mut out = match self.medium.create(temporary) {
            // A leftover that couldn't be removed earlier.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.medium.remove(temporary)?;
                self.medium.create(temporary)?
            }
            created => created?,
        };
        out.write_all(&header.encode()[..])?;
        out.write_all(state)?;
        self.medium.sync(&mut out)
    }

    /// Removes a block. A block that doesn't exist is no error.
    ///
    /// # Errors
    /// The folder can't be changed; the block still counts.
    pub fn remove(&mut self, name: &BlockName) -> io::Result<()> {
        match self.medium.remove(&header::file_name(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => self.forget(name),
        }
        Ok(())
    }

    fn forget(&mut self, name: &BlockName) {
        self.bytes -= self.files.remove(name).unwrap_or(0);
    }
}

/// Reads the header at the beginning of a file of `length` bytes.
pub(super) fn read_header(file: &mut impl Read, length: u64) -> Result<Header, BlockUnread> {
    let mut page = [0; HEADER_BYTES];
    if length < HEADER_BYTES as u64 {
        return Err(BlockUnread::Fault(FileFault::Length));
    }
    file.read_exact(&mut page).map_err(BlockUnread::Io)?;
    let header = Header::decode(&page).map_err(BlockUnread::Fault)?;
    if (HEADER_BYTES as u64).checked_add(header.bytes) != Some(length) {
        return Err(BlockUnread::Fault(FileFault::Length));
    }
    Ok(header)
}

/// Reads the state after a header that `read_header` has read, and compares it with its checksum.
pub(super) fn read_state(header: &Header, file: &mut impl Read) -> Result<Vec<u8>, BlockUnread> {
    let mut state = Vec::with_capacity(header.bytes as usize);
    file.take(header.bytes).read_to_end(&mut state).map_err(BlockUnread::Io)?;
    match crc32fast::hash(&state) == header.crc && state.len() as u64 == header.bytes {
        true => Ok(state),
        false => Err(BlockUnread::Fault(FileFault::Damaged)),
    }
}
