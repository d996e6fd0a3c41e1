//! The last step: temperature over what the filters left, and one draw from it.
//!
//! Runs on the batching thread. The draw inverts the cumulative distribution in ascending order of token id, whatever
//! filters ran. This fixed order makes the token a function of the logits and one uniform number.

use super::exp::exp;
use super::row::{BLOCK, Cut, each_block};

/// What the filters left: the entries of a row that a cut keeps, and the temperature they are drawn at.
#[derive(Clone, Copy)]
pub struct Survivors<'a> {
    /// The logits.
    pub row: &'a [f32],
    /// The largest entry of each block of `row`.
    pub maxima: &'a [f32],
    /// The largest entry of `row`, finite.
    pub best: f32,
    /// Which entries of `row` take part.
    pub cut: Cut,
    /// The temperature, above 0.
    pub temperature: f32,
}

impl Survivors<'_> {
    /// The index in the row at which the running sum of probabilities passes `u`, in [0, 1). `sums` is scratch memory.
    pub fn draw(&self, u: f64, sums: &mut Vec<f64>) -> usize {
        let target = u * self.total(sums);
        let mut before = 0.0;
        let number = sums.iter().position(|&sum| {
            before += sum;
            before > target
        });
        // Only rounding can leave the target unreached. Then the last block with a weight is drawn from.
        let number = number.or_else(|| sums.iter().rposition(|&sum| sum > 0.0)).unwrap_or(0);
        before -= sums[number];
        let mut chosen = number * BLOCK;
        for (lane, &weight) in self.weights_of(number).iter().enumerate() {
            if weight > 0.0 {
                chosen = number * BLOCK + lane;
                before += f64::from(weight);
                if before > target {
                    break;
                }
            }
        }
        chosen
    }

    /// The sum of the weights of all entries. Writes the sum of each block to `sums`.
    pub fn total(&self, sums: &mut Vec<f64>) -> f64 {
        sums.clear();
        each_block(self.row, |number, block| {
            sums.push(if self.maxima[number] >= self.cut.floor { sum(&self.weights(number, block)) } else { 0.0 });
        });
        sums.iter().sum()
    }

    /// Every entry that the cut keeps, as (index, value).
    pub fn entries(&self) -> impl Iterator<Item = (usize, f32)> + '_ {
        let blocks = self.row.chunks(BLOCK).enumerate();
        let wanted = blocks.filter(|(number, _)| self.maxima[*number] >= self.cut.floor);
        let entries = wanted.flat_map(|(number, block)| (number * BLOCK..).zip(block.iter().copied()));
        entries.filter(|(place, value)| self.cut.keeps(*place, *value))
    }

    /// Calls `f` with the index and the probability of every entry whose probability is above 0.
    pub fn each(&self, mut f: impl FnMut(usize, f32)) {
        let mut all = 0.0;
        each_block(self.row, |number, block| all += sum(&self.weights(number, block)));
        each_block(self.row, |number, block| {
            for (lane, &weight) in self.weights(number, block).iter().enumerate() {
                if weight > 0.0 {
                    f(number * BLOCK + lane, (f64::from(weight) / all) as f32);
                }
            }
        });
    }

    /// `exp((value - best) / temperature)` where the cut keeps the entry, otherwise 0.
    #[inline(always)]
    fn weights(&self, number: usize, block: &[f32; BLOCK]) -> [f32; BLOCK] {
        let start = number * BLOCK;
        if start + BLOCK <= self.cut.ties_end {
            self.weights_above(block, |_| self.cut.floor)
        } else {
            self.weights_above(block, |lane| self.cut.floor_at(start + lane))
        }
    }

    #[inline(always)]
    fn weights_above(&self, block: &[f32; BLOCK], floor: impl Fn(usize) -> f32) -> [f32; BLOCK] {
        // A temperature whose reciprocal overflows is treated as the smallest one whose doesn't.
        let sharpness = self.temperature.recip().min(f32::MAX);
        let mut weights = [0.0; BLOCK];
        for lane in 0..BLOCK {
            let weight = exp((block[lane] - self.best) * sharpness);
            weights[lane] = if block[lane] >= floor(lane) { weight } else { 0.0 };
        }
        weights
    }

    fn weights_of(&self, number: usize) -> [f32; BLOCK] {
        let mut block = [f32::NAN; BLOCK];
        let start = number * BLOCK;
        let entries = &self.row[start..self.row.len().min(start + BLOCK)];
        block[..entries.len()].copy_from_slice(entries);
        self.weights(number, &block)
    }
}

/// The sum of `exp(value - best)` over the blocks with an entry of at least `floor`.
pub fn sum_of_weights(row: &[f32], maxima: &[f32], best: f32, floor: f32) -> f64 {
    let mut all = 0.0;
    each_block(row, |number, block| {
        if maxima[number] >= floor {
            let mut weights = [0.0; BLOCK];
            for lane in 0..BLOCK {
                weights[lane] = exp(block[lane] - best);
            }
            all += sum(&weights);
        }
    });
    all
}

/// Adds in eight lanes: with a single sum each addition would wait for the one before.
#[inline(always)]
fn sum(weights: &[f32; BLOCK]) -> f64 {
    let mut lanes = [0.0f32; 8];
    for eight in weights.as_chunks::<8>().0 {
        for lane in 0..8 {
            lanes[lane] += eight[lane];
        }
    }
    let four: [f32; 4] = std::array::from_fn(|i| lanes[i] + lanes[i + 4]);
    f64::from((four[0] + four[2]) + (four[1] + four[3]))
}
