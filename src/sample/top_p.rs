//! Top-p, the nucleus (Holtzman et al. 2020), over any number of entries without a sort.
//!
//! Runs on the batching thread. The whole row is summed once. When a few tokens carry the share, which is usual, a look
//! at the few blocks that hold large entries finds the cut; otherwise `mass` goes through all of them.

use super::draw::sum_of_weights;
use super::mass::{Mass, View};
use super::row::Cut;

/// Entries this far below the best one are tried alone first: each has less than a thousandth of its probability.
const NEAR: f32 = 7.0;

/// ... where they lie in at most one of so many blocks, so that trying in vain costs little.
const NEAR_BLOCKS: usize = 8;

/// Entries this far below the best one weigh nothing: with a million of them that is 1e-7 of the whole.
pub const REACH: f32 = 30.0;

/// The cut after the smallest set of entries whose probability reaches `p`.
pub fn top_p(row: &[f32], maxima: &[f32], best: f32, p: f32, mass: &mut Mass) -> Cut {
    let target = f64::from(p) * sum_of_weights(row, maxima, best, best - REACH);
    let mut prefix = |floor: f32| {
        let view = View { row, maxima, best, floor: floor.max(f32::MIN) };
        mass.shortest_prefix(view, target, |value| value)
    };
    let near = maxima.iter().filter(|&&max| max >= best - NEAR).count();
    let tried = if near * NEAR_BLOCKS <= maxima.len() { prefix(best - NEAR) } else { None };
    // If nothing reaches the target it is for rounding, with a p of nearly 1.
    tried.or_else(|| prefix(best - REACH)).unwrap_or(Cut::NONE)
}
