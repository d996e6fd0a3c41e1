//! How long a step without prompt rows takes, by its number of rows. Plain arithmetic over measured steps.
//!
//! One more row may cost next to nothing or a whole tile, so each number of rows has a mean of its own. For numbers of
//! rows without a recent step the cost is estimated from their neighbours; beyond the largest known number from what a row
//! has cost up to there.

use crate::types::limits::GUESS_STEP_ROWS_MAX;

/// The cost of a row before it is known: the duration of the smallest known step divided by this.
const ROW_PARTS: f64 = 12.0;

/// The number of rows whose measured cost weighs as much as that. The means of two numbers of rows beside each other say little about a
/// row, because each is off by some percent.
const ROW_PARTS_WEIGHT: f64 = 2.0;

/// A measured time moves the mean of its number of rows by one part of this many, and all other means by one part of
/// the second, because what slows down one step usually slows down all.
const OWN_PARTS: f64 = 8.0;
const OTHER_PARTS: f64 = 32.0;

/// A step counts for at most this many times the expected duration: otherwise the machine was busy with something else.
const OUTLIER: f64 = 2.0;

/// Steps after which a mean without a new measurement is forgotten, if a smaller number of rows was measured since. A number of rows
/// whose few steps met a busy machine seems too expensive and isn't tried again before that. Trying one that is too expensive indeed
/// costs part of one step in so many.
const FORGOTTEN_AFTER: u64 = 96;

/// Means of step times.
#[derive(Clone, Debug)]
pub struct Costs {
    /// Microseconds by number of rows; 0: unknown. Entry 0 is unused.
    us: [f64; GUESS_STEP_ROWS_MAX + 1],
    /// The number of the latest step with this many rows.
    seen_at: [u64; GUESS_STEP_ROWS_MAX + 1],
    steps: u64,
}

impl Default for Costs {
    fn default() -> Self {
        Costs { us: [0.0; GUESS_STEP_ROWS_MAX + 1], seen_at: [0; GUESS_STEP_ROWS_MAX + 1], steps: 0 }
    }
}

impl Costs {
    /// Learns that a step of `rows` rows, none of a prompt, took `step_us`. Steps of more than `GUESS_STEP_ROWS_MAX`
    /// rows are ignored.
    pub fn learn(&mut self, rows: usize, step_us: u64) {
        if !(1..=GUESS_STEP_ROWS_MAX).contains(&rows) {
            return;
        }
        self.steps += 1;
        let (known, expected) = (self.is_known(rows), self.step_us(rows));
        let mut step_us = (step_us as f64).max(1.0);
        if let Some(expected) = expected {
            step_us = step_us.min(OUTLIER * expected);
        }
        if known {
            let off = step_us / self.us[rows] - 1.0;
            for (n, mean) in self.us.iter_mut().enumerate() {
                *mean *= 1.0 + off / if n == rows { OWN_PARTS } else { OTHER_PARTS };
            }
        } else {
            self.us[rows] = step_us;
        }
        self.seen_at[rows] = self.steps;
    }

    /// How long a step of `rows` rows takes, in microseconds; `None` before the first step.
    pub fn step_us(&self, rows: usize) -> Option<f64> {
        if self.is_known(rows) {
            return Some(self.us[rows]);
        }
        let below = (1..rows.min(GUESS_STEP_ROWS_MAX + 1)).rev().find(|n| self.is_known(*n));
        let above = (rows + 1..=GUESS_STEP_ROWS_MAX).find(|n| self.is_known(*n));
        match (below, above) {
            (Some(a), Some(b)) => {
                let part = (rows - a) as f64 / (b - a) as f64;
                Some(self.us[a] + part * (self.us[b] - self.us[a]))
            }
            (Some(a), None) => Some(self.us[a] + (rows - a) as f64 * self.row_us(a)),
            (None, Some(b)) => {
                // A small number of rows is no longer seen where every step has guesses. It isn't too expensive to be tried.
                let old = self.us[1..=rows].iter().rfind(|us| **us > 0.0);
                Some(old.map_or(self.us[b], |us| us.min(self.us[b])))
            }
            (None, None) => None,
        }
    }

