//! The server's counters, for metrics. Written by all threads, read by any.
//!
//! ORDERING: every counter stands alone and publishes nothing, so all accesses are Relaxed.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// The statuses the server itself answers with.
pub const REFUSALS: [u16; 10] = [400, 408, 411, 413, 417, 431, 500, 501, 503, 505];

/// The counters of one server. Totals only grow.
#[derive(Debug, Default)]
pub struct Stats {
    accepted: AtomicU64,
    requests: AtomicU64,
    refused: [AtomicU64; REFUSALS.len()],
    accept_errors: AtomicU64,
    timeouts: AtomicU64,
    disconnects: AtomicU64,
    half_closes: AtomicU64,
    wakeups: AtomicU64,
    open: AtomicUsize,
    in_flight: AtomicUsize,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident / $add:ident: $field:ident,)*) => {
        impl Stats {
            $($(#[$doc])*
            pub fn $name(&self) -> u64 {
                self.$field.load(Relaxed)
            }

            pub(crate) fn $add(&self) {
                self.$field.fetch_add(1, Relaxed);
            })*
        }
    };
}

counters! {
    /// Connections accepted, including connections that get a 503.
    accepted / add_accepted: accepted,
    /// Complete requests handed to `recv`.
    requests / add_request: requests,
    /// Failed accepts, mostly because descriptors ran out.
    accept_errors / add_accept_error: accept_errors,
    /// Connections closed without an answer because a deadline passed: idle ones, and clients that don't read.
    timeouts / add_timeout: timeouts,
    /// Clients that left while their request was being answered.
    disconnects / add_disconnect: disconnects,
    /// Disconnects announced by a FIN, after which the client may still have been listening.
    half_closes / add_half_close: half_closes,
    /// Waits that returned with events. Shows whether an event wakes only one thread.
    wakeups / add_wakeup: wakeups,
}

impl Stats {
    /// Requests refused with `status`, one of [`REFUSALS`]; 0 for other statuses.
    pub fn refused(&self, status: u16) -> u64 {
        let place = REFUSALS.iter().position(|known| *known == status);
        place.map_or(0, |place| self.refused[place].load(Relaxed))
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Requests that workers hold now.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    pub(crate) fn add_refused(&self, status: u16) {
        if let Some(place) = REFUSALS.iter().position(|known| *known == status) {
            self.refused[place].fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn opened(&self) {
        self.open.fetch_add(1, Relaxed);
    }

    pub(crate) fn closed(&self) {
        self.open.fetch_sub(1, Relaxed);
    }

    pub(crate) fn begun(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    pub(crate) fn ended(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }
}
