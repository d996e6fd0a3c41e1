//! When a step doesn't go through: making room, finding out what is in the cache, giving up.
//!
//! The progress rule: each time the cache has no room, one of these happens, in this order: the next step has no guesses; an idle sequence is
//! forgotten; the next step is half as large; the youngest request is preempted (it keeps what it generated and goes
//! on from there later); a request that doesn't fit even alone fails. No request is admitted until a step goes through, or the
//! preempted one would come right back. So every step either succeeds or shrinks what the next one asks for, and the
//! oldest request is never preempted.

use super::Engine;
use super::cache::Lost;
use super::live::Phase;
use super::request::AcceptedRequest;
use super::stats::Observer;
use crate::types::limits::PARTIAL_STEPS_MAX;
use crate::types::seams::{Clock, Decoder};
use crate::types::{FinishReason, SeqId, SlotId};

impl<D: Decoder, C: Clock, O: Observer> Engine<D, C, O> {
    /// Nothing was written, because the cache is full.
    pub(super) fn make_room(&mut self) {
        if let Some(speculation) = self.speculation.as_deref_mut().filter(|_| self.guessed > 0) {
            return speculation.pause();
        }
        if let Some(seq) = self.cache.kv().least_recently_used() {
            self.evict(seq);
            return;
        }
        self.budget.halve(self.rows.len());
        if self.rows.len() > 1 {
            return;
        }
        let mut by_age: Vec<(u64, SlotId)> = self.slots.live().map(|(slot, live)| (live.order, slot)).collect();
        by_age.sort_unstable();
        match by_age.as_slice() {
            [] => {}
            [(_, only)] => self.end(*only, FinishReason::EngineError),
            [.., (_, youngest)] => self.preempt(*youngest),
        }
    }

    /// Frees the cells of a request and puts it at the head of the queue, with the tokens that it has generated.
    fn preempt(&mut self, slot: SlotId) {
        let Some((request, seq)) = self.leave(slot) else { return };
        self.evict(seq);
        self.stats.preemptions += 1;
        self.waiting.put_back(request);
    }

    /// Makes a request of class `batch` give way to an interactive one: puts it back at its old place among the waiting requests of its account, with the tokens that it has
    /// generated. Its cells stay until they are needed. Work that was charged for tokens it didn't get is given back.
    pub(super) fn give_way(&mut self, slot: SlotId) {
        let Some((mut request, seq)) = self.leave(slot) else { return };
        let held = self.cache.kv().tokens(seq).len();
        let (before, now) = request.charge_at_end(held);
        self.waiting.charge(&request.params.share, before, now);
        request.give_way(held);
        self.stats.gave_way += 1;
        let (share, place) = (request.params.share, request.place);
        self.waiting.push(&share, place, request);
    }

    /// Takes a request out of its slot, to be continued later with the same text. Its sequence becomes idle.
    fn leave(&mut self, slot: SlotId) -> Option<(AcceptedRequest, SeqId)> {
        let mirostat_bound = self.slots.sampler(slot).mirostat_bound();
        let mut live = self.slots.take(slot)?;
        let held = self.cache.kv().tokens(live.seq);
        live.request.leave(mirostat_bound, held.len());
        if live.is_generating() {
            live.request.tokens = held.to_vec();
            live.request.tokens.extend(live.next());
        }
        self.cache.release(live.seq);
        Some((live.request, live.seq))
    }

    /// Some rows may have been written. Cuts each sequence of the step back to what was committed before the step, so
    /// that the step can be repeated.
    pub(super) fn resync(&mut self) {
        for seq in self.seqs_in_step() {
            if let Some(lost) = self.cache.resync(seq) {
                self.start_over(lost);
            }
            let Some(slot) = self.cache.kv().owner(seq) else { continue };
            let Some(live) = self.slots.get_mut(slot) else { continue };
            live.failures += 1;
            if live.failures > PARTIAL_STEPS_MAX {
                tracing::error!(request = %live.request.id, "a request is ended: its steps failed repeatedly");
                self.end(slot, FinishReason::EngineError);
            }
        }
        self.cache.kv().check();
    }

    /// The owner of a sequence that has lost tokens prefills them again.
    pub(super) fn start_over(&mut self, lost: Lost) {
        let Lost { seq, tokens } = lost;
        let Some(slot) = self.cache.kv().owner(seq) else { return };
        let Some(live) = self.slots.get_mut(slot) else { return };
        if live.is_generating() {
            live.request.tokens = tokens;
            live.request.tokens.extend(live.next());
            live.phase = Phase::Prefill;
        }
    }

    /// The rows broke llama.cpp's rules, which is a fault of cllm: the requests in them fail, all others continue.
    pub(super) fn fail_rows(&mut self) {
        for seq in self.seqs_in_step() {
            tracing::error!(?seq, next = ?self.cache.kv().next_pos(seq), max = ?self.cache.decoder().seq_pos_max(seq), "invalid rows");
            if let Some(slot) = self.cache.kv().owner(seq) {
                self.end(slot, FinishReason::EngineError);
            }
            self.evict(seq);
        }
    }

    /// Ends all requests with `reason`, and refuses further ones: the decoder is broken, or the grace period is over.
    pub(super) fn end_all(&mut self, reason: FinishReason) {
        self.inbox.close();
        self.receive();
        for slot in self.slots.taken() {
            self.end(slot, reason);
        }
        for request in self.waiting.remove_if(|_| true) {
            self.finish(request, reason);
        }
    }

    fn seqs_in_step(&self) -> Vec<SeqId> {
        let mut seqs: Vec<SeqId> = self.rows.iter().map(|row| row.seq).collect();
        seqs.dedup();
        seqs
    }
}
