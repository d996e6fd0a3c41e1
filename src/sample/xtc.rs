//! XTC, "exclude top choices" (p-e-w 2024): of all tokens that are likely enough, only the least likely is kept.
//!
//! Runs on the batching thread: two passes over what the filters left, without a sort. The caller decides at random
//! whether it acts on a token at all.

use super::candidates::Candidates;
use super::draw::Survivors;

/// Fills `left` with what XTC keeps of `before`, whose temperature is 1; the ids are indices of its row. Returns
/// `false` if XTC keeps everything; then `left` is undefined. XTC doesn't act if fewer than `min_keep` entries would be
/// left.
pub fn xtc(before: &Survivors, threshold: f32, min_keep: usize, left: &mut Candidates) -> bool {
    if threshold > 0.5 {
        return false;
    }
    let all: f64 = before.entries().map(|(_, value)| f64::from(value - before.best).exp()).sum();
    let is_top = |value: f32| f64::from(value - before.best).exp() / all >= f64::from(threshold);
    // The last of the top choices in descending order; of equal ones the one with the highest id.
    let (mut entries, mut top, mut last) = (0, 0, None);
    for (place, value) in before.entries() {
        entries += 1;
        if is_top(value) {
            top += 1;
            last = match last {
                Some((_, least)) if value > least => last,
                _ => Some((place, value)),
            };
        }
    }
    let Some((last, least)) = last else { return false };
    if top < 2 || entries + 1 - top < min_keep {
        return false;
    }
    left.clear();
    for (place, value) in before.entries() {
        if value < least && !is_top(value) || place == last {
            left.push(value, place as u32);
        }
    }
    true
}
