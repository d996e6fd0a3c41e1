//! How many guesses each sequence of a step gets rows for. Pure.
//!
//! A step with guesses takes longer and may generate more tokens. For each number of rows the guesses that get them are
//! chosen, and the number with the most tokens a second is taken. No sequence may lose by it. A step that takes longer
//! than a plain step must bring each sequence that many more tokens, or the sequence must have gained as much time in
//! earlier steps. So the first rows go to sequences that need guesses to make up for the step, and the other rows to the
//! likeliest guesses of all.

use super::costs::Costs;
use crate::types::limits::GUESS_STEP_ROWS_MAX;

/// The least gain over a plain step for which guesses are used. Measured means of steps and chances are off by some percent, and
/// the cost of a number of rows that was not measured lately is an estimate. With 1.03, free text of 8 streams lost 6 %.
const WORTH_IT: f64 = 1.1;

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
    /// The time that it has gained by earlier steps, in plain steps. It may be spent on this one.
    pub saved: f32,
    /// How many of its guesses get a row.
    pub granted: usize,
}

/// A guess, to be sorted.
#[derive(Clone, Copy, Debug)]
pub struct Ranked {
    /// The chance that it and all before it are right.
    gain: f32,
    /// The index of its offer, and its place among the guesses of that offer.
    offer: u16,
    place: u16,
}

/// Grants rows to the guesses of `offers`, one for each sequence that decodes in the step. `gains`: for each guess the
/// chance that it and all before it are right. Grants at most `most` rows, and returns their number.
pub fn allot(offers: &mut [Offer], gains: &[f32], most: usize, costs: &Costs, order: &mut Vec<Ranked>) -> usize {
    let plain_rows = offers.len();
    offers.iter_mut().for_each(|offer| offer.granted = 0);
    let Some(plain_us) = costs.step_us(plain_rows) else { return 0 };
    order.clear();
    for (i, offer) in offers.iter().enumerate() {
        let own = gains[offer.from..offer.from + offer.count].iter().enumerate();
        order.extend(own.map(|(place, gain)| Ranked { gain: *gain, offer: i as u16, place: place as u16 }));
    }
    // The sort is stable, so each sequence's guesses keep their order; a later guess is never likelier.
    order.sort_by(|a, b| b.gain.total_cmp(&a.gain));
    let most = order.len().min(most).min(GUESS_STEP_ROWS_MAX.saturating_sub(plain_rows));
    let longest = if plain_rows == 1 { ALONE_STEPS_MAX } else { STEPS_MAX };

    let (mut best, mut best_rate) = ((0, 1.0), WORTH_IT * plain_rows as f64);
    for n in 1..=most {
        let Some(step_us) = costs.step_us(plain_rows + n) else { break };
        let steps = step_us / plain_us;
        if steps > longest {
            continue;
        }
        if let Some(gained) = grant(offers, gains, order, n, steps)
            && (plain_rows as f64 + gained) / steps > best_rate
        {
            (best, best_rate) = ((n, steps), (plain_rows as f64 + gained) / steps);
        }
    }
    let (best, steps) = best;
    grant(offers, gains, order, best, steps).map_or(0, |_| best)
}

/// Grants `n` rows of a step that takes as long as `steps` plain steps. Returns the tokens to expect from them. `None`:
/// some sequence would lose too much.
fn grant(offers: &mut [Offer], gains: &[f32], order: &[Ranked], n: usize, steps: f64) -> Option<f64> {
    let (mut left, mut gained) = (n, 0.0);
    for offer in offers.iter_mut() {
        let needed = (steps - f64::from(offer.saved)) / SLOWER_MAX;
        let (mut own, mut guesses) = (1.0, gains[offer.from..offer.from + offer.count].iter());
        offer.granted = 0;
        while own < needed {
            own += f64::from(*guesses.next()?);
            offer.granted += 1;
        }
        left = left.checked_sub(offer.granted)?;
        gained += own - 1.0;
    }
    for Ranked { gain, offer, place } in order {
        if left == 0 {
            break;
        }
        let offer = &mut offers[usize::from(*offer)];
        // Its earlier guesses came before, so all of them have a row. Perhaps this one has, too.
        if usize::from(*place) == offer.granted {
            offer.granted += 1;
            left -= 1;
            gained += f64::from(*gain);
        }
    }
    Some(gained)
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

    /// The rows granted to sequences of (`count`, `chance`, `saved`): the chance of their guesses falls by the factor
    /// `chance` from one to the next.
    fn granted(sequences: &[(usize, f32, f32)], most: usize, costs: &Costs) -> Vec<usize> {
        let (mut offers, mut gains) = (Vec::new(), Vec::new());
        for (count, chance, saved) in sequences {
            offers.push(Offer { from: gains.len(), count: *count, saved: *saved, granted: 9 });
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
        let many = granted(&[(20, 0.95, 0.0)], 64, &cheap)[0];
        assert!((8..=20).contains(&many), "{many}");
        let few = granted(&[(20, 0.5, 0.0)], 64, &cheap)[0];
        assert!(few > 0 && few < many, "{few}");
        assert_eq!(granted(&[(20, 0.05, 0.0)], 64, &cheap), [0]);
        assert_eq!(granted(&[(20, 0.95, 0.0)], 64, &costs(1_000, 1_000)), [0]);
        assert_eq!(granted(&[(20, 0.95, 0.0)], 3, &cheap), [3]);
        assert_eq!(granted(&[(20, 0.95, 0.0)], 64, &Costs::default()), [0]);
    }

    #[test]
    fn no_sequence_is_slowed_by_more_than_a_tenth_for_what_another_gains() {
        let cheap = costs(20_000, 1_000);
        let beside_free_text = granted(&[(20, 0.95, 0.0), (0, 0.0, 0.0)], 64, &cheap);
        assert!(beside_free_text[0] <= 2, "{beside_free_text:?}");
        // A sequence that has gained takes part in the others' longer step while it has no guesses.
        let beside_one_ahead = granted(&[(20, 0.95, 0.0), (0, 0.0, 2.0)], 64, &cheap);
        assert!(beside_one_ahead[0] > 5, "{beside_one_ahead:?}");
    }

    /// The likeliest guesses of all were those of two sequences. The other two held back the step, because they had no row.
    #[test]
    fn each_sequence_has_the_rows_that_make_up_for_the_step() {
        let rows =
            granted(&[(32, 0.98, 0.0), (32, 0.89, 0.0), (32, 0.8, 0.0), (32, 0.98, 0.0)], 60, &costs(8_000, 1_000));
        assert!(rows.iter().all(|rows| *rows > 0) && rows.iter().sum::<usize>() >= 8, "{rows:?}");
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
