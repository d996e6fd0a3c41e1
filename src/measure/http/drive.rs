//! Sends the requests of one phase. A closed loop has clients that each wait for their answer. An open loop has requests
//! that are due at times drawn beforehand, whatever the server does.
//!
//! *Coordinated omission.* An open loop counts every latency from the time at which the request was due. So the delay of
//! requests that arrive while the server stalls is counted, and so is a wait for a free connection of the load generator. A
//! closed loop has no due times: during a stall its clients send nothing, and requests that weren't sent can't be counted.
//! It shows what N patient clients see, not what independent visitors see.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::failure::RequestFailure;
use super::measure::PhaseResults;
use super::target::{Ask, Target};
use super::wire::{HttpWire, Until};
use super::workload::{HttpWorkload, arrivals};
use crate::types::limits::{CONNECT_FAILURES_MAX, OPEN_LOOP_LOOK_MS};

/// How requests arrive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// A closed loop: each client waits for its answer before it sends its next request.
    Closed {
        /// Number of clients.
        clients: usize,
    },
    /// An open loop: requests arrive at random times, whatever the server does.
    Open {
        /// Requests a second on average.
        rate: f64,
        /// Most connections.
        connections: usize,
    },
}

/// Settings that are constant during a run.
pub struct LoadSettings {
    /// The content of the requests.
    pub workload: HttpWorkload,
    /// Most requests of a phase.
    pub requests: u64,
    /// The longest time of a phase. Then it ends even if requests are left.
    pub duration: Option<Duration>,
    /// The longest time for one request.
    pub timeout: Duration,
    /// The sampling temperature.
    pub temperature: f64,
    /// Whether requests ask the server to ignore end-of-generation tokens.
    pub ignore_eos: bool,
    /// Whether answers are streamed.
    pub stream: bool,
}

/// Counts that other threads can read during a phase.
///
/// ORDERING: Relaxed throughout; no other data is published with the counts and the flag.
#[derive(Default)]
pub struct LiveCounts {
    /// Answered requests.
    pub done: AtomicU64,
    /// Failed requests.
    pub failed: AtomicU64,
    /// Generated tokens.
    pub tokens: AtomicU64,
    /// Requests that are running.
    pub under_way: AtomicUsize,
}

/// The parameters of one phase.
pub struct LoadPhase<'a> {
    /// The server.
    pub target: &'a Target,
    /// How requests arrive.
    pub load: Load,
    /// Makes the prompts of different phases differ.
    pub salt: u64,
    /// Average number of words in a token of the server's vocabulary.
    pub words_per_token: f64,
}

/// Runs a phase until its end or until `stop` is set. `Err` holds the results so far: the server is gone.
pub fn drive(
    settings: &LoadSettings,
    phase: &LoadPhase,
    live: &LiveCounts,
    stop: &AtomicBool,
    watch: impl FnOnce(&AtomicBool) + Send,
) -> (PhaseResults, Option<RequestFailure>) {
    let clients = match phase.load {
        Load::Closed { clients } => clients,
        Load::Open { connections, .. } => connections,
    };
    let due: Option<Vec<Duration>> = match phase.load {
        Load::Closed { .. } => None,
        Load::Open { rate, .. } => {
            let within = |at: &Duration| settings.duration.is_none_or(|most| *at < most);
            let due = arrivals(rate, settings.workload.seed, phase.salt);
            Some(due.take(settings.requests as usize).take_while(within).collect())
        }
    };
    let requests = due.as_ref().map_or(settings.requests, |due| due.len() as u64);
    let measured = Mutex::new(PhaseResults::default());
    let (next, lost) = (AtomicU64::new(0), AtomicUsize::new(0));
    let (over, gone) = (AtomicBool::new(false), Mutex::new(None));
    let started = Instant::now();
    std::thread::scope(|scope| {
        let client = |_| {
            let mut wire = HttpWire::new(&phase.target.addr);
            while !stop.load(Ordering::Relaxed) && lost.load(Ordering::Relaxed) < CONNECT_FAILURES_MAX {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= requests || (due.is_none() && settings.duration.is_some_and(|most| started.elapsed() >= most)) {
                    break;
                }
                let due = due.as_ref().map(|due| started + due[n as usize]);
                if !due.is_none_or(|due| sleep_until(due, stop)) {
                    break;
                }
                let ask = settings.ask(phase, n);
                live.under_way.fetch_add(1, Ordering::Relaxed);
                let sent = Instant::now();
                let until = Until { deadline: sent + settings.timeout, stop };
                let result = phase.target.ask(&mut wire, &ask, until);
                let ended = Instant::now();
                live.under_way.fetch_sub(1, Ordering::Relaxed);
                match &result {
                    Ok(answer) => {
                        live.done.fetch_add(1, Ordering::Relaxed);
                        live.tokens.fetch_add(answer.tokens, Ordering::Relaxed);
                        lost.store(0, Ordering::Relaxed);
                    }
                    Err(failure) => {
                        live.failed.fetch_add(1, Ordering::Relaxed);
                        if matches!(failure, RequestFailure::Connect(_))
                            && lost.fetch_add(1, Ordering::Relaxed) + 1 == CONNECT_FAILURES_MAX
                        {
                            *gone.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure.clone());
                        }
                    }
                }
                let mut measured = measured.lock().unwrap_or_else(PoisonError::into_inner);
                measured.record(due.unwrap_or(sent), sent, ended, &result);
            }
        };
        let threads: Vec<_> = (0..clients.min(requests.max(1) as usize))
            .map(|i| std::thread::Builder::new().name(format!("client-{i}")).spawn_scoped(scope, move || client(i)))
            .collect();
        scope.spawn(|| watch(&over));
        for thread in threads.into_iter().flatten() {
            let _ = thread.join();
        }
        over.store(true, Ordering::Relaxed);
    });
    let mut measured = measured.into_inner().unwrap_or_else(PoisonError::into_inner);
    measured.took = started.elapsed();
    (measured, gone.into_inner().unwrap_or_else(PoisonError::into_inner))
}

impl LoadSettings {
    fn ask(&self, phase: &LoadPhase, n: u64) -> Ask {
        let (prompt, max_tokens) = self.workload.request(phase.salt, n, phase.words_per_token);
        Ask { prompt, max_tokens, temperature: self.temperature, ignore_eos: self.ignore_eos, stream: self.stream }
    }
}

/// Sleeps until `due`; `false`: `stop` was set before.
fn sleep_until(due: Instant, stop: &AtomicBool) -> bool {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if stop.load(Ordering::Relaxed) {
            return false;
        }
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(Duration::from_millis(OPEN_LOOP_LOOK_MS)));
    }
}
