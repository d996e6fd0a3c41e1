//! Carries paths of a constrained request from its reader to the batching thread, and returns used paths so that their
//! memory is reused. Each direction holds one path.
//!
//! A path is newer than the mask that the reader published before it, and may come at any time or never. The writer
//! looks for one when it plans a step, and when it needs a mask that isn't there.

use super::sync::ArrayQueue;
use crate::types::{Path, Sequel, Token};

/// Both directions, for one reply slot.
pub(super) struct Paths {
    given: ArrayQueue<Box<Path>>,
    spent: ArrayQueue<Box<Path>>,
}

impl Paths {
    /// No path in either direction.
    pub fn new() -> Paths {
        Paths { given: ArrayQueue::new(1), spent: ArrayQueue::new(1) }
    }

    /// Frees the paths in both directions. Called when both halves of the reply are gone.
    pub fn clear(&self) {
        self.given.pop();
        self.spent.pop();
    }

    /// For the reader: hands `path` to the writer, in place of an earlier path that the writer hasn't taken.
    pub fn give(&self, path: Box<Path>) {
        if let Err(path) = self.given.push(path) {
            if let Some(earlier) = self.given.pop() {
                self.give_back(earlier);
            }
            // Only the reader pushes here, so there is room now.
            let _ = self.given.push(path);
        }
    }

    /// For the writer: takes the latest path that it hasn't taken yet.
    pub fn take(&self) -> Option<Box<Path>> {
        self.given.pop()
    }

    /// For the writer: returns a used path to the reader. At most one is kept.
    pub fn give_back(&self, path: Box<Path>) {
        let _ = self.spent.push(path);
    }

    /// For the reader: a path that the writer returned, for its memory.
    pub fn spare(&self) -> Option<Box<Path>> {
        self.spent.pop()
    }
}

/// For the writer: the latest path that it has taken, as long as the pieces follow it.
#[derive(Default)]
pub(super) struct Along {
    path: Option<Box<Path>>,
    /// The sequels of the latest path, even if the pieces have left it.
    sequels: Vec<Sequel>,
}

impl Along {
    /// The latest path that the pieces still follow, and how many of its tokens they have used. `published`: pieces so
    /// far, of which the last `kept` can be read; `token(position)`: the token of the piece at that position. `None`:
    /// there is no path, or a piece differs from it.
    pub fn look(
        &mut self,
        paths: &Paths,
        published: u64,
        kept: usize,
        token: impl Fn(u64) -> Token,
    ) -> Option<(&Path, usize)> {
        if let Some(mut newer) = paths.take() {
            std::mem::swap(&mut self.sequels, &mut newer.sequels);
            if let Some(earlier) = self.path.replace(newer) {
                paths.give_back(earlier);
            }
        }
        let walked = (published - self.path.as_ref()?.behind) as usize;
        let goes = |path: &Path| {
            let steps = path.steps();
            walked <= steps.len().min(kept)
                && (path.behind..).zip(&steps[..walked]).all(|(at, step)| token(at) == step.token)
        };
        if let Some(left) = self.path.take_if(|path| !goes(path)) {
            paths.give_back(left);
        }
        self.path.as_deref().map(|path| (path, walked))
    }

    /// The tokens that the latest path expects behind `token`, if `look` has found it.
    pub fn sequel(&self, token: Token) -> &[Token] {
        let sequel = self.sequels.iter().find(|sequel| sequel.behind == token);
        sequel.map_or(&[], |sequel| &sequel.tokens)
    }
}
