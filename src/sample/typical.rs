//! Locally typical sampling (Meister et al. 2022): keep the tokens whose surprise is nearest the distribution's
//! entropy.
//!
//! Runs on the batching thread; no sort. With d = logit - best and Z the sum of exp(d), a token's surprise is ln Z - d
//! and the entropy is ln Z - mean(d). So their difference is the distance of d from its probability-weighted mean.
//! Typical-p is therefore top-p with another order, and `mass` finds the set for both.

use super::candidates::Candidates;
use super::exp::exp;
use super::mass::{Mass, PrefixWeight, View};
use super::row::{Cut, each_block, key};
use super::top_p::REACH;

/// How typical a value is: 0 at the mean, negative on both sides.
#[inline(always)]
fn rank(value: f32, mean: f32) -> f32 {
    -(value - mean).abs()
}

/// Fills `kept` with the most typical entries of the row: as many as are needed for their probability to exceed `p`,
/// and at least `min_keep` if it has as many.
pub fn typical(
    row: &[f32],
    maxima: &[f32],
    best: f32,
    p: f32,
    min_keep: usize,
    mass: &mut Mass,
    kept: &mut Candidates,
) {
    let Moments { weight, mean } = moments(row, best);
    let view = View { row, maxima, best, floor: (best - REACH).max(f32::MIN) };
    // llama.cpp requires a sum above p here, while top-p requires a sum of at least p.
    let target = PrefixWeight::Weight((f64::from(p) * weight).next_up());
    let mut cut = mass.shortest_prefix(view, target, |value| rank(value, mean)).unwrap_or(Cut::NONE);
    if min_keep > 1 {
        cut = cut.or(most_typical(row, mean, min_keep, &mut mass.keys));
    }
    kept.clear();
    each_block(row, |number, block| {
        kept.extend(number, block, |value, place| value >= f32::MIN && cut.keeps(place, rank(value, mean)));
    });
}

/// The cut after the `n` most typical entries. Its values are ranks.
fn most_typical(row: &[f32], mean: f32, n: usize, keys: &mut Vec<u64>) -> Cut {
    keys.clear();
    let exist = row.iter().zip(0..).filter(|(value, _)| **value >= f32::MIN);
    keys.extend(exist.map(|(&value, id)| key(rank(value, mean), id)));
    if n >= keys.len() {
        return Cut::NONE;
    }
    let (_, &mut last, _) = keys.select_nth_unstable(n - 1);
    Cut::after(last)
}

struct Moments {
    /// The sum of `exp(value - best)`.
    weight: f64,
    /// The mean of the values, weighted by probability.
    mean: f32,
}

fn moments(row: &[f32], best: f32) -> Moments {
    let (mut weight, mut weighted) = (0.0f64, 0.0f64);
    each_block(row, |_, block| {
        let (mut w, mut wd) = ([0.0f32; 8], [0.0f32; 8]);
        for eight in block.as_chunks::<8>().0 {
            for lane in 0..8 {
                let d = eight[lane] - best;
                let e = exp(d);
                w[lane] += e;
                wd[lane] += if e > 0.0 { e * d } else { 0.0 };
            }
        }
        weight += f64::from(w.iter().sum::<f32>());
        weighted += f64::from(wd.iter().sum::<f32>());
    });
    Moments { weight, mean: (f64::from(best) + weighted / weight) as f32 }
}
