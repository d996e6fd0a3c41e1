//! Work that waits for a thread: requests for which no worker was waiting, and further events of one wait. A lock, held for
//! a push or a pop. Any thread. Never wakes a thread; the hub does that.

use crate::hub::News;
use crate::request::Request;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) enum Work {
    Request(Request),
    News(News),
}

/// The queue of one server. Bounded by its connections: each has at most one request and a few events.
pub(crate) struct Queue {
    work: Mutex<VecDeque<Work>>,
    /// ORDERING: the queue's length, stored under its lock, read without it. SeqCst: a thread that stores it reads
    /// `waiting` afterwards, and a waiting thread reads the length after it has raised `waiting`. In one total order at
    /// least one of them sees the other.
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

    /// Takes all entries. They must not be dropped under the lock: a dropped request is answered, and that may queue the
    /// next one.
    pub(crate) fn take_all(&self) -> VecDeque<Work> {
        self.locked(std::mem::take)
    }
}
