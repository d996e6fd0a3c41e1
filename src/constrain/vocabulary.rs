//! Our token table in llguidance's form: a trie of the tokens' bytes, with control tokens behind a marker byte. Built
//! once.

use std::sync::Arc;

use llguidance::toktrie::{TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use crate::tokenizer::Tokenizer;
use crate::types::Token;

/// The vocabulary of every grammar.
pub struct Vocabulary {
    /// llguidance's trie of the tokens.
    pub env: TokEnv,
    /// Tokens of the vocabulary.
    pub n_vocab: usize,
    /// Tokens that end a generation.
    pub eog: Vec<Token>,
    /// Pairs of a token and another with equal bytes. The trie contains only the second.
    pub twins: Vec<(Token, Token)>,
    /// Tokens that are one or two characters of white space.
    pub blanks: Vec<Token>,
}

struct Env(TokTrie);

impl TokenizerEnv for Env {
    fn tok_trie(&self) -> &TokTrie {
        &self.0
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.0.greedy_tokenize(bytes)
    }

    /// `false`: the model may spell forced text in any tokens.
    fn tokenize_is_canonical(&self) -> bool {
        false
    }
}

impl Vocabulary {
    /// Builds the trie. `None`: the vocabulary has no end-of-generation token, so no grammar could end.
    pub fn new(tokenizer: &Tokenizer) -> Option<Vocabulary> {
        let n_vocab = tokenizer.n_vocab();
        let eog = tokenizer.eog().to_vec();
        let mut words: Vec<Vec<u8>> = (0..n_vocab as u32).map(|id| word(tokenizer, Token(id))).collect();
        let mut by_bytes: std::collections::HashMap<&[u8], Token> = std::collections::HashMap::new();
        let mut twins = Vec::new();
        // In descending order of ids: of several tokens with equal bytes the highest id is kept. The token of a single
        // byte has a lower id than the token of the same text.
        for (id, word) in words.iter().enumerate().rev().filter(|(_, word)| !word.is_empty()) {
            let token = Token(id as u32);
            let first = *by_bytes.entry(word).or_insert(token);
            if first != token {
                twins.push((token, first));
            }
        }
        twins.iter().for_each(|(twin, _)| words[twin.index()].clear());
        let is_blank = |token: &Token| {
            let bytes = tokenizer.table().bytes(*token);
            matches!(bytes.len(), 1 | 2) && bytes.iter().all(|byte| matches!(byte, b' ' | b'\n'))
        };
        let blanks = (0..n_vocab as u32).map(Token).filter(is_blank).collect();
        let ends: Vec<TokenId> = eog.iter().map(|token| token.0).collect();
        let trie = TokTrie::from(&TokRxInfo::new(n_vocab as u32, *ends.first()?), &words).with_eos_tokens(&ends);
        Some(Vocabulary { env: Arc::new(Env(trie)), n_vocab, eog, twins, blanks })
    }
}

/// The bytes of a token in the trie: its text; for a control token the marker and its name, so that a grammar can refer
/// to it and no text can equal it; nothing for a token that begins with the marker byte, which doesn't occur in UTF-8.
fn word(tokenizer: &Tokenizer, token: Token) -> Vec<u8> {
    let bytes = tokenizer.table().bytes(token);
    match bytes.first() {
        Some(&TokTrie::SPECIAL_TOKEN_MARKER) => Vec::new(),
        Some(_) if !tokenizer.table().is_eog(token) => bytes.to_vec(),
        _ => {
            let name = tokenizer.piece(token, true);
            if name.is_empty() { Vec::new() } else { [&[TokTrie::SPECIAL_TOKEN_MARKER][..], &name].concat() }
        }
    }
}
