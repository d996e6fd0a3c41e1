//! The sampler in its plainest form: full sorts, f64, lists of tokens. Only tests use it, as the reference for the fast
//! one.

use crate::dice::Dice;
use crate::types::SamplingParams;

/// A row in one of the shapes that tests need: noise, ties, flat, peaked, Zipf, holes of `-inf` and NaN, two distant
/// levels.
pub fn shapes(rng: &mut Dice, n: usize) -> Vec<f32> {
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
