//! Dynamic temperature: a temperature that follows the entropy of the model's distribution.
//!
//! Runs on the batching thread, once over what the filters left. The entropy of that distribution, divided by the
//! largest possible, sets where in the range the temperature lies.

use super::draw::Survivors;
use crate::types::SamplingParams;

/// The temperature at which to draw from `survivors`; 0 means the most likely token. `survivors.temperature` is the
/// middle of the range.
pub fn temperature(survivors: &Survivors, params: &SamplingParams) -> f32 {
    let (mut count, mut sum, mut weighted) = (0u32, 0.0f64, 0.0f64);
    for (_, value) in survivors.entries() {
        let distance = f64::from(value) - f64::from(survivors.best);
        let weight = distance.exp();
        count += 1;
        sum += weight;
        if weight > 0.0 {
            weighted += weight * distance;
        }
    }
    if count < 2 {
        return params.temperature.max(f32::MIN_POSITIVE);
    }
    let entropy = sum.ln() - weighted / sum;
    let normalised = (entropy / f64::from(count).ln()).clamp(0.0, 1.0);
    let (middle, range) = (f64::from(params.temperature), f64::from(params.dynatemp_range));
    let (low, high) = ((middle - range).max(0.0), middle + range);
    (low + (high - low) * normalised.powf(f64::from(params.dynatemp_exponent))) as f32
}

#[cfg(test)]
mod tests {
    use super::super::row::Cut;
    use super::*;

    #[test]
    fn the_temperature_follows_the_entropy_of_what_is_left() {
        let mut row = [-50.0; 64];
        (row[0], row[40]) = (0.0, -1.0);
        let survivors =
            Survivors { row: &row, maxima: &[0.0, -1.0], best: 0.0, cut: Cut::from(-10.0), temperature: 1.0 };
        assert_eq!(survivors.entries().collect::<Vec<_>>(), [(0, 0.0), (40, -1.0)]);
        let params = SamplingParams {
            temperature: 1.0,
            dynatemp_range: 0.5,
            dynatemp_exponent: 1.0,
            ..SamplingParams::default()
        };
        let likely = 1.0 / (1.0 + (-1.0_f64).exp());
        let entropy = -(likely * likely.ln() + (1.0 - likely) * (1.0 - likely).ln());
        let expected = 0.5 + entropy / 2.0_f64.ln();
        assert!((f64::from(temperature(&survivors, &params)) - expected).abs() < 1e-6);
    }
}
