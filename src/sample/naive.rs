//! The sampler in its plainest form: full sorts, f64, lists of tokens. Only tests use it, as the reference for the fast
//! one.

use crate::types::SamplingParams;

/// A small seeded generator for test rows (SplitMix64).
pub struct Rng(pub u64);

impl Rng {
    /// The next 64 random bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A random number in `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// A random number in [0, 1).
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// A random number of the standard normal distribution.
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.unit()).sum::<f32>() - 6.0
    }
}

/// A row in one of the shapes that tests need: noise, ties, flat, peaked, Zipf, holes of `-inf` and NaN, two distant
/// levels.
pub fn shapes(rng: &mut Rng, n: usize) -> Vec<f32> {
    let kind = rng.below(9);
    let spread = [0.01, 1.0, 3.0, 10.0][rng.below(4)];
    let mut row: Vec<f32> = (0..n)
        .map(|i| match kind {
            0 | 1 => rng.normal() * spread,
            2 => rng.below(5) as f32 - 2.0,
            3 => 1.5,
            4 => rng.normal() * 0.001 - 7.0,
            5 => -1.1 * ((i + 1) as f32).ln() + rng.normal() * 0.3,
            6 => [f32::NEG_INFINITY, f32::NAN, -0.0, 0.0, 2.0, -3.5][rng.below(6)],
            7 => rng.normal() * spread + if rng.below(3) == 0 { f32::NEG_INFINITY } else { 0.0 },
            _ => rng.normal() * 1e-4 - 20.0,
        })
        .collect();
    if kind == 8 || rng.below(6) == 0 {
        let place = rng.below(n);
        row[place] = 8.0;
    }
    row
}

/// The tokens that the filters keep, before temperature, in descending order.
pub fn survivors(row: &[f32], params: &SamplingParams) -> Vec<usize> {
    let mut kept: Vec<usize> = (0..row.len()).filter(|&i| row[i] > f32::NEG_INFINITY).collect();
    kept.sort_by(|&a, &b| row[b].partial_cmp(&row[a]).unwrap().then(a.cmp(&b)));
    if params.top_k > 0 {
        kept.truncate(params.top_k);
    }
    if params.typical_p < 1.0 && !kept.is_empty() {
        let p = probabilities(row, &kept, 1.0);
        let mean: f64 = kept.iter().zip(&p).map(|(&i, p)| p * f64::from(row[i])).sum();
        let mut order: Vec<(f64, usize, f64)> =
            kept.iter().zip(&p).map(|(&i, &p)| ((f64::from(row[i]) - mean).abs(), i, p)).collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut sum = 0.0;
        let end = order.iter().position(|o| {
            sum += o.2;
            sum > f64::from(params.typical_p)
        });
        order.truncate(end.map_or(order.len(), |end| end + 1));
        kept = order.iter().map(|o| o.1).collect();
        kept.sort_by(|&a, &b| row[b].partial_cmp(&row[a]).unwrap().then(a.cmp(&b)));
    }
    if params.top_p < 1.0 && !kept.is_empty() {
        let mut sum = 0.0;
        let end = probabilities(row, &kept, 1.0).iter().position(|p| {
            sum += p;
            sum >= f64::from(params.top_p)
        });
        kept.truncate(end.map_or(kept.len(), |end| end + 1));
    }
    if params.min_p > 0.0 && !kept.is_empty() {
        let floor = row[kept[0]] + params.min_p.ln();
        kept.retain(|&i| row[i] >= floor);
    }
    kept
}

/// Softmax over `tokens`.
pub fn probabilities(row: &[f32], tokens: &[usize], temperature: f32) -> Vec<f64> {
    let best = tokens.iter().map(|&i| f64::from(row[i])).fold(f64::MIN, f64::max);
    let weights: Vec<f64> =
        tokens.iter().map(|&i| ((f64::from(row[i]) - best) / f64::from(temperature)).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|w| w / sum).collect()
}
