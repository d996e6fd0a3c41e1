//! Settings of the log and of the recorder of steps.

use crate::config::definition::scope::{BENCH, GENERATE, SERVE, TEXT, TUNE};
use crate::config::definition::takes::{OneOf, Switch};
use crate::config::definition::{About, Definition, Fallback, Setting};
use crate::config::{LogFormat, LogLevel};

const GROUP: About = About::group("Log");

group! {
    /// The least important level that the log shows.
    LOG_LEVEL: OneOf<LogLevel> = Setting {
        about: About {
            key: "log-level",
            help: "Log from this level on: error, warn, info (default), debug, trace",
            scope: SERVE | GENERATE | TEXT | BENCH | TUNE,
            ..GROUP
        },
        takes: OneOf {
            name: "LEVEL",
            words: &[
                ("error", LogLevel::Error),
                ("warn", LogLevel::Warn),
                ("info", LogLevel::Info),
                ("debug", LogLevel::Debug),
                ("trace", LogLevel::Trace),
            ],
        },
        default: Fallback::Is(LogLevel::Info),
    };

    /// Whether the engine records its steps.
    TRACE: Switch = Setting {
        about: About { key: "trace", help: "Record every step for GET /debug/trace", ..GROUP },
        takes: Switch { on: true },
        default: Fallback::Is(false),
    };

    /// The format of the log's lines.
    LOG_FORMAT: OneOf<LogFormat> = Setting {
        about: About {
            key: "log-format",
            help: "Form of the log: text, json or auto (default), by terminal",
            scope: SERVE | GENERATE | TEXT,
            ..GROUP
        },
        takes: OneOf {
            name: "FORMAT",
            words: &[("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)],
        },
        default: Fallback::Is(LogFormat::Auto),
    };

    /// Whether the log line of a request contains its prompt.
    LOG_PROMPTS: Switch = Setting {
        about: About { key: "log-prompts", help: "Show the prompt in each request's log line", ..GROUP },
        takes: Switch { on: true },
        default: Fallback::Is(false),
    };
}
