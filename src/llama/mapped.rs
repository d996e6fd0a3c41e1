//! A part of a file, mapped into memory to be read: the prompts that an appliance carries.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memmap2::{Mmap, MmapOptions};

/// Bytes of a file. Clones share the mapping.
#[derive(Clone, Debug)]
pub struct MappedBytes {
    map: Arc<Mmap>,
    range: Range<usize>,
}

impl MappedBytes {
    /// Maps the `bytes` bytes of the file at `path` from `offset` on.
    ///
    /// # Errors
    /// The file can't be opened or mapped.
    pub fn of_part(path: &Path, offset: u64, bytes: u64) -> io::Result<MappedBytes> {
        let length = usize::try_from(bytes).map_err(io::Error::other)?;
        let file = File::open(path)?;
        // SAFETY: the mapping is private and read-only. We believe that nothing truncates or writes to the file meanwhile: it is the
        // running executable, which Linux refuses to open for writing. Each block's checksum is compared before its first use.
        let map = unsafe { MmapOptions::new().offset(offset).len(length).map(&file)? };
        Ok(MappedBytes { map: Arc::new(map), range: 0..length })
    }

    /// The bytes at `range`; `None`: the file has fewer.
    pub fn part(&self, range: Range<usize>) -> Option<MappedBytes> {
        let (start, end) = (self.range.start.checked_add(range.start)?, self.range.start.checked_add(range.end)?);
        (start <= end && end <= self.range.end).then(|| MappedBytes { map: Arc::clone(&self.map), range: start..end })
    }
}

impl AsRef<[u8]> for MappedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.map[self.range.clone()]
    }
}
