//! Time limits of grammars: for each step, and for all steps of a request. A grammar that takes longer is stopped in
//! the middle of a step.
//!
//! The cost of a step grows with the number of ways to read the text so far, to the third power at worst, and none of
//! llguidance's counters bounds it. But llguidance checks a flag while it works, and a thread here sets that flag. The
//! thread sleeps until the earliest deadline of a running step, and a new step wakes it. It starts with the first step.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use llguidance::CancellationHandle;
use rustix::time::{ClockId, clock_gettime};

use crate::types::limits::{GRAMMAR_CPU_MS_MAX, GRAMMAR_CPU_MS_PER_TOKEN, GRAMMAR_STEP_MS_MAX};

/// Ends steps that take too long. Its lock is taken twice a step by HTTP threads, and by its own thread.
#[derive(Default)]
pub struct Watchdog {
    shared: Arc<WatchdogShared>,
}

#[derive(Default)]
struct WatchdogShared {
    watched: Mutex<Watched>,
    news: Condvar,
}

#[derive(Default)]
struct Watched {
    /// Running steps: number, deadline, handle. All have the same time limit, so the earliest deadline is in front.
    steps: VecDeque<(u64, Instant, CancellationHandle)>,
    begun: u64,
    thread: Thread,
}

/// State of the watching thread.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Thread {
    #[default]
    Unborn,
    /// Sleeps until a deadline; needs no wake-up.
    Watches,
    /// Sleeps until it is woken.
    Rests,
    Ends,
}

/// A step under the time limit, until it is dropped.
pub struct WatchedStep<'a> {
    shared: &'a WatchdogShared,
    number: u64,
}

impl Watchdog {
    /// Stops the work under `handle` unless the returned value is dropped within `GRAMMAR_STEP_MS_MAX`.
    pub fn watch(&self, handle: CancellationHandle) -> WatchedStep<'_> {
        let mut watched = self.shared.lock();
        watched.begun += 1;
        let number = watched.begun;
        let end = Instant::now() + Duration::from_millis(GRAMMAR_STEP_MS_MAX);
        watched.steps.push_back((number, end, handle));
        match watched.thread {
            Thread::Unborn => {
                let shared = Arc::clone(&self.shared);
                let named = std::thread::Builder::new().name("patience".into());
                // If the thread can't be started, the next step tries again.
                if named.spawn(move || shared.run()).is_ok() {
                    watched.thread = Thread::Watches;
                }
            }
            Thread::Rests => {
                watched.thread = Thread::Watches;
                self.shared.news.notify_one();
            }
            Thread::Watches | Thread::Ends => {}
        }
        WatchedStep { shared: &self.shared, number }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.lock().thread = Thread::Ends;
        self.shared.news.notify_one();
    }
}

impl Drop for WatchedStep<'_> {
    fn drop(&mut self) {
        self.shared.lock().steps.retain(|(number, ..)| *number != self.number);
    }
}

impl WatchdogShared {
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut watched = self.lock();
        while watched.thread != Thread::Ends {
            let now = Instant::now();
            while watched.steps.front().is_some_and(|(_, end, _)| *end <= now) {
                watched.steps.pop_front().into_iter().for_each(|(.., handle)| handle.cancel());
            }
            let next = watched.steps.front().map(|(_, end, _)| end.saturating_duration_since(now));
            watched = match next {
                Some(wait) => self.news.wait_timeout(watched, wait).unwrap_or_else(PoisonError::into_inner).0,
                None => {
                    watched.thread = Thread::Rests;
                    self.news.wait(watched).unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }
}

/// CPU time that one request's grammar may still use. CPU time of the thread is counted, so that other threads on the
/// same core don't count.
#[derive(Debug)]
pub struct CpuBudget {
    left: Duration,
}

impl CpuBudget {
    /// A full budget of `GRAMMAR_CPU_MS_MAX`.
    pub fn new() -> CpuBudget {
        CpuBudget { left: Duration::from_millis(GRAMMAR_CPU_MS_MAX) }
    }

    /// Adds the allowance of one token and subtracts `spent`. Returns whether anything is left.
    pub fn spend(&mut self, spent: Duration) -> bool {
        let most = Duration::from_millis(GRAMMAR_CPU_MS_MAX);
        self.left = (self.left + Duration::from_millis(GRAMMAR_CPU_MS_PER_TOKEN)).saturating_sub(spent).min(most);
        !self.left.is_zero()
    }
}

/// CPU time that this thread has used.
pub fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or_default(), time.tv_nsec.try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_fills_up_token_by_token_and_never_overflows() {
        let (most, a_token) =
            (Duration::from_millis(GRAMMAR_CPU_MS_MAX), Duration::from_millis(GRAMMAR_CPU_MS_PER_TOKEN));
        let mut budget = CpuBudget::new();
        (0..1_000).for_each(|_| assert!(budget.spend(a_token)));
        (0..1_000).for_each(|_| assert!(budget.spend(Duration::ZERO)));
        assert!(!budget.spend(most + a_token));
        assert!(budget.spend(Duration::ZERO), "and it goes on from nothing");
        let dear = a_token * 2;
        let lasts = (1..).take_while(|_| budget.spend(dear)).count();
        assert!(lasts < 1, "twice as dear as it may be, with nothing saved");
        let mut budget = CpuBudget::new();
        let lasts = (1..).take_while(|_| budget.spend(dear)).count() as u64;
        assert!(lasts < GRAMMAR_CPU_MS_MAX / GRAMMAR_CPU_MS_PER_TOKEN + 1);
    }

    #[test]
    fn a_step_is_stopped_when_it_is_time_and_not_before() {
        let watchdog = Watchdog::default();
        let quick = CancellationHandle::default();
        for _ in 0..100 {
            drop(watchdog.watch(quick.clone()));
        }
        let slow = CancellationHandle::default();
        let started = Instant::now();
        let _step = watchdog.watch(slow.clone());
        while !slow.is_cancelled() {
            std::thread::sleep(Duration::from_millis(1));
            assert!(started.elapsed() < Duration::from_secs(30), "it wasn't stopped");
        }
        assert!(started.elapsed() >= Duration::from_millis(GRAMMAR_STEP_MS_MAX) && !quick.is_cancelled());
        // Meanwhile the thread sleeps without a deadline; the next step wakes it.
        std::thread::sleep(Duration::from_millis(20));
        let again = CancellationHandle::default();
        let _step = watchdog.watch(again.clone());
        let deadline = Instant::now() + Duration::from_secs(30);
        while !again.is_cancelled() {
            std::thread::sleep(Duration::from_millis(1));
            assert!(Instant::now() < deadline, "it slept on");
        }
    }
}
