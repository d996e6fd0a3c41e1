//! The file of one block: a header of one page, then the state. Pure: bytes to values and back.
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | magic |
//! | 8..12 | version of the format |
//! | 12..16 | tokens of this block |
//! | 16..24 | bytes of the state |
//! | 24..28 | CRC-32 of the state |
//! | 28..32 | version of the kernels that computed it |
//! | 32..64 | the block's name |
//! | 64..96 | its parent's name; zeros: it is the first |
//! | 96..128 | SHA-256 of the model |
//! | 128..160 | type of the KV cells, filled up with zeros |
//! | 160..4092 | zeros |
//! | 4092..4096 | CRC-32 of the bytes before |
//!
//! Numbers are little-endian. The state begins at a page, so that it can be mapped. Every byte of the file is under a checksum, so
//! a changed byte is noticed wherever it is. CRC-32 finds each change of up to 32 bits in a row and misses one of 2^32 others; it is no
//! protection against somebody who may write the file, and its mode leaves that to the server's own user.

use crate::types::prompts::{BlockName, Identity};

/// Bytes of the header.
pub const HEADER_BYTES: usize = 4096;
/// Sizes are counted in whole pages, as file systems allocate them.
const PAGE: u64 = 4096;
const MAGIC: &[u8; 8] = b"cllm-kv\n";
/// The version of the layout above. Files of another version are removed.
const FORMAT: u32 = 1;
/// Longest name of a KV type, in bytes.
const KV_TYPE_BYTES: usize = 32;

/// The contents of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The block's name.
    pub name: BlockName,
    /// The name of the block before it; `None`: it is the first.
    pub parent: Option<BlockName>,
    /// Tokens of this block.
    pub tokens: u32,
    /// Bytes of the state.
    pub bytes: u64,
    /// CRC-32 of the state.
    pub crc: u32,
    /// What the state depends on besides the tokens.
    pub identity: Identity,
}

/// Why a file can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFault {
    /// The file doesn't begin like a block's file.
    Foreign,
    /// Another version of cllm wrote it.
    Older,
    /// The file's length differs from what its header says.
    Length,
    /// A checksum is wrong.
    Damaged,
    /// The file contains another block than its name says.
    Name,
    /// The file is being written, or its writing was interrupted. The next start removes it.
    Unfinished,
}

impl std::fmt::Display for FileFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            FileFault::Foreign => "not a block",
            FileFault::Older => "outdated",
            FileFault::Length => "cut off",
            FileFault::Damaged => "damaged",
            FileFault::Name => "misnamed",
            FileFault::Unfinished => "unfinished",
        })
    }
}

/// The size of a file with a state of `bytes` bytes.
pub fn bytes_on_disk(bytes: u64) -> u64 {
    (HEADER_BYTES as u64).saturating_add(bytes).checked_next_multiple_of(PAGE).unwrap_or(u64::MAX)
}

impl Header {
    /// The header of a block with this state.
    pub fn of(name: BlockName, parent: Option<BlockName>, tokens: u32, state: &[u8], identity: &Identity) -> Header {
        let (bytes, crc) = (state.len() as u64, crc32fast::hash(state));
        Header { name, parent, tokens, bytes, crc, identity: identity.clone() }
    }

