//! The batching thread's bell: any thread rings it, and one thread sleeps until it is rung.
//!
//! If the bell is rung while the sleeping thread is busy, that is remembered, and the thread's next `sleep` returns at once; so "look
//! for work, find none, sleep" loses no wake-up. Several calls of `ring` before a sleep count as one. A call costs one atomic
//! swap, and a futex call only if the thread sleeps. (The queue of `ring.rs` is another thing.)
//!
//! `std::thread::park` has such a token, too, but any library on the thread may consume it (`std::sync::mpsc` and
//! `std::thread::scope` park). The bell keeps its own state and uses `park` only to sleep.

use std::time::{Duration, Instant};

use crossbeam::utils::CachePadded;

use super::sync::{Arc, AtomicU8, OnceLock, Ordering, Thread, current, park, park_timeout, spin_loop, yield_now};
use crate::types::limits::BELL_SPINS;

/// The bell was not rung since the last sleep ended.
const QUIET: u8 = 0;
/// The bell was rung: the present sleep, or the next one, ends.
const RUNG: u8 = 1;
/// The sleeping thread is parked, or about to park.
const SLEEPING: u8 = 2;

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woke {
    /// The bell was rung, during the sleep or between the previous sleep and this one.
    Rung,
    /// The timeout passed before the bell was rung.
    TimedOut,
}

/// A bell for one sleeping thread and any number of ringing threads.
#[derive(Debug)]
pub(super) struct Bell {
    /// `QUIET`, `RUNG` or `SLEEPING`.
    ///
    /// ORDERING: written by ringers (`swap` to `RUNG`, Release) and the sleeper; read by both. What a ringer did before
    /// its call of `ring` is visible to the sleeper after it, because every sleep that such a call ends, ends with a `swap`
    /// that Acquires. That must be a swap, not a load and a store: a second call between the two would be
    /// overwritten unseen. The sleeper's change to `SLEEPING` Releases `sleeper` to the ringer's swap, which Acquires.
    state: CachePadded<AtomicU8>,
    /// The thread to unpark: the first that called `sleep`. No other thread may call it.
    sleeper: OnceLock<Thread>,
}

impl Bell {
    pub(super) fn new() -> Self {
        Bell { state: CachePadded::new(AtomicU8::new(QUIET)), sleeper: OnceLock::new() }
    }

    /// Ends the present sleep, or the next one.
    pub(super) fn ring(&self) {
        if self.state.swap(RUNG, Ordering::AcqRel) == SLEEPING {
            self.sleeper.get().expect("a sleeper names itself before it sleeps").unpark();
        }
    }

    /// Returns once the bell was rung, or after `timeout` (`None`: never). Looks `looks` times before it parks the
    /// thread. Must always be called by the same thread.
    pub(super) fn sleep(&self, looks: u32, timeout: Option<Duration>) -> Woke {
        for look in 0..looks {
            if self.state.load(Ordering::Relaxed) == RUNG {
                break;
            }
            if look < BELL_SPINS { spin_loop() } else { yield_now() }
        }
        let me = current().id();
        assert!(self.sleeper.get_or_init(current).id() == me, "only one thread sleeps on a bell");
        // ORDERING: on failure the `swap` below Acquires, so Relaxed is enough here.
        if self.state.compare_exchange(QUIET, SLEEPING, Ordering::Release, Ordering::Relaxed).is_ok() {
            // A timeout beyond the clock's range counts as no timeout.
            let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
            self.park_until(deadline);
        }
        match self.state.swap(QUIET, Ordering::Acquire) {
            RUNG => Woke::Rung,
            _ => Woke::TimedOut,
        }
    }

    /// Parks until the state is `RUNG` or the deadline passes. `park` may also return without a reason.
    fn park_until(&self, deadline: Option<Instant>) {
        loop {
            match deadline {
                None => park(),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return;
                    }
                    park_timeout(left);
                }
            }
            // ORDERING: the value is only a hint to stop parking; `sleep` Acquires.
            if self.state.load(Ordering::Relaxed) == RUNG {
                return;
            }
        }
    }
}

/// Wakes the batching thread from any thread: after a cancel, or for shutdown. Cheap to clone and to use.
#[derive(Clone, Debug)]
pub struct WakeHandle {
    bell: Arc<Bell>,
}

impl WakeHandle {
    pub(super) fn new(bell: Arc<Bell>) -> Self {
        WakeHandle { bell }
    }

    /// Ends the present `Inbox::park`, or the next. What the caller wrote before is visible to the woken thread.
    pub fn wake(&self) {
        self.bell.ring();
    }
}
