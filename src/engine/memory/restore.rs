//! Moves blocks from the store into cells. A request waits in `Phase::Restoring` while its blocks come. Other requests
//! decode meanwhile, and requests with the same beginning wait for it as they wait for a prefill.
//!
//! If a block can't be restored, the request prefills the rest of its prompt from there on.

use super::super::Engine;
use super::super::live::Phase;
use super::super::stats::Observer;
use super::Memory;
use crate::types::limits::{RESTORE_IDLE_US, RESTORE_WAIT_US_MAX, RESTORE_WAIT_US_MIN};
use crate::types::seams::{Clock, Decoder};
use crate::types::{Fetched, SlotId, Tier};

/// The result of an attempt to restore a request's next block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NextBlock {
    Restored,
    /// The block is on its way from the disk.
    Waits,
    /// No further block is restored; the request prefills the rest.
    Over,
}

impl<D: Decoder, C: Clock, O: Observer> Engine<D, C, O> {
    /// The tokens of the store's blocks; 0 without a store.
    pub(in super::super) fn block(&self) -> usize {
        self.memory.as_deref().map_or(0, Memory::block)
    }

    /// Whether a block of the store is the whole state of a sequence, so that cells before it are of no use.
    pub(in super::super) fn restores_whole(&self) -> bool {
        self.memory.as_deref().is_some_and(Memory::is_whole)
    }

    /// The request in `slot`, which was offered them, waits for its first `until` tokens. Its cells are cut down to whole blocks.
    pub(in super::super) fn await_blocks(&mut self, slot: SlotId, until: usize) {
        let Some(seq) = self.slots.get(slot).map(|live| live.seq) else { return };
        let (block, now_us) = (self.block(), self.clock.now_us());
        let whole_blocks = self.cache.kv().tokens(seq).len() / block * block;
        self.cut(seq, if self.restores_whole() { 0 } else { whole_blocks });
        // A cache that can't be cut may have lost all cells.
        let held = self.cache.kv().tokens(seq).len();
        let Some(live) = self.slots.get_mut(slot) else { return };
        live.phase = Phase::Restoring { until };
        if let Some(memory) = self.memory.as_deref_mut() {
            memory.begin(slot, &live.request, held..until, now_us);
        }
    }

    /// Continues the request in `slot` behind what its cells hold, with blocks of the store if that is faster.
    pub(in super::super) fn go_on_from_store(&mut self, slot: SlotId) {
        let Some(live) = self.slots.get(slot) else { return };
        let held = self.cache.kv().tokens(live.seq).len();
        let stored = self.memory.as_deref_mut().and_then(|memory| memory.offer(&live.request, held));
        if let Some(until) = stored {
            self.await_blocks(slot, until);
        }
    }

    /// Moves blocks into the cells of waiting requests, the oldest first: one block, and more as long as no other
    /// request is delayed. Returns whether any was moved or given up.
    pub(super) fn restore_blocks(&mut self) -> bool {
        let mut waiting: Vec<(u64, SlotId)> = self
            .slots
            .live()
            .filter(|(_, live)| matches!(live.phase, Phase::Restoring { .. }))
            .map(|(slot, live)| (live.order, slot))
            .collect();
        if let Some(memory) = self.memory.as_deref_mut() {
            memory.stats.restoring = waiting.len();
        }
        // While the cache has no room, its cells are needed by requests that have rows.
        let has_rows = |phase: Phase| !matches!(phase, Phase::Restoring { .. } | Phase::AwaitingPrefix { .. });
        let is_full = self.budget.is_lowered() && self.slots.live().any(|(_, live)| has_rows(live.phase));
        if waiting.is_empty() || is_full {
            return false;
        }
        waiting.sort_unstable();
        let (begun_us, allowed_us) = (self.clock.now_us(), self.restoring_allowed_us());
        let mut has_moved = false;
        for (_, slot) in waiting {
            loop {
                let restore_us = self.memory.as_deref().map_or(0, |memory| memory.stats.rates.restore_us());
                if has_moved && self.clock.now_us() - begun_us + restore_us > allowed_us {
                    return true;
                }
                match self.restore_next(slot) {
                    NextBlock::Restored => {
                        has_moved = true;
                        if self.has_its_blocks(slot) {
                            break;
                        }
                    }
                    NextBlock::Waits => break,
                    NextBlock::Over => {
                        has_moved = true;
                        break;
                    }
                }
            }
        }
        has_moved
    }

    /// How long blocks may be moved before the next step: half a decode step if a request decodes; as long as the
    /// latest step if only prompts are prefilled; if no request has rows, until it is time to look for new requests.
    fn restoring_allowed_us(&self) -> u64 {
        let step_us = self.memory.as_deref().map_or(0, |memory| memory.step_us);
        let decodes = self.decodes();
        let reads = self.slots.live().any(|(_, live)| live.phase == Phase::Prefill);
        match (decodes, reads) {
            (true, _) => self.budget.decode_us() / 2,
            (false, true) => step_us.max(RESTORE_IDLE_US),
            (false, false) => RESTORE_IDLE_US,
        }
    }

