//! Several possible next tokens of a constrained text. An HTTP thread follows the grammar ahead and hands the path to the
//! batching thread.
//!
//! The tokens of a path are guesses: the sampler decides which tokens come. The mask behind each token is certain. So while
//! the sampler chooses the path's tokens, the batching thread needs no further mask from the HTTP thread.

use super::{Token, TokenMask, Verdict};

/// Guessed tokens that follow the first `behind` pieces of a reply, each with the mask of what may come after it. A path may
/// also have sequels: guesses for a later place.
#[derive(Debug, Default)]
pub struct Path {
    /// The number of pieces of the reply that this path follows.
    pub behind: u64,
    steps: Vec<PathStep>,
    /// How many entries of `steps` belong to this path. Later entries are kept only to reuse their masks' memory.
    len: usize,
    /// What to expect behind the token that ends the value in which the text is.
    pub sequels: Vec<Sequel>,
}

/// Tokens that probably follow one token, as soon as that token comes. They have no masks: the grammar is followed when the
/// token has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequel {
    /// The token behind which they are expected.
    pub behind: Token,
    /// The tokens that are expected there; not empty.
    pub tokens: Vec<Token>,
}

/// One token of a path, and what the grammar allows after it.
#[derive(Clone, Debug)]
pub struct PathStep {
    /// The token that is guessed at this place.
    pub token: Token,
    /// Whether the grammar allows no other token here.
    pub is_certain: bool,
    /// What the grammar allows after this token. With `Verdict::Allow`, `mask` holds the allowed tokens.
    pub verdict: Verdict,
    /// The tokens allowed after this one; used with `Verdict::Allow` only.
    pub mask: TokenMask,
}

impl Path {
    /// Empties the path. It then follows the first `behind` pieces of the reply.
    pub fn begin(&mut self, behind: u64) {
        (self.behind, self.len) = (behind, 0);
        self.sequels.clear();
    }

    /// Appends `token`. `verdict` and `mask` say what the grammar allows after it.
    pub fn push(&mut self, token: Token, is_certain: bool, verdict: Verdict, mask: &TokenMask) {
        match self.steps.get_mut(self.len) {
            Some(step) => {
                (step.token, step.is_certain, step.verdict) = (token, is_certain, verdict);
                step.mask.clone_from(mask);
            }
            None => self.steps.push(PathStep { token, is_certain, verdict, mask: mask.clone() }),
        }
        self.len += 1;
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0 && self.sequels.is_empty()
    }

    /// The path's tokens, first to last.
    pub fn steps(&self) -> &[PathStep] {
        &self.steps[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_begins_anew_and_keeps_nothing_of_the_one_before() {
        let (mut path, mut mask) = (Path::default(), TokenMask::none(70));
        (0..3).for_each(|id| path.push(Token(id), true, Verdict::Allow, &mask));
        path.sequels.push(Sequel { behind: Token(1), tokens: vec![Token(2)] });
        assert!(!path.is_empty());
        path.begin(7);
        assert!(path.steps().is_empty() && path.is_empty());
        mask.set(Token(65), true);
        path.push(Token(9), false, Verdict::Allow, &mask);
        let [only] = path.steps() else { panic!("{path:?}") };
        assert_eq!((path.behind, only.token, only.is_certain, &only.mask), (7, Token(9), false, &mask));
    }
}
