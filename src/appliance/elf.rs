//! Reads two things from an ELF file: where it ends, and the section that says for which CPU it was compiled.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::types::limits::{ELF_NAMES_BYTES_MAX, ELF_SECTION_BYTES_MAX, ELF_SECTIONS_MAX};

/// The table of section headers of a 64-bit little-endian ELF.
#[derive(Clone, Copy)]
struct Sections {
    offset: u64,
    entry_bytes: u64,
    count: u64,
    /// Index of the section that holds the names of the others.
    names: u64,
}

/// The byte at which an ELF ends: after its section headers, which linkers write last. `None`: the file isn't such an ELF.
pub(super) fn end(file: &File) -> io::Result<Option<u64>> {
    let end = |sections: Sections| sections.offset.checked_add(sections.entry_bytes * sections.count);
    Ok(sections(file)?.and_then(end).filter(|end| *end > 0))
}

/// The content of the section with this name; `None`: there is none.
pub(super) fn section(file: &File, name: &str) -> io::Result<Option<Vec<u8>>> {
    let Some(all) = sections(file)?.filter(|all| all.names < all.count && all.count <= ELF_SECTIONS_MAX) else {
        return Ok(None);
    };
    let (names_offset, names_bytes) = all.place(file, all.names)?;
    let names = bytes(file, names_offset, names_bytes.min(ELF_NAMES_BYTES_MAX))?;
    for index in 0..all.count {
        let header: [u8; 4] = array(file, all.offset + index * all.entry_bytes)?;
        let named = names.get(u32::from_le_bytes(header) as usize..).unwrap_or_default();
        if named.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0)) {
            let (offset, length) = all.place(file, index)?;
            return bytes(file, offset, length.min(ELF_SECTION_BYTES_MAX)).map(Some);
        }
    }
    Ok(None)
}

impl Sections {
    /// The offset and the number of bytes of section `index`.
    fn place(self, file: &File, index: u64) -> io::Result<(u64, u64)> {
        // The fields sh_offset and sh_size.
        let place: [u8; 16] = array(file, self.offset + index * self.entry_bytes + 0x18)?;
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| place[at + i]));
        Ok((number(0), number(8)))
    }
}

fn sections(file: &File) -> io::Result<Option<Sections>> {
    let header: [u8; 64] = match array(file, 0) {
        Ok(header) => header,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return Ok(None);
    }
    // The fields e_shoff, e_shentsize, e_shnum and e_shstrndx.
    let offset = u64::from_le_bytes(std::array::from_fn(|i| header[0x28 + i]));
    let half = |at: usize| u64::from(u16::from_le_bytes([header[at], header[at + 1]]));
    Ok(Some(Sections { offset, entry_bytes: half(0x3a), count: half(0x3c), names: half(0x3e) }))
}

fn bytes(file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, offset).map(|()| bytes)
}

pub(super) fn array<const N: usize>(file: &File, offset: u64) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}
