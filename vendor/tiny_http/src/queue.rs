//! What waits for a thread: requests that nobody waited for, and events that came with another. A lock, held for a push or
//! a pop. Any thread; never wakes one, that is the hub's.

use crate::hub::News;
use crate::request::Request;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) enum Work {
    Request(Request),
    News(News),
}

/// The queue of one server. Bounded by its connections: each has at most one request and the few events it can have.
pub(crate) struct Queue {
    work: Mutex<VecDeque<Work>>,
    /// ORDERING: the queue's length, stored under its lock, read without it. SeqCst: who stores it looks for waiting
    /// threads after, who waits looks at it after having said so, and in one total order one of them sees the other.
    len: AtomicUsize,
}

impl Queue {
    pub(crate) fn with_capacity(capacity: usize) -> Queue {
        Queue { work: Mutex::new(VecDeque::with_capacity(capacity)), len: AtomicUsize::new(0) }
    }

    fn locked<T>(&self, change: impl FnOnce(&mut VecDeque<Work>) -> T) -> T {
        let mut work: MutexGuard<'_, _> = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut work);
        self.len.store(work.len(), Ordering::SeqCst);
        result
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::SeqCst)
    }

    pub(crate) fn push(&self, request: Request) {
        self.locked(|work| work.push_back(Work::Request(request)));
    }

    pub(crate) fn extend(&self, news: impl Iterator<Item = News>) {
        self.locked(|work| work.extend(news.map(Work::News)));
    }

    pub(crate) fn pop(&self) -> Option<Work> {
        self.locked(VecDeque::pop_front)
    }

    /// Takes everything out. Not dropped under the lock: a dropped request is answered, and may bring the next.
    pub(crate) fn take_all(&self) -> VecDeque<Work> {
        self.locked(std::mem::take)
    }
}
