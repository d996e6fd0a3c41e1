//! Mirostat 2 (Basu et al. 2021): tokens more surprising than a bound are cut off, and the bound follows the surprise
//! of the drawn tokens, so that the surprise of a text stays about constant.
//!
//! Runs on the batching thread. Surprise is -log2 of the tempered probability, so the bound is a lower bound on the
//! logits and needs no sort. The sampler keeps the bound itself.

use super::draw::Survivors;
use super::row::{Cut, argmax};

/// Keeps the entries whose surprise is at most `bound` bits, or the most likely one if there is none. `temperature` >
/// 0; `sums` is scratch memory.
pub fn cut(row: &[f32], maxima: &[f32], best: f32, temperature: f32, bound: f32, sums: &mut Vec<f64>) -> Cut {
    let all = Survivors { row, maxima, best, cut: Cut::NONE, temperature }.total(sums);
    let floor = f64::from(best) + f64::from(temperature) * (all.ln() - f64::from(bound) * std::f64::consts::LN_2);
    if floor <= f64::from(best) {
        return Cut::from((floor as f32).max(f32::MIN));
    }
    Cut { floor: best, ties_end: argmax(row).map_or(usize::MAX, |place| place + 1) }
}

/// The surprise, in bits, of the entry at index `place` among the survivors. `sums` is scratch memory.
pub fn surprise(survivors: &Survivors, place: usize, sums: &mut Vec<f64>) -> f32 {
    let weight = (f64::from(survivors.row[place] - survivors.best) / f64::from(survivors.temperature)).exp();
    (survivors.total(sums) / weight).log2() as f32
}
