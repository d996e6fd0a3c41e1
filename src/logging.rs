//! Our log: lines for people on a terminal, JSON for machines elsewhere, always on stderr.
//!
//! `init` once, on the main thread; then `tracing`'s macros from any thread. Never from the batching thread's steps,
//! where writing would block: it counts instead (`metrics`).

use std::fmt;
use std::io::{IsTerminal, stderr};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::config::{LogFormat, LogLevel};

/// Sends the log of this process to stderr. A second call changes nothing.
pub fn init(level: LogLevel, format: LogFormat) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let terminal = stderr().is_terminal();
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let lines = tracing_subscriber::fmt().with_max_level(level).with_writer(stderr);
    // Refused only when somebody, a test say, has set one up already; that one stays.
    let _ = if json {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else if terminal {
        lines.with_target(false).with_timer(TimeOfDay).compact().try_init()
    } else {
        lines.with_ansi(false).with_target(false).compact().try_init()
    };
}

/// `14:05:09Z`: who watches a terminal knows the day.
struct TimeOfDay;

impl FormatTime for TimeOfDay {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        let s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        write!(w, "{:02}:{:02}:{:02}Z", s / 3_600 % 24, s / 60 % 60, s % 60)
    }
}
