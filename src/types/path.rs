//! How a constrained text may go on for several tokens: what a grammar, followed ahead on an HTTP thread, tells the batching thread.
//!
//! A path is a guess: which tokens come is the sampler's choice. What may follow each of them is certain, so that where the
//! sampler has chosen the path's tokens so far, it can go on without asking.

use super::{Token, TokenMask, Verdict};

/// Tokens behind so many pieces, with what may come behind each.
#[derive(Debug, Default)]
pub struct Path {
    /// Pieces of the reply that it follows.
    pub behind: u64,
    steps: Vec<PathStep>,
    /// How many of `steps` belong to this path. Later entries are kept for their allocated masks.
    len: usize,
}

/// One token of a path.
#[derive(Clone, Debug)]
pub struct PathStep {
    pub token: Token,
    /// Nothing else may come here.
    pub is_certain: bool,
    /// What may come behind it; with `Allow`, `mask` has it.
    pub verdict: Verdict,
    pub mask: TokenMask,
}

impl Path {
    /// Begins anew, behind so many pieces.
    pub fn begin(&mut self, behind: u64) {
        (self.behind, self.len) = (behind, 0);
    }

    /// Goes on with `token`, behind which `verdict` says what may come.
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

    /// Its tokens, first to last.
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
        path.begin(7);
        assert!(path.steps().is_empty());
        mask.set(Token(65), true);
        path.push(Token(9), false, Verdict::Allow, &mask);
        let [only] = path.steps() else { panic!("{path:?}") };
        assert_eq!((path.behind, only.token, only.is_certain, &only.mask), (7, Token(9), false, &mask));
    }
}
