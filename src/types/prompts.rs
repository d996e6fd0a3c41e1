//! The seam between the engine and the store that keeps KV state of prompts outside the KV cache: names of blocks,
//! their bytes, and the store's trait.
//!
//! A prompt is cut into blocks of a fixed number of tokens. A block's bytes are the state of its KV cells; its name is
//! a hash of everything that the state depends on, so equal beginnings of different prompts have equal names and are
//! kept once.

use std::ops::Deref;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Owner, Token};

/// What the state of KV cells depends on besides the tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// A hash of the model's file.
    pub model: [u8; 32],
    /// The number formats of keys and values, and their layout within a cell.
    pub kv_type: String,
    /// The version of the kernels that compute the state: another version may give other bits.
    pub kernels: u32,
}

/// A hash of the `Identity`, the space of the request's API key, and every token up to the block's end. The hash of each block contains
/// that of the one before, as in vLLM's prefix caching.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockName(pub [u8; 32]);

impl BlockName {
    /// The name before the first block. Requests of different spaces never share a block.
    pub fn root(identity: &Identity, space: Owner) -> BlockName {
        let mut hash = Sha256::new();
        hash.update(b"cllm block 1");
        hash.update(identity.model);
        hash.update((identity.kv_type.len() as u64).to_le_bytes());
        hash.update(&identity.kv_type);
        hash.update(identity.kernels.to_le_bytes());
        hash.update(space.0.to_le_bytes());
        BlockName(hash.finalize().into())
    }

    /// The name of the block of `tokens` that follows this one.
    #[must_use]
    pub fn next(&self, tokens: &[Token]) -> BlockName {
        let mut hash = Sha256::new();
        hash.update(self.0);
        for token in tokens {
            hash.update(token.0.to_le_bytes());
        }
        BlockName(hash.finalize().into())
    }

    /// The names of the blocks of the first one, two, three and more of `tokens` that follow this one.
    pub fn each_next<'a>(&self, tokens: &'a [Token]) -> impl Iterator<Item = BlockName> + use<'a> {
        let mut hash = Sha256::new();
        hash.update(self.0);
        tokens.iter().map(move |token| {
            hash.update(token.0.to_le_bytes());
            BlockName(hash.clone().finalize().into())
        })
    }
}

/// Bytes of a block that several threads may read: a vector, or a part of a mapped file. A clone shares them.
#[derive(Clone)]
pub struct BlockBytes(Arc<dyn AsRef<[u8]> + Send + Sync>);

impl BlockBytes {
    /// Wraps `bytes`, which may be a vector or a slice of a mapped file.
    pub fn new(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> BlockBytes {
        BlockBytes(Arc::new(bytes))
    }
}

impl Deref for BlockBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

/// Shows only the length: a block has megabytes.
impl std::fmt::Debug for BlockBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlockBytes({})", self.len())
    }
}

/// Where a block came from for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// It was in memory when the request asked for it.
    Ram,
    /// It was read from the disk for the request.
    Disk,
    /// It lies in a mapped file: the one that an appliance carries.
    File,
}

impl Tier {
    /// All tiers, in the order in which metrics list them.
    pub const ALL: [Tier; 3] = [Tier::Ram, Tier::Disk, Tier::File];

    /// Its name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Tier::Ram => "ram",
            Tier::Disk => "disk",
            Tier::File => "file",
        }
    }
}

/// The state of a block that was asked for.
#[derive(Clone, Debug)]
pub enum Fetched {
    /// The block's bytes, and the tier that they came from.
    Ready(BlockBytes, Tier),
    /// The block is being read from the disk; ask again later.
    Coming,
    /// No tier has the block any more, or its bytes were damaged.
    Gone,
}

/// How many leading blocks of a prompt are kept, from the first without a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Blocks in RAM, on the disk or in a file.
    pub all: usize,
    /// Leading blocks that can be had without reading the disk.
    pub ram: usize,
}

/// Blocks of KV state outside the cells. The batching thread owns it. No call waits for a disk, or copies more than one block.
pub trait PromptStore: Send {
    /// How many leading blocks of `names` some tier has, by an index in memory. Counts as a use of each.
    fn held(&mut self, names: &[BlockName]) -> Held;

    /// Starts to read these blocks from the disk into memory, in this order, as far as there is room to read ahead.
    fn fetch(&mut self, names: &[BlockName]);

    /// A block's bytes. If only the disk has the block and it isn't being read yet, this starts to read it.
    fn get(&mut self, name: &BlockName) -> Fetched;

    /// Whether no tier has the block yet.
    fn wants(&mut self, name: &BlockName) -> bool;

    /// Takes a block of `tokens` tokens, which follows the block `parent` (`None`: it is a prompt's first). Puts it
    /// into memory now and queues it for the disk. May drop it where there is no room.
    fn put(&mut self, name: BlockName, parent: Option<BlockName>, tokens: u32, bytes: Vec<u8>);

    /// Whether blocks are still there after the process ended.
    fn survives(&self) -> bool;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_depends_on_everything_before_it() {
        let identity = Identity { model: [1; 32], kv_type: "f16".into(), kernels: 1 };
        let tokens = |ids: &[u32]| ids.iter().copied().map(Token).collect::<Vec<_>>();
        let name = |identity: &Identity, space, blocks: &[&[u32]]| {
            let root = BlockName::root(identity, Owner(space));
            blocks.iter().fold(root, |name, ids| name.next(&tokens(ids)))
        };
        let one = name(&identity, 0, &[&[1, 2], &[3, 4]]);
        assert_eq!(one, name(&identity, 0, &[&[1, 2], &[3, 4]]));
        let others = [
            name(&identity, 1, &[&[1, 2], &[3, 4]]),
            name(&identity, 0, &[&[9, 2], &[3, 4]]),
            name(&identity, 0, &[&[1, 2], &[4, 3]]),
            name(&identity, 0, &[&[3, 4]]),
            name(&Identity { model: [2; 32], ..identity.clone() }, 0, &[&[1, 2], &[3, 4]]),
            name(&Identity { kv_type: "q8_0".into(), ..identity.clone() }, 0, &[&[1, 2], &[3, 4]]),
            name(&Identity { kernels: 2, ..identity }, 0, &[&[1, 2], &[3, 4]]),
        ];
        assert!(others.iter().all(|other| *other != one));
        let each: Vec<BlockName> = one.each_next(&tokens(&[5, 6, 7])).collect();
        assert_eq!(each, [&[5][..], &[5, 6], &[5, 6, 7]].map(|ids| one.next(&tokens(ids))));
    }
}
