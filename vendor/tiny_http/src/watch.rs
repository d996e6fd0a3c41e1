//! Notices when a client leaves. The thread that takes the socket's event sets a flag and runs callbacks; the thread that
//! computes the answer reads the flag or is called. Never touches the socket.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Callback = Box<dyn FnOnce() + Send>;

/// The watch of one connection, shared by its successive requests.
#[derive(Default)]
pub(crate) struct Watch {
    /// ORDERING: set once with Release by the thread that sees the client leave, read with Acquire by others. It publishes
    /// nothing; the lock guards the callbacks.
    is_gone: AtomicBool,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    /// The number of the request that may be called back: odd while a worker holds one, even between requests. A handle
    /// with another number belongs to an earlier request.
    request: u64,
    callbacks: Vec<Callback>,
}

impl Watch {
    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Acquire)
    }

    /// Begins a request. Returns its number, and whether its client has already left.
    pub(crate) fn begin(&self) -> (u64, bool) {
        let mut current = self.current();
        current.request += 1;
        assert!(current.request % 2 == 1, "a connection serves one request at a time");
        (current.request, self.is_gone())
    }

    /// Ends the request: no callback runs for it any more.
    pub(crate) fn end(&self) {
        let mut current = self.current();
        current.request += 1;
        assert!(current.request.is_multiple_of(2), "the end of a request that never began");
        let callbacks = std::mem::take(&mut current.callbacks);
        drop(current);
        drop(callbacks);
    }

    /// Records that the client has left, and runs the callbacks outside the lock. Calls `count` if this is new and a worker
    /// holds a request.
    pub(crate) fn leave(&self, count: impl FnOnce()) {
        let mut current = self.current();
        let is_news = !self.is_gone.swap(true, Ordering::AcqRel) && current.request % 2 == 1;
        let callbacks = std::mem::take(&mut current.callbacks);
        drop(current);
        if is_news {
            count();
        }
        callbacks.into_iter().for_each(run);
    }
}

/// Catches a panic of the callback, because the thread that it runs on serves other requests.
fn run(callback: Callback) {
    let _ = catch_unwind(AssertUnwindSafe(callback));
}

/// Tells whether the client of one request is still there. Cheap to clone and to ask, usable from any thread and at any
/// time. It doesn't keep the connection open.
#[derive(Clone)]
pub struct ClientWatch {
    watch: Arc<Watch>,
    request: u64,
}

impl std::fmt::Debug for ClientWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientWatch").field("is_disconnected", &self.is_disconnected()).finish_non_exhaustive()
    }
}

impl ClientWatch {
    pub(crate) fn new(watch: Arc<Watch>, request: u64) -> ClientWatch {
        ClientWatch { watch, request }
    }

    /// Whether the client has left: it reset the connection, closed it, or closed its sending side (see
    /// [`HalfClose`](crate::HalfClose)). One atomic load. Becomes true at most 100 ms after the event reached this machine.
    pub fn is_disconnected(&self) -> bool {
        self.watch.is_gone()
    }

    /// Registers `callback` to run once when the client leaves while the request is unanswered. If the client has left
    /// already, it runs at once on this thread; if the request is over, never. It runs on a thread that other requests
    /// depend on, so it should only set a flag or unpark a thread. Several callbacks may be registered.
    pub fn on_disconnect(&self, callback: Box<dyn FnOnce() + Send>) {
        let mut current = self.watch.current();
        if current.request != self.request {
            return;
        }
        if self.watch.is_gone() {
            drop(current);
            run(callback);
        } else {
            current.callbacks.push(callback);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn a_callback_runs_once_and_only_for_its_own_request() {
        let (watch, calls) = (Arc::new(Watch::default()), Arc::new(AtomicU32::new(0)));
        let count = |step| {
            let calls = Arc::clone(&calls);
            Box::new(move || {
                calls.fetch_add(step, Ordering::Relaxed);
            })
        };
        let first = ClientWatch::new(Arc::clone(&watch), watch.begin().0);
        first.on_disconnect(count(1));
        watch.end();
        first.on_disconnect(count(10));
        let second = ClientWatch::new(Arc::clone(&watch), watch.begin().0);
        second.on_disconnect(Box::new(|| panic!("a callback's panic stays its own")));
        second.on_disconnect(count(100));
        let mut news = 0;
        watch.leave(|| news += 1);
        watch.leave(|| news += 1);
        assert!(news == 1 && second.is_disconnected());
        second.on_disconnect(count(1000));
        assert_eq!(calls.load(Ordering::Relaxed), 1100);
    }
}
