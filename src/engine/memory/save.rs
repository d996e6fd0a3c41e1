//! Saves blocks from cells to the store, a few between two steps. A sequence that has ended is saved soon, because
//! there is no time for that when its cells are needed. If blocks outlive the process, sequences of running requests
//! are saved, too, so that a crash loses little.

use super::super::Engine;
use super::super::stats::Observer;
use crate::types::SeqId;
use crate::types::limits::{SAVE_AT_END_US_MAX, SAVE_IDLE_US, SAVE_NAMES_MAX, SAVE_STEP_PARTS};
use crate::types::seams::{Clock, Decoder};

impl<D: Decoder, C: Clock, O: Observer> Engine<D, C, O> {
    /// Moves blocks between the cells and the store, before a step. Returns whether there may be more to do at once.
    pub(in super::super) fn move_blocks(&mut self) -> bool {
        if self.restore_blocks() {
            return true;
        }
        // States of sequences that can't be cut are saved when they are taken. The store goes on with what it has to write.
        if self.cache.kv().checkpoints().is_some() {
            if let Some(memory) = self.memory.as_deref_mut() {
                memory.store.held(&[]);
            }
            return false;
        }
        let step_us = self.memory.as_deref().map_or(0, |memory| memory.step_us);
        let allowed_us = if self.slots.are_idle() { SAVE_IDLE_US } else { step_us / SAVE_STEP_PARTS };
        self.save_blocks(allowed_us)
    }

    /// Saves one block that the store lacks, and further ones for `allowed_us`. Returns whether any was saved, or more
    /// must be looked at.
    fn save_blocks(&mut self, allowed_us: u64) -> bool {
        let begun_us = self.clock.now_us();
        let mut has_saved = false;
        for _ in 0..SAVE_NAMES_MAX {
            let Some(seq) = self.next_to_save() else { return has_saved };
            has_saved |= self.save_next(seq);
            let save_us = self.memory.as_deref().map_or(0, |memory| memory.stats.rates.save_us());
            if has_saved && self.clock.now_us() - begun_us + save_us > allowed_us {
                return true;
            }
        }
        true
    }

    /// The sequence whose blocks are saved next: of the idle ones that was released first, then those of running
    /// requests.
    fn next_to_save(&mut self) -> Option<SeqId> {
        let memory = self.memory.as_deref_mut()?;
        let survives = memory.store.survives();
        let mut best: Option<(u64, SeqId)> = None;
        for (i, known) in memory.known.iter_mut().enumerate() {
            let seq = SeqId(i as u16);
            known.truncate(self.cache.intact(seq) / memory.block);
            if self.cache.kv().tokens(seq).len() / memory.block <= known.len() {
                continue;
            }
            let age = match self.cache.kv().idle_since(seq) {
                Some(age) => age,
                None if survives => u64::MAX,
                None => continue,
            };
            if best.is_none_or(|(oldest, _)| age < oldest) {
                best = Some((age, seq));
            }
        }
        best.map(|(_, seq)| seq)
    }

    /// Offers the store the next block of `seq`. Returns whether it was saved.
    fn save_next(&mut self, seq: SeqId) -> bool {
        let Some(memory) = self.memory.as_deref_mut() else { return false };
        let known = &memory.known[seq.index()];
        let from = known.len() * memory.block;
        let range = from..from + memory.block;
        let name = memory.name_after(known, self.cache.kv().space(seq), &self.cache.kv().tokens(seq)[range.clone()]);
        let parent = known.last().copied();
        memory.known[seq.index()].push(name);
        if !memory.store.wants(&name) {
            return false;
        }
        let begun_us = self.clock.now_us();
        let mut bytes = Vec::new();
        if !self.cache.save(seq, range.clone(), &mut bytes) {
            return false;
        }
        let length = bytes.len() as u64;
        memory.store.put(name, parent, range.len() as u32, bytes);
        let us = self.clock.now_us() - begun_us;
        memory.stats.rates.learn_saving(us);
        memory.stats.gave(length, us);
        true
    }

    /// At the end of the loop: if blocks outlive the process, saves what the cells hold, for some seconds at most.
    pub(in super::super) fn save_at_the_end(&mut self) {
        if self.cache.kv().checkpoints().is_some()
            || !self.memory.as_deref().is_some_and(|memory| memory.store.survives())
        {
            return;
        }
        let begun_us = self.clock.now_us();
        while self.clock.now_us() - begun_us < SAVE_AT_END_US_MAX && self.save_blocks(SAVE_IDLE_US) {}
    }
}
