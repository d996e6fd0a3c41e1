//! A row of logits as the filters see it: blocks, their maxima, the order of its entries and a cut through that order.
//!
//! Pure functions for the batching thread. NaN and `-inf` mean that an entry doesn't exist: no function here returns
//! such an entry, and none panics on one.

/// Entries in a block: four AVX2 registers, so that a block's maximum costs little more than reading it.
pub const BLOCK: usize = 32;

/// The maximum of a block in which no entry exists.
pub const NOTHING: f32 = f32::NEG_INFINITY;

/// Calls `f` with each block's number and entries; the last block is padded with NaN.
#[inline(always)]
pub fn each_block(row: &[f32], mut f: impl FnMut(usize, &[f32; BLOCK])) {
    let (blocks, rest) = row.as_chunks::<BLOCK>();
    let mut last = [f32::NAN; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    // `f` is called at one place in one loop, so that LLVM inlines it and keeps its constants in registers.
    for number in 0..row.len().div_ceil(BLOCK) {
        f(number, blocks.get(number).unwrap_or(&last));
    }
}

/// The larger value; `b` if `a` is NaN. Unlike `f32::max` it compiles to one instruction.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[inline(always)]
fn block_max(block: &[f32; BLOCK]) -> f32 {
    let mut lanes = [NOTHING; 8];
    for eight in block.as_chunks::<8>().0 {
        for lane in 0..8 {
            lanes[lane] = larger(eight[lane], lanes[lane]);
        }
    }
    let four: [f32; 4] = std::array::from_fn(|i| larger(lanes[i], lanes[i + 4]));
    larger(larger(four[0], four[2]), larger(four[1], four[3]))
}

/// Writes each block's maximum and returns the row's: `NOTHING` if it has no entry.
pub fn block_maxima(row: &[f32], maxima: &mut Vec<f32>) -> f32 {
    maxima.clear();
    let mut best = NOTHING;
    each_block(row, |_, block| {
        let max = block_max(block);
        best = larger(max, best);
        maxima.push(max);
    });
    best
}

/// The index of the largest entry, the first of equals; `None` if no entry exists.
pub fn argmax(row: &[f32]) -> Option<usize> {
    // Entries of a stretch: wide enough that finding the best stretch is cheap, short enough that searching it is, too.
    const STRETCH: usize = 1024;
    let (mut best, mut best_start) = (NOTHING, 0);
    for (number, stretch) in row.chunks(STRETCH).enumerate() {
        let max = slice_max(stretch);
        if max > best {
            (best, best_start) = (max, number * STRETCH);
        }
    }
    if best == NOTHING {
        return None;
    }
    // First finds the block, by comparing all its entries at once: entry by entry takes ten times as long.
    let holds = |block: &[f32; BLOCK]| block.iter().fold(false, |found, &x| found | (x == best));
    let (blocks, _) = row[best_start..].as_chunks::<BLOCK>();
    let start = best_start + BLOCK * blocks.iter().position(holds).unwrap_or(blocks.len());
    row[start..].iter().position(|&x| x == best).map(|offset| start + offset)
}

/// The largest entry of any slice, in 64 independent lanes: with fewer, each comparison would wait for the one before.
pub fn slice_max(row: &[f32]) -> f32 {
    const LANES: usize = 64;
    let (many, rest) = row.as_chunks::<LANES>();
    let mut lanes = [NOTHING; LANES];
    for entries in many {
        for lane in 0..LANES {
            lanes[lane] = larger(entries[lane], lanes[lane]);
        }
    }
    let halves: [f32; 32] = larger_half(&lanes);
    let quarters: [f32; 16] = larger_half(&halves);
    let eight: [f32; 8] = larger_half(&quarters);
    let four: [f32; 4] = larger_half(&eight);
    let best = larger(larger(four[0], four[2]), larger(four[1], four[3]));
    rest.iter().fold(best, |best, &x| larger(x, best))
}

/// Compares the first half with the second, lane by lane, and returns the larger values.
#[inline(always)]
fn larger_half<const N: usize, const HALF: usize>(lanes: &[f32; N]) -> [f32; HALF] {
    let mut half = [NOTHING; HALF];
    for lane in 0..HALF {
        half[lane] = larger(lanes[lane], lanes[lane + HALF]);
    }
    half
}

/// The order of entries as one integer: ascending keys are descending values, equal values by ascending index.
///
/// Integers sort faster than floats compared through a closure. 0.0 and -0.0 are equal, as they are for floats.
#[inline(always)]
pub fn key(value: f32, index: u32) -> u64 {
    let bits = (value + 0.0).to_bits();
    let ascending = bits ^ (((bits as i32 >> 31) as u32) | 0x8000_0000);
    (u64::from(!ascending) << 32) | u64::from(index)
}

/// The value and the index from which `key` made this key.
#[inline(always)]
pub fn unkey(key: u64) -> (f32, u32) {
    let ascending = !((key >> 32) as u32);
    let bits = if ascending & 0x8000_0000 != 0 { ascending ^ 0x8000_0000 } else { !ascending };
    (f32::from_bits(bits), key as u32)
}

/// A prefix of the descending order: every value above `floor`, and of those equal to it the ones before `ties_end`.
///
/// Top-k, top-p and min-p all keep such a prefix, so what survives them is two numbers instead of a list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cut {
    /// Values above it are kept.
    pub floor: f32,
    /// Of the values equal to `floor`, those at indices below this one are kept.
    pub ties_end: usize,
}

