//! The shortest prefix of an order whose probability reaches a share: what top-p and typical-p keep, without a sort.
//!
//! Runs on the batching thread. One pass weighs each entry with `exp` and adds the weight to one of 512 buckets, which
//! follow the order; walking the buckets from the top shows in which of them the share is reached. Only that bucket's
//! entries are collected, and they are split again the same way until few enough remain to be sorted. The result is
//! the set that a full descending sort with a running sum would keep, equal entries taken by lowest id; only the
//! rounding of the sums can move its edge, and they are kept in f64.

use super::candidates::Candidates;
use super::exp::exp;
use super::row::{BLOCK, Cut, each_block, key};

/// Entries this far below the best one weigh nothing: with a million of them that is 1e-7 of the whole.
const REACH: f32 = 30.0;

const BUCKETS: usize = 512;

/// Copies of the buckets, taken in turn: neighbouring entries often fall into one bucket, and each addition would wait
/// for the one before.
const COPIES: usize = 4;

/// Up to this many entries are sorted rather than split: 512 integers take about 10 us.
const SORTED_MAX: usize = 512;

/// Scratch of `shortest_prefix`.
pub struct Mass {
    buckets: Box<[[f64; BUCKETS]; COPIES]>,
    /// Entries of the bucket in which the share is reached.
    edge: Candidates,
    /// Also borrowed by top-k.
    pub keys: Vec<u64>,
}

/// What a prefix must weigh, as a share of the whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Share {
    /// The sum reaches the share (top-p).
    AtLeast(f32),
    /// The sum exceeds it (typical-p, as llama.cpp has it).
    Above(f32),
}

/// How entries map to buckets: linearly between the best and the worst.
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

    /// Never falls as `rank` falls, always below `BUCKETS`.
    #[inline(always)]
    fn bucket(&self, rank: f32) -> u32 {
        // 2^23: adding it leaves the nearest whole number in the low bits.
        (((self.best - rank) * self.per_unit + 8_388_608.0).to_bits()) & (BUCKETS as u32 - 1)
    }
}

impl Mass {
    pub fn new(n_vocab: usize) -> Mass {
        Mass {
            buckets: Box::new([[0.0; BUCKETS]; COPIES]),
            edge: Candidates::new(n_vocab),
            keys: Vec::with_capacity(n_vocab),
        }
    }

    /// Orders the row's entries by descending `rank(value)`, weighs each with `exp(value - best)` and returns the cut,
    /// in terms of ranks, after the shortest prefix whose weight is the share of all weights.
    pub fn shortest_prefix(
        &mut self,
        row: &[f32],
        maxima: &[f32],
        best: f32,
        share: Share,
        rank: impl Fn(f32) -> f32 + Copy,
    ) -> Cut {
        let lowest = (best - REACH).max(f32::MIN);
        let mut range = RankRange::new();
        each_block(row, |number, block| {
            if maxima[number] >= lowest {
                range.add(block, lowest, rank);
            }
        });
        let (top, bottom) = range.ends();

        self.clear_buckets();
        let scale = Scale::new(top, bottom);
        let buckets = &mut self.buckets;
        each_block(row, |number, block| {
            if maxima[number] >= lowest {
                add(buckets, block, lowest, best, &scale, rank);
            }
        });
        let all: f64 = self.merged();
        let target = match share {
            Share::AtLeast(p) => f64::from(p) * all,
            Share::Above(p) => (f64::from(p) * all).next_up(),
        };
        let Some((bucket, mut before)) = self.reached(target, 0.0) else { return Cut::NONE };
        let edge = &mut self.edge;
        edge.clear();
        each_block(row, |number, block| {
            if maxima[number] >= lowest {
                let here: [bool; BLOCK] =
                    std::array::from_fn(|i| block[i] >= lowest && scale.bucket(rank(block[i])) == bucket);
                if here.iter().fold(false, |any, &one| any | one) {
                    for lane in 0..BLOCK {
                        if here[lane] {
                            edge.push(block[lane], (number * BLOCK + lane) as u32);
                        }
                    }
                }
            }
        });

        while self.edge.values.len() > SORTED_MAX {
            let (top, bottom) = RankRange::of(&self.edge.values, rank);
            if top == bottom {
                break;
            }
            let scale = Scale::new(top, bottom);
            self.clear_buckets();
            let Mass { edge, buckets, .. } = self;
            each_block(&edge.values, |_, block| add(buckets, block, lowest, best, &scale, rank));
            self.merged();
            // The sum so far plus these entries reaches the target but for rounding: then it is in the last of them.
            let (bucket, sum) = self.reached(target, before).unwrap_or_else(|| self.last_used(before));
            let had = self.edge.values.len();
            self.edge.retain_if(|value, _| scale.bucket(rank(value)) == bucket);
            before = sum;
            if self.edge.values.len() == had {
                break;
            }
        }
        self.walk(target, before, best, rank)
    }

