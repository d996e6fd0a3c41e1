//! `cllm serve --supervise`: a small process that holds the listening socket and restarts the server when it crashes.
//! Clients of the crashed server lose their connection. New connections wait in the socket's backlog until the next server
//! runs.
//!
//! One thread, no model, no request. The server is this program again, with `--supervise=false`. It reports READY over a
//! datagram socket, as to a service manager. If there is a service manager above, its messages are passed on.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::fd::{AsFd, AsRawFd};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;

use super::listen;
use super::notify::Notify;
use crate::config::Config;
use crate::types::StartupError;
use crate::types::limits::{RESTART_MS_MAX, RESTART_MS_MIN, RESTART_SERVED_MS_MAX, SUPERVISOR_LOOK_MS};

/// The variable that tells the server the supervisor's process id.
const SUPERVISOR: &str = "CLLM_SUPERVISOR";

/// How one server ended.
struct End {
    status: ExitStatus,
    was_ready: bool,
}

/// Runs servers until one ends without a crash or a signal asks for the end.
///
/// # Errors
/// The socket or a process can't be made; the first server refused to start; or the last one failed after a signal.
pub fn run(config: &Config) -> Result<(), StartupError> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(failed("listen for signals"))?;
    let handed_over = listen::handed_over()?;
    let is_bound_here = handed_over.is_none();
    let listener = handed_over.map_or_else(|| listen::bind(config), Ok)?;
    let _path = config.unix_path().filter(|_| is_bound_here).map(listen::OwnPath);
    fcntl_setfd(&listener, FdFlags::empty()).map_err(failed("pass the socket to the server"))?;
    let mut servers = Servers::new(listener.as_fd().as_raw_fd())?;
    servers.keep_one_running(&mut signals)
}

/// Whether this process is the server of a running supervisor. If so, it is set to end when the supervisor ends.
pub fn is_supervised() -> bool {
    let supervisor = std::env::var(SUPERVISOR).ok().and_then(|pid| pid.parse().ok());
    let parent = getppid().map(|pid| pid.as_raw_nonzero().get());
    // The death signal is set first. If the supervisor ends before that, the comparison of parents shows it.
    supervisor.is_some() && set_parent_process_death_signal(Some(Signal::TERM)).is_ok() && supervisor == parent
}

struct Servers {
    program: std::path::PathBuf,
    /// The descriptor of the listening socket, equal in each server.
    socket: i32,
    /// The socket on which servers report that they are ready.
    reports: UnixDatagram,
    reports_name: String,
    manager: Option<Notify>,
}

impl Servers {
    fn new(socket: i32) -> Result<Servers, StartupError> {
        let name = format!("cllm-supervisor-{}", std::process::id());
        let reports = SocketAddr::from_abstract_name(&name).and_then(|addr| UnixDatagram::bind_addr(&addr));
        let reports = reports.and_then(|reports| reports.set_nonblocking(true).map(|()| reports));
        Ok(Servers {
            program: std::env::current_exe().map_err(failed("find this program"))?,
            socket,
            reports: reports.map_err(failed("listen to the server"))?,
            reports_name: format!("@{name}"),
            manager: Notify::from_env(),
        })
    }

    fn start(&self) -> Result<Child, StartupError> {
        let mut command = Command::new(&self.program);
        command
            .args(std::env::args_os().skip(1))
            .arg("--supervise=false")
            .env("LISTEN_FDS", "1")
            .env("LISTEN_FDS_FIRST_FD", self.socket.to_string())
            .env_remove("LISTEN_PID")
            .env("NOTIFY_SOCKET", &self.reports_name)
            .env_remove("WATCHDOG_PID")
            .env(SUPERVISOR, std::process::id().to_string())
            // A process group of its own, so that Ctrl-C reaches only the supervisor, which passes it on.
            .process_group(0);
        command.spawn().map_err(failed("start the server"))
    }

