//! One connection and its owner. Any thread may get an event of a connection; only one thread at a time owns it.
//!
//! Ownership is a bit. A thread that takes a socket's event sets `READY` and tries to set `OWNED` in one step. If `OWNED`
//! was clear, this thread is now the owner and serves the socket. If it was set, the owner finds `READY` before it releases
//! the connection, and looks at the socket again. A request that a worker holds owns its connection, so no bytes are read
//! behind the request until it is answered.

use crate::budget::Lease;
use crate::intake::{Intake, Stage};
use crate::transport::Transport;
use crate::watch::Watch;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const OWNED: u8 = 1;
const READY: u8 = 2;
const ENDED: u8 = 4;

/// A connection's place in the table, and how many connections had that place before. The pair is never reused, so a late
/// event finds no connection instead of a different one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnId {
    pub(crate) place: u32,
    pub(crate) generation: u32,
}

impl ConnId {
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.place)
    }

    pub(crate) fn from_bits(bits: u64) -> ConnId {
        ConnId { place: bits as u32, generation: (bits >> 32) as u32 }
    }
}

/// One connection. The state that needs the owner is in `inner`. Its lock is contended only while one owner leaves and the
/// next one arrives.
pub(crate) struct Conn {
    pub(crate) id: ConnId,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) is_secure: bool,
    /// Whether it exceeds `Limits::connections_max` and exists only to get a 503.
    pub(crate) is_farewell: bool,
    pub(crate) watch: Arc<Watch>,
    /// ORDERING: the lock publishes the owner's writes to `inner`. Acquire and Release here keep the bits in step with
    /// them, and make a `READY` set by one thread visible to the owner that releases the connection.
    state: AtomicU8,
    inner: Mutex<Inner>,
}

/// The state that only the owner uses.
pub(crate) struct Inner {
    pub(crate) transport: Transport,
    pub(crate) intake: Intake,
    pub(crate) phase: Phase,
    /// The stage for which the deadline was set.
    pub(crate) timed: Stage,
    /// Whether a request has arrived on this connection.
    pub(crate) has_served: bool,
    /// Whether the last read left nothing in the socket and, with TLS, nothing in the session.
    pub(crate) is_drained: bool,
    /// Whether epoll reports when the socket can be written.
    pub(crate) wants_room: bool,
}

/// What a connection is doing.
pub(crate) enum Phase {
    /// It waits for a request, or is receiving one.
    Receiving,
    /// A worker holds the request.
    Serving,
    /// The answer is complete, and a part of it waits for the client to read.
    Flushing(Unsent),
    /// The last answer is sent. Further bytes from the client are read and dropped until it closes.
    Lingering { bytes_left: usize },
    /// It is no longer in the table.
    Closed,
}

/// The rest of an answer.
pub(crate) struct Unsent {
    pub(crate) bytes: Vec<u8>,
    pub(crate) sent: usize,
    pub(crate) keep_alive: bool,
    /// Its part of `Limits::unsent_bytes_max`, given back when this value is dropped.
    pub(crate) _lease: Option<Lease>,
}

impl Conn {
    pub(crate) fn new(
        id: ConnId,
        peer: Option<SocketAddr>,
        (is_secure, is_farewell): (bool, bool),
        transport: Transport,
        intake: Intake,
    ) -> Conn {
        let (phase, timed) = (Phase::Receiving, Stage::Head);
        let inner = Inner { transport, intake, phase, timed, has_served: false, is_drained: false, wants_room: false };
        let (watch, state) = (Arc::default(), AtomicU8::new(0));
        Conn { id, peer, is_secure, is_farewell, watch, state, inner: Mutex::new(inner) }
    }

    /// Records an event. Returns whether the caller is now the owner.
    pub(crate) fn claim(&self) -> bool {
        self.state.fetch_or(OWNED | READY, Ordering::AcqRel) & OWNED == 0
    }

    /// Records that the client has closed its sending side, so that a read will find the end.
    pub(crate) fn note_end(&self) {
        self.state.fetch_or(ENDED, Ordering::AcqRel);
    }

    /// For the owner: whether there was an event since the last call, or an end to be read.
    pub(crate) fn take_news(&self) -> bool {
        self.state.fetch_and(!READY, Ordering::AcqRel) & (READY | ENDED) != 0
    }

    /// For the owner: releases the connection, unless an event has come in the meantime.
    pub(crate) fn try_release(&self) -> bool {
        let release = |state: u8| (state & READY == 0).then_some(state & !OWNED);
        self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, release).is_ok()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.state.load(Ordering::Acquire) & ENDED != 0
    }

    pub(crate) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
