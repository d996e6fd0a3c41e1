//! The results as text of 80 columns, as comments of a configuration file, and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use super::compare::{Comparison, Series};
use super::knobs::KnobValue;
use crate::measure::stages::workload::{SEED, StagesWorkload};

/// The beginning of each comment in a written file. A later run removes comments that begin so.
pub const MARK: &str = "# tune: ";

/// The content of a report.
pub struct TuneReport {
    /// The model's name.
    pub model: String,
    /// The machine in words.
    pub machine: String,
    /// The sizes of the workload.
    pub workload: StagesWorkload,
    /// Rounds for each setting.
    pub rounds: usize,
    /// The default number of compute threads.
    pub threads: usize,
    /// The settings in the order of trying: the comparison of each, or why there is none.
    pub tried: Vec<(&'static str, Result<Comparison, String>)>,
    /// The comparison of all chosen values with the defaults.
    pub check: Option<Comparison>,
    /// Why it ended early; `None`: it is complete.
    pub partial: Option<String>,
}

impl TuneReport {
    /// The values that won, one for each setting at most.
    pub fn chosen(&self) -> Vec<KnobValue> {
        let compared = self.tried.iter().filter_map(|(_, tried)| tried.as_ref().ok());
        let chosen = compared.filter(|made| made.chosen > 0);
        chosen.flat_map(|made| made.series[made.chosen].choices.clone()).collect()
    }

    /// The values to write: those that won, if all together are also faster than the defaults.
    pub fn settings(&self) -> Vec<KnobValue> {
        let is_done = self.partial.is_none() && self.check.as_ref().is_some_and(|check| check.chosen > 0);
        if is_done { self.chosen() } else { Vec::new() }
    }

    /// One line for each value: `threads = 2`.
    pub fn assignments(choices: &[KnobValue]) -> Vec<String> {
        choices.iter().filter_map(|choice| Some(format!("{} = {}", choice.key(), choice.value()?))).collect()
    }

    /// The evidence, line by line.
    pub fn lines(&self) -> Vec<String> {
        let StagesWorkload { requests, concurrency, prompt_tokens, max_tokens } = self.workload;
        let mut lines = vec![
            format!("cllm {}, {}", env!("CARGO_PKG_VERSION"), self.machine),
            self.model.clone(),
            format!("{concurrency} at once, {requests} requests a run, {} rounds, seed {SEED};", self.rounds),
            format!(
                "prompts of {} to {prompt_tokens} tokens, answers of {} to {max_tokens}",
                prompt_tokens.div_ceil(4),
                max_tokens.div_ceil(2)
            ),
            "Generated tok/s: median (least to most), times the first of its round".to_owned(),
        ];
        for (key, tried) in &self.tried {
            match tried {
                Ok(made) => {
                    lines.push(self.verdict(key, made));
                    lines.extend(made.series.iter().enumerate().flat_map(|(i, series)| self.row(made, i, series)));
                }
                Err(reason) => lines.push(format!("{key}: not tried: {reason}")),
            }
        }
        match (&self.check, self.chosen().len()) {
            (Some(check), _) => {
                lines.push(match check.chosen {
                    _ if check.partial => "all together: unfinished".to_owned(),
                    0 => "all together: within the noise, the defaults stay".to_owned(),
                    _ => "all together: faster than the defaults".to_owned(),
                });
                lines.extend(check.series.iter().enumerate().flat_map(|(i, series)| self.row(check, i, series)));
            }
            (None, 0) if self.partial.is_none() => lines.push("the defaults stay".to_owned()),
            (None, _) => {}
        }
        if let Some(why) = &self.partial {
            lines.push(format!("PARTIAL: {why}."));
            let so_far = Self::assignments(&self.chosen());
            if !so_far.is_empty() {
                lines.push(format!("So far, unconfirmed: {}", so_far.join(", ")));
            }
        }
        lines
    }