    /// The page to write.
    pub fn encode(&self) -> Box<[u8; HEADER_BYTES]> {
        let mut page = Box::new([0; HEADER_BYTES]);
        let kv_type = self.identity.kv_type.as_bytes();
        let kv_type = &kv_type[..kv_type.len().min(KV_TYPE_BYTES)];
        let fields: [(usize, &[u8]); 10] = [
            (0, MAGIC),
            (8, &FORMAT.to_le_bytes()),
            (12, &self.tokens.to_le_bytes()),
            (16, &self.bytes.to_le_bytes()),
            (24, &self.crc.to_le_bytes()),
            (28, &self.identity.kernels.to_le_bytes()),
            (32, &self.name.0),
            (64, &self.parent.map_or([0; 32], |parent| parent.0)),
            (96, &self.identity.model),
            (128, kv_type),
        ];
        for (at, value) in fields {
            page[at..at + value.len()].copy_from_slice(value);
        }
        let crc = crc32fast::hash(&page[..HEADER_BYTES - 4]);
        page[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        page
    }

    /// Reads the page at the beginning of a file.
    ///
    /// # Errors
    /// Why the file can't be used.
    pub fn decode(page: &[u8; HEADER_BYTES]) -> Result<Header, FileFault> {
        if &page[..8] != MAGIC {
            return Err(FileFault::Foreign);
        }
        if crc32fast::hash(&page[..HEADER_BYTES - 4]).to_le_bytes() != page[HEADER_BYTES - 4..] {
            return Err(FileFault::Damaged);
        }
        if u32::from_le_bytes(part(page, 8)) != FORMAT {
            return Err(FileFault::Older);
        }
        let parent = part(page, 64);
        let kv_type = part::<KV_TYPE_BYTES>(page, 128);
        let kv_type = String::from_utf8_lossy(&kv_type).trim_end_matches('\0').to_owned();
        Ok(Header {
            name: BlockName(part(page, 32)),
            parent: (parent != [0; 32]).then_some(BlockName(parent)),
            tokens: u32::from_le_bytes(part(page, 12)),
            bytes: u64::from_le_bytes(part(page, 16)),
            crc: u32::from_le_bytes(part(page, 24)),
            identity: Identity { model: part(page, 96), kv_type, kernels: u32::from_le_bytes(part(page, 28)) },
        })
    }
}

/// `N` bytes of the page, from offset `at` on.
fn part<const N: usize>(page: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&page[at..at + N]);
    part
}

/// The name of a block's file: the block's name in hexadecimal, and `.kv`.
pub fn file_name(name: &BlockName) -> String {
    let mut text: String = name.0.iter().map(|byte| format!("{byte:02x}")).collect();
    text += ENDING;
    text
}

/// The block with this file name; `None`: it is no block's file.
pub fn block_name(file_name: &str) -> Option<BlockName> {
    let hex = file_name.strip_suffix(ENDING).filter(|hex| hex.len() == 64)?;
    let is_hex = hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let mut name = [0; 32];
    for (byte, digits) in name.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    is_hex.then_some(BlockName(name))
}

/// The name of a block's file while it is being written.
pub fn temporary_name(name: &BlockName) -> String {
    file_name(name).replace(ENDING, TEMPORARY)
}

/// Whether a file with this name is a block that is being written, or whose writing was interrupted.
pub fn is_temporary(file_name: &str) -> bool {
    file_name.strip_suffix(TEMPORARY).is_some_and(|stem| block_name(&format!("{stem}{ENDING}")).is_some())
}

/// Whether a file with this name was made by this program.
pub fn is_ours(file_name: &str) -> bool {
    is_temporary(file_name) || block_name(file_name).is_some()
}

/// The ending of a block's file.
const ENDING: &str = ".kv";
/// The ending of a file that is being written.
const TEMPORARY: &str = ".tmp";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompts::tests::{identity, name};

    #[test]
    fn a_header_is_read_as_it_was_written_and_each_changed_byte_is_noticed() {
        let header = Header::of(name(7), Some(name(6)), 64, b"state", &identity());
        let page = header.encode();
        assert_eq!(Header::decode(&page), Ok(header));
        for at in 0..HEADER_BYTES {
            for bit in [0, 7] {
                let mut changed = page.clone();
                changed[at] ^= 1 << bit;
                assert!(Header::decode(&changed).is_err(), "byte {at}");
            }
        }
    }

    #[test]
    fn another_version_is_told_from_damage() {
        let mut page = Header::of(name(7), None, 64, b"state", &identity()).encode();
        page[8] += 1;
        assert_eq!(Header::decode(&page), Err(FileFault::Damaged));
        let crc = crc32fast::hash(&page[..HEADER_BYTES - 4]);
        page[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Header::decode(&page), Err(FileFault::Older));
        assert_eq!(Header::decode(&[0; HEADER_BYTES]), Err(FileFault::Foreign));
    }

    #[test]
    fn names_of_files_are_names_of_blocks() {
        let file = file_name(&name(9));
        assert_eq!(block_name(&file), Some(name(9)));
        for other in ["x.kv", "lock", &file[1..], &file.to_uppercase(), &file.replace(".kv", ".tmp"), "+f.kv"] {
            assert_eq!(block_name(other), None, "{other}");
        }
    }
}
