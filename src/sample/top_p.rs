//! Top-p, the nucleus (Holtzman et al. 2020), over any number of entries without a sort.
//!
//! Runs on the batching thread. Usually a few tokens carry the share. Then, once the row is summed, the cut is found
//! among the few blocks that hold large entries; otherwise `mass` searches the whole row.

use super::draw::sum_of_weights;
use super::mass::{Mass, PrefixWeight, View};
use super::row::Cut;

/// Entries this far below the best one are tried alone first: each has less than a thousandth of its probability.
const NEAR: f32 = 7.0;

/// The attempt with near entries is made only if they lie in at most this many blocks, so that a failed attempt costs
/// little.
const NEAR_BLOCKS: usize = 32;

/// Entries this far below the best one have no weight: a million of them have 1e-7 of the whole.
pub const REACH: f32 = 30.0;

/// The cut after the smallest set of entries whose probability reaches `p`.
pub fn top_p(row: &[f32], maxima: &[f32], best: f32, p: f32, mass: &mut Mass) -> Cut {
    let mut prefix = |floor: f32, target: PrefixWeight| {
        let view = View { row, maxima, best, floor: floor.max(f32::MIN) };
        mass.shortest_prefix(view, target, |value| value)
    };
    let near = maxima.iter().filter(|&&max| max >= best - NEAR).count();
    let mut target = PrefixWeight::Share(p);
    if near * NEAR_BLOCKS <= maxima.len() {
        target = PrefixWeight::Weight(f64::from(p) * sum_of_weights(row, maxima, best, best - REACH));
        if let Some(cut) = prefix(best - NEAR, target) {
            return cut;
        }
    }
    // If no prefix reaches the target, only rounding is the cause, with a p of nearly 1: everything is kept.
    prefix(best - REACH, target).unwrap_or(Cut::NONE)
}
