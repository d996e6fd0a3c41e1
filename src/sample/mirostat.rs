//! Mirostat 2 (Basu et al. 2021): tokens more surprising than a bound are cut off, and the bound follows the surprise of what is
//! drawn, so that a text keeps about the same.
//!
//! Runs on the batching thread. Surprise is -log2 of the tempered probability, so the bound is a floor under the logits and needs
//! no sort. The bound itself stays with the sampler.

use super::draw::Survivors;
use super::row::{Cut, argmax};

/// What is at most `bound` bits surprising; the likeliest where nothing is. `temperature` > 0; `sums` is scratch.
pub fn cut(row: &[f32], maxima: &[f32], best: f32, temperature: f32, bound: f32, sums: &mut Vec<f64>) -> Cut {
    let all = Survivors { row, maxima, best, cut: Cut::NONE, temperature }.total(sums);
    let floor = f64::from(best) + f64::from(temperature) * (all.ln() - f64::from(bound) * std::f64::consts::LN_2);
    if floor <= f64::from(best) {
        return Cut::from((floor as f32).max(f32::MIN));
    }
    Cut { floor: best, ties_end: argmax(row).map_or(usize::MAX, |place| place + 1) }
}

/// How surprising the entry at `place` is among the survivors, in bits. `sums` is scratch.
pub fn surprise(survivors: &Survivors, place: usize, sums: &mut Vec<f64>) -> f32 {
    let weight = (f64::from(survivors.row[place] - survivors.best) / f64::from(survivors.temperature)).exp();
    (survivors.total(sums) / weight).log2() as f32
}
