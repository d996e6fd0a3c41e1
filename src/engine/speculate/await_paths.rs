//! A moment's wait for what a grammar forces.
//!
//! The reader of a constrained text works out how it goes on once it has read the latest token. A step that begins before that
//! decodes this token alone, and what is forced behind it has to wait for the next step. Working it out takes a small part of a
//! decode step. So the loop sleeps until the readers have looked, where that is expected to bring twice the tokens that it costs.

use std::time::Duration;

use super::super::Engine;
use super::super::live::Live;
use super::super::stats::Observer;
use crate::handoff::Stage;
use crate::types::seams::{Clock, Decoder};

/// The longest wait: a decode step by this.
const WAIT_PARTS: f64 = 8.0;

/// What a wait must bring, as a multiple of its cost.
const WORTH: f64 = 2.0;

/// A wait moves the mean by one part of these.
const MEAN_PARTS: f64 = 8.0;

/// What the first wait is taken to last, in microseconds.
const FIRST_US: f64 = 200.0;

/// Steps without a wait after which one is tried, whatever the latest waits took: the machine may have been busy.
const TRIED_AFTER: u64 = 512;

/// How long waits have been.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    mean_us: f64,
    /// Steps of the engine before the latest wait.
    waited_at: u64,
}

impl Default for Waits {
    fn default() -> Self {
        Waits { mean_us: FIRST_US, waited_at: 0 }
    }
}

impl Waits {
    /// The longest wait in microseconds before step number `step`, which is expected to take `step_us` for `decoding` sequences, and to
    /// bring `finds` tokens more after the wait. `None`: it isn't worth it.
    fn most_us(&self, step: u64, step_us: f64, decoding: usize, finds: f32) -> Option<f64> {
        let worth_us = step_us * f64::from(finds) / decoding as f64 / WORTH;
        let most_us = worth_us.min(step_us / WAIT_PARTS);
        let is_tried = step.saturating_sub(self.waited_at) >= TRIED_AFTER;
        (self.mean_us <= most_us || is_tried && most_us >= 1.0).then_some(most_us)
    }

    /// A wait before step number `step` took `waited_us`. One that was in vain counts as twice as long.
    fn learn(&mut self, step: u64, waited_us: u64, is_in_vain: bool) {
        let waited_us = if is_in_vain { 2 * waited_us } else { waited_us };
        self.mean_us += (waited_us as f64 - self.mean_us) / MEAN_PARTS;
        self.waited_at = step;
    }
}

impl<D: Decoder, C: Clock, O: Observer> Engine<D, C, O> {
    /// Sleeps until the readers of constrained texts have looked ahead, if that pays.
    pub(in crate::engine) fn await_paths(&mut self) {
        let Some(speculation) = self.speculation.as_deref_mut() else { return };
        let (mut decoding, mut finds) = (0, 0.0);
        for slot in self.slots.taken() {
            let Some(live) = self.slots.get_mut(slot) else { continue };
            // Nothing is guessed in a step that reads a prompt.
            if live.is_prefilling() {
                return;
            }
            if live.next().is_none() {
                continue;
            }
            decoding += 1;
            if is_looked_for(live) {
                finds += speculation.guessers[slot.index()].finds();
            }
        }
        if finds == 0.0 {
            return;
        }
        let Some(step_us) = speculation.costs.step_us(decoding) else { return };
        let Some(most_us) = speculation.waits.most_us(self.stats.steps, step_us, decoding, finds) else { return };
        let started_us = self.clock.now_us();
        let until_us = started_us + most_us as u64;
        let (mut now_us, mut are_looking) = (started_us, true);
        while are_looking && now_us < until_us && self.shutdown.stage() == Stage::Running {
            self.inbox.park(Some(Duration::from_micros(until_us - now_us)));
            (now_us, are_looking) = (self.clock.now_us(), self.are_looking());
        }
        if let Some(speculation) = self.speculation.as_deref_mut() {
            speculation.waits.learn(self.stats.steps, now_us - started_us, are_looking);
        }
    }

    /// Whether the reader of a constrained text has yet to say how it goes on.
    fn are_looking(&mut self) -> bool {
        let taken = self.slots.taken();
        taken.into_iter().any(|slot| self.slots.get_mut(slot).is_some_and(is_looked_for))
    }
}

/// Whether a text's next token is known, and its reader has yet to say what is forced behind it.
fn is_looked_for(live: &mut Live) -> bool {
    let is_open = live.next().is_some() && live.request.params.constrained && live.request.ahead().is_empty();
    is_open && live.request.is_looking()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_must_bring_twice_what_it_costs() {
        let mut waits = Waits::default();
        assert_eq!(waits.most_us(1, 8_000.0, 1, 1.0), Some(1_000.0));
        assert_eq!(waits.most_us(1, 8_000.0, 16, 1.0), Some(250.0));
        assert_eq!(waits.most_us(1, 8_000.0, 32, 1.0), None);
        assert_eq!(waits.most_us(1, 8_000.0, 1, 0.04), None);
        (0..64).for_each(|step| waits.learn(step, 900, false));
        assert_eq!((waits.most_us(65, 8_000.0, 1, 1.0), waits.most_us(65, 7_000.0, 1, 1.0)), (Some(1_000.0), None));
        assert_eq!(waits.most_us(63 + TRIED_AFTER, 7_000.0, 1, 1.0), Some(875.0));
        // Waits in vain end.
        (0..64).for_each(|step| waits.learn(step, 1_000, true));
        assert_eq!(waits.most_us(65, 8_000.0, 1, 1.0), None);
    }
}
