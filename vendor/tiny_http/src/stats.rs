//! What the server counted, for a metrics page. Written by all threads, read by anyone.
//!
//! ORDERING: every counter stands alone and publishes nothing, so all accesses are Relaxed.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// The statuses the server itself answers with.
pub const REFUSALS: [u16; 10] = [400, 408, 411, 413, 417, 431, 500, 501, 503, 505];

/// Counters of one server. Totals only grow.
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
    /// Connections accepted, those told 503 included.
    accepted / add_accepted: accepted,
    /// Complete requests handed to `recv`.
    requests / add_request: requests,
    /// Failed accepts: no descriptors, mostly.
    accept_errors / add_accept_error: accept_errors,
    /// Connections closed without an answer because a deadline passed: idle ones, and clients that don't read.
    timeouts / add_timeout: timeouts,
    /// Clients that left while their request was being answered.
    disconnects / add_disconnect: disconnects,
    /// Of those, the ones that announced it with a FIN and may in truth still have been listening.
    half_closes / add_half_close: half_closes,
    /// Times a thread came back from waiting for sockets with events, to see that an event wakes one thread only.
    wakeups / add_wakeup: wakeups,
}

impl Stats {
    /// Requests refused with `status`, one of [`REFUSALS`]; 0 for any other.
    pub fn refused(&self, status: u16) -> u64 {
        let place = REFUSALS.iter().position(|known| *known == status);
        place.map_or(0, |place| self.refused[place].load(Relaxed))
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Requests in workers' hands now.
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
