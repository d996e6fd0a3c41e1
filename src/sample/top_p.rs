//! Top-p, the nucleus (Holtzman et al. 2020), over any number of entries without a sort.
//!
//! Runs on the batching thread. When a few tokens carry the share, which is usual, a look at the few blocks that hold
//! large entries finds the cut, once the row is summed; otherwise `mass` goes through all of it.

use super::draw::sum_of_weights;
use super::mass::{Mass, Target, View};
use super::row::Cut;

/// Entries this far below the best one are tried alone first: each has less than a thousandth of its probability.
const NEAR: f32 = 7.0;

/// ... where they lie in at most one of so many blocks, so that trying in vain costs little.
const NEAR_BLOCKS: usize = 32;

/// Entries this far below the best one weigh nothing: with a million of them that is 1e-7 of the whole.
pub const REACH: f32 = 30.0;

/// The cut after the smallest set of entries whose probability reaches `p`.
pub fn top_p(row: &[f32], maxima: &[f32], best: f32, p: f32, mass: &mut Mass) -> Cut {
    let mut prefix = |floor: f32, target: Target| {
        let view = View { row, maxima, best, floor: floor.max(f32::MIN) };
        mass.shortest_prefix(view, target, |value| value)
    };
    let near = maxima.iter().filter(|&&max| max >= best - NEAR).count();
    let mut target = Target::Share(p);
    if near * NEAR_BLOCKS <= maxima.len() {
        target = Target::Weight(f64::from(p) * sum_of_weights(row, maxima, best, best - REACH));
        if let Some(cut) = prefix(best - NEAR, target) {
            return cut;
        }
    }
    // If nothing reaches the target it is for rounding, with a p of nearly 1.
    prefix(best - REACH, target).unwrap_or(Cut::NONE)
}
