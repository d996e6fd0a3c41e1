//! Messages to a service manager (`NOTIFY_SOCKET`, `WATCHDOG_USEC`): ready, stopping, and that the engine makes progress.
//! Main thread only.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use crate::metrics::EngineMetrics;

/// A connection to a service manager.
pub struct Notify {
    /// Connected at the start, because the sandbox lets a running server neither open a socket nor send to an address.
    socket: UnixDatagram,
    watchdog: Option<SystemdWatchdog>,
}

/// The watchdog message is sent only if the engine has made progress since the last one.
struct SystemdWatchdog {
    /// The interval between messages: a quarter of the time after which the manager ends the process.
    every: Duration,
    fed_at: Instant,
    seen: EngineProgress,
}

/// A value that changes while the engine works: the number of steps if it has requests, otherwise the time of its last idle
/// round.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EngineProgress {
    Idle { last_round_at_us: u64 },
    Busy { steps: u64 },
}

impl EngineProgress {
    fn of(engine: &EngineMetrics) -> EngineProgress {
        match engine.running.get() + engine.waiting.get() {
            0 => EngineProgress::Idle { last_round_at_us: engine.last_round_at_us.get() },
            _ => EngineProgress::Busy { steps: engine.steps.get() },
        }
    }
}

impl Notify {
    /// Connects to the manager that the environment names; `None`: there is none, or it can't be reached.
    pub fn from_env() -> Option<Notify> {
        let name = std::env::var_os("NOTIFY_SOCKET")?;
        let manager = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            _ => SocketAddr::from_pathname(&name),
        };
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let is_for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|us| is_for_us && *us > 0).map(|us| SystemdWatchdog {
            every: Duration::from_micros(us / 4),
            fed_at: Instant::now(),
            seen: EngineProgress::Busy { steps: u64::MAX },
        });
        let socket = UnixDatagram::unbound().ok()?;
        socket.connect_addr(&manager.ok()?).ok()?;
        Some(Notify { socket, watchdog })
    }

    /// Tells the manager that the server is ready.
    pub fn ready(&self) {
        self.say("READY=1");
    }

    /// Tells the manager that the server is shutting down.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// Sends the watchdog message if it is due and the engine has made progress. Must be called often.
    pub fn look(&mut self, engine: &EngineMetrics) {
        let Some(watchdog) = &mut self.watchdog else { return };
        let now = EngineProgress::of(engine);
        if watchdog.fed_at.elapsed() >= watchdog.every && watchdog.seen != now {
            (watchdog.fed_at, watchdog.seen) = (Instant::now(), now);
            self.say("WATCHDOG=1");
        }
    }

    /// Sends a message of another process unchanged.
    pub fn pass_on(&self, what: &[u8]) {
        let _ = self.socket.send(what);
    }

    /// Sends a message. A failure is ignored, because the manager is then gone.
    fn say(&self, what: &str) {
        self.pass_on(what.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn rounds_count_while_idle_and_steps_while_busy() {
        let metrics = Metrics::default();
        let engine = &metrics.engine;
        let idle = EngineProgress::of(engine);
        engine.last_round_at_us.set(1);
        assert!(EngineProgress::of(engine) != idle);
        engine.waiting.set(1);
        let busy = EngineProgress::of(engine);
        engine.last_round_at_us.set(2);
        assert!(EngineProgress::of(engine) == busy, "going round without a step is no progress");
        engine.steps.inc();
        assert!(EngineProgress::of(engine) != busy);
    }
}
