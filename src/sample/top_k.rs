//! Top-k without sorting the vocabulary.
//!
//! Runs on the batching thread. The row is split into stretches. The k-th largest of their maxima is a lower bound of
//! the k-th largest entry, because k stretches each hold an entry at least that large. With about eight stretches for
//! each entry wanted the bound is tight; only the entries above it are partitioned, and none are sorted.

use super::candidates::Candidates;
use super::row::{Cut, key, slice_max, unkey};

/// Fills `kept` with the `k` largest entries of the row (fewer if it has fewer), equal ones by lowest id. `keys` is
/// scratch memory.
pub fn top_k(row: &[f32], maxima: &[f32], k: usize, keys: &mut Vec<u64>, kept: &mut Candidates) {
    kept.gather(row, maxima, bound(maxima, k, keys));
    if kept.values.len() > k {
        keys.clear();
        keys.extend(kept.values.iter().zip(&kept.ids).map(|(&value, &id)| key(value, id)));
        let (_, &mut last, _) = keys.select_nth_unstable(k - 1);
        kept.retain(Cut::after(last));
    }
}

/// The cut after the `k` largest entries (at least one) of the row; `Cut::NONE` if it has fewer. Slower than `top_k`;
/// used only for the rare request that sets `min_keep`.
pub fn cut(row: &[f32], k: usize, keys: &mut Vec<u64>) -> Cut {
    keys.clear();
    let exist = row.iter().zip(0..).filter(|(value, _)| **value >= f32::MIN);
    keys.extend(exist.map(|(&value, id)| key(value, id)));
    if k >= keys.len() {
        return Cut::NONE;
    }
    let (_, &mut last, _) = keys.select_nth_unstable(k - 1);
    Cut::after(last)
}

/// A value that at least `k` entries reach, if the row has that many. If there are fewer than `k` blocks, the smallest
/// value that exists.
fn bound(maxima: &[f32], k: usize, keys: &mut Vec<u64>) -> f32 {
    if k > maxima.len() {
        return f32::MIN;
    }
    let blocks_per_stretch = (maxima.len() / (8 * k)).max(1);
    keys.clear();
    keys.extend(maxima.chunks(blocks_per_stretch).map(|stretch| key(slice_max(stretch), 0)));
    let (_, &mut nth, _) = keys.select_nth_unstable(k - 1);
    // A stretch without entries gives no bound.
    unkey(nth).0.max(f32::MIN)
}
