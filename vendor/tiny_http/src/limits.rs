//! Every bound of the crate, with the arithmetic behind it. Read by all threads, changed by none once a server runs.
//!
//! What one connection may hold, by phase: idle, its descriptor and at most [`KEPT_BUFFER_BYTES`]; receiving a head,
//! `head_bytes_max` plus one read; receiving a body, `body_bytes_max`, and all bodies together `bodies_bytes_max`;
//! answered but not read by the client, its share of `unsent_bytes_max`. With the defaults and 1,024 connections:
//! 1,024 x 4 KiB = 4 MiB idle, 1,024 x (16 + 64) KiB = 80 MiB if every one of them sends the largest head and a full
//! read of pipelined bytes behind it, 64 MiB of bodies, 16 MiB of answers.

use std::time::Duration;

/// A connection between requests keeps a buffer of at most this many bytes; a larger one is given back.
pub(crate) const KEPT_BUFFER_BYTES: usize = 4 * 1024;

/// One read from a socket takes at most this many bytes: the scratch buffer a thread reads with.
pub(crate) const READ_BYTES: usize = 64 * 1024;

/// An answer up to this size leaves in one write together with its head; a larger one leaves block by block.
pub(crate) const BLOCK_BYTES: usize = 64 * 1024;

/// The stack array handed to httparse; `Limits::headers_max` is clamped to it.
pub(crate) const HEADERS_CEILING: usize = 256;

/// Chunk extensions of one body, together. They are read over and forgotten.
pub(crate) const CHUNK_EXTENSION_BYTES_MAX: usize = 4 * 1024;

/// Trailer fields of one chunked body, together. They are checked, read over and forgotten.
pub(crate) const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// Connections beyond `connections_max` that may exist for the time it takes to say 503 and see the client leave.
/// When these are used up as well, the newest is told 503 and closed without waiting for it.
pub(crate) const FAREWELL_CONNECTIONS: usize = 128;

/// A refused client may send this much more before the connection is cut; reading it over keeps the kernel from
/// resetting the connection before the client has read the answer.
pub(crate) const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// How long a worker that comes for the next request looks for it before it sleeps, giving way to other threads
/// meanwhile. About a round trip on loopback; at most so much of a core for each request answered.
pub(crate) const WORKER_LINGER: Duration = Duration::from_micros(30);

/// How often the keeper looks at deadlines and, when every worker is busy, at the sockets. 100 ms is the promise for
/// seeing a disconnect, so half of it.
pub(crate) const KEEPER_TICK: Duration = Duration::from_millis(50);

/// The same without a connection: nothing to keep time for, but a first one may come while no worker waits.
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
    /// From the first byte of a head (from accept, for the first one) to its last. Then 408. Default 10 s.
    pub head_timeout: Duration,
    /// From the end of the head to the end of the body. Then 408. Default 30 s.
    pub body_timeout: Duration,
    /// Between an answer and the next request. Then the connection is closed. Default 75 s.
    pub idle_timeout: Duration,
    /// Without a byte taken by the client while an answer is written. Then the connection is closed. Default 30 s.
    pub write_stall_timeout: Duration,
    /// After the last answer, for the client to close its side. Default 1 s.
    pub linger_timeout: Duration,
    /// Connections at a time; the newest beyond it is told 503. Default 1,024.
    pub connections_max: usize,
    /// What the end of the client's sending side means while its request is being answered.
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
