//! Runs several settings in turn, round after round, and decides whether one of them is really faster. Pure, except for the
//! runs it is given.
//!
//! A round has one run of each setting. Ratios are taken within a round, because other load on the machine slows a whole
//! round more often than one run. The order changes from round to round.

use crate::measure::median;

use super::knobs::KnobValue;
use super::measure::{Halt, Run};

/// A smaller gain isn't worth a line in a file.
const GAIN_MIN: f64 = 1.02;
/// A setting whose ratio is below this in both of the first two rounds isn't tried any further.
const HOPELESS: f64 = 0.8;
/// The longest allowed step that reads a prompt, in decode steps: as in `engine/budget.rs`, or as long as with the default.
const MIXED_STEPS_MAX: f64 = 4.0;

/// The runs of one value of a setting, or of all chosen settings together.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The settings; empty means that all have their defaults.
    pub choices: Vec<KnobValue>,
    /// The runs, one for each round.
    pub runs: Vec<Run>,
    /// Why it has fewer rounds than the others; `None`: it doesn't.
    pub ended: Option<String>,
}

impl Series {
    /// A series without runs.
    pub fn new(choices: Vec<KnobValue>) -> Series {
        Series { choices, runs: Vec::new(), ended: None }
    }

    /// Generated tokens a second, one entry for each round.
    pub fn rates(&self) -> Vec<f64> {
        self.runs.iter().map(|run| run.tokens_per_second).collect()
    }

    /// The median rate, in generated tokens a second.
    pub fn median(&self) -> f64 {
        median(&self.rates())
    }

    /// How many decode steps a step takes that also reads a prompt; NaN if there was none.
    pub fn mixed_steps(&self) -> f64 {
        let steps: Vec<f64> = self.runs.iter().map(|run| run.mixed_us / run.decode_us.max(1.0)).collect();
        median(&steps)
    }
}

/// The result of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The compared series. The others are measured against the first.
    pub series: Vec<Series>,
    /// The number of rounds that were asked for.
    pub rounds: usize,
    /// The index of the best series: 0 unless another is better beyond the noise.
    pub chosen: usize,
    /// Whether it ended before all rounds were done.
    pub partial: bool,
}

impl Comparison {
    /// Runs all `series` in turn. `run`: makes one run of series `i` in this round.
    ///
    /// # Errors
    /// A run of the first series failed.
    pub fn make(
        mut series: Vec<Series>,
        rounds: usize,
        mut run: impl FnMut(usize, &Series, usize) -> Result<Run, Halt>,
    ) -> Result<Comparison, String> {
        let mut partial = false;
        'rounds: for round in 0..rounds {
            for turn in 0..series.len() {
                let i = (round + turn) % series.len();
                if series[i].ended.is_some() {
                    continue;
                }
                match run(round, &series[i], i) {
                    Ok(run) => series[i].runs.push(run),
                    Err(Halt::Stopped) => {
                        partial = true;
                        break 'rounds;
                    }
                    Err(Halt::Failed(reason)) if i == 0 => return Err(reason),
                    Err(Halt::Failed(reason)) => series[i].ended = Some(reason),
                }
            }
            for i in 1..series.len() {
                let ratios = ratios(&series[i], &series[0]);
                if round == 1 && ratios.len() == 2 && ratios.iter().all(|ratio| *ratio < HOPELESS) {
                    series[i].ended = Some("far behind".to_owned());
                }
            }
        }
        if partial {
            // In the round that was stopped, runs are dropped that the first series has no run to compare with.
            let whole = series[0].runs.len();
            series.iter_mut().for_each(|series| series.runs.truncate(whole));
        }
        let mut made = Comparison { series, rounds, chosen: 0, partial };
        if !partial {
            let gains = (1..made.series.len()).filter(|i| made.is_gain(*i) && !made.is_dear(*i));
            let best = gains.max_by(|a, b| made.ratio(*a).total_cmp(&made.ratio(*b)));
            made.chosen = best.unwrap_or(0);
        }
        Ok(made)
    }

    /// The ratio of series `i` to the first, one entry for each round.
    pub fn ratios(&self, i: usize) -> Vec<f64> {
        ratios(&self.series[i], &self.series[0])
    }

    /// The median of `ratios(i)`.
    pub fn ratio(&self, i: usize) -> f64 {
        median(&self.ratios(i))
    }

    /// The number of rounds in which series `i` was faster than the first.
    pub fn wins(&self, i: usize) -> usize {
        self.ratios(i).iter().filter(|ratio| **ratio > 1.0).count()
    }

    /// Whether series `i` is faster beyond the noise: in every round, and in the median by 2 % and by half the distance
    /// between its best and its worst round. With two equal settings, one wins all of 3 rounds in one of 8 comparisons, and
    /// all of 5 in one of 32. The chosen settings must also win against the defaults in a final comparison.
    pub fn is_gain(&self, i: usize) -> bool {
        let ratios = self.ratios(i);
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(0.0, f64::max);
        let is_whole = ratios.len() == self.rounds && self.wins(i) == self.rounds;
        is_whole && self.ratio(i) >= GAIN_MIN && self.ratio(i) - 1.0 >= (most - least) / 2.0
    }

    /// Whether its steps that prefill a prompt delay running requests too long, whatever its gain.
    pub fn is_dear(&self, i: usize) -> bool {
        let by_step_tokens = self.series[i].choices.iter().any(|choice| matches!(choice, KnobValue::StepTokens(_)));
        by_step_tokens && self.series[i].mixed_steps() > self.series[0].mixed_steps().max(MIXED_STEPS_MAX)
    }
}

