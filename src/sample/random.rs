//! The random numbers of draws: a number in [0, 1) from a seed and a position, without state.
//!
//! Runs on the batching thread. Nothing is advanced or shared, so a draw depends neither on the other requests in the
//! step nor on whether a step was repeated.

/// The `index`-th uniform number of the stream `seed`, in [0, 1) with 53 random bits.
///
/// SplitMix64 read out of order: its state is a counter that moves by an odd constant, so the n-th output is one
/// multiplication and one hash away (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
/// The seed is hashed first, so that neighbouring seeds start far apart.
pub fn uniform(seed: u64, index: u64) -> f64 {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let counter = mix(seed).wrapping_add(index.wrapping_add(1).wrapping_mul(GOLDEN));
    (mix(counter) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// SplitMix64's output hash (Stafford's variant 13 of MurmurHash3's finaliser).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_splitmix64() {
        // The first output of the published generator seeded with 1234567.
        assert_eq!(mix(1_234_567u64.wrapping_add(0x9E37_79B9_7F4A_7C15)), 6_457_827_717_110_365_317);
    }

    #[test]
    fn numbers_fill_the_unit_interval_evenly() {
        for seed in [0, 1, 2, u64::MAX] {
            let mut counts = [0u32; 64];
            for index in 0..64_000 {
                let u = uniform(seed, index);
                assert!((0.0..1.0).contains(&u));
                counts[(u * 64.0) as usize] += 1;
            }
            // Chi-square with 63 degrees of freedom; 150 is beyond a probability of 1e-8.
            let chi: f64 = counts.iter().map(|&n| (f64::from(n) - 1000.0).powi(2) / 1000.0).sum();
            assert!(chi < 150.0, "seed {seed}: {chi}");
        }
    }

    #[test]
    fn neighbouring_seeds_and_indices_are_unrelated() {
        for (a, b) in [((7, 0), (8, 0)), ((7, 0), (7, 1)), ((0, 1), (1, 0))] {
            let (mut same, n) = (0, 4096);
            for i in 0..n {
                same += i32::from((uniform(a.0, a.1 + i) < 0.5) == (uniform(b.0, b.1 + i) < 0.5));
            }
            assert!((same - n as i32 / 2).abs() < 200, "{a:?} {b:?}: {same} of {n} agree");
        }
    }
}
