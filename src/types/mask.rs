//! Which tokens may come next. An HTTP thread follows the request's grammar and gives the batching thread one mask for each
//! token.

use super::Token;

const BITS: usize = u64::BITS as usize;

/// A set of tokens, one bit each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenMask {
    /// Bit `t % 64` of word `t / 64` stands for token `t`. Bits beyond the vocabulary are 0.
    words: Vec<u64>,
}

impl TokenMask {
    /// The empty set over `n_vocab` tokens.
    pub fn none(n_vocab: usize) -> TokenMask {
        TokenMask { words: vec![0; TokenMask::words_of(n_vocab)] }
    }

    /// The number of words in a mask over `n_vocab` tokens.
    pub const fn words_of(n_vocab: usize) -> usize {
        n_vocab.div_ceil(BITS)
    }

    /// The set as words: bit `t % 64` of word `t / 64` stands for token `t`.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// The set as words, to be changed. Bits beyond the vocabulary must stay 0.
    pub fn words_mut(&mut self) -> &mut [u64] {
        &mut self.words
    }

    /// Adds `token` to the set or removes it. An id beyond the last word is ignored; `allows` is false for it.
    pub fn set(&mut self, token: Token, allowed: bool) {
        if let Some(word) = self.words.get_mut(token.index() / BITS) {
            let bit = 1 << (token.index() % BITS);
            *word = if allowed { *word | bit } else { *word & !bit };
        }
    }

    /// Whether `token` is in the set.
    pub fn allows(&self, token: Token) -> bool {
        self.words.get(token.index() / BITS).is_some_and(|word| word >> (token.index() % BITS) & 1 == 1)
    }

    /// The number of tokens in the set.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether the set has no token.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Fills `into` with a copy of `logits` in which tokens outside the set are `-inf`. Both have one entry for each token
    /// of the vocabulary.
    pub fn select(&self, logits: &[f32], into: &mut Vec<f32>) {
        into.clear();
        for (word, chunk) in self.words.iter().zip(logits.chunks(BITS)) {
            match *word {
                0 => into.extend(std::iter::repeat_n(f32::NEG_INFINITY, chunk.len())),
                u64::MAX => into.extend_from_slice(chunk),
                bits => into.extend(
                    chunk.iter().enumerate().map(|(i, x)| if bits >> i & 1 == 1 { *x } else { f32::NEG_INFINITY }),
                ),
            }
        }
        into.resize(logits.len(), f32::NEG_INFINITY);
    }
}

/// What a grammar allows as the next token, after the tokens that it has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Any token of the mask. If the sampler chooses an end-of-generation token among them, the request ends.
    Allow,
    /// The text is complete; nothing more may follow.
    Complete,
    /// Following the grammar failed because of an internal error.
    Broken,
    /// The grammar allows no next token, or following it needs more memory or time than a request may use.
    DeadEnd,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_and_go_within_the_vocabulary() {
        let mut mask = TokenMask::none(70);
        assert_eq!((mask.words().len(), mask.is_empty()), (2, true));
        [0, 63, 64, 69, 200].into_iter().for_each(|id| mask.set(Token(id), true));
        mask.set(Token(63), false);
        let allowed: Vec<u32> = (0..300).filter(|id| mask.allows(Token(*id))).collect();
        assert_eq!(allowed, [0, 64, 69]);
    }

    #[test]
    fn what_is_not_allowed_becomes_impossible() {
        let logits: Vec<f32> = (0..200).map(|i| i as f32).collect();
        let mut mask = TokenMask::none(200);
        mask.words_mut()[1] = u64::MAX;
        [3, 130, 199].into_iter().for_each(|id| mask.set(Token(id), true));
        let mut selected = vec![7.0];
        mask.select(&logits, &mut selected);
        for (id, x) in selected.iter().enumerate() {
            let expected = if mask.allows(Token(id as u32)) { id as f32 } else { f32::NEG_INFINITY };
            assert_eq!(*x, expected, "{id}");
        }
        assert_eq!(selected.len(), 200);
    }
}
