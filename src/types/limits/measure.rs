//! Bounds of the laboratory (`src/measure`). No server uses them.

/// Most requests of one run of `cllm tune`.
pub const TUNE_REQUESTS_MAX: usize = 10_000;

/// Most seconds that the batching thread of a stage may take to end.
pub const STAGES_END_S_MAX: u64 = 5;

/// Milliseconds that a client of the open loop sleeps before it checks for Ctrl-C.
pub const OPEN_LOOP_LOOK_MS: u64 = 50;

/// Failed connections in a row, without an answer between them, after which a phase of `cllm bench http` ends.
pub const CONNECT_FAILURES_MAX: usize = 20;

/// Most requests of a phase of `cllm bench http`. A phase for which only a time is given has this number, too: at 1,000 requests a
/// second it lasts more than two hours.
pub const BENCH_REQUESTS_MAX: i64 = 10_000_000;
/// Longest prompt and longest answer of `cllm bench http`, in tokens.
pub const BENCH_TOKENS_MAX: usize = 1 << 20;

/// Milliseconds between two checks for Ctrl-C of a client that waits for an answer.
pub const WIRE_LOOK_MS: u64 = 100;
/// Most seconds in which such a client connects, and in which the server must take its request.
pub const WIRE_CONNECT_S_MAX: u64 = 5;

/// Most bytes of an answer's head.
pub const WIRE_HEAD_BYTES_MAX: usize = 64 << 10;
/// Most header fields of an answer.
pub const WIRE_FIELDS_MAX: usize = 128;
/// Bytes requested in one read of an answer.
pub const WIRE_READ_BYTES: usize = 16 << 10;

/// Largest time in the bench's histograms, in microseconds: an hour. Longer times count as an hour.
pub const MEASURED_US_MAX: u64 = 3_600_000_000;

/// Most characters of a server's error message that the bench repeats.
pub const ERROR_CHARS_MAX: usize = 160;

/// Bytes of the buffer that measures how fast memory is read: more than the caches of most machines.
pub const BANDWIDTH_READ_BYTES: usize = 512 << 20;

/// Longest sleep of the bench's engine thread before it checks again whether it shall end, in milliseconds.
pub const CONSTRAINED_LOOK_MS: u64 = 10;
