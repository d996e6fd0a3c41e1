//! Every bound of the crate, with the arithmetic behind it. Read by all threads, changed by none once a server runs.
//!
//! What one connection may hold, by phase: idle, its descriptor and at most [`KEPT_BUFFER_BYTES`]; receiving a head,
//! `head_bytes_max` plus one read; receiving a body, `body_bytes_max`, and all bodies together `bodies_bytes_max`;
//! answered but not read by the client, its share of `unsent_bytes_max`. With the defaults and 1,024 connections:
//! 1,024 x 4 KiB = 4 MiB idle, 1,024 x (16 + 64) KiB = 80 MiB if every one of them sends the largest head and a full
//! read of pipelined bytes behind it, 64 MiB of bodies, 16 MiB of answers.

use std::time::Duration;

/// Largest buffer that a connection keeps between requests, in bytes. A larger one is freed.
pub(crate) const KEPT_BUFFER_BYTES: usize = 4 * 1024;

/// Most bytes of one read from a socket: the size of a thread's read buffer.
pub(crate) const READ_BYTES: usize = 64 * 1024;

/// An answer up to this many bytes is sent in one write with its head; a longer one is sent in blocks of this size.
pub(crate) const BLOCK_BYTES: usize = 64 * 1024;

/// The size of the array on the stack that httparse fills; `Limits::headers_max` is clamped to it.
pub(crate) const HEADERS_CEILING: usize = 256;

/// Most bytes of chunk extensions in one body, together. They are read and ignored.
pub(crate) const CHUNK_EXTENSION_BYTES_MAX: usize = 4 * 1024;

/// Most bytes of trailer fields in one chunked body, together. They are checked and ignored.
pub(crate) const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// Connections beyond `connections_max` that may exist while they get a 503 and close. If these are used up as well, the
/// newest connection gets a 503 and is closed without waiting for the client.
pub(crate) const FAREWELL_CONNECTIONS: usize = 128;

/// Bytes that a refused client may still send before the connection is cut. Reading them keeps the kernel from resetting
/// the connection before the client has read the answer.
pub(crate) const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// How long a worker polls for the next request before it sleeps; it yields to other threads meanwhile. About a round trip
/// on loopback. For each answered request it uses at most this much time of a core.
pub(crate) const WORKER_LINGER: Duration = Duration::from_micros(30);

/// How often the keeper checks deadlines and, if every worker is busy, the sockets. The promise is to notice a disconnect
/// within 100 ms, so this is half of it.
pub(crate) const KEEPER_TICK: Duration = Duration::from_millis(50);

/// The keeper's tick while there are no connections: there are no deadlines, but a first connection may come while no
/// worker waits.
pub(crate) const KEEPER_IDLE_TICK: Duration = Duration::from_millis(500);

/// What a server grants to its clients. [`Limits::default`] is the contract of the crate; each field can be set alone:
///
/// ```
/// use tiny_http::Limits;
/// let limits = Limits { body_bytes_max: 64 * 1024, ..Limits::default() };
/// assert_eq!(limits.connections_max, 1024);
/// ```
#[derive(Clone, Debug)]
pub struct Limits {
    /// Request line and header fields together, terminator included. Beyond: 431. Default 16 KiB.
    pub head_bytes_max: usize,
    /// Header fields of one request, at most 256. Beyond: 431. Default 100.
    pub headers_max: usize,
    /// One request body, decoded. Beyond: 413, before any of it is read when it was declared. Default 8 MiB.
    pub body_bytes_max: usize,
    /// All request bodies held at one time, being received or in a worker's hands. Beyond: 503. Counted as bytes
    /// arrive, so that a declared length alone takes nothing. Default 64 MiB, eight of the largest.
    pub bodies_bytes_max: usize,
    /// All answers that wait for slow clients to read, together. Within it a worker is free as soon as it has
    /// answered; beyond it the worker waits for the client itself. Default 16 MiB.
    pub unsent_bytes_max: usize,
    /// From the first byte of a head (from accept, for the first head) to its last byte. Then 408. Default 10 s.
    pub head_timeout: Duration,
    /// From the end of the head to the end of the body. Then 408. Default 30 s.
    pub body_timeout: Duration,
    /// Between an answer and the next request. Then the connection is closed. Default 75 s.
    pub idle_timeout: Duration,
    /// The longest time in which the client takes no byte of an answer. Then the connection is closed. Default 30 s.
    pub write_stall_timeout: Duration,
    /// The longest time after the last answer for the client to close its side. Default 1 s.
    pub linger_timeout: Duration,
    /// Most connections at a time. A new connection beyond it gets a 503. Default 1,024.
    pub connections_max: usize,
    /// The meaning of a closed sending side while the client's request is being answered.
    pub half_close: HalfClose,
}

/// What a client's FIN means while its request is being answered.
///
/// TCP can't tell "I have sent everything" (`nc -N`) from "I am gone" (a killed process, a closed tab): both are a FIN,
/// and only a write to the latter brings the reset that tells them apart. For a server whose answers cost seconds of
/// compute the second reading is the useful one, and the common one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalfClose {
    /// The client is gone: its [`ClientWatch`](crate::ClientWatch) fires and streams end with an error. An answer
    /// given with `respond` is still written, so a half-closing client whose request is answered anyway gets it.
    Disconnected,
    /// The client still listens. Only a reset counts as gone.
    StillListening,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head_bytes_max: 16 * 1024,
            headers_max: 100,
            body_bytes_max: 8 * 1024 * 1024,
            bodies_bytes_max: 64 * 1024 * 1024,
            unsent_bytes_max: 16 * 1024 * 1024,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            write_stall_timeout: Duration::from_secs(30),
            linger_timeout: Duration::from_secs(1),
            connections_max: 1024,
            half_close: HalfClose::Disconnected,
        }
    }
}
