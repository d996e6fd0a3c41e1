//! Which waiting request gets a slot next, and which beginning of its prompt it takes from the cache.
//!
//! The queue says whose turn it is (`fair.rs`): if that request can't be placed, none behind it is. Where sequences share one buffer a
//! request is admitted only if what is reserved for it and for all running ones fits (`Reserve`).

use super::Engine;
use super::cache::{Prefix, common_prefix};
use super::checkpoints::Checkpoints;
use super::live::{Live, Phase};
use super::request::AcceptedRequest;
use super::slot::Taken;
use super::stats::Observer;
use crate::types::limits::{PREFIX_COPY_MIN, PREFIX_WAIT_MIN};
use crate::types::seams::{Clock, Decoder};
use crate::types::{Class, FinishReason, Owner, SeqId, SlotId};

/// How many cells of a shared buffer are reserved for an admitted request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// All cells that it may need, so that no request has to be preempted later.
    ToTheEnd,
    /// An even share of the buffer, or a quarter of a share more than the request holds now, and never more than it may
    /// need. So requests that may use the whole buffer but rarely do run at the same time. If they do fill the buffer,
    /// the youngest is preempted with the tokens that it has generated (`room.rs`), and is admitted again when there is
    /// room for it to grow.
    Share,
}

/// What an admitted request begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Empty,
    /// The idle sequence that holds the prefix, after everything behind the prefix was removed.
    InPlace(Prefix),
    /// A copy of the prefix, in another sequence.
    Copy(Prefix),
}

impl Start {
    fn prefix(self) -> Option<Prefix> {
        match self {
            Start::Empty => None,
            Start::InPlace(prefix) | Start::Copy(prefix) => Some(prefix),
        }
    }

    /// The prefix cut down to whole blocks of `block` tokens.
    fn in_whole(self, block: usize) -> Start {
        let cut = |prefix: Prefix| Prefix { len: prefix.len / block * block, ..prefix };
        match self {
            Start::InPlace(prefix) if prefix.len >= block => Start::InPlace(cut(prefix)),
            Start::Copy(prefix) if prefix.len >= block => Start::Copy(cut(prefix)),
            _ => Start::Empty,
        }
    }

    /// Tokens that needn't be decoded.
    fn len(self) -> usize {
        self.prefix().map_or(0, |prefix| prefix.len)
    }
}

impl<D: Decoder, C: Clock, O: Observer> Engine<D, C, O> {
    /// Places waiting requests in free slots, in their order.
    pub(super) fn admit(&mut self) {
        let has_no_room = self.budget.is_lowered();
        if has_no_room && !self.slots.are_idle() {
            return;
        }
        if self.waiting.is_empty() {
            return;
        }
        if self.waiting.is_shared() {
            self.settle();
        }
        let mut batch_came = false;
        while let Some(slot) = self.slots.first_free() {
            self.refuse_too_large();
            let Some(turn) = self.waiting.turn_by(|request| self.is_ready(request)) else { return };
            let Some(front) = self.waiting.get(turn) else { return };
            let start = self.best_start(front);
            let leader = self.leader_for(u64::MAX, front, start.len());
            let stored = self.memory.as_deref_mut().and_then(|memory| memory.offer(front, start.len()));
            let stored = stored.filter(|until| !self.brings_more(leader, *until));
            let (start, phase) = match (stored, leader) {
                (Some(_), _) => (self.before_stored(start), Phase::Prefill),
                (None, Some(phase)) => (Start::Empty, phase),
                (None, None) => (start, Phase::Prefill),
            };
            if !self.fits(self.reserved(front, 0), start, &[]) {
                break;
            }
            let request = self.waiting.take(turn).expect("it is its turn");
            batch_came |= request.params.share.class == Class::Batch;
            self.place(slot, request, start, phase);
            if let Some(until) = stored {
                self.await_blocks(slot, until);
            }
        }
        // No batch request leaves in a round in which another one was admitted, so that no waiting account is passed
        // over.
        if !batch_came {
            self.displace();
        }
    }

    /// Ends requests at the head of the queue that no sequence can hold. The HTTP side checks this, too; here it
    /// prevents that such a request blocks the queue for ever.
    fn refuse_too_large(&mut self) {
        while self.waiting.next().is_some_and(|front| front.cells_at_end() > self.cells_max()) {
            let request = self.waiting.pop().expect("there is a next one");
            self.finish(request, FinishReason::EngineError);
        }
    }

