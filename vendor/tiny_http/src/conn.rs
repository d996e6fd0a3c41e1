//! One connection, and who may touch it. Any thread may learn of news about a connection; one thread at a time owns it.
//!
//! Ownership is a bit. Whoever takes a socket's event sets `READY` and tries to set `OWNED` in one step. If it was
//! clear, that thread is the owner and serves the socket; if it was set, the owner finds `READY` when it wants to let go
//! and looks again. A request in a worker's hands owns its connection, so no byte is read behind it until it is answered.

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

/// A connection's place in the table and how many connections had it before: never reused, so an event that comes late
/// finds nobody rather than a stranger.
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

/// One connection. What needs the owner is in `inner`; the lock is never contended but by a thread that has just become
/// the owner while the last one leaves.
pub(crate) struct Conn {
    pub(crate) id: ConnId,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) is_secure: bool,
    /// Beyond `Limits::connections_max`: exists to be told 503.
    pub(crate) is_farewell: bool,
    pub(crate) watch: Arc<Watch>,
    /// ORDERING: the owner's writes to `inner` are published by the lock; Acquire and Release here keep the bits in
    /// step with them, and make `READY` set by one thread visible to the owner that lets go.
    state: AtomicU8,
    inner: Mutex<Inner>,
}

/// What the owner works on.
pub(crate) struct Inner {
    pub(crate) transport: Transport,
    pub(crate) intake: Intake,
    pub(crate) phase: Phase,
    /// The stage the deadline was set for.
    pub(crate) timed: Stage,
    /// Whether a request has come over this connection.
    pub(crate) has_served: bool,
    /// Nothing was left in the socket, and behind TLS nothing in the session, when it was last read.
    pub(crate) is_drained: bool,
    /// Whether epoll watches for room to write.
    pub(crate) wants_room: bool,
}

/// What a connection is doing.
pub(crate) enum Phase {
    /// Waiting for a request, or in the middle of one.
    Receiving,
    /// A worker has the request.
    Serving,
    /// The answer is given and waits for the client to read it.
    Flushing(Unsent),
    /// The last answer is out; reading over what the client still sends, until it closes.
    Lingering { bytes_left: usize },
    /// Out of the table.
    Closed,
}

/// The rest of an answer.
pub(crate) struct Unsent {
    pub(crate) bytes: Vec<u8>,
    pub(crate) sent: usize,
    pub(crate) keep_alive: bool,
    /// Held, not read: its share of `Limits::unsent_bytes_max`.
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

    /// Leaves word that there is news; answers whether the caller is now the owner.
    pub(crate) fn claim(&self) -> bool {
        self.state.fetch_or(OWNED | READY, Ordering::AcqRel) & OWNED == 0
    }

    /// The client has ended its sending side: reads will find the end from now on.
    pub(crate) fn note_end(&self) {
        self.state.fetch_or(ENDED, Ordering::AcqRel);
    }

    /// For the owner: whether there is news since it last asked, or an end to be read.
    pub(crate) fn take_news(&self) -> bool {
        self.state.fetch_and(!READY, Ordering::AcqRel) & (READY | ENDED) != 0
    }

    /// For the owner: lets go, unless there is news to look at first.
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
