//! How long a step without prompt rows takes, by the cells before its rows. Plain arithmetic over steps so far.
//!
//! A sequence of 7,000 cells makes each step of the Qwen3-0.6B shape several times as long. A mean over all steps would still be
//! that long when the sequence has ended, and prompts would then be read in chunks that hold up the others for as long. So a step is taken
//! to cost a fixed time, and a time for each cell. Both are learnt as in `prompt_cost.rs`.

/// The number of cells whose cost weighs as much in what is learnt as the fixed time.
const CELLS_UNIT: f64 = 1_024.0;

/// The part of an error that one step corrects; more where the step took less time than it was taken to, because prompts then get too
/// much time.
const GAIN_UP: f64 = 1.0 / 8.0;
const GAIN_DOWN: f64 = 1.0 / 4.0;

/// No step counts for more than this many times what was expected: the machine was doing something else.
const OUTLIER: f64 = 4.0;

/// The two costs, in microseconds; both 0 before the first step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecodeCost {
    step_us: f64,
    /// For each `CELLS_UNIT` cells.
    unit_us: f64,
}

impl DecodeCost {
    /// How long a step takes whose rows have `cells` cells before them, summed over all rows, in microseconds; 0 before the first step.
    pub fn us(&self, cells: usize) -> u64 {
        (self.step_us + self.unit_us * units(cells)) as u64
    }

    /// A step whose rows have `cells` cells before them took `step_us` microseconds.
    pub fn learn(&mut self, cells: usize, step_us: u64) {
        let (units, step_us) = (units(cells), step_us.max(1) as f64);
        let expected_us = self.step_us + self.unit_us * units;
        if expected_us == 0.0 {
            // Which of both it was can't be told from one step behind many cells.
            let attention_us = if units < 1.0 { 0.0 } else { step_us / 2.0 };
            (self.step_us, self.unit_us) = (step_us - attention_us, attention_us / units.max(1.0));
            return;
        }
        let error_us = step_us.min(OUTLIER * expected_us) - expected_us;
        let gain = if error_us > 0.0 { GAIN_UP } else { GAIN_DOWN };
        let part_us = gain * error_us / (1.0 + units * units);
        self.step_us = (self.step_us + part_us).max(1.0);
        self.unit_us = (self.unit_us + part_us * units).max(0.0);
    }
}

fn units(cells: usize) -> f64 {
    cells as f64 / CELLS_UNIT
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 17 ms, and 10 us for each cell.
    fn true_us(cells: usize) -> u64 {
        17_000 + 10 * cells as u64
    }

    fn off(cost: &DecodeCost, cells: usize) -> f64 {
        cost.us(cells) as f64 / true_us(cells) as f64
    }

    #[test]
    fn what_a_long_sequence_takes_is_not_expected_without_it() {
        let mut cost = DecodeCost::default();
        assert_eq!(cost.us(100), 0);
        (0..40).for_each(|at| cost.learn(400 + at, true_us(400 + at)));
        (0..200).for_each(|at| cost.learn(7_000 + at, true_us(7_000 + at)));
        assert!((0.95..1.05).contains(&off(&cost, 7_200)), "{cost:?}");
        // It ends. The next step's prompt may have no more time than the streams allow.
        assert!((0.7..1.6).contains(&off(&cost, 500)), "{cost:?}");
        (0..10).for_each(|at| cost.learn(500 + at, true_us(500 + at)));
        assert!((0.9..1.1).contains(&off(&cost, 500)), "{cost:?}");
    }

    #[test]
    fn a_first_step_behind_many_cells_leaves_open_what_it_was() {
        let mut cost = DecodeCost::default();
        cost.learn(7_000, true_us(7_000));
        assert!((0.99..1.01).contains(&off(&cost, 7_000)), "{cost:?}");
        (0..12).for_each(|_| cost.learn(100, true_us(100)));
        assert!((0.9..1.2).contains(&off(&cost, 100)), "{cost:?}");
    }

    #[test]
    fn one_step_in_which_the_machine_did_something_else_counts_for_little() {
        let mut cost = DecodeCost::default();
        (0..50).for_each(|_| cost.learn(100, 18_000));
        cost.learn(100, 10_000_000);
        assert!(cost.us(100) < 18_000 * 3 / 2, "{cost:?}");
    }
}
