//! The log: text on a terminal, JSON elsewhere, always on stderr.
//!
//! The main thread calls `init` once; after that, any thread may use `tracing`'s macros. The batching thread must not log
//! during its steps, because writing can block; it counts in `metrics` instead.

use std::fmt;
use std::io::{IsTerminal, stderr};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::{LogFormat, LogLevel};

/// Changes the level of a running log.
pub struct LevelSwitch(reload::Handle<LevelFilter, Registry>);

impl LevelSwitch {
    /// Sets the level of the log.
    pub fn set(&self, level: LogLevel) {
        // Fails only if another log was set up instead of this one; then its level stays.
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
    // If the reader of stderr is gone, writing fails. That must not make a thread panic.
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr).log_internal_errors(false);
    let lines = if json {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
    } else if terminal {
        lines.with_target(false).with_timer(TimeOfDay).compact().boxed()
    } else {
        lines.with_ansi(false).with_target(false).compact().boxed()
    };
    // Fails only if a log was set up before, for example by a test; then that log stays.
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

/// The time of day, `14:05:09Z`, for lines on a terminal. The date is left out.
struct TimeOfDay;

impl FormatTime for TimeOfDay {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        let s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        write!(w, "{:02}:{:02}:{:02}Z", s / 3_600 % 24, s / 60 % 60, s % 60)
    }
}
