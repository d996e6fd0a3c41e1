//! The real clock: microseconds since the server started.

use std::time::Instant;

use crate::types::seams::Clock;

/// A monotonic clock. Clones are cheap and show the same time.
#[derive(Clone, Copy, Debug)]
pub struct MonotonicClock {
    start: Instant,
}

impl MonotonicClock {
    /// Starts at 1 us, so that 0 can mean "never".
    pub fn start() -> MonotonicClock {
        MonotonicClock { start: Instant::now() }
    }
}

impl Clock for MonotonicClock {
    fn now_us(&self) -> u64 {
        1 + self.start.elapsed().as_micros() as u64
    }
}
