//! The shortest prefix of an order whose probability reaches a target: what top-p and typical-p keep, without a sort.
//!
//! Runs on the batching thread. One pass weighs each entry with `exp` and adds the weight to one of 512 buckets, which
//! follow the order. Walking the buckets from the top shows in which of them the target is reached. Only that bucket's
//! entries are collected, and they are split again the same way until few enough remain to be sorted. The result is the
//! set that a full descending sort with a running sum would keep, equal entries taken by lowest id. Only rounding of
//! the sums can move its edge: weights are f32, summed in f64.

use super::candidates::Candidates;
use super::exp::exp;
use super::row::{BLOCK, Cut, each_block, key};

const BUCKETS: usize = 512;

/// Copies of the buckets, used in turn. Neighbouring entries often fall into one bucket, and with one copy each
/// addition would wait for the one before.
const COPIES: usize = 4;

/// Entries from one copy of the buckets to the next: the buckets plus one cache line. Copies a whole page apart would
/// look like one address to the processor's store buffer.
const STRIDE: usize = BUCKETS + 8;

/// Up to this many entries are sorted instead of split again: 512 integers take about 10 us.
const SORTED_MAX: usize = 512;

/// Scratch memory of `shortest_prefix`.
pub struct Mass {
    buckets: Box<[[f64; STRIDE]; COPIES]>,
    /// Entries of the bucket in which the target is reached.
    edge: Candidates,
    /// Keys to sort. Top-k also uses this memory.
    pub keys: Vec<u64>,
}

/// A row, its maxima, and which of its entries take part.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The logits.
    pub row: &'a [f32],
    /// The largest entry of each block of `row`.
    pub maxima: &'a [f32],
    /// The largest entry of `row`: weights are `exp(value - best)`.
    pub best: f32,
    /// Entries below this value don't take part.
    pub floor: f32,
}

/// The weight that a prefix must at least have.
#[derive(Clone, Copy)]
pub enum PrefixWeight {
    /// This sum of the weights `exp(value - best)`.
    Weight(f64),
    /// This part, 0 to 1, of the sum of the view's weights, which the search adds up on its way.
    Share(f32),
}

impl PrefixWeight {
    fn weight(self, all: impl FnOnce() -> f64) -> f64 {
        match self {
            PrefixWeight::Weight(weight) => weight,
            PrefixWeight::Share(share) => f64::from(share) * all(),
        }
    }
}

/// How ranks map to buckets: linearly between the best and the worst rank. Ranks outside go to the first or the last
/// bucket.
struct Scale {
    best: f32,
    per_unit: f32,
}

impl Scale {
    fn new(best: f32, worst: f32) -> Scale {
        let width = best - worst;
        let per_unit = if width > 0.0 { ((BUCKETS - 1) as f32 / width).min(f32::MAX) } else { 0.0 };
        Scale { best, per_unit }
    }

    /// The bucket of a rank, always below `BUCKETS`; it never falls as `rank` falls. NaN goes to the last one.
    #[inline(always)]
    fn bucket(&self, rank: f32) -> u32 {
        let exact = (self.best - rank) * self.per_unit;
        let exact = if exact < (BUCKETS - 1) as f32 { exact } else { (BUCKETS - 1) as f32 };
        let exact = if exact > 0.0 { exact } else { 0.0 };
        // 2^23: adding it leaves the nearest whole number in the low bits.
        (exact + 8_388_608.0).to_bits() & (BUCKETS as u32 - 1)
    }
}

impl Mass {
    /// For rows of `n_vocab` logits.
    pub fn new(n_vocab: usize) -> Mass {
        Mass {
            buckets: Box::new([[0.0; STRIDE]; COPIES]),
            edge: Candidates::new(n_vocab),
            keys: Vec::with_capacity(n_vocab),
        }
    }

    /// Orders the view's entries by descending `rank(value)`, weighs each, and returns the cut, in terms of ranks, after
    /// the shortest prefix that reaches the target. `None` if all of them together don't.
    pub fn shortest_prefix(
        &mut self,
        view: View,
        target: PrefixWeight,
        rank: impl Fn(f32) -> f32 + Copy,
    ) -> Option<Cut> {
        let View { row, maxima, best, floor } = view;
        if row.len() <= SORTED_MAX {
            self.edge.gather(row, maxima, floor);
            let target = target.weight(|| self.edge.values.iter().map(|&value| f64::from(exp(value - best))).sum());
            return self.walk(target, 0.0, best, rank);
        }
        let (top, bottom) = sampled_range(view, rank);
        let scale = Scale::new(top, bottom);
        self.clear_buckets();
        let buckets = &mut self.buckets;
        each_block(row, |number, block| {
            if maxima[number] >= floor {
                add(buckets, block, floor, best, &scale, rank);
            }
        });
        self.merge();
        let target = target.weight(|| self.buckets[0].iter().sum());
        let (bucket, mut before) = self.reached(target, 0.0)?;
        let edge = &mut self.edge;
        edge.clear();
        let in_bucket = |value: f32| (value >= floor) & (scale.bucket(rank(value)) == bucket);
        each_block(row, |number, block| {
            if maxima[number] >= floor {
                for (eighth, eight) in block.as_chunks::<8>().0.iter().enumerate() {
                    let hits = eight.iter().fold(0, |hits, &value| hits | u32::from(in_bucket(value)));
                    if hits != 0 {
                        for (lane, &value) in eight.iter().enumerate() {
                            if in_bucket(value) {
                                edge.push(value, (number * BLOCK + eighth * 8 + lane) as u32);
                            }
                        }
                    }
                }
            }
        });

        while self.edge.values.len() > SORTED_MAX {
            let (top, bottom) = range(&self.edge.values, rank);
            if top == bottom {
                break;
            }
            let scale = Scale::new(top, bottom);
            self.clear_buckets();
            let Mass { edge, buckets, .. } = self;
            each_block(&edge.values, |_, block| add(buckets, block, floor, best, &scale, rank));
            self.merge();
            // The sum so far plus these entries reaches the target except for rounding. Then it is reached in the last
            // used bucket.
            let (bucket, sum) = self.reached(target, before).unwrap_or_else(|| self.last_used(before));
            let had = self.edge.values.len();
            self.edge.retain_if(|value, _| scale.bucket(rank(value)) == bucket);
            before = sum;
            if self.edge.values.len() == had {
                break;
            }
        }
        let edge_end = Cut { floor: range(&self.edge.values, rank).1, ties_end: usize::MAX };
        Some(self.walk(target, before, best, rank).unwrap_or(edge_end))
    }

