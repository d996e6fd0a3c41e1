//! Token -> bytes, and which tokens end a generation: all the engine knows of a vocabulary.

use super::Token;
use super::limits::EOG_TOKENS_MAX;

/// The bytes every token stands for, in one buffer. Shared read-only by all threads.
#[derive(Debug)]
pub struct TokenTable {
    bytes: Vec<u8>,
    /// `bytes[starts[t]..starts[t + 1]]` is token `t`; `n_vocab + 1` entries.
    starts: Vec<u32>,
    ends_generation: Vec<bool>,
    /// The tokens for which `ends_generation` holds, at most `EOG_TOKENS_MAX`.
    eog: Vec<Token>,
}

impl TokenTable {
    /// Builds the table from each token's bytes, in id order, and the end-of-generation ids.
    pub fn new<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, eog: &[Token]) -> TokenTable {
        let mut bytes = Vec::new();
        let mut starts = vec![0];
        for piece in pieces {
            bytes.extend_from_slice(piece);
            starts.push(u32::try_from(bytes.len()).expect("a vocabulary's bytes fit in 4 GiB"));
        }
        let mut ends_generation = vec![false; starts.len() - 1];
        for token in eog {
            if let Some(flag) = ends_generation.get_mut(token.index()) {
                *flag = true;
            }
        }
        let known = eog.iter().copied().filter(|token| token.index() < ends_generation.len());
        let eog = known.take(EOG_TOKENS_MAX).collect();
        TokenTable { bytes, starts, ends_generation, eog }
    }

    pub fn n_vocab(&self) -> usize {
        self.ends_generation.len()
    }

    /// The token's bytes; empty for control tokens and ids outside the vocabulary.
    pub fn bytes(&self, token: Token) -> &[u8] {
        match (self.starts.get(token.index()), self.starts.get(token.index() + 1)) {
            (Some(&start), Some(&end)) => &self.bytes[start as usize..end as usize],
            _ => &[],
        }
    }

    /// The tokens that end a generation, at most `EOG_TOKENS_MAX` of them.
    pub fn eog(&self) -> &[Token] {
        &self.eog
    }

    /// Whether a generation ends with this token.
    pub fn is_eog(&self, token: Token) -> bool {
        self.ends_generation.get(token.index()).copied().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_keep_their_own_bytes() {
        let table = TokenTable::new([&b"ab"[..], b"", b"\xf0\x9f"], &[Token(1)]);
        assert_eq!(table.bytes(Token(0)), b"ab");
        assert_eq!(table.bytes(Token(2)), b"\xf0\x9f");
        assert_eq!(table.bytes(Token(3)), b"");
        assert!(table.is_eog(Token(1)) && !table.is_eog(Token(0)) && !table.is_eog(Token(9)));
    }
}
