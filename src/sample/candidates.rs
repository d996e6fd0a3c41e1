//! A row that has lost most of its entries: values with the ids they came from, in ascending order of id.
//!
//! A filter that keeps few entries, or entries that are no prefix of the descending order, copies them into
//! `Candidates`; the filters after it read the values as a shorter row. Because the order of ids is kept, "the first of
//! equals" still means the lowest id.

use super::row::{BLOCK, Cut, each_block};

/// Values and ids of the entries that a filter kept. Both lists have the same length.
pub struct Candidates {
    /// The logits, in ascending order of their ids.
    pub values: Vec<f32>,
    /// For each value its index in the row that it was taken from.
    pub ids: Vec<u32>,
}

impl Candidates {
    /// Empty, with room for a whole row of `n_vocab` logits.
    pub fn new(n_vocab: usize) -> Candidates {
        Candidates { values: Vec::with_capacity(n_vocab), ids: Vec::with_capacity(n_vocab) }
    }

    /// Translates the ids: if the row's own entries came from `ids`, each id becomes its entry of `ids`. `None`: they
    /// stay.
    pub fn rename(&mut self, ids: Option<&[u32]>) {
        if let Some(ids) = ids {
            self.ids.iter_mut().for_each(|id| *id = ids[*id as usize]);
        }
    }

    /// Removes all entries and keeps the memory.
    pub fn clear(&mut self) {
        self.values.clear();
        self.ids.clear();
    }

    /// Appends an entry. Its id must be larger than those before.
    #[inline(always)]
    pub fn push(&mut self, value: f32, id: u32) {
        self.values.push(value);
        self.ids.push(id);
    }

    /// Appends every entry of the row that is at least `floor`. Blocks whose maximum is below `floor` are not read.
    pub fn gather(&mut self, row: &[f32], maxima: &[f32], floor: f32) {
        self.clear();
        each_block(row, |number, block| {
            if maxima[number] >= floor {
                self.extend(number, block, |value, _| value >= floor);
            }
        });
    }

    /// Appends the entries of block `number` for which `keep(value, index)` holds, without a branch for each.
    #[inline(always)]
    pub fn extend(&mut self, number: usize, block: &[f32; BLOCK], keep: impl Fn(f32, usize) -> bool) {
        let (mut values, mut ids) = ([0.0; BLOCK], [0; BLOCK]);
        let mut count = 0;
        for (lane, &value) in block.iter().enumerate() {
            let place = number * BLOCK + lane;
            values[count % BLOCK] = value;
            ids[count % BLOCK] = place as u32;
            count += usize::from(keep(value, place));
        }
        self.values.extend_from_slice(&values[..count]);
        self.ids.extend_from_slice(&ids[..count]);
    }

    /// Drops the entries that `cut` doesn't keep. The cut's indices are those of the row that the entries came from.
    pub fn retain(&mut self, cut: Cut) {
        self.retain_if(|value, id| cut.keeps(id as usize, value));
    }

    /// Drops the entries for which `keep(value, id)` is false.
    pub fn retain_if(&mut self, keep: impl Fn(f32, u32) -> bool) {
        let mut kept = 0;
        for place in 0..self.values.len() {
            let (value, id) = (self.values[place], self.ids[place]);
            self.values[kept] = value;
            self.ids[kept] = id;
            kept += usize::from(keep(value, id));
        }
        self.values.truncate(kept);
        self.ids.truncate(kept);
    }
}
