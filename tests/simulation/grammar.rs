//! A grammar without rules: the allowed tokens are a function of the tokens so far and of the grammar's number.

use cllm::types::{Token, TokenMask, Verdict};

use crate::dice::mix;
use crate::fake_decoder::{EMPTY, extend};
use crate::shape::N_VOCAB;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grammar(pub u64);

impl Grammar {
    /// The verdict after `tokens`: mostly about half of the vocabulary, sometimes one token, rarely nothing.
    pub fn next(self, tokens: &[Token]) -> (Verdict, TokenMask) {
        let state = mix(self.0 ^ tokens.iter().fold(EMPTY, |state, token| extend(state, *token)));
        let mut mask = TokenMask::none(N_VOCAB);
        match state % 64 {
            0..=2 => (Verdict::Complete, mask),
            3 => (Verdict::Broken, mask),
            4 => (Verdict::DeadEnd, mask),
            kind => {
                let bits = if kind < 16 { 0 } else { mix(state) };
                (0..N_VOCAB as u32).filter(|id| bits >> id & 1 == 1).for_each(|id| mask.set(Token(id), true));
                mask.set(Token((state >> 32) as u32 % N_VOCAB as u32), true);
                (Verdict::Allow, mask)
            }
        }
    }
}