impl Cut {
    /// Keeps every entry that exists.
    pub const NONE: Cut = Cut { floor: f32::MIN, ties_end: usize::MAX };

    /// Keeps every entry down to this key, inclusive.
    pub fn after(key: u64) -> Cut {
        let (floor, index) = unkey(key);
        Cut { floor, ties_end: index as usize + 1 }
    }

    /// Keeps every entry of at least `floor`.
    pub fn from(floor: f32) -> Cut {
        Cut { floor, ties_end: usize::MAX }
    }

    /// Keeps the entries that either cut keeps.
    pub fn or(self, other: Cut) -> Cut {
        if self.and(other) == self { other } else { self }
    }

    /// Keeps the entries that both cuts keep.
    pub fn and(self, other: Cut) -> Cut {
        if self.floor != other.floor {
            if self.floor > other.floor { self } else { other }
        } else {
            Cut { floor: self.floor, ties_end: self.ties_end.min(other.ties_end) }
        }
    }

    /// The smallest value that is kept at this index.
    #[inline(always)]
    pub fn floor_at(&self, index: usize) -> f32 {
        if index < self.ties_end { self.floor } else { self.floor.next_up() }
    }

    /// Whether the cut keeps `value` at `index`.
    #[inline(always)]
    pub fn keeps(&self, index: usize, value: f32) -> bool {
        value >= self.floor_at(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    #[test]
    fn keys_sort_by_falling_value_then_index() {
        let values = [f32::MAX, 3.5, 1e-40, 0.0, -1e-40, -2.0, f32::MIN, f32::NEG_INFINITY];
        for (i, pair) in values.windows(2).enumerate() {
            assert!(key(pair[0], 9) < key(pair[1], 2), "{i}");
        }
        assert!(key(1.0, 3) < key(1.0, 4));
        assert_eq!(key(0.0, 5), key(-0.0, 5));
        for value in values {
            assert_eq!(unkey(key(value, 77)), (value, 77));
        }
    }

    #[test]
    fn argmax_is_the_first_of_the_largest() {
        assert_eq!(argmax(&[]), None);
        assert_eq!(argmax(&[f32::NAN, f32::NEG_INFINITY]), None);
        assert_eq!(argmax(&[f32::NAN, -3.0, f32::NAN, -3.0]), Some(1));
        assert_eq!(argmax(&[1.0, f32::INFINITY, 2.0]), Some(1));
        let mut rng = Dice::new(1);
        for _ in 0..2_000 {
            let n = 1 + rng.below(3_000);
            let row: Vec<f32> = (0..n).map(|_| (rng.below(50) as f32) - 25.0).collect();
            let best = row.iter().copied().fold(f32::MIN, f32::max);
            assert_eq!(argmax(&row), row.iter().position(|&x| x == best));
            let mut maxima = Vec::new();
            assert_eq!(block_maxima(&row, &mut maxima), best);
            assert_eq!(maxima.len(), n.div_ceil(BLOCK));
        }
    }

    #[test]
    fn a_cut_keeps_ties_before_its_end() {
        let cut = Cut::after(key(2.0, 5));
        assert!(cut.keeps(9, 2.5) && cut.keeps(5, 2.0) && !cut.keeps(6, 2.0) && !cut.keeps(0, 1.9));
        assert!(!cut.keeps(0, f32::NAN) && !Cut::NONE.keeps(0, f32::NEG_INFINITY) && Cut::NONE.keeps(0, f32::MIN));
        assert_eq!(cut.and(Cut::NONE), cut);
        assert_eq!(cut.and(Cut { floor: 2.0, ties_end: 3 }).ties_end, 3);
        assert_eq!((cut.or(Cut::NONE), cut.or(Cut { floor: 2.0, ties_end: 3 })), (Cut::NONE, cut));
        assert_eq!(cut.or(Cut::from(2.5)), cut);
    }
}
