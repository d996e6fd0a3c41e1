//! Top-n-sigma (Tang et al. 2024): keep the logits that lie at most n standard deviations below the largest.
//!
//! Runs on the batching thread: two passes over the row, without a sort. The logits of a sharp distribution are a noisy
//! bulk and a few that stand out. The bulk's standard deviation shows where it ends, whatever the temperature.

/// The smallest logit to keep; `None` if `n` is at most 0, which turns the filter off. `best` is the largest logit,
/// finite.
pub fn floor(row: &[f32], best: f32, n: f32) -> Option<f32> {
    if n <= 0.0 {
        return None;
    }
    let exist = || row.iter().filter(|value| **value >= f32::MIN).map(|&value| f64::from(value));
    let (mut count, mut sum) = (0u32, 0.0f64);
    for value in exist() {
        count += 1;
        sum += value;
    }
    let mean = sum / f64::from(count);
    let variance = exist().map(|value| (value - mean) * (value - mean)).sum::<f64>() / f64::from(count);
    let floor = f64::from(best) - f64::from(n) * variance.sqrt();
    // The largest logit itself is always kept. A floor that is NaN keeps all.
    Some(if floor > f64::from(f32::MIN) { (floor as f32).min(best) } else { f32::MIN })
}

#[cfg(test)]
mod tests {
    use super::floor;

    #[test]
    fn it_is_so_many_standard_deviations_below_the_best() {
        // Mean 2, deviations -2, 0, 0, 2: a standard deviation of the root of 2.
        let row = [0.0, f32::NEG_INFINITY, 2.0, f32::NAN, 2.0, 4.0];
        assert_eq!(floor(&row, 4.0, 0.0), None);
        assert!((floor(&row, 4.0, 1.0).unwrap() - (4.0 - 2f32.sqrt())).abs() < 1e-6);
        assert_eq!(floor(&[3.0; 9], 3.0, 1.0), Some(3.0));
        assert_eq!(floor(&[f32::MAX, f32::MIN], f32::MAX, 9.0), Some(f32::MIN));
    }
}
