//! The results as a table of 80 columns, as JSON, as CSV, and compared with an earlier run.

use std::fmt::Write;
use std::io::IsTerminal;

use serde_json::{Value, json};

use super::workload::{SEED, StagesWorkload};
use crate::measure::median;

/// One stage and the results of its rounds.
#[derive(Clone, Debug)]
pub struct StageResults {
    /// The stage's number.
    pub stage: u8,
    /// The layer that it adds.
    pub name: String,
    /// Tokens a second, one entry for each round.
    pub rates: Vec<f64>,
}

impl StageResults {
    /// Stage number `stage` without results.
    pub fn new(stage: u8, name: &str) -> StageResults {
        StageResults { stage, name: name.to_owned(), rates: Vec::new() }
    }

    /// The median rate, in tokens a second.
    pub fn median(&self) -> f64 {
        median(&self.rates)
    }

    /// Half the distance between the lowest and the highest rate, divided by the median.
    pub fn noise(&self) -> f64 {
        let (low, high) = span(&self.rates);
        (high - low) / 2.0 / self.median()
    }
}

/// The results of one run of the bench.
pub struct StagesReport {
    title: String,
    workload: StagesWorkload,
    machine: String,
    rounds: u32,
    /// Rounds that were completed, without the warm-up.
    pub rounds_done: u32,
    /// The stages with their results.
    pub stages: Vec<StageResults>,
    /// The results for sockets in the streaming stage, in words.
    pub sockets: Option<String>,
    /// Why a stage failed; `None`: none did.
    pub failure: Option<String>,
}

/// One line of the report.
pub struct Line<'a> {
    /// The stage and its results.
    pub measured: &'a StageResults,
    /// The rate divided by the first stage's: the median over rounds.
    pub ratio: f64,
    /// Microseconds a token more than in the stage before.
    pub added_us: f64,
}

impl StagesReport {
    /// A report without results.
    pub fn new(title: &str, workload: StagesWorkload, rounds: u32) -> StagesReport {
        let title = title.to_owned();
        StagesReport {
            title,
            workload,
            machine: machine(),
            rounds,
            rounds_done: 0,
            stages: Vec::new(),
            sockets: None,
            failure: None,
        }
    }

    /// Whether no stage has a result.
    pub fn is_empty(&self) -> bool {
        self.stages.iter().all(|stage| stage.rates.is_empty())
    }

    /// Whether fewer rounds were completed than asked for.
    pub fn is_partial(&self) -> bool {
        self.rounds_done < self.rounds
    }

    /// Shows on a terminal which stage is running.
    pub fn progress(&self, round: u32, stage: u8) {
        if std::io::stderr().is_terminal() {
            let round = if round == 0 { "warming up".to_owned() } else { format!("round {round} of {}", self.rounds) };
            eprint!("\r\x1b[K{round}, stage {stage}");
        }
    }

    /// Clears the line that `progress` showed.
    pub fn end_of_progress(&self) {
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
    }

