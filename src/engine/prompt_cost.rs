//! How much longer prompt rows make a step, by the number of rows and of the cells that they attend to. Plain arithmetic over past steps.
//!
//! The rows of a group go through the weights together, but each row attends alone to all cells before it: behind 7,000 cells one row of the
//! Qwen3-0.6B shape takes as long as a whole step behind few cells. The model has two costs: `row_ns` for each row, and `cell_ns` for each pair
//! of a row and a cell before it. Both are learnt from each step by normalised least mean squares. The error of a step's expected time is
//! divided between the two costs in proportion to their parts in the step. So steps of many rows and few cells teach `row_ns`, and steps
//! behind many cells teach `cell_ns`.
//!
//! Behind more than twice as many cells as any measured step had, the whole cost of a row is assumed to grow in proportion to the cells. This is
//! an upper bound: a cost of the form `row_ns + cell_ns * cells`, with neither negative, grows at most in proportion.
//! Where a prompt goes on that deep behind a beginning from outside the cells, even that may be too little, because what few rows cost may be
//! hidden in how much decode steps vary. There the first step has one row.

/// Cells before a row. Behind fewer cells attention takes no longer than the rest of a row, and the two can't be told apart.
const SHALLOW: f64 = 64.0;

/// The measured costs are used up to this multiple of the deepest measured row (the most cells before it).
const REACH: f64 = 2.0;

/// A prompt whose rows have at most this many cells before them, on average, isn't limited to one row because no step was as deep.
const NEAR: f64 = 512.0;

/// The part of an error that one step corrects, if the step took less time than expected and an earlier step was as deep.
const GAIN: f64 = 0.25;
/// Like `GAIN`, for a step that took more time than expected. It is larger, because such a step delays other requests.
const GAIN_UP: f64 = 0.5;

/// A step counts for at most this many times its expected time. A longer one was delayed by other work of the machine.
const OUTLIER: f64 = 4.0;

/// Prompt rows that a step has, or could have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    pub rows: usize,
    /// Cells before each row, summed over all.
    pub cells: usize,
    /// The most cells before a row.
    pub deepest: usize,
}

impl Reading {
    /// Adds `rows` rows of one sequence, the first of them behind `held` cells.
    pub fn add(&mut self, held: usize, rows: usize) {
        if rows > 0 {
            self.rows += rows;
            self.cells += rows * held + rows * (rows - 1) / 2;
            self.deepest = self.deepest.max(held + rows - 1);
        }
    }

    /// Whether these rows have enough cells before them, on average, for attention to be told apart from the rest of a row's cost.
    pub fn is_deep(&self) -> bool {
        self.cells as f64 >= SHALLOW * self.rows as f64
    }
}

/// The two costs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PromptCost {
    /// Nanoseconds of a row without attention; 0 before the first step.
    row_ns: f64,
    /// Nanoseconds of a row for each cell before it; 0 where that could not be measured yet.
    cell_ns: f64,
    /// The most cells before a row that have been measured.
    depth: f64,
}

impl PromptCost {
    /// Whether a step has been measured.
    pub fn is_known(&self) -> bool {
        self.row_ns > 0.0
    }

    /// The time of `padded` rows without attention, in nanoseconds; 0 before the first step.
    pub fn rows_ns(&self, padded: usize) -> f64 {
        self.row_ns * padded as f64
    }

    /// The time of attention of `reading`'s rows, in nanoseconds; an upper bound behind more cells than were measured. Before the first step it is 0
    /// behind few cells, otherwise infinite. It is also infinite if the rows are much deeper than any that were measured. `padded`: as in `learn`.
    pub fn attention_ns(&self, padded: usize, reading: &Reading) -> f64 {
        let (measured, deepest) = (self.measured(), reading.deepest as f64);
        if deepest <= REACH * measured {
            return self.cell_ns * reading.cells as f64;
        }
        let mean_depth = reading.cells as f64 / reading.rows as f64;
        if !self.is_known() || mean_depth > (REACH * measured).max(NEAR) {
            return f64::INFINITY;
        }
        let rows_ns = self.rows_ns(padded);
        let there_ns = rows_ns + self.cell_ns * measured * reading.rows as f64;
        there_ns * deepest / measured - rows_ns
    }

    /// Learns from a step that `reading` made longer by `more_us` microseconds. `padded`: the number of its rows, and of those that would fill
    /// the last group of rows that go through the weights together.
    pub fn learn(&mut self, padded: usize, reading: &Reading, more_us: u64) {
        let (padded, cells, deepest) = (padded as f64, reading.cells as f64, reading.deepest as f64);
        let more_ns = (more_us as f64 * 1_000.0).max(1.0);
        let is_new = deepest > REACH * self.measured();
        if !self.is_known() {
            // One step behind many cells doesn't tell which of the two costs it was: half goes to each.
            let attention_ns = if is_new { more_ns / 2.0 } else { 0.0 };
            self.row_ns = (more_ns - attention_ns) / padded;
            self.cell_ns = attention_ns / cells.max(1.0);
        } else {
            let expected_ns = self.row_ns * padded + self.cell_ns * cells;
            let most_ns = if is_new { f64::INFINITY } else { OUTLIER * expected_ns };
            let error_ns = more_ns.min(most_ns) - expected_ns;
            let gain = if deepest > self.measured() {
                1.0
            } else if error_ns > 0.0 {
                GAIN_UP
            } else {
                GAIN
            };
            let tiles = cells / SHALLOW;
            let part_ns = gain * error_ns / (padded * padded + tiles * tiles);
            self.row_ns = (self.row_ns + part_ns * padded).max(1.0);
            self.cell_ns = (self.cell_ns + part_ns * tiles / SHALLOW).max(0.0);
        }
        self.depth = self.depth.max(deepest);
    }

