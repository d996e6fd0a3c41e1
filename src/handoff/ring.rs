//! The ring: HTTP threads push submissions, the batching thread pops them.
//!
//! Bounded at start-up. A full ring gives the value back, and so does a closed one: overload is an answer.
//! Once `close` has returned, everything that was ever accepted has been popped or is still there to pop.
//! The values travel in a crossbeam `ArrayQueue`; this file adds sleeping ([`super::bell`]) and closing.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use crossbeam::utils::CachePadded;

use super::bell::{Bell, WakeHandle, Woke};
use super::sync::{Arc, ArrayQueue, AtomicUsize, Ordering, yield_now};

/// How often `Inbox::park` looks at the bell before it parks. A thread that is about to push may need this core, and gets it between
/// two looks. Where no thread needs it, the looks take a few microseconds.
const LOOKS_DEFAULT: u32 = 32;

/// Bit 0 of the gate: closed. The bits above count pushes under way.
const CLOSED: usize = 1;
const ONE_PUSH: usize = 2;

/// A push that was refused, with its value.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused<T> {
    /// No room now; trying later makes sense.
    Full(T),
    /// The batching thread takes nothing more.
    Closed(T),
}

impl<T> Refused<T> {
    /// The value that was to be pushed.
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
    /// Pushes under way and the closed bit.
    ///
    /// ORDERING: written by senders (entry `fetch_add`, exit `fetch_sub`) and by `close` (`fetch_or`); read by both. All
    /// are read-modify-writes of one word, so a push either sees `CLOSED` or is seen by `close`, which waits for it. The
    /// exit Releases the pushed value to the Acquire load in `close`; the entry hands nothing over.
    gate: CachePadded<AtomicUsize>,
    bell: Arc<Bell>,
}

/// A ring of `capacity` values, at least 1.
pub fn inbox<T>(capacity: usize) -> (Sender<T>, Inbox<T>) {
    let ring = Arc::new(Ring {
        queue: ArrayQueue::new(capacity),
        gate: CachePadded::new(AtomicUsize::new(0)),
        bell: Arc::new(Bell::new()),
    });
    (Sender { ring: Arc::clone(&ring) }, Inbox { ring, looks: LOOKS_DEFAULT })
}

/// The HTTP threads' end; one for all or a clone for each.
pub struct Sender<T> {
    ring: Arc<Ring<T>>,
}

impl<T> Sender<T> {
    /// Puts a value at the end and wakes the batching thread if it sleeps. Never blocks.
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

    /// Values waiting; a snapshot.
    pub fn len(&self) -> usize {
        self.ring.queue.len()
    }

    /// Whether nothing waits; a snapshot.
    pub fn is_empty(&self) -> bool {
        self.ring.queue.is_empty()
    }

    /// Most values that can wait.
    pub fn capacity(&self) -> usize {
        self.ring.queue.capacity()
    }

    /// Something that wakes the batching thread without pushing.
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

/// The batching thread's end. Dropping it closes the ring and drops what still waits there.
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

    /// The oldest value.
    pub fn pop(&self) -> Option<T> {
        self.ring.queue.pop()
    }

    /// Moves what waits to the end of `into`, at most a ring's capacity so that it ends, and says how many.
    /// Allocates only if `into` lacks room.
    pub fn drain_into(&self, into: &mut VecDeque<T>) -> usize {
        let before = into.len();
        into.extend(std::iter::from_fn(|| self.pop()).take(self.ring.queue.capacity()));
        into.len() - before
    }

    /// Sleeps until a value is pushed, a `WakeHandle` is used, or `timeout` is over. Always called by the same thread.
    ///
    /// Whatever came since the last `park` ends this one at once, even if it has been popped by now: a caller
    /// looks for work, finds none, parks, and looks again.
    pub fn park(&self, timeout: Option<Duration>) -> Woke {
        self.ring.bell.sleep(self.looks, timeout)
    }

    /// Values waiting; a snapshot.
    pub fn len(&self) -> usize {
        self.ring.queue.len()
    }

    /// Whether nothing waits; a snapshot.
    pub fn is_empty(&self) -> bool {
        self.ring.queue.is_empty()
    }

    /// Refuses every push from now on, and waits for those under way (nanoseconds, unless one was preempted).
    /// What was accepted can still be popped.
    pub fn close(&self) {
        self.ring.gate.fetch_or(CLOSED, Ordering::Relaxed);
        while self.ring.gate.load(Ordering::Acquire) != CLOSED {
            yield_now();
        }
    }

    /// Something that wakes this thread without pushing.
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
