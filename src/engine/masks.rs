//! Constrained requests: their tokens are chosen among those that a grammar allows. The request's reader computes the
//! mask on its own thread while the step is being decoded.
//!
//! The step never waits for it. Where the verdict isn't there yet when the logits are, they are kept and the request
//! sits out the next steps, while the other requests go on. The reader rings the bell when it has published, and the next round
//! begins by choosing from what was kept. A verdict belongs to a number of generated tokens, not to a step, so a request
//! that is preempted and read again finds the one it left.

use super::Engine;
use super::choice::Chosen;
use super::live::Phase;
use super::slot::Taken;
use super::stats::Observer;
use crate::sample::token_logprobs;
use crate::types::seams::{Clock, Decoder};
use crate::types::{FinishReason, SlotId, Verdict};

impl<D: Decoder, C: Clock, O: Observer> Engine<D, C, O> {
    /// Chooses tokens for requests that have got their mask. Ends requests whose grammar is complete, before a row is
    /// decoded for them.
    pub(super) fn take_verdicts(&mut self) {
        for slot in self.slots.taken() {
            let Some(live) = self.slots.get_mut(slot) else { continue };
            if !live.request.params.constrained || !live.is_generating() {
                continue;
            }
            let has_room = live.request.reply_has_room();
            let Some(verdict) = live.request.verdict(&mut self.mask) else { continue };
            match (verdict, live.phase) {
                (Verdict::Allow, Phase::AwaitingMask) if has_room => self.choose_from_kept(slot),
                (Verdict::Allow, _) => {}
                (Verdict::Complete | Verdict::Broken | Verdict::DeadEnd, _) => self.end_as_told(slot, verdict),
            }
        }
    }

    /// Chooses a token from row `row`, the logits of a constrained request, or keeps the logits if its mask isn't
    /// there.
    pub(super) fn choose_or_keep(&mut self, slot: SlotId, row: usize, now_us: u64) {
        let begun_us = self.mark();
        let Taken { live, sampler, kept_logits } = self.slots.serving(slot);
        let logits = self.cache.logits(row);
        match live.request.verdict(&mut self.mask) {
            None => {
                kept_logits.copy_from_slice(logits);
                live.phase = Phase::AwaitingMask;
                self.stats.masks_awaited += 1;
                if let Some(speculation) = self.speculation.as_deref_mut() {
                    speculation.came_late(slot);
                }
            }
            Some(Verdict::Allow) => {
                let token = sampler.sample_masked(&mut self.scratch, logits, &self.mask);
                let params = &live.request.params;
                let chosen = Chosen::new(token, params.logprobs, |token, top| match params.sampled_logprobs {
                    true => sampler.masked_logprobs(&mut self.scratch, logits, &self.mask, token, top),
                    false => token_logprobs(logits, token, top),
                });
                self.sample_us += self.mark() - begun_us;
                self.chosen(slot, chosen, now_us);
            }
            Some(verdict) => self.end_as_told(slot, verdict),
        }
    }

    /// Chooses a token from the kept logits of `slot`. `self.mask` must be its mask.
    fn choose_from_kept(&mut self, slot: SlotId) {
        let Taken { live, sampler, kept_logits } = self.slots.serving(slot);
        let token = sampler.sample_masked(&mut self.scratch, kept_logits, &self.mask);
        let params = &live.request.params;
        let chosen = Chosen::new(token, params.logprobs, |token, top| match params.sampled_logprobs {
            true => sampler.masked_logprobs(&mut self.scratch, kept_logits, &self.mask, token, top),
            false => token_logprobs(kept_logits, token, top),
        });
        self.chosen(slot, chosen, self.clock.now_us());
    }

    fn end_as_told(&mut self, slot: SlotId, verdict: Verdict) {
        let now_us = self.clock.now_us();
        let Some(live) = self.slots.get_mut(slot) else { return };
        let reason = match verdict {
            Verdict::Complete => live.request.complete(now_us),
            Verdict::DeadEnd => FinishReason::Grammar,
            Verdict::Allow | Verdict::Broken => FinishReason::EngineError,
        };
        self.end(slot, reason);
    }
}
