//! Numbers byte strings in the order of insertion and finds them by content: all texts of a vocabulary in two allocations.

use crate::gguf::Strs;

const EMPTY: u32 = u32::MAX;

/// A set of byte strings. Each keeps the index that it got when it was inserted.
#[derive(Debug)]
pub struct TextMap {
    texts: Strs,
    /// An open-addressing hash table with a power of two of slots, at most half of them used.
    slots: Vec<u32>,
    /// Bytes of the longest text. Longer texts aren't looked up.
    len_max: usize,
}

impl TextMap {
    /// An empty set with room for `n` texts.
    pub fn with_capacity(n: usize) -> TextMap {
        TextMap { texts: Strs::default(), slots: vec![EMPTY; (n * 2 + 16).next_power_of_two()], len_max: 0 }
    }

    /// The number of texts.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// The text with index `i`.
    pub fn text(&self, i: u32) -> &[u8] {
        self.texts.get(i as usize)
    }

    /// The index of `text`; `None`: it isn't in the set.
    pub fn get(&self, text: &[u8]) -> Option<u32> {
        if text.len() > self.len_max {
            return None;
        }
        let found = self.slots[self.slot_of(text)];
        (found != EMPTY).then_some(found)
    }

    /// Inserts `text`. Returns its index, and whether it is new.
    pub fn insert(&mut self, text: &[u8]) -> (u32, bool) {
        if (self.texts.len() + 1) * 2 > self.slots.len() {
            self.grow();
        }
        let slot = self.slot_of(text);
        if self.slots[slot] != EMPTY {
            return (self.slots[slot], false);
        }
        let index = self.texts.len() as u32;
        self.texts.push(text);
        self.len_max = self.len_max.max(text.len());
        self.slots[slot] = index;
        (index, true)
    }

    /// The slot of `text`, or the empty slot where it would be inserted.
    fn slot_of(&self, text: &[u8]) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = hash(text) as usize & mask;
        while self.slots[slot] != EMPTY && self.text(self.slots[slot]) != text {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn grow(&mut self) {
        self.slots = vec![EMPTY; self.slots.len() * 2];
        let mask = self.slots.len() - 1;
        for i in 0..self.texts.len() {
            let mut slot = hash(self.texts.get(i)) as usize & mask;
            while self.slots[slot] != EMPTY {
                slot = (slot + 1) & mask;
            }
            self.slots[slot] = i as u32;
        }
    }
}

/// Multiplies and folds, eight bytes at a time. The keys come from the model file; texts that clients send are only looked
/// up. So a client can't cause many collisions.
fn hash(text: &[u8]) -> u64 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let fold = |h: u64, word: u64| {
        let wide = u128::from(h ^ word) * u128::from(K);
        wide as u64 ^ (wide >> 64) as u64
    };
    let mut chunks = text.chunks_exact(8);
    let mut h = K ^ text.len() as u64;
    for chunk in &mut chunks {
        h = fold(h, u64::from_le_bytes(chunk.try_into().expect("8 bytes")));
    }
    let mut last = [0; 8];
    last[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    fold(h, u64::from_le_bytes(last))
}

/// Maps `(left, right)` to `(rank, merged)`: the merges of a BPE vocabulary.
#[derive(Debug)]
pub struct PairMap {
    slots: Vec<(u64, u32, u32)>,
    used: usize,
}

const NO_PAIR: u64 = u64::MAX;

impl PairMap {
    /// An empty map with room for `n` merges.
    pub fn with_capacity(n: usize) -> PairMap {
        PairMap { slots: vec![(NO_PAIR, 0, 0); (n * 2 + 16).next_power_of_two()], used: 0 }
    }

    fn slot_of(&self, key: u64) -> usize {
        let mask = self.slots.len() - 1;
        // Takes the upper half of the product, because the bits of the left symbol don't influence the lower half.
        let mut slot = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & mask;
        while self.slots[slot].0 != NO_PAIR && self.slots[slot].0 != key {
            slot = (slot + 1) & mask;
        }
        slot
    }

    /// Adds a merge, unless the pair already has one.
    pub fn insert(&mut self, left: u32, right: u32, rank: u32, merged: u32) {
        assert!(self.used * 2 < self.slots.len(), "more merges than announced");
        let key = u64::from(left) << 32 | u64::from(right);
        let slot = self.slot_of(key);
        if self.slots[slot].0 == NO_PAIR {
            self.slots[slot] = (key, rank, merged);
            self.used += 1;
        }
    }

    /// Rank and result of merging `left` and `right`; `None`: they don't merge.
    #[inline]
    pub fn get(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        let key = u64::from(left) << 32 | u64::from(right);
        let (found, rank, merged) = self.slots[self.slot_of(key)];
        (found == key && key != NO_PAIR).then_some((rank, merged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In real vocabularies a symbol merges with many different left neighbours.
    #[test]
    fn pairs_that_share_a_symbol_lie_apart() {
        let mut map = PairMap::with_capacity(256 * 16);
        let pairs = || (0..256).flat_map(|left| (0..16).map(move |right| (left, right)));
        pairs().for_each(|(left, right)| map.insert(left, right, left * 16 + right, 7));
        assert!(pairs().all(|(left, right)| map.get(left, right) == Some((left * 16 + right, 7))));
        assert_eq!(map.get(256, 0), None);
        let longest = map.slots.split(|slot| slot.0 == NO_PAIR).map(<[_]>::len).max();
        assert!(longest < Some(32), "a look for what isn't there may pass {longest:?} others");
    }
}
