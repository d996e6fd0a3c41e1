//! A handle with which any thread ends one request.

use super::lease::Unowned;
use super::reply::{CANCELLED, FINISHED, use_of};
use super::sync::Ordering;

/// Cancels one request from any thread. It may be kept beyond the request's end and then does nothing.
pub struct Canceller {
    slot: Unowned,
    this_use: u64,
}

impl Canceller {
    pub(super) fn new(slot: Unowned, this_use: u64) -> Canceller {
        Canceller { slot, this_use }
    }

    /// Cancels the request, like `ReplyReader::cancel`.
    pub fn cancel(&self) {
        let mut state = self.slot.state.load(Ordering::Relaxed);
        // The compare-exchange covers the whole word: if the slot is reused meanwhile, its use number has changed, and
        // the exchange fails.
        while use_of(state) == self.this_use && state & (CANCELLED | FINISHED) == 0 {
            let cancelled = state | CANCELLED;
            match self.slot.state.compare_exchange(state, cancelled, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return self.slot.wake_batch(),
                Err(newer) => state = newer,
            }
        }
    }
}
