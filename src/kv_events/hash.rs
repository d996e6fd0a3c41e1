//! Names of blocks. Pure.
//!
//! Two servers of one model give equal blocks equal names, as routers that index several servers need. Servers of
//! different models give them different names. From a block's tokens and its parent a router can compute names of its
//! own.

use sha2::{Digest, Sha256};

use crate::types::Token;

/// A block's name: the first 64 bits of a SHA-256. Never 0, which llm-d reads as "no parent".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockHash(pub u64);

/// The hash from which the names of a model's first blocks are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root(u64);

impl Root {
    /// The root for the model with this name, as clients know it.
    pub fn of(model: &str) -> Root {
        Root(first_bits(Sha256::new_with_prefix(b"cllm kv block\0").chain_update(model)))
    }

    /// The name of the block of `tokens` that follows `parent`. `None`: the block begins a sequence.
    pub fn child(self, parent: Option<BlockHash>, tokens: &[Token]) -> BlockHash {
        let before = parent.map_or(self.0, |parent| parent.0);
        let mut digest = Sha256::new_with_prefix(before.to_be_bytes());
        tokens.iter().for_each(|token| digest.update(token.0.to_be_bytes()));
        BlockHash(first_bits(digest).max(1))
    }

    /// The names of the complete blocks of `tokens`, which begin a sequence.
    pub fn chain(self, tokens: &[Token], block_tokens: usize) -> impl Iterator<Item = BlockHash> {
        tokens.chunks_exact(block_tokens).scan(None, move |parent, block| {
            *parent = Some(self.child(*parent, block));
            *parent
        })
    }
}

fn first_bits(digest: Sha256) -> u64 {
    digest.finalize().iter().take(8).fold(0, |bits, byte| bits << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_the_model_the_beginning_and_the_tokens_apart() {
        let tokens: Vec<Token> = (0..12).map(Token).collect();
        let names: Vec<BlockHash> = Root::of("a").chain(&tokens, 4).collect();
        assert_eq!(names.len(), 3);
        assert_eq!(Root::of("a").chain(&tokens[..11], 4).collect::<Vec<_>>(), names[..2], "complete blocks only");
        assert_eq!(Root::of("a").child(Some(names[1]), &tokens[8..]), names[2]);
        assert_ne!(Root::of("a").child(None, &tokens[8..]), names[2]);
        assert_ne!(Root::of("b").chain(&tokens, 4).next(), Some(names[0]));
    }
}