    fn verdict(&self, key: &str, made: &Comparison) -> String {
        let usual = self.words(&made.series[0]);
        let rate = |i: usize| shown(made.series[i].median());
        match made.chosen {
            _ if made.partial => format!("{key}: unfinished"),
            0 => format!("{key}: {usual} stays, nothing is faster beyond noise"),
            i => {
                let words = self.words(&made.series[i]);
                format!("{key} = {words}: {} tok/s against {} with {usual}", rate(i), rate(0))
            }
        }
    }

    fn words(&self, series: &Series) -> String {
        match &series.choices[..] {
            [] => "defaults".to_owned(),
            [one] => one.words(self.threads),
            _ => "as chosen".to_owned(),
        }
    }

    /// The lines about one series of a comparison.
    fn row(&self, made: &Comparison, i: usize, series: &Series) -> Vec<String> {
        let name = if made.series[0].choices.is_empty() && i > 0 { "as chosen".to_owned() } else { self.words(series) };
        let rates = series.rates();
        if rates.is_empty() {
            let why = series.ended.as_deref().unwrap_or("not measured");
            return vec![format!("  {name:<18} {why}").chars().take(72).collect()];
        }
        let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
        let most = rates.iter().copied().fold(0.0, f64::max);
        let mut line = format!("  {name:<18} {:>7} ({} to {})", shown(series.median()), shown(least), shown(most));
        let rounds = made.ratios(i).len();
        if i > 0 && rounds > 0 {
            let _ = write!(line, ", {:.2} times, won {} of {rounds}", made.ratio(i), made.wins(i));
        }
        let mut lines = vec![line];
        let by_steps = matches!(&series.choices[..], [KnobValue::StepTokens(_)]);
        if by_steps && series.mixed_steps() > 0.0 {
            let dear = if i > 0 && made.is_dear(i) { ", too long for running requests" } else { "" };
            lines.push(format!("    a step that reads a prompt lasts {:.1} decode steps{dear}", series.mixed_steps()));
        }
        lines
    }

    /// The end of the configuration file: the evidence as comments, and the settings. `model`: the model's line, if the
    /// file lacks it.
    pub fn toml(&self, model: Option<&str>) -> String {
        let mut text: String = self.lines().iter().map(|line| format!("{MARK}{line}\n")).collect();
        let model = model.map(|model| format!("model = {model}"));
        for line in model.into_iter().chain(Self::assignments(&self.settings())) {
            let _ = writeln!(text, "{line}");
        }
        text
    }

    /// The report as JSON.
    pub fn json(&self) -> String {
        let StagesWorkload { requests, concurrency, prompt_tokens, max_tokens } = self.workload;
        let tried = self.tried.iter().map(|(key, tried)| match tried {
            Ok(made) => {
                let value = |series: &Series| setting(series.choices.first().copied());
                json!({"setting": key, "chosen": value(&made.series[made.chosen]), "partial": made.partial,
                    "values": self.series(made, value)})
            }
            Err(reason) => json!({"setting": key, "not_tried": reason}),
        });
        let check = self.check.as_ref().map(|check| self.series(check, |series| settings(&series.choices)));
        let report = json!({
            "tune": self.model, "machine": self.machine, "partial": self.partial.is_some(),
            "ended_early": self.partial, "rounds": self.rounds, "seed": SEED, "threads_by_default": self.threads,
            "workload": {"requests": requests, "concurrency": concurrency, "prompt_tokens_max": prompt_tokens,
                "max_tokens": max_tokens},
            "tried": tried.collect::<Vec<_>>(), "all_together": check, "settings": settings(&self.settings()),
        });
        report.to_string() + "\n"
    }

    fn series(&self, made: &Comparison, value: impl Fn(&Series) -> Value) -> Vec<Value> {
        let series = |(i, series): (usize, &Series)| {
            json!({
                "value": value(series), "tokens_per_second": series.median(), "rounds": series.rates(),
                "ratio": made.ratio(i), "ratios": made.ratios(i), "won": made.wins(i),
                "gain_beyond_noise": i > 0 && !made.partial && made.is_gain(i),
                "prompt_step_in_decode_steps": series.mixed_steps(), "ended_early": series.ended,
            })
        };
        made.series.iter().enumerate().map(series).collect()
    }
}

/// The value as JSON, which has TOML's numbers, strings and booleans. `null`: not set.
fn setting(choice: Option<KnobValue>) -> Value {
    let text = choice.and_then(KnobValue::value);
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null)
}