    /// What one row more takes than `most` rows, the largest known number, in microseconds: what each row between the smallest known
    /// number and `most` took. With a part of the step's duration instead, steps of 4 sequences behind 900 cells stayed at 13 rows, because
    /// the 14th seemed to take 2.2 ms and took 1.5.
    fn row_us(&self, most: usize) -> f64 {
        let least = (1..=most).find(|n| self.is_known(*n)).unwrap_or(most);
        let measured_us = (self.us[most] - self.us[least]).max(0.0);
        let assumed_us = ROW_PARTS_WEIGHT * self.us[least] / ROW_PARTS;
        (measured_us + assumed_us) / ((most - least) as f64 + ROW_PARTS_WEIGHT)
    }

    fn is_known(&self, rows: usize) -> bool {
        self.us.get(rows).is_some_and(|us| *us > 0.0) && self.steps - self.seen_at[rows] < FORGOTTEN_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_seen_lies_between_its_neighbours_or_is_cheap() {
        let mut costs = Costs::default();
        assert_eq!(costs.step_us(4), None);
        costs.learn(4, 1_000);
        assert_eq!(
            (costs.step_us(1), costs.step_us(4), costs.step_us(10)),
            (Some(1_000.0), Some(1_000.0), Some(1_500.0))
        );
        costs.learn(8, 3_000);
        // At most twice the expected duration counts.
        let eight = 2.0 * 1_000.0 * (1.0 + 4.0 / ROW_PARTS);
        assert_eq!((costs.step_us(8), costs.step_us(6)), (Some(eight), Some((1_000.0 + eight) / 2.0)));
    }

    #[test]
    fn a_row_beyond_the_known_ones_takes_what_those_before_it_took() {
        for (row_us, least, most) in [(50, 100.0, 300.0), (900, 700.0, 1_100.0)] {
            let mut costs = Costs::default();
            // In turn, because a number of rows that was not seen for long is forgotten.
            (0..40).for_each(|_| (4..=13).for_each(|rows| costs.learn(rows, 10_000 + row_us * (rows as u64 - 4))));
            let one = (costs.step_us(20).unwrap() - costs.step_us(13).unwrap()) / 7.0;
            assert!((least..most).contains(&one), "{one} for {row_us}");
        }
    }

    #[test]
    fn a_number_of_rows_comes_to_its_own_mean_and_carries_the_others_a_little() {
        let mut costs = Costs::default();
        costs.learn(1, 1_000);
        costs.learn(8, 1_200);
        for _ in 0..400 {
            costs.learn(1, 500);
            costs.learn(8, 900);
        }
        assert!((costs.step_us(1).unwrap() - 500.0).abs() < 25.0 && (costs.step_us(8).unwrap() - 900.0).abs() < 45.0);
        let before = costs.step_us(8).unwrap();
        costs.learn(1, 750);
        assert!(costs.step_us(8).unwrap() > before);
    }

    #[test]
    fn what_was_not_seen_for_long_is_forgotten() {
        let mut costs = Costs::default();
        costs.learn(1, 1_000);
        costs.learn(2, 2_000);
        (0..FORGOTTEN_AFTER).for_each(|_| costs.learn(1, 1_000));
        assert_eq!(costs.step_us(2), Some(costs.step_us(1).unwrap() * (1.0 + 1.0 / ROW_PARTS)));
    }

    /// A plain step was taken to last as long as the shortest step with guesses, so a step could be three times as long as that.
    #[test]
    fn what_a_plain_step_takes_is_known_while_every_step_has_guesses() {
        let mut costs = Costs::default();
        (0..9).for_each(|_| costs.learn(4, 1_000));
        (0..400).for_each(|_| costs.learn(16, 2_500));
        assert!((900.0..1_300.0).contains(&costs.step_us(4).unwrap()), "{:?}", costs.step_us(4));
        assert_eq!(costs.step_us(6), costs.step_us(4));
        assert_eq!(costs.step_us(2), costs.step_us(16));
    }
}
