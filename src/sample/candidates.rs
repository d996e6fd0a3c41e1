//! A row that has lost most of its entries: values beside the ids they came from, in ascending order of id.
//!
//! A filter that keeps few entries, or no prefix of the order, copies what it keeps into one of these; the filters
//! after it read the values as a shorter row. Because the order of ids is kept, "the first of equals" means the same.

use super::row::{BLOCK, Cut, each_block};

pub struct Candidates {
    pub values: Vec<f32>,
    /// Where each value stood in the row it was taken from.
    pub ids: Vec<u32>,
}

impl Candidates {
    pub fn new(n_vocab: usize) -> Candidates {
        Candidates { values: Vec::with_capacity(n_vocab), ids: Vec::with_capacity(n_vocab) }
    }

    /// Its entries were taken from a row whose own entries came from `ids`: their ids become those. `None`: they stay.
    pub fn rename(&mut self, ids: Option<&[u32]>) {
        if let Some(ids) = ids {
            self.ids.iter_mut().for_each(|id| *id = ids[*id as usize]);
        }
    }

    pub fn clear(&mut self) {
        self.values.clear();
        self.ids.clear();
    }

    #[inline(always)]
    pub fn push(&mut self, value: f32, id: u32) {
        self.values.push(value);
        self.ids.push(id);
    }

    /// Takes every entry of at least `floor` from the row; blocks whose maximum lies below it are not read.
    pub fn gather(&mut self, row: &[f32], maxima: &[f32], floor: f32) {
        self.clear();
        each_block(row, |number, block| {
            if maxima[number] >= floor {
                self.extend(number, block, |value, _| value >= floor);
            }
        });
    }

    /// Adds the entries of one block that `keep(value, place)` wants, without a branch for each.
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

    /// Drops what `cut`, which is in terms of the row taken from, doesn't keep.
    pub fn retain(&mut self, cut: Cut) {
        self.retain_if(|value, id| cut.keeps(id as usize, value));
    }

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