fn ratios(series: &Series, first: &Series) -> Vec<f64> {
    series.rates().iter().zip(first.rates()).map(|(rate, first)| rate / first).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_of(tokens_per_second: f64, mixed_us: f64) -> Run {
        Run { tokens_per_second, seconds: 1.0, decode_us: 100.0, mixed_us }
    }

    fn threads(count: usize) -> Series {
        Series::new(vec![KnobValue::Threads(Some(count))])
    }

    /// Compares rates, given round by round. The first rate of each round is the default's.
    fn compared(rounds: &[&[f64]]) -> Comparison {
        let series = (1..=rounds[0].len()).map(threads).collect();
        Comparison::make(series, rounds.len(), |round, _, i| Ok(run_of(rounds[round][i], 250.0))).unwrap()
    }

    #[test]
    fn a_candidate_that_wins_every_round_is_chosen_and_the_best_of_them() {
        let made = compared(&[&[100.0, 110.0, 130.0], &[50.0, 56.0, 60.0], &[90.0, 99.0, 120.0]]);
        assert_eq!((made.chosen, made.wins(2)), (2, 3));
        assert!((made.ratio(2) - 1.3).abs() < 1e-9);
    }

    #[test]
    fn gains_within_the_noise_change_nothing() {
        // One round of three lost; and three won by less than 2 %.
        assert_eq!(compared(&[&[100.0, 150.0], &[100.0, 150.0], &[100.0, 99.0]]).chosen, 0);
        assert_eq!(compared(&[&[100.0, 101.0], &[100.0, 101.0], &[100.0, 101.0]]).chosen, 0);
        // All rounds won, but by anything between 1 and 50 %.
        assert_eq!(compared(&[&[100.0, 101.0], &[100.0, 110.0], &[100.0, 150.0]]).chosen, 0);
        assert_eq!(compared(&[&[100.0, 110.0], &[100.0, 115.0], &[100.0, 120.0]]).chosen, 1);
    }

    #[test]
    fn a_larger_step_must_not_hold_others_up() {
        let step = |tokens| Series::new(vec![KnobValue::StepTokens(tokens)]);
        let make = |usual: f64, large: f64| {
            let series = vec![step(None), step(Some(512))];
            let rate = [100.0, 150.0];
            Comparison::make(series, 3, |_, _, i| Ok(run_of(rate[i], [usual, large][i]))).unwrap()
        };
        // A step with a prompt takes 9 decode steps, with the default 2.5: too long. 3.9 is allowed, as by the engine. 9 is
        // allowed if it is 9 with the default, too.
        assert_eq!(make(250.0, 900.0).chosen, 0);
        assert!(make(250.0, 900.0).is_gain(1) && make(250.0, 900.0).is_dear(1));
        assert_eq!(make(250.0, 390.0).chosen, 1);
        assert_eq!(make(900.0, 900.0).chosen, 1);
    }

    #[test]
    fn turns_change_and_the_hopeless_leave() {
        let mut order = Vec::new();
        let made = Comparison::make(vec![threads(1), threads(2), threads(4)], 3, |round, _, i| {
            order.push((round, i));
            Ok(run_of([100.0, 70.0, 90.0][i], 0.0))
        })
        .unwrap();
        assert_eq!(order, [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (1, 0), (2, 2), (2, 0)]);
        assert_eq!((made.series[1].runs.len(), made.series[1].ended.as_deref()), (2, Some("far behind")));
        assert_eq!((made.series[2].runs.len(), made.chosen), (3, 0));
    }

    #[test]
    fn a_candidate_that_fails_leaves_unless_it_is_the_default() {
        let fails = |which| {
            Comparison::make(vec![threads(1), threads(2)], 3, |_, _, i| match i == which {
                true => Err(Halt::Failed("no room".to_owned())),
                false => Ok(run_of(100.0, 0.0)),
            })
        };
        let made = fails(1).unwrap();
        assert_eq!((made.series[1].ended.as_deref(), made.chosen), (Some("no room"), 0));
        assert_eq!(fails(0), Err("no room".to_owned()));
    }

    #[test]
    fn what_was_stopped_chooses_nothing_and_keeps_whole_rounds() {
        let made = Comparison::make(vec![threads(1), threads(2)], 3, |round, _, i| match (round, i) {
            (2, 1) => Err(Halt::Stopped),
            _ => Ok(run_of([100.0, 200.0][i], 0.0)),
        })
        .unwrap();
        assert!(made.partial && made.chosen == 0);
        assert_eq!((made.series[0].runs.len(), made.series[1].runs.len()), (3, 2));
        assert_eq!(made.ratios(1), [2.0, 2.0]);
    }
}
