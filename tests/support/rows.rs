//! Rows of logits for tests and benches. A seed determines each row.
#![allow(dead_code, reason = "the test and the bench each use a part")]

#[path = "dice.rs"]
mod dice;

use dice::Dice;

/// The size of Qwen3's vocabulary.
pub const VOCAB_LARGE: usize = 151_936;

/// Probabilities fall with the rank to the power `-steepness`, with noise; ranks are scattered over the ids. Of 151,936
/// tokens a nucleus of 0.95 holds some 45,000 at 1.1 and nine at 2.0.
pub fn zipf(n: usize, steepness: f32, seed: u64) -> Vec<f32> {
    let mut rng = Dice::new(seed);
    let mut row: Vec<f32> = (1..=n).map(|rank| -steepness * (rank as f32).ln() + 0.4 * rng.normal() + 9.0).collect();
    for i in (1..n).rev() {
        row.swap(i, rng.below(i + 1));
    }
    row
}

/// Noise of the given width around 0. With a small width, nearly every token passes any filter.
pub fn noise(n: usize, width: f32, seed: u64) -> Vec<f32> {
    let mut rng = Dice::new(seed);
    (0..n).map(|_| width * rng.normal()).collect()
}
