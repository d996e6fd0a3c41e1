//! How many guesses each sequence of a step gets rows for. Pure.
//!
//! A step with guesses takes longer and may generate more tokens. Guesses are sorted by their chance, and the number of
//! them with the most tokens a second is chosen. So a guess gets a row if its chance times the value of a token exceeds
//! what the row costs in a step of this size. No sequence may lose by it: compared with a plain step, a step takes at
//! most as much longer as the sequence that gains least makes up for.

use super::costs::Costs;
use crate::types::limits::GUESS_STEP_ROWS_MAX;

/// The least gain over a plain step for which guesses are used, because measured means are never exact.
const WORTH_IT: f64 = 1.03;

/// How much longer than its gain a step may take a sequence, in any case.
const SLOWER_MAX: f64 = 1.1;

/// The most plain steps that one step may take, because no request can begin meanwhile.
const ALONE_STEPS_MAX: f64 = 8.0;
const STEPS_MAX: f64 = 3.0;

/// The guesses for one sequence of the step.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// The index of its first guess in `gains`.
    pub from: usize,
    /// The number of its guesses.
    pub count: usize,
    /// Its recent mean of tokens a step: gains in other steps count for this one.
    pub pace: f32,
    /// How many of its guesses get a row.
    pub granted: usize,
}

/// Grants rows to the guesses of `offers`, one for each sequence that decodes in the step. `gains`: for each guess the
/// chance that it and all before it are right. Grants at most `most` rows, and returns their number.
pub fn allot(offers: &mut [Offer], gains: &[f32], most: usize, costs: &Costs, order: &mut Vec<(f32, u16)>) -> usize {
    let plain_rows = offers.len();
    offers.iter_mut().for_each(|offer| offer.granted = 0);
    let Some(plain_us) = costs.step_us(plain_rows) else { return 0 };
    order.clear();
    for (i, offer) in offers.iter().enumerate() {
        order.extend(gains[offer.from..offer.from + offer.count].iter().map(|gain| (*gain, i as u16)));
    }
    // The sort is stable, so each sequence's guesses keep their order; a later guess is never likelier.
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    order.truncate(most.min(GUESS_STEP_ROWS_MAX.saturating_sub(plain_rows)));
    let longest = plain_us * if plain_rows == 1 { ALONE_STEPS_MAX } else { STEPS_MAX };

    let (mut expected, mut best, mut best_rate) = (plain_rows as f64, 0, WORTH_IT * plain_rows as f64 / plain_us);
    let mut each = vec![1.0_f32; plain_rows];
    for (n, (gain, i)) in order.iter().enumerate().map(|(i, guess)| (i + 1, *guess)) {
        expected += f64::from(gain);
        each[usize::from(i)] += gain;
        let Some(step_us) = costs.step_us(plain_rows + n) else { break };
        let rate = expected / step_us;
        if rate <= best_rate || step_us > longest {
            continue;
        }
        let least = each.iter().zip(offers.iter()).map(|(gained, offer)| gained.max(offer.pace)).min_by(f32::total_cmp);
        if step_us <= SLOWER_MAX * plain_us * f64::from(least.unwrap_or(1.0)) {
            (best, best_rate) = (n, rate);
        }
    }
    for (_, i) in &order[..best] {
        offers[usize::from(*i)].granted += 1;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Costs of `base_us` for one row, and `row_us` for each further one.
    fn costs(base_us: u64, row_us: u64) -> Costs {
        let mut costs = Costs::default();
        for rows in 1..=GUESS_STEP_ROWS_MAX {
            (0..300).for_each(|_| costs.learn(rows, base_us + (rows as u64 - 1) * row_us));
        }
        // Each measurement also moves the means before it a little.
        for _ in 0..300 {
            (1..=GUESS_STEP_ROWS_MAX).for_each(|rows| costs.learn(rows, base_us + (rows as u64 - 1) * row_us));
        }
        costs
    }

    /// The rows granted to sequences of `count` guesses each, whose chance falls by the factor `chance` from one to the
    /// next.
    fn granted(sequences: &[(usize, f32, f32)], most: usize, costs: &Costs) -> Vec<usize> {
        let (mut offers, mut gains) = (Vec::new(), Vec::new());
        for (count, chance, pace) in sequences {
            offers.push(Offer { from: gains.len(), count: *count, pace: *pace, granted: 9 });
            gains.extend((1..=*count as i32).map(|n| chance.powi(n)));
        }
        let all = allot(&mut offers, &gains, most, costs, &mut Vec::new());
        let granted: Vec<usize> = offers.iter().map(|offer| offer.granted).collect();
        assert_eq!(granted.iter().sum::<usize>(), all);
        granted
    }

    #[test]
    fn likely_guesses_get_rows_where_rows_are_cheap_and_none_where_they_are_dear() {
        let cheap = costs(20_000, 1_000);
        let many = granted(&[(20, 0.95, 1.0)], 64, &cheap)[0];
        assert!((8..=20).contains(&many), "{many}");
        let few = granted(&[(20, 0.5, 1.0)], 64, &cheap)[0];
        assert!(few > 0 && few < many, "{few}");
        assert_eq!(granted(&[(20, 0.05, 1.0)], 64, &cheap), [0]);
        assert_eq!(granted(&[(20, 0.95, 1.0)], 64, &costs(1_000, 1_000)), [0]);
        assert_eq!(granted(&[(20, 0.95, 1.0)], 3, &cheap), [3]);
        assert_eq!(granted(&[(20, 0.95, 1.0)], 64, &Costs::default()), [0]);
    }

    #[test]
    fn nobody_is_slowed_by_more_than_a_tenth_for_what_another_gains() {
        let cheap = costs(20_000, 1_000);
        let beside_free_text = granted(&[(20, 0.95, 1.0), (0, 0.0, 1.0)], 64, &cheap);
        assert!(beside_free_text[0] <= 2, "{beside_free_text:?}");
        // A sequence that usually gains takes part in the others' longer step while it has no guesses.
        let beside_a_pause = granted(&[(20, 0.95, 1.0), (0, 0.0, 6.0)], 64, &cheap);
        assert!(beside_a_pause[0] > 5, "{beside_a_pause:?}");
    }

    #[test]
    fn a_step_stays_short_where_others_wait_for_it() {
        let costs = costs(10_000, 2_000);
        let rows = granted(&[(16, 0.98, 16.0), (16, 0.98, 16.0)], 64, &costs);
        assert!(2 + rows.iter().sum::<usize>() <= 14, "{rows:?}");
        assert!(granted(&[(32, 0.98, 16.0)], 64, &costs)[0] > 14);
    }

    #[test]
    fn the_likelier_go_first_whichever_sequence_they_are_of() {
        let rows = granted(&[(8, 0.6, 8.0), (8, 0.95, 8.0)], 10, &costs(20_000, 500));
        assert!(rows[1] > rows[0] && rows[0] > 0, "{rows:?}");
    }
}
