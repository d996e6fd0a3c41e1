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
