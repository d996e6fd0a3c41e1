//! All connections of a server: places made at start-up, and for each a deadline that the keeper reads without a lock. Any
//! thread. Each place has a lock, held only to clone an `Arc`; the free list has another.

use crate::conn::{Conn, ConnId};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Default)]
struct Place {
    generation: u32,
    conn: Option<Arc<Conn>>,
}

/// The connections of one server.
pub(crate) struct Table {
    places: Box<[Mutex<Place>]>,
    /// Milliseconds since the server's start; `u64::MAX` for none.
    ///
    /// ORDERING: a connection's owner writes it; the keeper reads it, then becomes the owner and checks again. A value seen
    /// late costs one tick, so Relaxed.
    deadlines: Box<[AtomicU64]>,
    free: Mutex<Vec<u32>>,
    /// ORDERING: counters that publish nothing, so Relaxed. `enter` is exact because it is one read-modify-write.
    guests: AtomicUsize,
    guests_max: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    /// Makes places for `guests_max` connections, and `farewells` more for connections that get a 503.
    pub(crate) fn new(guests_max: usize, farewells: usize) -> Table {
        let count = u32::try_from(guests_max + farewells).expect("fewer connections than 2^32");
        Table {
            places: (0..count).map(|_| Mutex::default()).collect(),
            deadlines: (0..count).map(|_| AtomicU64::new(u64::MAX)).collect(),
            free: Mutex::new((0..count).rev().collect()),
            guests: AtomicUsize::new(0),
            guests_max,
        }
    }

    /// Counts one more connection, if the limit allows. [`Table::remove`] subtracts it again.
    pub(crate) fn enter(&self) -> bool {
        let within = |guests: usize| (guests < self.guests_max).then_some(guests + 1);
        self.guests.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_ok()
    }

    /// Subtracts a connection that was counted and never inserted.
    pub(crate) fn leave(&self) {
        self.guests.fetch_sub(1, Ordering::Relaxed);
    }

    /// Gives a place to the connection that `build` makes from its id. `None`: there is no free place.
    pub(crate) fn insert(&self, build: impl FnOnce(ConnId) -> Conn) -> Option<Arc<Conn>> {
        let index = lock(&self.free).pop()?;
        let mut place = lock(&self.places[index as usize]);
        assert!(place.conn.is_none(), "a free place is empty");
        place.generation = place.generation.wrapping_add(1);
        let conn = Arc::new(build(ConnId { place: index, generation: place.generation }));
        place.conn = Some(Arc::clone(&conn));
        Some(conn)
    }

    pub(crate) fn get(&self, id: ConnId) -> Option<Arc<Conn>> {
        let place = lock(self.places.get(id.place as usize)?);
        place.conn.as_ref().filter(|conn| conn.id == id).cloned()
    }

    /// Frees the place of `conn`. The owner must call it exactly once.
    pub(crate) fn remove(&self, conn: &Conn) {
        self.set_deadline(conn.id, u64::MAX);
        let removed = lock(&self.places[conn.id.place as usize]).conn.take();
        assert!(removed.is_some_and(|held| held.id == conn.id), "a connection leaves its own place, once");
        lock(&self.free).push(conn.id.place);
        if !conn.is_farewell {
            self.leave();
        }
    }

    pub(crate) fn set_deadline(&self, id: ConnId, at_ms: u64) {
        self.deadlines[id.place as usize].store(at_ms, Ordering::Relaxed);
    }

    pub(crate) fn deadline(&self, id: ConnId) -> u64 {
        self.deadlines[id.place as usize].load(Ordering::Relaxed)
    }

    /// The connections with a deadline that has passed.
    pub(crate) fn overdue(&self, now_ms: u64) -> impl Iterator<Item = Arc<Conn>> {
        let places = self.deadlines.iter().zip(&self.places);
        places
            .filter(move |(at, _)| at.load(Ordering::Relaxed) <= now_ms)
            .filter_map(|(_, place)| lock(place).conn.clone())
    }

    /// All connections, to close them.
    pub(crate) fn all(&self) -> impl Iterator<Item = Arc<Conn>> {
        self.places.iter().filter_map(|place| lock(place).conn.clone())
    }

    /// The number of connections that count against the limit.
    pub(crate) fn guests(&self) -> usize {
        self.guests.load(Ordering::Relaxed)
    }

    /// Whether there is no place left, not even for a 503.
    pub(crate) fn is_full(&self) -> bool {
        lock(&self.free).is_empty()
    }

    /// Whether there are no connections at all.
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.free).len() == self.places.len()
    }
}