    /// A line for each stage that was measured at least once.
    pub fn lines(&self) -> Vec<Line<'_>> {
        let measured: Vec<&StageResults> = self.stages.iter().filter(|stage| !stage.rates.is_empty()).collect();
        let mut before_us = None;
        let line = |measured: &&'_ StageResults| -> (f64, f64) {
            let base = self.stages.first().map_or(&[][..], |first| &first.rates);
            let ratios: Vec<f64> = measured.rates.iter().zip(base).map(|(rate, base)| rate / base).collect();
            let us = 1e6 / measured.median();
            let added = us - before_us.replace(us).unwrap_or(0.0);
            (median(&ratios), added)
        };
        let figures: Vec<(f64, f64)> = measured.iter().map(line).collect();
        measured
            .into_iter()
            .zip(figures)
            .map(|(measured, (ratio, added_us))| Line { measured, ratio, added_us })
            .collect()
    }

    /// What was run, and on which machine.
    pub fn heading(&self) -> String {
        let StagesWorkload { requests, concurrency, prompt_tokens, max_tokens } = self.workload;
        let rounds = if self.is_partial() {
            format!("PARTIAL: {} of {} rounds", self.rounds_done, self.rounds)
        } else {
            format!("{} rounds", self.rounds)
        };
        format!(
            "{}\n{requests} requests, {concurrency} at once, {prompt_tokens} prompt tokens, {max_tokens} generated, greedy\n\
             {rounds}, seed {SEED}, cllm {}, {}\n",
            self.title,
            env!("CARGO_PKG_VERSION"),
            self.machine
        )
    }

    /// The results as a table, compared with `before` if that is given.
    pub fn table(&self, before: Option<&[StageResults]>) -> String {
        let lines = self.lines();
        let best = lines.iter().map(|line| line.measured.median()).fold(0.0, f64::max);
        let mut out = self.heading();
        out += "\nstage                             tokens/s  +-%  ratio  us+/token\n";
        for Line { measured, ratio, added_us } in &lines {
            let rate = measured.median();
            let bar = "#".repeat((rate / best * 13.0).round() as usize);
            let (stage, name, noise) = (measured.stage, &measured.name, measured.noise() * 100.0);
            let line = format!("{stage:>2} {name:<30} {rate:>9.1} {noise:>4.0} {ratio:>6.3} {added_us:>10.2} {bar}");
            let _ = writeln!(out, "{}", line.trim_end());
        }
        if lines.is_empty() {
            out += "nothing was measured\n";
        }
        if let Some(words) = &self.sockets {
            let _ = writeln!(out, "\n{}", words.replace("; ", ";\n"));
        }
        if let Some(before) = before {
            out += "\nsince the earlier run                  then       now  change\n";
            for Line { measured, .. } in &lines {
                let Some(old) = before.iter().find(|old| old.stage == measured.stage) else { continue };
                let (then, now) = (old.median(), measured.median());
                let (change, noise) = ((now / then - 1.0) * 100.0, (old.noise() + measured.noise()) * 100.0);
                let verdict = match change.abs() <= noise {
                    true => "in the noise".to_owned(),
                    false => format!("noise {noise:.0} %"),
                };
                let name = &measured.name;
                let _ = writeln!(
                    out,
                    "{:>2} {name:<30} {then:>9.1} {now:>9.1} {change:>+6.1} %, {verdict}",
                    measured.stage
                );
            }
        }
        out
    }

    /// The results as JSON: one object for each stage.
    pub fn json(&self) -> String {
        let rows: Vec<Value> = self
            .lines()
            .iter()
            .map(|Line { measured, ratio, added_us }| {
                json!({
                    "stage": measured.stage, "name": measured.name, "tokens_per_second": measured.median(),
                    "ratio": ratio, "added_us_per_token": added_us, "rounds": measured.rates,
                    "partial": self.is_partial(),
                })
            })
            .collect();
        format!("{:#}\n", Value::Array(rows))
    }

    /// The results as CSV: one line for each stage, after a header.
    pub fn csv(&self) -> String {
        let mut out = "stage,name,tokens_per_second,low,high,ratio,added_us_per_token,partial\n".to_owned();
        for Line { measured, ratio, added_us } in self.lines() {
            let (low, high) = span(&measured.rates);
            let (stage, name, rate, partial) = (measured.stage, &measured.name, measured.median(), self.is_partial());
            let _ = writeln!(out, "{stage},\"{name}\",{rate:.3},{low:.3},{high:.3},{ratio:.4},{added_us:.3},{partial}");
        }
        out
    }
}

/// Reads the output of an earlier `--json`.
///
/// # Errors
/// In words: why the text isn't such an output.
pub fn parse(text: &str) -> Result<Vec<StageResults>, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let rows = value.as_array().ok_or("not an array of stages")?;
    rows.iter()
        .map(|row| {
            let stage =
                row["stage"].as_u64().and_then(|stage| u8::try_from(stage).ok()).ok_or("a stage has no number")?;
            let rates: Vec<f64> = match row["rounds"].as_array() {
                Some(rounds) => rounds.iter().filter_map(Value::as_f64).collect(),
                None => row["tokens_per_second"].as_f64().into_iter().collect(),
            };
            if rates.is_empty() {
                return Err(format!("stage {stage} has no tokens_per_second"));
            }
            Ok(StageResults { stage, name: row["name"].as_str().unwrap_or_default().to_owned(), rates })
        })
        .collect()
}

