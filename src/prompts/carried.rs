//! Blocks as an appliance carries them: one after the other, each as in its file, padded to whole pages. They are used
//! in place, without a copy.

use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;

use super::header::{self, HEADER_BYTES, Header};
use super::inspect::{self, Depth};
use crate::types::prompts::{BlockBytes, BlockName};

/// A block in an appliance.
#[derive(Debug)]
pub struct Carried {
    /// Its name.
    pub name: BlockName,
    /// Its state, mapped from the executable.
    pub state: BlockBytes,
    /// CRC-32 of the state, compared before the first use.
    pub(super) crc: u32,
}

/// Writes all valid blocks of a folder to `out`. Returns their number and their tokens.
///
/// # Errors
/// The folder can't be read, or `out` can't be written to.
pub fn pack(folder: &Path, out: &mut impl Write) -> io::Result<(usize, u64)> {
    let (mut blocks, mut tokens) = (0, 0);
    for found in inspect::files(folder, Depth::Whole)? {
        let Ok(block) = found.block else { continue };
        let content = std::fs::read(folder.join(&found.file))?;
        out.write_all(&content)?;
        let padding = header::bytes_on_disk(block.bytes) - content.len() as u64;
        out.write_all(&vec![0; padding as usize])?;
        (blocks, tokens) = (blocks + 1, tokens + u64::from(block.tokens));
    }
    Ok((blocks, tokens))
}

/// The blocks in `bytes`, which `pack` wrote. `part(range)` returns these bytes without a copy. Reads only the headers.
///
/// # Errors
/// A header is damaged; one line says where.
pub fn unpack(bytes: &[u8], part: impl Fn(Range<usize>) -> Option<BlockBytes>) -> Result<Vec<Carried>, String> {
    let (mut carried, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let damaged = || format!("the block at byte {at} of the prompts is damaged");
        let page = bytes[at..].first_chunk::<HEADER_BYTES>().ok_or_else(damaged)?;
        let header = Header::decode(page).map_err(|_| damaged())?;
        let start = at + HEADER_BYTES;
        let end = usize::try_from(header.bytes).ok().and_then(|bytes| start.checked_add(bytes)).ok_or_else(damaged)?;
        let state = part(start..end).ok_or_else(damaged)?;
        carried.push(Carried { name: header.name, state, crc: header.crc });
        at = end.next_multiple_of(HEADER_BYTES);
    }
    Ok(carried)
}
