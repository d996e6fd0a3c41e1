//! The submission ring: HTTP threads push submissions, the batching thread pops them.
//!
//! Its capacity is fixed at start-up. A full ring gives the value back, and so does a closed one, so that overload
//! becomes an answer to the client. Once `close` has returned, every value that was ever accepted has been popped or is
//! still there to pop. The values travel in a crossbeam `ArrayQueue`; this file adds sleeping ([`super::bell`]) and
//! closing.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use crossbeam::utils::CachePadded;

use super::bell::{Bell, WakeHandle, Woke};
use super::sync::{Arc, ArrayQueue, AtomicUsize, Ordering, yield_now};
use crate::types::limits::RING_LOOKS;

/// Bit 0 of the gate: the ring is closed. The bits above count pushes under way.
const CLOSED: usize = 1;
const ONE_PUSH: usize = 2;

/// A push that was refused, with the value that wasn't pushed.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused<T> {
    /// There is no room now; a later push may succeed.
    Full(T),
    /// The ring is closed; no later push succeeds.
    Closed(T),
}

impl<T> Refused<T> {
    /// The value that wasn't pushed.
    pub fn into_inner(self) -> T {
        match self {
            Refused::Full(value) | Refused::Closed(value) => value,
        }
    }

    /// Drops the value and keeps the kind of the refusal.
    pub fn emptied(self) -> Refused<()> {
        match self {
            Refused::Full(_) => Refused::Full(()),
            Refused::Closed(_) => Refused::Closed(()),
        }
    }
}

struct Ring<T> {
    queue: ArrayQueue<T>,
    /// The closed bit, and the number of pushes under way.
    ///
    /// ORDERING: written by senders (entry `fetch_add`, exit `fetch_sub`) and by `close` (`fetch_or`); read by both.
    /// All are read-modify-write operations on one word, so a push either sees `CLOSED` or is seen by `close`, which
    /// waits for it. The exit Releases the pushed value to the Acquire load in `close`; the entry publishes nothing.
    gate: CachePadded<AtomicUsize>,
    bell: Arc<Bell>,
}

/// Makes both ends of a ring of `capacity` values, at least 1.
pub fn ring<T>(capacity: usize) -> (Sender<T>, Inbox<T>) {
    let ring = Arc::new(Ring {
        queue: ArrayQueue::new(capacity),
        gate: CachePadded::new(AtomicUsize::new(0)),
        bell: Arc::new(Bell::new()),
    });
    (Sender { ring: Arc::clone(&ring) }, Inbox { ring, looks: RING_LOOKS })
}

/// The senders' end. Clones push into the same ring.
pub struct Sender<T> {
    ring: Arc<Ring<T>>,
}

impl<T> Sender<T> {
    /// Appends a value and wakes the batching thread if it sleeps. Never blocks.
    ///
    /// # Errors
    /// The ring is full or closed; the error has the value.
    pub fn push(&self, value: T) -> Result<(), Refused<T>> {
        let ring = &*self.ring;
        if ring.gate.fetch_add(ONE_PUSH, Ordering::Relaxed) & CLOSED != 0 {
            ring.gate.fetch_sub(ONE_PUSH, Ordering::Relaxed);
            return Err(Refused::Closed(value));
        }
        let pushed = ring.queue.push(value);
        ring.gate.fetch_sub(ONE_PUSH, Ordering::Release);
        pushed.map_err(Refused::Full)?;
        ring.bell.ring();
        Ok(())
    }

    /// The number of values waiting; it may change at once.
    pub fn len(&self) -> usize {
        self.ring.queue.len()
    }

    /// Whether no value waits; it may change at once.
    pub fn is_empty(&self) -> bool {
        self.ring.queue.is_empty()
    }

    /// Most values that can wait.
    pub fn capacity(&self) -> usize {
        self.ring.queue.capacity()
    }

    /// A handle that wakes the batching thread without a push.
    pub fn wake_handle(&self) -> WakeHandle {
        WakeHandle::new(Arc::clone(&self.ring.bell))
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender { ring: Arc::clone(&self.ring) }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// The end of the one thread that takes the values out. Dropping it closes the ring and drops the values that still wait there.
pub struct Inbox<T> {
    ring: Arc<Ring<T>>,
    looks: u32,
}

impl<T> Inbox<T> {
    /// Sets how often `park` looks at the bell before it parks; with 0 it parks at once.
    pub fn with_looks(mut self, looks: u32) -> Self {
        self.looks = looks;
        self
    }

    /// Takes the oldest value; `None` if the ring is empty.
    pub fn pop(&self) -> Option<T> {
        self.ring.queue.pop()
    }

    /// Moves the waiting values to the end of `into` and returns their number. It moves at most one ring's capacity, so
    /// that it ends while others push. Allocates only if `into` lacks room.
    pub fn drain_into(&self, into: &mut VecDeque<T>) -> usize {
        let before = into.len();
        into.extend(std::iter::from_fn(|| self.pop()).take(self.ring.queue.capacity()));
        into.len() - before
    }

    /// Sleeps until a value is pushed, a `WakeHandle` is used, or `timeout` is over. Must always be called by the same
    /// thread.
    ///
    /// A push or wake since the last `park` ends this one at once, even if the value has been popped by now. So a
    /// caller looks for work, finds none, parks, and looks again.
    pub fn park(&self, timeout: Option<Duration>) -> Woke {
        self.ring.bell.sleep(self.looks, timeout)
    }

    /// The number of values waiting; it may change at once.
    pub fn len(&self) -> usize {
        self.ring.queue.len()
    }

    /// Whether no value waits; it may change at once.
    pub fn is_empty(&self) -> bool {
        self.ring.queue.is_empty()
    }

    /// Refuses every push from now on, and waits for pushes under way (nanoseconds, unless a pushing thread was
    /// preempted). Values that were accepted can still be popped.
    pub fn close(&self) {
        self.ring.gate.fetch_or(CLOSED, Ordering::Relaxed);
        while self.ring.gate.load(Ordering::Acquire) != CLOSED {
            yield_now();
        }
    }

    /// A handle that wakes this thread without a push.
    pub fn wake_handle(&self) -> WakeHandle {
        WakeHandle::new(Arc::clone(&self.ring.bell))
    }
}

impl<T> Drop for Inbox<T> {
    fn drop(&mut self) {
        self.close();
        while self.pop().is_some() {}
    }
}

impl<T> fmt::Debug for Inbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("len", &self.len()).finish_non_exhaustive()
    }
}