    /// The most cells before a row for which the two costs are known.
    fn measured(&self) -> f64 {
        self.depth.max(SHALLOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `rows` rows of one sequence behind `held` cells.
    fn rows(rows: usize, held: usize) -> Reading {
        let mut reading = Reading::default();
        reading.add(held, rows);
        reading
    }

    /// The costs that the tests assume: 1 ms for each padded row, and 4 us for each pair of a row and a cell.
    fn true_us(reading: &Reading) -> u64 {
        padded(reading) as u64 * 1_000 + reading.cells as u64 * 4
    }

    /// The rows that fill groups of 16, beside four decode rows.
    fn padded(reading: &Reading) -> usize {
        (4 + reading.rows).next_multiple_of(16) - 4
    }

    /// The expected time, divided by the true time.
    fn off(cost: &PromptCost, reading: &Reading) -> f64 {
        let padded = padded(reading);
        (cost.rows_ns(padded) + cost.attention_ns(padded, reading)) / 1_000.0 / true_us(reading) as f64
    }

    fn learn(cost: &mut PromptCost, reading: &Reading, more_us: u64) {
        cost.learn(padded(reading), reading, more_us);
    }

    #[test]
    fn both_costs_are_found_from_steps_at_different_depths() {
        let mut cost = PromptCost::default();
        for i in 0..400 {
            let reading = rows([12, 28, 4][i % 3], [10, 3_000, 900, 100, 6_000][i % 5]);
            // The measured times are up to a fifth shorter or longer than the true ones.
            learn(&mut cost, &reading, true_us(&reading) * [8, 12, 11, 9][i % 4] / 10);
        }
        assert!((800.0..1_250.0).contains(&(cost.row_ns / 1_000.0)), "{cost:?}");
        assert!((3.2..4.8).contains(&(cost.cell_ns / 1_000.0)), "{cost:?}");
        for reading in [rows(12, 50), rows(1, 6_000), rows(44, 2_000)] {
            assert!((0.75..1.3).contains(&off(&cost, &reading)), "{reading:?}: {}", off(&cost, &reading));
        }
    }

    #[test]
    fn a_prompt_that_grows_longer_is_followed() {
        let mut cost = PromptCost::default();
        for depth in (0..8_000).step_by(12) {
            let reading = rows(12, depth);
            if depth > 100 {
                assert!((0.7..1.3).contains(&off(&cost, &reading)), "{depth}: {}", off(&cost, &reading));
            }
            learn(&mut cost, &reading, true_us(&reading));
        }
    }

    #[test]
    fn a_depth_that_was_not_measured_is_never_taken_to_be_cheap() {
        let unknown = PromptCost::default();
        assert_eq!(unknown.attention_ns(12, &rows(12, 110)), 0.0);
        assert_eq!(unknown.attention_ns(12, &rows(1, 129)), f64::INFINITY);
        let mut cost = PromptCost::default();
        // The times of steps behind few cells, up to a quarter off, fit many pairs of the two costs.
        for noise_us in [9_000, 15_000, 12_000, 10_000] {
            learn(&mut cost, &rows(12, 40), noise_us);
            for depth in [129, 1_000, 7_000, 30_000] {
                assert!(off(&cost, &rows(12, depth)) > 0.75, "{depth}: {cost:?}");
            }
        }
        // One step behind as many cells corrects the estimate.
        let one = rows(1, 7_000);
        learn(&mut cost, &one, true_us(&one));
        assert!((0.9..1.1).contains(&off(&cost, &rows(12, 7_000))), "{cost:?}");
    }

    #[test]
    fn a_first_step_behind_many_cells_leaves_open_what_it_was() {
        let mut cost = PromptCost::default();
        let one = rows(1, 7_000);
        learn(&mut cost, &one, true_us(&one));
        assert!((0.99..1.01).contains(&off(&cost, &one)), "{cost:?}");
        assert!(cost.row_ns > 0.0 && cost.cell_ns > 0.0);
    }

    #[test]
    fn one_step_in_which_the_machine_did_something_else_counts_for_little() {
        let mut cost = PromptCost::default();
        (0..50).for_each(|_| learn(&mut cost, &rows(12, 0), 12_000));
        learn(&mut cost, &rows(12, 0), 10_000_000);
        assert!(cost.row_ns < 3_000_000.0, "{cost:?}");
        (0..20).for_each(|_| learn(&mut cost, &rows(12, 0), 12_000));
        assert!(cost.row_ns < 1_100_000.0, "{cost:?}");
        (0..60).for_each(|_| learn(&mut cost, &rows(12, 0), 0));
        assert!(cost.is_known() && cost.row_ns < 1_000.0);
    }

    #[test]
    fn behind_more_cells_than_were_measured_the_whole_cost_of_a_row_grows_with_them() {
        let cost = PromptCost { row_ns: 1_000.0, cell_ns: 10.0, depth: 1_000.0 };
        let near = rows(1_000, 900);
        assert_eq!(cost.attention_ns(1_000, &near), 10.0 * near.cells as f64);
        // Behind 1,000 cells a row takes 11 us. The deepest row has 2,499 cells before it.
        let deeper = rows(1_000, 1_500);
        let expected = 1_000.0 * (11_000.0 * 2.499 - 1_000.0);
        assert!((cost.attention_ns(1_000, &deeper) - expected).abs() < 1.0, "{}", cost.attention_ns(1_000, &deeper));
    }
}
