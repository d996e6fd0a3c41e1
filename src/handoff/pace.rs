//! How soon after one write of a stream the next may follow. HTTP threads only; each stream has a `Pace` of its own.
//!
//! Waking a thread costs more than making a token does when steps take microseconds: a futex call of the batching thread,
//! two switches, a write, and the client's thread woken as well. So a stream whose pieces come in quick succession rests
//! after a write: it sleeps on a timer, for the end alone, and the batching thread has no reader to wake. Then whatever waits
//! leaves in one write, [`STREAM_REST_US`] after the one before.
//!
//! - The first piece is never held back. Before a stream sleeps for it, it looks a few times and lets other threads go first:
//!   where they keep the core busy, it is often there by its next turn, and no thread need be woken.
//! - Unless it doesn't come alone: where several are there, and each look finds more, tokens are made faster than looks. Then
//!   the rest is near, and a stream that is over before its first write is one write ([`STREAM_LOOK_ON_US`] at most).
//! - A stream that finds nothing when its rest is over waits for the next piece, as it does when steps are longer than a rest: each
//!   piece leaves at once. It rests again when two writes have followed each other closely.
//! - The last word ends a rest at once, and so does a reply slot that is half full: the engine never waits for a rest.
//! - A stream that has written nothing for so long is due for a sign of life, even where pieces come that show no text. Its
//!   first sign is the head of the answer, `STREAM_HEAD_MS` after the request came.
//! - A constrained request's reader is needed after each piece (`constrain/guided.rs`): it takes any wish for a wish for
//!   each piece, so its rests end with the next.

use std::time::{Duration, Instant};

use super::reader::Wake;
use super::sync::yield_now;
use crate::types::limits::{STREAM_HEAD_MS, STREAM_LOOK_ON_US, STREAM_LOOKS_MAX, STREAM_REST_US};

/// When a stream has written, and whether it rests after that.
#[derive(Debug)]
pub struct Pace {
    rest: Duration,
    look_on_max: Duration,
    last_write: Option<Instant>,
    is_quick: bool,
    /// The longest silence.
    silence_max: Duration,
    /// When the next sign of life is due, unless text leaves before.
    sign_at: Instant,
}

impl Pace {
    /// `silence_max`: the longest time between two signs of life.
    pub fn new(silence_max: Duration) -> Pace {
        let look_on_max = Duration::from_micros(STREAM_LOOK_ON_US);
        let sign_at = Instant::now() + silence_max.min(Duration::from_millis(STREAM_HEAD_MS));
        let rest = Duration::from_micros(STREAM_REST_US);
        Pace { rest, look_on_max, last_write: None, is_quick: false, silence_max, sign_at }
    }

    /// A pace that rests for `rest` between two writes.
    #[cfg(test)]
    pub fn resting(self, rest: Duration) -> Pace {
        Pace { rest, ..self }
    }

    /// A pace that is due for a sign of life at once.
    #[cfg(test)]
    pub fn due(self) -> Pace {
        Pace { sign_at: Instant::now(), ..self }
    }

    /// A pace that looks on for `look_on_max` at most.
    #[cfg(test)]
    pub fn looking_on(self, look_on_max: Duration) -> Pace {
        Pace { look_on_max, ..self }
    }

    /// Sleeps until the stream has something to write, or has ended, or is due for a sign of life. `sleep` is how: until there is news for the wish,
    /// or until a point in time, and says whether there was news. Where that point has passed it doesn't sleep.
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

    /// Whether nothing has left for so long that the stream must give a sign of life: `signs`.
    pub fn is_silent(&self) -> bool {
        Instant::now() >= self.sign_at
    }

    /// The stream gives a sign of life now.
    pub fn signs(&mut self) {
        self.sign_at = Instant::now() + self.silence_max;
    }

    /// Before the first write: looks again while each look finds more. `published` says how many pieces there have been
    /// so far.
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

    /// The stream writes now. What comes right behind a first write is taken for quick until it shows.
    pub fn writes(&mut self) {
        let now = Instant::now();
        self.is_quick |= self.last_write.is_none_or(|last_write| now < last_write + self.rest);
        self.last_write = Some(now);
        self.sign_at = now + self.silence_max;
    }
}