    /// If an interactive request waits for a slot or for cells, and batch has its share of the work, batch requests
    /// give up their slots.
    fn displace(&mut self) {
        while self.waiting.may_displace() && self.slots.live().any(|(_, live)| self.may_give_way(live)) {
            self.refuse_too_large();
            let Some(front) = self.waiting.next().filter(|_| self.waiting.may_displace()) else { return };
            let (mut start, mut phase) = self.beginning(front);
            let Some(leaving) = self.giving_way(self.reserved(front, 0), start) else { return };
            let donor = start.prefix().and_then(|prefix| self.cache.kv().owner(prefix.seq));
            // The request leaves the queue first, because the requests that return to the queue may change the order.
            let request = self.waiting.pop().expect("there is a next one");
            leaving.iter().for_each(|slot| self.give_way(*slot));
            let leader = match phase {
                Phase::AwaitingPrefix { leader, .. } => Some(leader),
                _ => None,
            };
            if donor.or(leader).is_some_and(|slot| leaving.contains(&slot)) {
                (start, phase) = self.beginning(&request);
            }
            let leader = Some(phase).filter(|phase| *phase != Phase::Prefill);
            let stored = self.memory.as_deref_mut().and_then(|memory| memory.offer(&request, start.len()));
            let stored = stored.filter(|until| {
                let fits = self.fits(self.reserved(&request, 0), self.before_stored(start), &[]);
                fits && !self.brings_more(leader, *until)
            });
            if stored.is_some() {
                (start, phase) = (self.before_stored(start), Phase::Prefill);
            }
            let slot = self.slots.first_free().expect("a request has left its slot");
            self.place(slot, request, start, phase);
            if let Some(until) = stored {
                self.await_blocks(slot, until);
            }
        }
    }

    /// Whether a running request may give up its slot to an interactive one.
    fn may_give_way(&self, live: &Live) -> bool {
        live.gives_way && live.request.has_come_further(self.cache.kv().tokens(live.seq).len())
    }

    /// The running requests, the youngest first, that must give up their slots so that a request with `cells` reserved
    /// cells fits. `None`: even all of them aren't enough.
    fn giving_way(&self, cells: usize, start: Start) -> Option<Vec<SlotId>> {
        let able = self.slots.live().filter(|(_, live)| self.may_give_way(live));
        let mut by_age: Vec<(u64, SlotId)> = able.map(|(slot, live)| (live.order, slot)).collect();
        by_age.sort_unstable();
        let mut leaving = Vec::new();
        while let Some((_, slot)) = by_age.pop() {
            leaving.push(slot);
            if self.fits(cells, start, &leaving) {
                return Some(leaving);
            }
        }
        None
    }

    /// Whether the cache has half of what a request must have there, or more, and has room for the rest.
    fn is_ready(&self, request: &AcceptedRequest) -> bool {
        let start = self.best_start(request);
        let is_worth = start.len() >= PREFIX_COPY_MIN && 2 * start.len() >= request.tokens.len();
        is_worth && request.cells_at_end() <= self.cells_max() && self.fits(self.reserved(request, 0), start, &[])
    }

    /// What a request that is admitted now begins with, and its first phase.
    fn beginning(&self, request: &AcceptedRequest) -> (Start, Phase) {
        let start = self.best_start(request);
        let leader = self.leader_for(u64::MAX, request, start.len());
        leader.map_or((start, Phase::Prefill), |phase| (Start::Empty, phase))
    }

    /// The most cells that one sequence can hold.
    fn cells_max(&self) -> usize {
        let capacity = self.cache.capacity();
        capacity.cells_common.unwrap_or(capacity.cells_per_seq).min(capacity.cells_per_seq) as usize
    }

    /// Cells reserved for a request that holds `held` of them now, including those.
    fn reserved(&self, request: &AcceptedRequest, held: usize) -> usize {
        let at_end = request.cells_at_end();
        match (self.reserve, self.cache.capacity().cells_common) {
            (Reserve::Share, Some(all)) => {
                let share = all as usize / self.slots.len();
                // The tokens of a request that was preempted include those it generated; it needs cells for all of them
                // before it generates another.
                at_end.min(share.max(held.max(request.tokens.len()) + share / 4 + 1)).max(held)
            }
            _ => at_end,
        }
    }

