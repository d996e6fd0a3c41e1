//! `exp` for the passes over a whole row: branch-free, so that LLVM turns it into eight lanes at once.
//!
//! Pure arithmetic for the batching thread. Never called with positive arguments: a logit is always taken relative to
//! the row's largest.

/// Arguments below this give 0: the last whole step before results leave the normal range.
const UNDERFLOW: f32 = -87.0;

/// `exp(d)` for `d <= 0`: exactly 1 at 0, 0 below -87 (`-inf` too) and for NaN. Relative error at most 5e-7 down to
/// -30, 2e-6 down to -87.
///
/// exp(d) = 2^whole * 2^rest with the polynomial of Cephes' `exp2f` (Moshier). The error grows with |d| because log2(e)
/// is rounded; by then the weight is too small for that to matter.
#[inline(always)]
pub fn exp(d: f32) -> f32 {
    // 1.5 * 2^23: adding it leaves the nearest whole number in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    let rounded = fma(d, std::f32::consts::LOG2_E, ROUND);
    let rest = fma(d, std::f32::consts::LOG2_E, ROUND - rounded);
    let mut poly = 1.535_336_2e-4;
    poly = fma(poly, rest, 1.339_887_4e-3);
    poly = fma(poly, rest, 9.618_437e-3);
    poly = fma(poly, rest, 5.550_332_5e-2);
    poly = fma(poly, rest, 2.402_264_8e-1);
    poly = fma(poly, rest, 6.931_472e-1);
    let mantissa = fma(poly, rest, 1.0);
    // The whole part goes straight into the exponent field; everything above it is shifted out.
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
    if d >= UNDERFLOW { mantissa * power } else { 0.0 }
}

/// `a * b + c`, fused where the processor does it in one instruction; a library call per lane would cost more than it
/// rounds better.
#[inline(always)]
fn fma(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) { a.mul_add(b, c) } else { a * b + c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_within_the_stated_error() {
        let worst = |range: std::ops::RangeInclusive<i32>| {
            let errors = range.map(|i| {
                let d = -(i as f32) * 1e-5;
                let exact = f64::from(d).exp();
                (f64::from(exp(d)) - exact).abs() / exact
            });
            errors.fold(0.0, f64::max)
        };
        assert!(worst(0..=3_000_000) <= 5e-7, "{:e}", worst(0..=3_000_000));
        assert!(worst(3_000_000..=8_700_000) <= 2e-6, "{:e}", worst(3_000_000..=8_700_000));
    }

    #[test]
    fn edges() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(exp(-88.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::NAN), 0.0);
        assert!(exp(UNDERFLOW) > 0.0);
    }
}