fn span(values: &[f64]) -> (f64, f64) {
    (values.iter().copied().fold(f64::INFINITY, f64::min), values.iter().copied().fold(0.0, f64::max))
}

/// Events a second of the streaming stage, and of bare sockets with the same bytes in the same round.
pub struct SocketRates {
    /// Events a second of the streaming stage.
    pub streams: f64,
    /// All events through one pair of sockets.
    pub pair: f64,
    /// The events through as many pairs at once as there were streams.
    pub pairs: f64,
}

/// The results for sockets in words, with `n` streams and `writes` writes for each token. Ratios are taken within a round.
pub fn sockets(rounds: &[SocketRates], n: usize, writes: f64) -> String {
    let of = |value: fn(&SocketRates) -> f64| median(&rounds.iter().map(value).collect::<Vec<_>>());
    format!(
        "stage 9: {:.0} events/s; {:.0} through a bare pair of sockets with the same bytes, ratio {:.2}; \
         {:.0} through {n} pairs at once, ratio {:.2}; {writes:.3} writes a token",
        of(|rates| rates.streams),
        of(|rates| rates.pair),
        of(|rates| rates.streams / rates.pair),
        of(|rates| rates.pairs),
        of(|rates| rates.streams / rates.pairs),
    )
}

/// The number of CPUs and the load average.
pub fn machine() -> String {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!("{cpus} CPUs, load {}", load.split(' ').next().unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> StagesReport {
        let workload = StagesWorkload { requests: 40, concurrency: 8, prompt_tokens: 32, max_tokens: 50 };
        let mut report = StagesReport::new("a model", workload, 3);
        let stage = |stage, rates: &[f64]| StageResults { stage, name: "a stage".into(), rates: rates.to_vec() };
        report.stages = vec![stage(0, &[100.0, 200.0, 400.0]), stage(8, &[50.0, 160.0, 100.0]), stage(9, &[])];
        report.rounds_done = 2;
        report
    }

    #[test]
    fn ratios_are_taken_within_a_round_and_time_is_added_to_the_stage_before() {
        let report = report();
        let lines = report.lines();
        assert_eq!(lines.len(), 2, "what wasn't measured isn't shown");
        assert_eq!((lines[0].ratio, lines[1].ratio), (1.0, 0.5));
        assert_eq!((lines[0].added_us, lines[1].added_us), (5_000.0, 5_000.0));
    }

    #[test]
    fn the_table_fits_a_terminal_and_says_that_it_is_partial() {
        let mut report = report();
        // The widest numbers and names that occur.
        report.stages[0].rates = vec![2_512_345.6, 2_512_345.6, 2_512_345.6];
        report.stages[1] = StageResults::new(8, "ring, replies, batching thread");
        report.stages[1].rates = vec![2_311_853.8, 2_511_853.8, 2_411_853.8];
        report.sockets =
            Some(sockets(&[SocketRates { streams: 1_234_567.0, pair: 1_234_567.0, pairs: 1_234_567.0 }], 256, 1.234));
        let table = report.table(Some(&report.stages));
        assert!(table.contains("PARTIAL: 2 of 3 rounds"), "{table}");
        assert!(table.contains("in the noise") && table.contains("writes a token"), "{table}");
        for line in table.lines() {
            assert!(line.chars().count() <= 80 && line == line.trim_end(), "{line}");
        }
    }

    #[test]
    fn json_can_be_compared_with() {
        let parsed = parse(&report().json()).unwrap();
        assert_eq!((parsed[1].stage, parsed[1].median()), (8, 100.0));
        for bad in ["{}", "[{}]", "[{\"stage\": 3}]", "nothing"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(report().csv().lines().count(), 3);
    }
}