fn settings(choices: &[KnobValue]) -> Value {
    choices
        .iter()
        .map(|choice| (choice.key().to_owned(), setting(Some(*choice))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn shown(rate: f64) -> String {
    if rate >= 1_000.0 { format!("{rate:.0}") } else { format!("{rate:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::tune::measure::Run;

    fn compared(values: Vec<Vec<KnobValue>>, rates: &[f64]) -> Comparison {
        let series = values.into_iter().map(Series::new).collect();
        let run = |i: usize| Run { tokens_per_second: rates[i], seconds: 1.0, decode_us: 100.0, mixed_us: 912.0 };
        Comparison::make(series, 5, |_, _, i| Ok(run(i))).unwrap()
    }

    fn report() -> TuneReport {
        let (one, two) = (KnobValue::Threads(None), KnobValue::Threads(Some(2)));
        let steps = vec![vec![KnobValue::StepTokens(None)], vec![KnobValue::StepTokens(Some(512))]];
        TuneReport {
            model: "a model".to_owned(),
            machine: "2 CPUs, load 0.50".to_owned(),
            workload: StagesWorkload { requests: 16, concurrency: 8, prompt_tokens: 256, max_tokens: 48 },
            rounds: 5,
            threads: 1,
            tried: vec![
                ("threads", Ok(compared(vec![vec![one], vec![two]], &[5_500.25, 10_300.25]))),
                ("flash-attn", Err("given by --flash-attn".to_owned())),
                ("step-tokens", Ok(compared(steps, &[10_000.0, 9_000.0]))),
            ],
            check: Some(compared(vec![Vec::new(), vec![two]], &[5_400.0, 10_400.0])),
            partial: None,
        }
    }

    #[test]
    fn the_file_gets_what_was_chosen_and_why() {
        let text = report().toml(Some("\"/m.gguf\""));
        assert!(text.ends_with("\nmodel = \"/m.gguf\"\nthreads = 2\n"), "{text}");
        assert!(text.contains("# tune: threads = 2: 10300 tok/s against 5500 with 1 (default)\n"), "{text}");
        assert!(
            text.contains("# tune:   2                    10300 (10300 to 10300), 1.87 times, won 5 of 5\n"),
            "{text}"
        );
        assert!(text.contains("# tune: flash-attn: not tried: given by --flash-attn\n"), "{text}");
        assert!(text.contains("measured (default) stays") && text.contains("9.1 decode steps"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let json: Value = serde_json::from_str(&report().json()).unwrap();
        assert_eq!(json["settings"], json!({"threads": 2}));
        assert_eq!(json["tried"][0]["values"][1]["gain_beyond_noise"], true);
    }

    /// The longest verdict is about a step size that won against the measured one.
    #[test]
    fn a_verdict_fits_in_80_columns() {
        let steps = vec![vec![KnobValue::StepTokens(None)], vec![KnobValue::StepTokens(Some(2_048))]];
        let mut faster = report();
        faster.tried = vec![("step-tokens", Ok(compared(steps, &[100_000.0, 200_000.0])))];
        let text = faster.toml(None);
        let verdict = "# tune: step-tokens = 2048: 200000 tok/s against 100000 with measured (default)\n";
        assert!(text.contains(verdict), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn what_is_not_confirmed_is_not_written() {
        let mut unsure = report();
        unsure.check = Some(compared(vec![Vec::new(), vec![KnobValue::Threads(Some(2))]], &[100.0, 101.0]));
        let text = unsure.toml(None);
        assert!(text.lines().all(|line| line.starts_with(MARK)) && text.contains("within the noise"), "{text}");

        let mut stopped = report();
        (stopped.check, stopped.partial) = (None, Some("stopped by Ctrl-C".to_owned()));
        let text = stopped.toml(None);
        assert!(text.lines().all(|line| line.starts_with(MARK)), "{text}");
        assert!(text.contains("PARTIAL: stopped by Ctrl-C.") && text.contains("unconfirmed: threads = 2"), "{text}");
    }
}
