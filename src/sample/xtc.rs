//! XTC, "exclude top choices" (p-e-w 2024): of the tokens that are all likely enough, the least likely alone stays.
//!
//! Runs on the batching thread: two passes over what the filters left, without a sort. Whether it acts on a token at all is drawn
//! by the caller.

use super::candidates::Candidates;
use super::draw::Survivors;

/// Fills `left` with what stays of `before`, whose temperature is 1, ids being places in its row. `false`: everything stays, and
/// `left` says nothing. At least `min_keep` entries stay, or XTC doesn't act.
pub fn xtc(before: &Survivors, threshold: f32, min_keep: usize, left: &mut Candidates) -> bool {
    if threshold > 0.5 {
        return false;
    }
    let all: f64 = before.entries().map(|(_, value)| f64::from(value - before.best).exp()).sum();
    let is_top = |value: f32| f64::from(value - before.best).exp() / all >= f64::from(threshold);
    // The last of the top choices in descending order, of equal ones the one with the highest id.
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