    /// How many entries the edge has room for: tests check that it doesn't grow.
    #[cfg(test)]
    pub fn edge_capacity(&self) -> usize {
        self.edge.values.capacity()
    }

    fn clear_buckets(&mut self) {
        for copy in self.buckets.iter_mut() {
            copy.fill(0.0);
        }
    }

    /// Adds all copies of the buckets into the first.
    fn merge(&mut self) {
        let [first, others @ ..] = &mut *self.buckets;
        for copy in others {
            for (sum, more) in first.iter_mut().zip(copy) {
                *sum += *more;
            }
        }
    }

    /// The bucket in which the running sum reaches the target, and the sum before that bucket. `before` is the sum
    /// before all buckets.
    fn reached(&self, target: f64, before: f64) -> Option<(u32, f64)> {
        let mut sum = before;
        for (number, &weight) in self.buckets[0].iter().enumerate() {
            if sum + weight >= target && weight > 0.0 {
                return Some((number as u32, sum));
            }
            sum += weight;
        }
        None
    }

    fn last_used(&self, before: f64) -> (u32, f64) {
        let last = self.buckets[0].iter().rposition(|&weight| weight > 0.0).unwrap_or(0);
        (last as u32, before + self.buckets[0][..last].iter().sum::<f64>())
    }

    /// Walks through the edge's entries in order until the sum reaches the target.
    fn walk(&mut self, target: f64, before: f64, best: f32, rank: impl Fn(f32) -> f32 + Copy) -> Option<Cut> {
        let Mass { edge, keys, .. } = self;
        keys.clear();
        keys.extend(edge.values.iter().enumerate().map(|(place, &value)| key(rank(value), place as u32)));
        // Entries of equal rank are in order already.
        if !keys.is_sorted() {
            keys.sort_unstable();
        }
        let mut sum = before;
        for &next in keys.iter() {
            let place = next as u32 as usize;
            sum += f64::from(exp(edge.values[place] - best));
            if sum >= target {
                return Some(Cut::after(key(rank(edge.values[place]), edge.ids[place])));
            }
        }
        None
    }
}

/// Adds a block's weights to the buckets.
#[inline(always)]
fn add(
    buckets: &mut [[f64; STRIDE]; COPIES],
    block: &[f32; BLOCK],
    floor: f32,
    best: f32,
    scale: &Scale,
    rank: impl Fn(f32) -> f32,
) {
    let mut weights = [0.0f32; BLOCK];
    let mut places = [0u32; BLOCK];
    for lane in 0..BLOCK {
        let weight = exp(block[lane] - best);
        weights[lane] = if block[lane] >= floor { weight } else { 0.0 };
        places[lane] = scale.bucket(rank(block[lane]));
    }
    for lane in 0..BLOCK {
        buckets[lane % COPIES][places[lane] as usize % BUCKETS] += f64::from(weights[lane]);
    }
}

/// Estimates the highest and the lowest rank in the view from every 32nd of its blocks. Ranks outside go to the first
/// or the last bucket, so a bad estimate costs only time.
fn sampled_range(view: View, rank: impl Fn(f32) -> f32 + Copy) -> (f32, f32) {
    let (mut top, mut bottom) = (rank(view.best), rank(view.best));
    let wanted = view.row.chunks(BLOCK).zip(view.maxima).filter(|(_, max)| **max >= view.floor);
    for (block, _) in wanted.step_by(32) {
        for &value in block {
            let r = if value >= view.floor { rank(value) } else { top };
            top = if r > top { r } else { top };
            bottom = if r < bottom { r } else { bottom };
        }
    }
    (top, bottom)
}

/// The highest and the lowest rank of a list.
fn range(values: &[f32], rank: impl Fn(f32) -> f32) -> (f32, f32) {
    let (mut top, mut bottom) = (f32::MIN, f32::MAX);
    for &value in values {
        let r = rank(value);
        top = if r > top { r } else { top };
        bottom = if r < bottom { r } else { bottom };
    }
    (top, bottom)
}
