//! `exp` for the passes over a whole row: branch-free, so that LLVM turns it into eight lanes at once.
//!
//! Pure arithmetic for the batching thread. Never called with positive arguments: a logit is always taken relative to
//! the row's largest.

/// Arguments below this give 0: the last whole step before results leave the normal range.
const UNDERFLOW: f32 = -87.0;

/// `exp(d)` for `d <= 0`, within 2e-7 relative; exactly 1 at 0; 0 below -87 (`-inf` too) and for NaN.
///
/// Range reduction by ln 2 in two parts and a polynomial of degree five, as in Cephes' `expf` (Moshier).
#[inline(always)]
pub fn exp(d: f32) -> f32 {
    // 1.5 * 2^23: adding it leaves the nearest whole number in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    let live = d >= UNDERFLOW;
    let d = if live { d } else { 0.0 };
    let rounded = fma(d, std::f32::consts::LOG2_E, ROUND);
    let whole = rounded - ROUND;
    let rest = fma(whole, 2.121_944_4e-4, fma(whole, -0.693_359_375, d));
    let mut poly = 1.987_569_1e-4;
    poly = fma(poly, rest, 1.398_199_9e-3);
    poly = fma(poly, rest, 8.333_452e-3);
    poly = fma(poly, rest, 4.166_579_6e-2);
    poly = fma(poly, rest, 1.666_666_5e-1);
    poly = fma(poly, rest, 0.5);
    let mantissa = fma(poly, rest * rest, rest) + 1.0;
    // The whole part goes straight into the exponent field; everything above it is shifted out.
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
    if live { mantissa * power } else { 0.0 }
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
        let mut worst = 0.0f64;
        for i in 0..=8_700_000 {
            let d = -(i as f32) * 1e-5;
            let exact = f64::from(d).exp();
            worst = worst.max((f64::from(exp(d)) - exact).abs() / exact);
        }
        assert!(worst <= 2e-7, "{worst:e}");
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
