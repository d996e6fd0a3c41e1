//! Each token's bytes, and which tokens end a generation: all that the engine knows of a vocabulary.

use super::Token;
use super::limits::EOG_TOKENS_MAX;

/// The bytes of every token, in one buffer. Shared read-only by all threads.
#[derive(Debug)]
pub struct TokenTable {
    /// The bytes of all tokens, one after the other. A token whose bytes aren't whole UTF-8 characters has NULs here,
    /// and its bytes in `broken`.
    text: String,
    /// `text[starts[t]..starts[t + 1]]` is token `t`; `n_vocab + 1` entries.
    starts: Vec<u32>,
    /// The bytes of tokens that begin or end within a UTF-8 character, in order of their ids.
    broken: Vec<(Token, Box<[u8]>)>,
    ends_generation: Vec<bool>,
    /// The end-of-generation tokens, at most `EOG_TOKENS_MAX`.
    eog: Vec<Token>,
}

impl TokenTable {
    /// Builds the table from each token's bytes, in id order, and the end-of-generation ids.
    ///
    /// # Panics
    /// If the tokens together have 4 GiB or more.
    pub fn new<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, eog: &[Token]) -> TokenTable {
        let (mut text, mut broken) = (String::new(), Vec::new());
        let mut starts = vec![0];
        for (token, piece) in (0..).map(Token).zip(pieces) {
            match std::str::from_utf8(piece) {
                Ok(whole) => text.push_str(whole),
                Err(_) => {
                    text.extend(piece.iter().map(|_| '\0'));
                    broken.push((token, piece.into()));
                }
            }
            starts.push(u32::try_from(text.len()).expect("a vocabulary's bytes fit in 4 GiB"));
        }
        let mut ends_generation = vec![false; starts.len() - 1];
        for token in eog {
            if let Some(flag) = ends_generation.get_mut(token.index()) {
                *flag = true;
            }
        }
        let known = eog.iter().copied().filter(|token| token.index() < ends_generation.len());
        let eog = known.take(EOG_TOKENS_MAX).collect();
        TokenTable { text, starts, broken, ends_generation, eog }
    }

    /// The number of tokens in the vocabulary.
    pub fn n_vocab(&self) -> usize {
        self.ends_generation.len()
    }

    /// The token's bytes; empty for control tokens and ids outside the vocabulary.
    pub fn bytes(&self, token: Token) -> &[u8] {
        let text = self.slot(token).as_bytes();
        if text.first() == Some(&0)
            && let Ok(at) = self.broken.binary_search_by_key(&token, |(broken, _)| *broken)
        {
            return &self.broken[at].1;
        }
        text
    }

    /// The token's text, if its bytes are whole UTF-8 characters. `None` also for a token whose bytes begin with NUL.
    pub fn text(&self, token: Token) -> Option<&str> {
        Some(self.slot(token)).filter(|text| text.as_bytes().first() != Some(&0))
    }

    /// The token's part of the field `text`.
    fn slot(&self, token: Token) -> &str {
        match (self.starts.get(token.index()), self.starts.get(token.index() + 1)) {
            (Some(&start), Some(&end)) => &self.text[start as usize..end as usize],
            _ => "",
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
        assert_eq!([0, 1, 2, 3].map(|id| table.text(Token(id))), [Some("ab"), Some(""), None, Some("")]);
        assert!(table.is_eog(Token(1)) && !table.is_eog(Token(0)) && !table.is_eog(Token(9)));
    }

    #[test]
    fn a_nul_is_no_broken_token() {
        let table = TokenTable::new([&b"\0"[..], b"\xff\0", "\u{e9}".as_bytes(), b"\0a"], &[]);
        assert_eq!(table.bytes(Token(0)), b"\0");
        assert_eq!(table.bytes(Token(1)), b"\xff\0");
        assert_eq!(table.bytes(Token(2)), b"\xc3\xa9");
        assert_eq!(table.bytes(Token(3)), b"\0a");
        assert_eq!([0, 1, 2, 3].map(|id| table.text(Token(id))), [None, None, Some("\u{e9}"), None]);
    }
}
