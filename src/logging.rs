//! Our log: lines for people on a terminal, JSON for machines elsewhere, always on stderr.
//!
//! `init` once, on the main thread; then `tracing`'s macros from any thread. Never from the batching thread's steps,
//! where writing would block: it counts instead (`metrics`).

use std::io::{IsTerminal, stderr};

use tracing::level_filters::LevelFilter;

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
    } else {
        lines.with_ansi(terminal).with_target(false).compact().try_init()
    };
}
