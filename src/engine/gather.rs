//! Waits a moment for requests that arrive together.
//!
//! A client that has its answer often sends the next request at once, and clients that start together arrive over some hundred
//! microseconds. A step takes many times that. A request that misses a step begins a whole step later: its slot stays empty, its
//! prompt takes passes of its own, and because equal requests also end together, the delay stays. So where requests have just
//! ended, or the first request arrives at an idle engine, the loop sleeps until as many have arrived, or until none has arrived for
//! a small part of a decode step.

use std::time::Duration;

use super::Engine;
use super::stats::Observer;
use crate::handoff::Stage;
use crate::types::limits::{GATHER_QUIET_PARTS, GATHER_QUIET_US_MIN, GATHER_WAIT_PARTS};
use crate::types::seams::{Clock, Decoder};

impl<D: Decoder, C: Clock, O: Observer> Engine<D, C, O> {
    /// Takes the requests that have arrived from the ring. If requests have just ended, or the engine was idle, it
    /// waits for further ones.
    pub(super) fn gather(&mut self) {
        let free = self.slots.n_free();
        let was_idle = self.slots.are_idle() && self.waiting.is_empty();
        self.receive();
        let departed = std::mem::take(&mut self.departed);
        let wanted = if was_idle { free } else { departed.min(free) };
        let step_us = self.budget.decode_us();
        let quiet_us = step_us / GATHER_QUIET_PARTS;
        if self.waiting.len() >= wanted || (was_idle && self.waiting.is_empty()) || quiet_us < GATHER_QUIET_US_MIN {
            return;
        }
        let started_us = self.clock.now_us();
        let mut until_us = started_us + quiet_us;
        let mut now_us = started_us;
        while now_us < until_us && self.shutdown.stage() == Stage::Running {
            // The clients and HTTP threads may need the cores on which compute threads spin.
            self.cache.rest();
            self.inbox.park(Some(Duration::from_micros(until_us - now_us)));
            let before = self.waiting.len();
            self.receive();
            if self.waiting.len() >= wanted {
                return;
            }
            now_us = self.clock.now_us();
            if self.waiting.len() > before {
                until_us = (now_us + quiet_us).min(started_us + step_us / GATHER_WAIT_PARTS);
            }
        }
    }
}
