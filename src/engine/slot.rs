//! The engine's slots, a fixed number, and the set of those that serve a request: a step looks at these alone. Batching
//! thread only. A slot's request comes and goes through `put` and `take`, so that the set of taken slots is never wrong.

use super::live::Live;
use crate::sample::Sampler;
use crate::types::SlotId;
use crate::types::limits::SLOTS_MAX;

/// All slots, made at start-up and reused.
pub struct Slots {
    all: Vec<Slot>,
    /// The slots that serve a request.
    taken: SlotSet,
}

struct Slot {
    sampler: Sampler,
    live: Option<Live>,
    /// Logits that wait for their mask (`Phase::AwaitingMask`), `n_vocab` numbers. Not written before the slot serves a
    /// constrained request, so until then it takes no memory.
    kept_logits: Box<[f32]>,
}

/// The parts of an occupied slot.
pub struct Taken<'a> {
    /// Its request.
    pub live: &'a mut Live,
    /// Its request's sampling state.
    pub sampler: &'a mut Sampler,
    /// Logits that wait for their mask (`Phase::AwaitingMask`), `n_vocab` numbers.
    pub kept_logits: &'a mut [f32],
}

impl Slots {
    /// Makes `n` free slots, at most `SLOTS_MAX`.
    pub fn new(n: usize, n_vocab: usize) -> Slots {
        assert!(n <= SLOTS_MAX);
        let slot = |_| Slot { sampler: Sampler::new(), live: None, kept_logits: vec![0.0; n_vocab].into_boxed_slice() };
        Slots { all: (0..n).map(slot).collect(), taken: SlotSet::default() }
    }

    /// The number of slots.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// The number of free slots.
    pub fn n_free(&self) -> usize {
        self.all.len() - self.taken.len()
    }

    /// Whether all slots are free.
    pub fn are_idle(&self) -> bool {
        self.taken.is_empty()
    }

    /// The free slot with the lowest number.
    pub fn first_free(&self) -> Option<SlotId> {
        self.taken.first_absent().filter(|slot| slot.index() < self.all.len())
    }

    /// The occupied slots, ascending. A copy, so that slots may be emptied while a caller walks through it.
    pub fn taken(&self) -> SlotSet {
        self.taken
    }

    /// The running requests, by slot.
    pub fn live(&self) -> impl Iterator<Item = (SlotId, &Live)> {
        self.taken.into_iter().filter_map(|slot| Some((slot, self.get(slot)?)))
    }

    /// The request in `slot`, if there is one.
    pub fn get(&self, slot: SlotId) -> Option<&Live> {
        self.all[slot.index()].live.as_ref()
    }

    /// The request in `slot`, to be changed, if there is one.
    pub fn get_mut(&mut self, slot: SlotId) -> Option<&mut Live> {
        self.all[slot.index()].live.as_mut()
    }

    /// The sampler of `slot`, in the state in which its last request left it.
    pub fn sampler(&self, slot: SlotId) -> &Sampler {
        &self.all[slot.index()].sampler
    }

    /// The request in `slot`, with its sampler and logits.
    ///
    /// # Panics
    /// If the slot is free.
    pub fn serving(&mut self, slot: SlotId) -> Taken<'_> {
        let Slot { sampler, live, kept_logits } = &mut self.all[slot.index()];
        Taken { live: live.as_mut().expect("an owner is live"), sampler, kept_logits }
    }

    /// Puts a request into a free slot.
    pub fn put(&mut self, slot: SlotId, live: Live) -> Taken<'_> {
        let before = self.all[slot.index()].live.replace(live);
        assert!(before.is_none(), "{slot:?} is taken");
        self.taken.insert(slot);
        self.serving(slot)
    }

    /// Empties a slot.
    pub fn take(&mut self, slot: SlotId) -> Option<Live> {
        self.taken.remove(slot);
        self.all[slot.index()].live.take()
    }
}

const WORD: usize = u64::BITS as usize;

/// A set of slots, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotSet([u64; SLOTS_MAX / WORD]);

impl SlotSet {
    /// Adds a slot.
    pub fn insert(&mut self, slot: SlotId) {
        self.0[slot.index() / WORD] |= 1 << (slot.index() % WORD);
    }

    /// Removes a slot.
    pub fn remove(&mut self, slot: SlotId) {
        self.0[slot.index() / WORD] &= !(1 << (slot.index() % WORD));
    }

    /// The number of slots in the set.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The slots in either set.
    pub fn union(&self, other: &SlotSet) -> SlotSet {
        SlotSet(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    fn first_absent(&self) -> Option<SlotId> {
        let word = self.0.iter().position(|word| *word != u64::MAX)?;
        Some(SlotId((word * WORD + self.0[word].trailing_ones() as usize) as u16))
    }
}

impl IntoIterator for SlotSet {
    type Item = SlotId;
    type IntoIter = SlotIds;

    fn into_iter(self) -> SlotIds {
        SlotIds { left: self, word: 0 }
    }
}

/// Iterates over the slots of a set, ascending.
pub struct SlotIds {
    left: SlotSet,
    word: usize,
}

impl Iterator for SlotIds {
    type Item = SlotId;

    fn next(&mut self) -> Option<SlotId> {
        loop {
            let word = self.left.0.get_mut(self.word)?;
            if *word == 0 {
                self.word += 1;
                continue;
            }
            let bit = word.trailing_zeros() as usize;
            *word &= *word - 1;
            return Some(SlotId((self.word * WORD + bit) as u16));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_gives_back_what_went_in_ascending() {
        let ids: Vec<u16> = vec![0, 1, 63, 64, 127, 130, 255];
        let mut set = SlotSet::default();
        assert!(set.is_empty() && set.into_iter().next().is_none());
        ids.iter().rev().for_each(|id| set.insert(SlotId(*id)));
        assert_eq!(set.into_iter().map(|slot| slot.0).collect::<Vec<_>>(), ids);
        assert_eq!((set.len(), set.first_absent()), (7, Some(SlotId(2))));
        set.remove(SlotId(64));
        set.remove(SlotId(64));
        assert_eq!((set.len(), set.is_empty()), (6, false));
        let mut other = SlotSet::default();
        other.insert(SlotId(64));
        assert_eq!(set.union(&other).len(), 7);
    }

    #[test]
    fn a_full_set_has_no_free_place() {
        let mut set = SlotSet::default();
        (0..SLOTS_MAX as u16).for_each(|id| set.insert(SlotId(id)));
        assert_eq!((set.len(), set.first_absent()), (SLOTS_MAX, None));
        let slots = Slots::new(3, 1);
        assert_eq!((slots.first_free(), slots.n_free(), slots.are_idle()), (Some(SlotId(0)), 3, true));
        let mut taken = Slots::new(1, 1);
        taken.taken.insert(SlotId(0));
        assert_eq!((taken.first_free(), taken.n_free()), (None, 0));
    }
}