    /// Whether a request with `cells` reserved cells fits beside the running ones and their reserved cells, after the
    /// requests in the slots `leaving` have left. If some leave, the estimate never exceeds the room, and may be less.
    fn fits(&self, cells: usize, start: Start, leaving: &[SlotId]) -> bool {
        let Some(not_live) = self.cache.kv().cells_not_live() else { return true };
        let promised: usize = self
            .slots
            .live()
            .filter(|(slot, _)| !leaving.contains(slot))
            .map(|(_, live)| {
                let held = self.cache.kv().next_pos(live.seq).count_before();
                self.reserved(&live.request, held) - held
            })
            .sum();
        let left = leaving.iter().filter_map(|slot| self.slots.get(*slot));
        let freed: usize = left.map(|live| self.cache.kv().cells_live_only_in(live.seq)).sum();
        // If a prefix is held only by idle sequences or by a request that leaves, its cells are counted as new.
        let stays = |prefix: &Prefix| {
            leaving.is_empty() || self.cache.kv().owner(prefix.seq).is_some_and(|slot| !leaving.contains(&slot))
        };
        let held = start.prefix().filter(stays).map_or(0, |prefix| self.cache.kv().cells_live(prefix));
        cells - held + promised <= not_live + freed
    }

    /// A running request, admitted before number `order`, that will soon hold much more of this prompt than `have`
    /// tokens. The given request then waits for its prefill.
    fn leader_for(&self, order: u64, request: &AcceptedRequest, have: usize) -> Option<Phase> {
        let (tokens, space) = (request.shareable(), request.params.space);
        self.slots
            .live()
            .filter(|(_, live)| live.order < order && live.is_prefilling() && live.request.params.space == space)
            .map(|(leader, live)| {
                let common = common_prefix(&live.request.tokens, &tokens[..tokens.len() - 1]);
                // If the cache can't be cut, the leader will hold the common beginning up to its next checkpoint.
                let held = self.cache.kv().next_pos(live.seq).count_before();
                let to_come = |all: &Checkpoints| Some(all.due_before(common)).filter(|due| *due > held).unwrap_or(0);
                let len = self.cache.kv().checkpoints().map_or(common, to_come);
                (len, std::cmp::Reverse(live.order), leader)
            })
            .max()
            .filter(|(len, _, _)| *len >= have + PREFIX_WAIT_MIN)
            .map(|(len, order, leader)| Phase::AwaitingPrefix { leader, leader_order: order.0, len })
    }

    /// What of `start` is of use where blocks from outside the cells follow it.
    fn before_stored(&self, start: Start) -> Start {
        if self.restores_whole() { Start::Empty } else { start.in_whole(self.block()) }
    }

    /// Whether waiting for `leader` is better than bringing the first `until` tokens from outside the cells: it brings blocks itself, or
    /// reads no less than they are.
    fn brings_more(&self, leader: Option<Phase>, until: usize) -> bool {
        let Some(Phase::AwaitingPrefix { leader, len, .. }) = leader else { return false };
        let restores = self.slots.get(leader).is_some_and(|leader| matches!(leader.phase, Phase::Restoring { .. }));
        restores || len >= until
    }

    /// Puts `request` into `slot`, with a sequence that holds what `start` says.
    fn place(&mut self, slot: SlotId, mut request: AcceptedRequest, start: Start, phase: Phase) {
        let seq = self.take_sequence(slot, start, request.params.space);
        let cached = self.cache.kv().tokens(seq).len();
        self.stats.prompt_tokens_cached += cached as u64;
        request.admitted(self.clock.now_us(), cached);
        self.admissions += 1;
        let order = self.admissions;
        request.turn.get_or_insert(order);
        self.stats.prefixes_awaited += u64::from(phase != Phase::Prefill);
        // A batch request that is admitted while an interactive one waits is part of batch's share, and isn't
        // displaced.
        let gives_way = request.params.share.class == Class::Batch && !self.waiting.waits(Class::Interactive);
        let live = Live { request, seq, phase, order, failures: 0, gives_way };
        let Taken { live, sampler, .. } = self.slots.put(slot, live);
        live.request.prepare(sampler, &self.table);
        if self.waiting.is_shared() {
            let (before, now) = live.request.charge();
            self.waiting.charge(&live.request.params.share, before, now);
        }
        if let Some(speculation) = self.speculation.as_deref_mut() {
            speculation.begin(slot, &live.request);
        }
    }

