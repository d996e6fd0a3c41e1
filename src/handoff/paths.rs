//! How paths get from a constrained request's reader to the batching thread, and back for their memory. Each way holds one.
//!
//! A path is newer than the mask that the reader published before it, and may come at any time or never: the writer looks for one
//! when it plans a step and when it wants a mask that isn't there.

use super::sync::ArrayQueue;
use crate::types::{Path, Token};

/// Both ways, of one reply slot.
pub(super) struct Paths {
    given: ArrayQueue<Box<Path>>,
    spent: ArrayQueue<Box<Path>>,
}

impl Paths {
    pub fn new() -> Paths {
        Paths { given: ArrayQueue::new(1), spent: ArrayQueue::new(1) }
    }

    /// Frees both, when neither half is left.
    pub fn clear(&self) {
        self.given.pop();
        self.spent.pop();
    }

    /// The reader's: hands `path` over in place of an earlier one that the writer hasn't taken.
    pub fn give(&self, path: Box<Path>) {
        if let Err(path) = self.given.push(path) {
            if let Some(earlier) = self.given.pop() {
                self.give_back(earlier);
            }
            // The reader alone pushes here, so there is room now.
            let _ = self.given.push(path);
        }
    }

    /// The writer's: the latest path that it hasn't taken yet.
    pub fn take(&self) -> Option<Box<Path>> {
        self.given.pop()
    }

    /// A path that nothing follows any more; one is kept.
    pub fn give_back(&self, path: Box<Path>) {
        let _ = self.spent.push(path);
    }

    /// The reader's: one that was given back.
    pub fn spare(&self) -> Option<Box<Path>> {
        self.spent.pop()
    }
}

/// The writer's: the latest path that it has taken, while its pieces go along it.
#[derive(Default)]
pub(super) struct Along {
    path: Option<Box<Path>>,
}

impl Along {
    /// The latest path, and how many of its tokens the pieces behind its beginning have gone: all of them, or there is none. `published`:
    /// pieces so far, of which the last `kept` can be read; `token`: of the piece at a position.
    pub fn look(
        &mut self,
        paths: &Paths,
        published: u64,
        kept: usize,
        token: impl Fn(u64) -> Token,
    ) -> Option<(&Path, usize)> {
        if let Some(newer) = paths.take()
            && let Some(earlier) = self.path.replace(newer)
        {
            paths.give_back(earlier);
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
}