    /// Whether some request decodes.
    fn decodes(&self) -> bool {
        self.slots.live().any(|(_, live)| live.is_generating())
    }

    /// Whether the request in `slot` still waits although it has all of its blocks.
    fn has_its_blocks(&self, slot: SlotId) -> bool {
        self.slots.get(slot).is_some_and(
            |live| matches!(live.phase, Phase::Restoring { until } if self.cache.kv().tokens(live.seq).len() >= until),
        )
    }

    /// Moves the next block of the request in `slot`, if it is there.
    fn restore_next(&mut self, slot: SlotId) -> NextBlock {
        let Some(live) = self.slots.get(slot) else { return NextBlock::Over };
        let Phase::Restoring { until } = live.phase else { return NextBlock::Over };
        let (seq, now_us) = (live.seq, self.clock.now_us());
        let held = self.cache.kv().tokens(seq).len();
        let Some(memory) = self.memory.as_deref_mut() else { return NextBlock::Over };
        let block = memory.block;
        if held >= until {
            self.read_on(slot, false);
            return NextBlock::Over;
        }
        assert_eq!(held % block, 0, "{seq:?} holds whole blocks");
        let (name, piece) = memory.next_piece(&live.request, held, until);
        // What moving a block takes may be known only now.
        if !memory.stats.rates.pays(until - held, (until - held).div_ceil(piece.len()), 0) {
            self.read_on(slot, true);
            return NextBlock::Over;
        }
        let wanted = &mut memory.wanted[slot.index()];
        let (bytes, tier) = match memory.store.get(&name) {
            Fetched::Ready(bytes, tier) => (bytes, tier),
            Fetched::Coming => {
                wanted.waits = true;
                let left = live.request.shareable().len() - held;
                let most_us = match memory.stats.rates.read_us(left) {
                    // Nothing was read yet that it could be compared with.
                    0 => RESTORE_WAIT_US_MAX,
                    us => us.clamp(RESTORE_WAIT_US_MIN, RESTORE_WAIT_US_MAX),
                };
                if now_us - wanted.since_us <= most_us {
                    return NextBlock::Waits;
                }
                self.read_on(slot, true);
                return NextBlock::Over;
            }
            Fetched::Gone => {
                self.read_on(slot, true);
                return NextBlock::Over;
            }
        };
        let waited_us = now_us - wanted.since_us;
        let waited = std::mem::take(&mut wanted.waits);
        if tier == Tier::Disk {
            memory.stats.rates.learn_waiting(if waited { waited_us } else { 0 });
        }
        while self.cache.kv().cells_free().is_some_and(|free| free < piece.len()) {
            let Some(idle) = self.cache.kv().least_recently_used() else {
                self.read_on(slot, true);
                return NextBlock::Over;
            };
            self.evict(idle);
        }
        let begun_us = self.clock.now_us();
        let Some(live) = self.slots.get_mut(slot) else { return NextBlock::Over };
        if !self.cache.restore(seq, &live.request.tokens[piece.clone()], &bytes) {
            self.read_on(slot, true);
            return NextBlock::Over;
        }
        let ended_us = self.clock.now_us();
        live.request.restored(piece.len());
        live.request.found(piece.end);
        self.stats.prompt_tokens_cached += piece.len() as u64;
        let is_first = live.request.restored_tokens() == piece.len();
        if let Some(memory) = self.memory.as_deref_mut() {
            memory.stats.rates.learn_restoring(ended_us - begun_us);
            memory.wanted[slot.index()].since_us = ended_us;
            if piece.len() == block && memory.known[seq.index()].len() == held / block {
                memory.known[seq.index()].push(name);
            }
            memory.stats.took(tier, is_first, piece.len(), bytes.len(), ended_us - begun_us);
        }
        // Behind many cells the first rows make a step long. Requests that decode would wait for this block and for that step; so the rows
        // come in the next round.
        if piece.end == until && !self.decodes() {
            self.read_on(slot, false);
        }
        NextBlock::Restored
    }

    /// The request in `slot` gets no more blocks, and prefills the rest of its prompt. `broken_off`: whether more
    /// blocks had been found for it.
    fn read_on(&mut self, slot: SlotId, broken_off: bool) {
        let Some(live) = self.slots.get_mut(slot) else { return };
        live.phase = Phase::Prefill;
        let seq = live.seq;
        let cached = self.cache.kv().tokens(seq).len();
        live.request.found(cached);
        self.keep_restored(seq);
        if let Some(memory) = self.memory.as_deref_mut() {
            memory.stats.broken_off += u64::from(broken_off);
        }
    }
}
