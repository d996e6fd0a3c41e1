//! Rows of logits for tests and benches. A seed determines each row.
#![allow(dead_code, reason = "the test and the bench each use a part")]

/// The size of Qwen3's vocabulary.
pub const VOCAB_LARGE: usize = 151_936;

/// SplitMix64.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in [0, 1).
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// A number with mean 0 and standard deviation 1, as a sum of twelve.
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.unit()).sum::<f32>() - 6.0
    }
}

/// Probabilities fall with the rank to the power `-steepness`, with noise; ranks are scattered over the ids. Of 151,936
/// tokens a nucleus of 0.95 holds some 45,000 at 1.1 and nine at 2.0.
pub fn zipf(n: usize, steepness: f32, seed: u64) -> Vec<f32> {
    let mut rng = Rng(seed);
    let mut row: Vec<f32> = (1..=n).map(|rank| -steepness * (rank as f32).ln() + 0.4 * rng.normal() + 9.0).collect();
    for i in (1..n).rev() {
        row.swap(i, (rng.next() % (i as u64 + 1)) as usize);
    }
    row
}

/// Noise of the given width around 0. With a small width, nearly every token passes any filter.
pub fn noise(n: usize, width: f32, seed: u64) -> Vec<f32> {
    let mut rng = Rng(seed);
    (0..n).map(|_| width * rng.normal()).collect()
}