    fn keep_one_running(&mut self, signals: &mut Signals) -> Result<(), StartupError> {
        let (mut has_served, mut crashes) = (false, Crashes::default());
        loop {
            let started = Instant::now();
            let mut child = self.start()?;
            tracing::info!(pid = child.id(), "server started");
            let (end, asked_to_end) = self.attend(&mut child, signals)?;
            has_served |= end.was_ready;
            let code = end.status.code();
            if code == Some(0) {
                return Ok(());
            }
            // The server has already printed why it refused to start.
            let (died_of, lived_s) = (in_words(end.status), started.elapsed().as_secs_f64());
            if asked_to_end || (!has_served && code.is_some()) {
                return Err(StartupError::System { doing: "serve".into(), reason: format!("the server {died_of}") });
            }
            let pause = crashes.pause(end.was_ready, lived_s > 60.0);
            tracing::error!(lived_s, pause_ms = pause.as_millis() as u64, "the server {died_of}; it is started again");
            let until = Instant::now() + pause;
            while Instant::now() < until {
                if signals.pending().any(|signal| signal != SIGHUP) {
                    return Ok(());
                }
                std::thread::sleep(
                    Duration::from_millis(SUPERVISOR_LOOK_MS).min(until.saturating_duration_since(Instant::now())),
                );
            }
        }
    }

    /// Watches one server until it ends. Also returns whether a signal had asked for the end.
    fn attend(&mut self, child: &mut Child, signals: &mut Signals) -> Result<(End, bool), StartupError> {
        let (mut was_ready, mut asked_to_end) = (false, false);
        loop {
            let ended = child.try_wait().map_err(failed("wait for the server"))?;
            was_ready |= self.hear();
            if let Some(status) = ended {
                return Ok((End { status, was_ready }, asked_to_end));
            }
            for signal in signals.pending() {
                asked_to_end |= signal != SIGHUP;
                if let Some(signal) = Signal::from_named_raw(signal) {
                    // Fails if the process has just ended; then it needs no signal.
                    let _ = kill_process(Pid::from_child(child), signal);
                }
            }
            std::thread::sleep(Duration::from_millis(SUPERVISOR_LOOK_MS));
        }
    }

    /// Reads the server's messages and passes them on. Returns whether one said that it is ready.
    fn hear(&self) -> bool {
        let (mut bytes, mut is_ready) = ([0; 256], false);
        while let Ok(length) = self.reports.recv(&mut bytes) {
            is_ready |= bytes[..length].starts_with(b"READY=1");
            self.manager.iter().for_each(|manager| manager.pass_on(&bytes[..length]));
        }
        is_ready
    }
}

/// Counts crashes in a row, separately for servers that had become ready and for servers that had not. The first kind is
/// restarted sooner.
#[derive(Default)]
struct Crashes {
    ready: u32,
    unready: u32,
}

impl Crashes {
    /// Counts one crash and returns how long to wait before the next start.
    fn pause(&mut self, was_ready: bool, lived_long: bool) -> Duration {
        if lived_long {
            *self = Crashes::default();
        }
        let (before, most) = if was_ready {
            self.unready = 0;
            self.ready += 1;
            (self.ready - 1, RESTART_SERVED_MS_MAX)
        } else {
            self.unready += 1;
            (self.unready - 1, RESTART_MS_MAX)
        };
        let doubled = |times: u32| RESTART_MS_MIN.saturating_mul(1 << times.min(16)).min(most);
        Duration::from_millis(before.checked_sub(1).map_or(0, doubled))
    }
}

fn in_words(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => match signal_name(signal) {
            Some(name) => format!("was ended by {name}"),
            None => format!("was ended by signal {signal}"),
        },
        (None, code) => format!("ended with code {}", code.unwrap_or(-1)),
    }
}

fn failed<E: std::fmt::Display>(doing: &str) -> impl FnOnce(E) -> StartupError {
    move |error| StartupError::System { doing: doing.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_at_once_and_the_others_wait_longer() {
        let mut crashes = Crashes::default();
        let mut ms = |was_ready| crashes.pause(was_ready, false).as_millis() as u64;
        assert_eq!([true; 7].map(&mut ms), [0, 50, 100, 200, 400, 500, 500]);
        // Crashes before a server was ready are counted separately.
        assert_eq!([false; 4].map(&mut ms), [0, 50, 100, 200]);
        assert_eq!((0..100).map(|_| ms(false)).max(), Some(30_000));
        assert_eq!([ms(true), ms(false)], [500, 0], "a server that was ready is restarted sooner");
        assert_eq!(crashes.pause(true, true), Duration::ZERO, "after a minute the count starts again");
    }

    #[test]
    fn signals_have_their_names() {
        assert_eq!(in_words(ExitStatus::from_raw(9)), "was ended by SIGKILL");
        assert_eq!(in_words(ExitStatus::from_raw(11)), "was ended by SIGSEGV");
        assert_eq!(in_words(ExitStatus::from_raw(1 << 8)), "ended with code 1");
    }
}
