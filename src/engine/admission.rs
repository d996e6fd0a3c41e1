//! Who gets a slot next, and with which beginning of their prompt already in the cache.
//!
//! First come, first served: if the first can't be placed, nobody behind it is. Where sequences share one buffer a
//! request is admitted only if it and all running ones fit to their very ends, so nobody has to be set aside later.

use super::Engine;
use super::kv::{Prefix, common_prefix};
use super::slot::{Live, Phase};
use super::stats::Observer;
use crate::types::limits::{PREFIX_COPY_MIN, PREFIX_WAIT_MIN};
use crate::types::seams::{Clock, Decoder};
use crate::types::{FinishReason, Pos, SeqId, SlotId};

impl<D: Decoder, C: Clock, O: Observer> Engine<D, C, O> {
    /// Fills free slots from the front of the queue.
    pub(super) fn admit(&mut self) {
        while let Some(front) = self.waiting.front() {
            let Some(slot) = self.slots.iter().find(|slot| slot.live.is_none()).map(|slot| slot.id) else { return };
            if front.cells_at_end() > self.cells_max() {
                // The HTTP side checks this too; here it must not block the queue for ever.
                let request = self.waiting.pop_front().expect("there is a front");
                self.finish(request, FinishReason::EngineError);
                continue;
            }
            let prefix = self.kv.longest_prefix(&front.tokens);
            if !self.fits(front.cells_at_end(), prefix) {
                return;
            }
            let leader = self.leader_for(&front.tokens, prefix.map_or(0, |prefix| prefix.len));
            let request = self.waiting.pop_front().expect("there is a front");
            self.place(slot, request, prefix, leader);
        }
    }

    /// The most cells one sequence can ever hold.
    fn cells_max(&self) -> usize {
        let capacity = self.decoder.capacity();
        capacity.cells_shared.unwrap_or(capacity.cells_per_seq).min(capacity.cells_per_seq) as usize
    }

    /// Whether `cells` more, less a shared prefix, fit beside what the running ones will need to their ends.
    fn fits(&self, cells: usize, prefix: Option<Prefix>) -> bool {
        let Some(not_live) = self.kv.cells_not_live() else { return true };
        let promised: usize = self
            .slots
            .iter()
            .filter_map(|slot| slot.live.as_ref())
            .map(|live| live.request.cells_at_end() - self.kv.next_pos(live.seq).count_before())
            .sum();
        let (shared, pinned) = prefix.map_or((0, 0), |prefix| (prefix.len, self.kv.prefix_not_live(prefix)));
        cells - shared + pinned + promised <= not_live
    }

    /// A running request that will soon hold much more of this prompt's beginning than `have` tokens.
    fn leader_for(&self, tokens: &[crate::types::Token], have: usize) -> Option<Phase> {
        self.slots
            .iter()
            .filter_map(|slot| slot.live.as_ref().map(|live| (slot.id, live)))
            .filter(|(_, live)| !matches!(live.phase, Phase::Decoding { .. }))
            .map(|(leader, live)| {
                let len = common_prefix(&live.request.tokens, &tokens[..tokens.len() - 1]);
                (len, std::cmp::Reverse(live.order), leader)
            })
            .max()
            .filter(|(len, _, _)| *len >= have + PREFIX_WAIT_MIN)
            .map(|(len, order, leader)| Phase::AwaitingPrefix { leader, leader_order: order.0, len })
    }

    /// Puts `request` into `slot`, with the sequence that serves it best.
    fn place(
        &mut self,
        slot: SlotId,
        mut request: super::request::Request,
        prefix: Option<Prefix>,
        leader: Option<Phase>,
    ) {
        let prefix = if leader.is_some() { None } else { prefix };
        let seq = self.choose_sequence(slot, prefix);
        let cached = self.kv.tokens(seq).len();
        self.stats.prompt_tokens_cached += cached as u64;
        request.admitted(self.clock.now_us(), cached);
        self.admissions += 1;
        let generated = request.generated() as u64;
        let state = &mut self.slots[slot.index()];
        state.sampler.resume(&request.params.sampling, &request.tokens, generated);
        let phase = leader.unwrap_or(Phase::Prefill);
        state.live = Some(Live { request, seq, phase, order: self.admissions, failures: 0 });
    }

    /// Acquires a sequence for `slot` that holds exactly the usable prefix.
    fn choose_sequence(&mut self, slot: SlotId, prefix: Option<Prefix>) -> SeqId {
        let donor = prefix.map(|prefix| prefix.seq);
        let in_place = prefix.filter(|prefix| {
            let held = self.kv.tokens(prefix.seq).len();
            // Cutting off less than half of what the donor holds loses less than evicting someone else.
            self.kv.owner(prefix.seq).is_none() && (prefix.len * 2 >= held || self.kv.idle_to_use(donor) == donor)
        });
        if let Some(Prefix { seq, len }) = in_place {
            self.kv.acquire(seq, slot);
            self.cut(seq, len);
            return seq;
        }
        let seq = self.kv.idle_to_use(donor).expect("there are at least as many sequences as slots");
        if !self.kv.tokens(seq).is_empty() {
            self.evict(seq);
        }
        self.kv.acquire(seq, slot);
        if let Some(prefix) = prefix.filter(|prefix| prefix.len >= PREFIX_COPY_MIN) {
            self.copy(prefix, seq);
        }
        seq
    }

    /// Copies a prefix into the empty sequence `to`, if the cache can.
    fn copy(&mut self, prefix: Prefix, to: SeqId) {
        if self.decoder.seq_copy(prefix.seq, to, prefix.len) {
            self.kv.copy_prefix(prefix.seq, to, prefix.len);
        }
    }

    /// Cuts `seq` down to `len` tokens; to none, where the cache can't remove a part.
    pub(super) fn cut(&mut self, seq: SeqId, len: usize) {
        if self.kv.tokens(seq).len() == len {
            return;
        }
        if len > 0 && self.decoder.seq_remove(seq, Pos(len as u32)..Pos::MAX) {
            self.kv.truncate(seq, len);
        } else {
            self.decoder.seq_remove(seq, Pos(0)..Pos::MAX);
            self.kv.truncate(seq, 0);
        }
    }

    /// Forgets an idle sequence's cells.
    pub(super) fn evict(&mut self, seq: SeqId) {
        self.decoder.seq_remove(seq, Pos(0)..Pos::MAX);
        self.kv.truncate(seq, 0);
        self.stats.evictions += 1;
    }

    /// Lets those go on whose awaited prefix is there, or won't come.
    pub(super) fn follow_leaders(&mut self) {
        for i in 0..self.slots.len() {
            let Some(live) = &self.slots[i].live else { continue };
            let Phase::AwaitingPrefix { leader, leader_order, len } = live.phase else { continue };
            let leader = self.slots[leader.index()].live.as_ref().filter(|leader| leader.order == leader_order);
            let still_coming = leader.is_some_and(|leader| {
                self.kv.next_pos(leader.seq).count_before() < len && !matches!(leader.phase, Phase::Decoding { .. })
            });
            if still_coming {
                continue;
            }
            let seq = live.seq;
            let prefix = self.kv.longest_prefix(&live.request.tokens).filter(|prefix| prefix.len >= PREFIX_COPY_MIN);
            if let Some(prefix) = prefix {
                self.copy(prefix, seq);
            }
            let cached = self.kv.tokens(seq).len();
            self.stats.prompt_tokens_cached += cached as u64;
            if let Some(live) = &mut self.slots[i].live {
                live.request.cached_late(cached);
                live.phase = Phase::Prefill;
            }
        }
    }
}
