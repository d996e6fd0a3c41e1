//! Waiting a moment for those who come together.
//!
//! Whoever has an answer often asks again at once, and clients that start together arrive over some hundred microseconds.
//! A step takes many times that, and whoever misses one begins a whole step later: its slot stays empty, its prompt takes
//! passes of its own, and because equal requests also end together, the stagger stays. So where requests have just ended,
//! or the first arrives at an idle engine, the loop sleeps until as many have come, or nobody has for a small part of a
//! decode step.

use std::time::Duration;

use super::Engine;
use super::stats::Observer;
use crate::handoff::Stage;
use crate::types::seams::{Clock, Decoder};

/// Nobody came for a decode step by this: the wait is over. Who never come back cost 3 % of the step they ended in.
const QUIET_PARTS: u64 = 32;

/// Nor is it ever longer than a decode step by this.
const WAIT_PARTS: u64 = 8;

/// A sleep below this, in microseconds, mostly measures the timer.
const QUIET_MIN_US: u64 = 100;

impl<D: Decoder, C: Clock, O: Observer> Engine<D, C, O> {
    /// Lets those in who have come, and where requests have ended or an idle engine is asked, those who are about to.
    pub(super) fn gather(&mut self) {
        let free = self.slots.n_free();
        let was_idle = self.slots.are_idle() && self.waiting.is_empty();
        self.receive();
        let departed = std::mem::take(&mut self.departed);
        let wanted = if was_idle { free } else { departed.min(free) };
        let step_us = self.budget.decode_us();
        let quiet_us = step_us / QUIET_PARTS;
        if self.waiting.len() >= wanted || (was_idle && self.waiting.is_empty()) || quiet_us < QUIET_MIN_US {
            return;
        }
        let started_us = self.clock.now_us();
        let mut until_us = started_us + quiet_us;
        let mut now_us = started_us;
        while now_us < until_us && self.shutdown.stage() == Stage::Running {
            // Those who are to come may need the cores.
            self.decoder.rest();
            self.inbox.park(Some(Duration::from_micros(until_us - now_us)));
            let before = self.waiting.len();
            self.receive();
            if self.waiting.len() >= wanted {
                return;
            }
            now_us = self.clock.now_us();
            if self.waiting.len() > before {
                until_us = (now_us + quiet_us).min(started_us + step_us / WAIT_PARTS);
            }
        }
    }
}