    /// The best beginning for `request` among the sequences in the cache.
    fn best_start(&self, request: &AcceptedRequest) -> Start {
        let Some(prefix) = self.cache.kv().longest_prefix(request.shareable(), request.params.space) else {
            return Start::Empty;
        };
        let donor = Some(prefix.seq);
        let held = self.cache.kv().tokens(prefix.seq).len();
        // Cutting off less than half of the donor's cells loses less than evicting another sequence.
        let cuts_little = prefix.len * 2 >= held || self.cache.kv().idle_to_use(donor) == donor;
        match self.cache.kv().owner(prefix.seq) {
            None if cuts_little => Start::InPlace(prefix),
            _ if prefix.len >= PREFIX_COPY_MIN => Start::Copy(prefix),
            _ => Start::Empty,
        }
    }

    /// Acquires a sequence of `space` for `slot` that holds what `start` says, or less if the cache can't cut or copy.
    fn take_sequence(&mut self, slot: SlotId, start: Start, space: Owner) -> SeqId {
        if let Start::InPlace(Prefix { seq, len }) = start {
            self.cache.acquire(seq, slot);
            self.cut(seq, len);
            return seq;
        }
        let donor = start.prefix().map(|prefix| prefix.seq);
        let seq = self.cache.kv().idle_to_use(donor).expect("there are at least as many sequences as slots");
        if !self.cache.kv().tokens(seq).is_empty() {
            self.evict(seq);
        }
        self.cache.acquire(seq, slot);
        self.cache.set_space(seq, space);
        if let Start::Copy(prefix) = start {
            self.copy(prefix, seq);
        }
        seq
    }

    /// Copies a prefix into the empty sequence `to`, if the cache can.
    fn copy(&mut self, prefix: Prefix, to: SeqId) {
        self.stats.checkpoints_used += u64::from(self.cache.copy(prefix, to));
    }

    /// Cuts `seq` down to `len` tokens, or to none if the cache can't remove a part and has no checkpoint there.
    pub(super) fn cut(&mut self, seq: SeqId, len: usize) {
        self.stats.checkpoints_used += u64::from(self.cache.cut(seq, len));
    }

    /// Removes an idle sequence's cells.
    pub(super) fn evict(&mut self, seq: SeqId) {
        self.cache.clear(seq);
        self.stats.evictions += 1;
    }

    /// Continues requests whose awaited prefix is in the cache. If the leader ended without it, another request may
    /// become the leader.
    pub(super) fn follow_leaders(&mut self) {
        for slot in self.slots.taken() {
            let Some(live) = self.slots.get(slot) else { continue };
            let Phase::AwaitingPrefix { leader, leader_order, len } = live.phase else { continue };
            let leader = self.slots.get(leader).filter(|leader| leader.order == leader_order);
            let still_coming = leader.is_some_and(|leader| {
                self.cache.kv().next_pos(leader.seq).count_before() < len && leader.is_prefilling()
            });
            if still_coming {
                continue;
            }
            let (seq, request) = (live.seq, &live.request);
            let prefix = self.cache.kv().longest_prefix(request.shareable(), request.params.space);
            let prefix = prefix.filter(|prefix| prefix.len >= PREFIX_COPY_MIN);
            let phase = self.leader_for(live.order, request, prefix.map_or(0, |prefix| prefix.len));
            if let (None, Some(prefix)) = (phase, prefix) {
                self.copy(prefix, seq);
            }
            let cached = self.cache.kv().tokens(seq).len();
            self.stats.prompt_tokens_cached += cached as u64;
            if let Some(live) = self.slots.get_mut(slot) {
                live.request.found(cached);
                live.phase = phase.unwrap_or(Phase::Prefill);
                if phase.is_none() && self.memory.is_some() {
                    self.go_on_from_store(slot);
                }
            }
        }
    }
}