    #[cfg(test)]
    pub fn edge_capacity(&self) -> usize {
        self.edge.values.capacity()
    }

    fn clear_buckets(&mut self) {
        for copy in self.buckets.iter_mut() {
            copy.fill(0.0);
        }
    }

    /// Adds up the copies in the first of them; returns the whole sum.
    fn merged(&mut self) -> f64 {
        let [first, others @ ..] = &mut *self.buckets;
        for copy in others {
            for (sum, more) in first.iter_mut().zip(copy) {
                *sum += *more;
            }
        }
        first.iter().sum()
    }

    /// The bucket in which the sum, `before` what they hold, reaches the target, and the sum before that bucket.
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

    /// Goes through the edge's entries in order until the sum reaches the target.
    fn walk(&mut self, target: f64, before: f64, best: f32, rank: impl Fn(f32) -> f32 + Copy) -> Cut {
        let Mass { edge, keys, .. } = self;
        let (top, bottom) = RankRange::of(&edge.values, rank);
        keys.clear();
        keys.extend(edge.values.iter().enumerate().map(|(place, &value)| key(rank(value), place as u32)));
        if top > bottom {
            keys.sort_unstable();
        }
        let mut sum = before;
        for &next in keys.iter() {
            let place = next as u32 as usize;
            sum += f64::from(exp(edge.values[place] - best));
            if sum >= target {
                return Cut::after(key(rank(edge.values[place]), edge.ids[place]));
            }
        }
        // Rounding left a crumb to be found: the whole edge is kept.
        Cut { floor: bottom, ties_end: usize::MAX }
    }
}

/// Adds a block's weights to the buckets.
#[inline(always)]
fn add(
    buckets: &mut [[f64; BUCKETS]; COPIES],
    block: &[f32; BLOCK],
    lowest: f32,
    best: f32,
    scale: &Scale,
    rank: impl Fn(f32) -> f32,
) {
    let mut weights = [0.0f32; BLOCK];
    let mut places = [0u32; BLOCK];
    for lane in 0..BLOCK {
        let value = block[lane];
        let here = value >= lowest;
        weights[lane] = if here { exp(value - best) } else { 0.0 };
        places[lane] = if here { scale.bucket(rank(value)) } else { 0 };
    }
    for lane in 0..BLOCK {
        buckets[lane % COPIES][places[lane] as usize % BUCKETS] += f64::from(weights[lane]);
    }
}

/// The highest and the lowest rank among entries, in independent lanes.
struct RankRange {
    top: [f32; BLOCK],
    bottom: [f32; BLOCK],
}

impl RankRange {
    fn new() -> RankRange {
        RankRange { top: [f32::MIN; BLOCK], bottom: [f32::MAX; BLOCK] }
    }

    fn of(values: &[f32], rank: impl Fn(f32) -> f32 + Copy) -> (f32, f32) {
        let mut range = RankRange::new();
        each_block(values, |_, block| range.add(block, f32::MIN, rank));
        range.ends()
    }

    #[inline(always)]
    fn add(&mut self, block: &[f32; BLOCK], lowest: f32, rank: impl Fn(f32) -> f32) {
        for lane in 0..BLOCK {
            let (here, r) = (block[lane] >= lowest, rank(block[lane]));
            self.top[lane] = if here && r > self.top[lane] { r } else { self.top[lane] };
            self.bottom[lane] = if here && r < self.bottom[lane] { r } else { self.bottom[lane] };
        }
    }

    fn ends(&self) -> (f32, f32) {
        let top = self.top.iter().copied().fold(f32::MIN, f32::max);
        (top, self.bottom.iter().copied().fold(f32::MAX, f32::min))
    }
}
