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
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::{LogFormat, LogLevel};

/// Changes how much a log shows that has begun.
pub struct LevelSwitch(reload::Handle<LevelFilter, Registry>);

impl LevelSwitch {
    pub fn set(&self, level: LogLevel) {
        // Refused only when the log isn't this one; then it isn't ours to change.
        let _ = self.0.reload(filter(level));
    }
}

/// Sends the log of this process to stderr. A second call changes nothing.
pub fn init(level: LogLevel, format: LogFormat) -> LevelSwitch {
    let terminal = stderr().is_terminal();
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let (filter, handle) = reload::Layer::new(filter(level));
    // Whoever read the log may be gone: that is no reason for a thread to panic.
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr).log_internal_errors(false);
    let lines = if json {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
    } else if terminal {
        lines.with_target(false).with_timer(TimeOfDay).compact().boxed()
    } else {
        lines.with_ansi(false).with_target(false).compact().boxed()
    };
    // Refused only when somebody, a test say, has set one up already; that one stays.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    LevelSwitch(handle)
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// `14:05:09Z`: who watches a terminal knows the day.
struct TimeOfDay;

impl FormatTime for TimeOfDay {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        let s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        write!(w, "{:02}:{:02}:{:02}Z", s / 3_600 % 24, s / 60 % 60, s % 60)
    }
}
