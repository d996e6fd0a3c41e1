//! How soon after one write of a stream the next may follow. HTTP threads only; each stream has a `Pace` of its own.
//!
//! When steps take microseconds, waking a thread costs more than making a token: a futex call of the batching thread,
//! two context switches, a write, and the wake-up of the client's thread. So a stream whose pieces come in quick
//! succession rests after a write. It sleeps on a timer, so that the batching thread has no reader to wake, and only
//! the end of the request wakes it earlier. All pieces that have come by then leave in one write, [`STREAM_REST_US`]
//! after the previous write.
//!
//! - The first piece is never held back. Before a stream sleeps for its first piece, it polls a few times and yields
//!   the core after each poll. On a busy core the piece is often there by the stream's next turn, and no thread need be
//!   woken.
//! - Exception: if the first poll finds several pieces, and each further poll finds more, tokens are made faster than
//!   polls. Then the stream keeps polling, for [`STREAM_LOOK_ON_US`] at most, so that a short answer is a single write.
//! - A stream that finds no piece at the end of a rest waits for the next piece and sends it at once, as all streams do
//!   when steps are longer than a rest. It rests again after two writes that followed each other closely.
//! - The end of the request ends a rest at once, and so does a reply slot that is half full: the engine never waits for
//!   a rest.
//! - A stream that has written nothing for a set time is due for a keep-alive, also if its pieces have no text yet. The
//!   first keep-alive is the head of the answer, `STREAM_HEAD_MS` after the request came.
//! - The reader of a constrained request is needed after each piece (`constrain/guided.rs`), so it waits for each piece
//!   also during a rest, which then ends with the next piece.

use std::time::{Duration, Instant};

use super::reader::Wake;
use super::sync::yield_now;
use crate::types::limits::{STREAM_HEAD_MS, STREAM_LOOK_ON_US, STREAM_LOOKS_MAX, STREAM_REST_US};

/// When a stream last wrote, and whether it rests now.
#[derive(Debug)]
pub struct Pace {
    rest: Duration,
    look_on_max: Duration,
    last_write: Option<Instant>,
    is_quick: bool,
    /// The longest time without a write.
    silence_max: Duration,
    /// When the next keep-alive is due, unless text is written before.
    sign_at: Instant,
}

impl Pace {
    /// A pace for a stream that begins now. `silence_max` is the longest time between two keep-alives.
    pub fn new(silence_max: Duration) -> Pace {
        let look_on_max = Duration::from_micros(STREAM_LOOK_ON_US);
        let sign_at = Instant::now() + silence_max.min(Duration::from_millis(STREAM_HEAD_MS));
        let rest = Duration::from_micros(STREAM_REST_US);
        Pace { rest, look_on_max, last_write: None, is_quick: false, silence_max, sign_at }
    }

    /// Like `self`, with `rest` as the time between two writes.
    #[cfg(test)]
    pub fn resting(self, rest: Duration) -> Pace {
        Pace { rest, ..self }
    }

    /// Like `self`, with a keep-alive due at once.
    #[cfg(test)]
    pub fn due(self) -> Pace {
        Pace { sign_at: Instant::now(), ..self }
    }

    /// Like `self`, with `look_on_max` as the longest polling before the first write.
    #[cfg(test)]
    pub fn looking_on(self, look_on_max: Duration) -> Pace {
        Pace { look_on_max, ..self }
    }

    /// Sleeps until the stream has something to write, or has ended, or is due for a keep-alive. `sleep(until, wish)`
    /// sleeps until there is news for `wish` or until the point in time `until`, and returns whether there was news; if
    /// `until` has passed it must return at once.
    pub fn wait(&mut self, mut sleep: impl FnMut(Option<Instant>, Wake) -> bool) {
        if let (true, Some(last_write)) = (self.is_quick, self.last_write) {
            let over = Some(last_write + self.rest);
            if sleep(over, Wake::AtEnd) || sleep(over, Wake::EachPiece) {
                return;
            }
            self.is_quick = false;
        }
        if self.last_write.is_none() {
            let now = Some(Instant::now());
            for _ in 0..STREAM_LOOKS_MAX {
                if sleep(now, Wake::EachPiece) {
                    return;
                }
                yield_now();
            }
        }
        sleep(Some(self.sign_at), Wake::EachPiece);
    }

    /// Whether a keep-alive is due, because nothing was written for too long. The caller then calls `signs`.
    pub fn is_silent(&self) -> bool {
        Instant::now() >= self.sign_at
    }

    /// Records that the stream writes a keep-alive now.
    pub fn signs(&mut self) {
        self.sign_at = Instant::now() + self.silence_max;
    }

    /// Before the first write: keeps polling while each poll finds more pieces. `published` returns how many pieces
    /// there have been so far.
    #[inline]
    pub fn look_on(&self, published: impl FnMut() -> u64) {
        if self.last_write.is_none() {
            self.look_on_at_first(published);
        }
    }

    fn look_on_at_first(&self, mut published: impl FnMut() -> u64) {
        let mut seen = published();
        if seen < 2 {
            return;
        }
        let started = Instant::now();
        while started.elapsed() < self.look_on_max {
            yield_now();
            let now = published();
            if now == seen {
                return;
            }
            seen = now;
        }
    }

    /// Records that the stream writes now. After the first write the stream counts as fast until a rest finds no piece.
    pub fn writes(&mut self) {
        let now = Instant::now();
        self.is_quick |= self.last_write.is_none_or(|last_write| now < last_write + self.rest);
        self.last_write = Some(now);
        self.sign_at = now + self.silence_max;
    }
}
