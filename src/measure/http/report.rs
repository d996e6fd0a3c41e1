//! The report: text for a terminal of 80 columns, or JSON with complete histograms.

use std::fmt::Write;

use serde_json::{Value, json};

use super::drive::Load;
use super::measure::{PhaseResults, Times};

/// One level of load: the results of each server in each round.
pub struct Level {
    /// How requests arrived.
    pub load: Load,
    /// A list of rounds for each server.
    pub rounds: Vec<Vec<PhaseResults>>,
}

/// The content of a report.
pub struct HttpReport {
    /// URL and model of each server.
    pub servers: Vec<(String, String)>,
    /// The workload as JSON.
    pub workload: Value,
    /// The workload in words.
    pub words: String,
    /// The results for each level of load.
    pub levels: Vec<Level>,
    /// Why the run ended early; `None`: it is complete.
    pub partial: Option<String>,
}

const FRACTIONS: [f64; 4] = [0.5, 0.9, 0.99, 1.0];

/// A figure that is compared between two servers: its name, how it is computed, and which direction is better.
type Figure = (&'static str, fn(&PhaseResults) -> Option<f64>, &'static str);
const FIGURES: [Figure; 7] = [
    ("tokens/s", |m| Some(m.tokens_per_s()), "higher is better"),
    ("requests/s", |m| Some(m.requests_per_s()), "higher is better"),
    ("TTFT p50, ms", |m| quantile(&m.ttft, 0.5), "lower is better"),
    ("TTFT p99, ms", |m| quantile(&m.ttft, 0.99), "lower is better"),
    ("ITL p50, ms", |m| quantile(&m.itl, 0.5), "lower is better"),
    ("ITL p99, ms", |m| quantile(&m.itl, 0.99), "lower is better"),
    ("E2E p50, ms", |m| quantile(&m.e2e, 0.5), "lower is better"),
];

fn quantile(times: &Times, fraction: f64) -> Option<f64> {
    (!times.is_empty()).then(|| times.ms(fraction))
}

impl Load {
    /// The load in words: `8 at once`, `12.5/s`.
    pub fn words(&self) -> String {
        match self {
            Load::Closed { clients } => format!("{clients} at once"),
            Load::Open { rate, .. } => format!("{rate}/s, Poisson"),
        }
    }

    fn json(&self) -> Value {
        match self {
            Load::Closed { clients } => json!({"loop": "closed", "concurrency": clients}),
            Load::Open { rate, connections } => {
                json!({"loop": "open", "rate": rate, "connections_max": connections})
            }
        }
    }
}

impl Level {
    fn sum(&self, server: usize) -> PhaseResults {
        let mut sum = PhaseResults::default();
        self.rounds[server].iter().for_each(|round| sum.add(round));
        sum
    }

    /// Median, least and largest value of A / B over the rounds that both servers completed.
    fn ratio(&self, figure: fn(&PhaseResults) -> Option<f64>) -> Option<(f64, f64, f64)> {
        let pairs = self.rounds[0].iter().zip(&self.rounds[1]);
        let ratio = |(a, b): (&PhaseResults, &PhaseResults)| Some(figure(a)? / figure(b).filter(|b| *b > 0.0)?);
        let mut ratios: Vec<f64> = pairs.filter_map(ratio).collect();
        ratios.sort_by(f64::total_cmp);
        let (least, most) = (*ratios.first()?, *ratios.last()?);
        let half = ratios.len() / 2;
        let median = if ratios.len() % 2 == 1 { ratios[half] } else { (ratios[half - 1] + ratios[half]) / 2.0 };
        Some((median, least, most))
    }
}

impl HttpReport {
    /// The number of answered requests, over all levels, rounds and servers.
    pub fn answered(&self) -> u64 {
        self.levels.iter().flat_map(|level| level.rounds.iter().flatten()).map(|round| round.answered).sum()
    }

    /// The first failure, for a run without any answer.
    pub fn example(&self) -> Option<String> {
        let rounds = self.levels.iter().flat_map(|level| level.rounds.iter().flatten());
        rounds.flat_map(|round| round.failures.values()).map(|(_, example)| example.clone()).next()
    }

    /// The report as JSON.
    pub fn json(&self) -> String {
        let levels: Vec<Value> = self
            .levels
            .iter()
            .map(|level| {
                let servers: Vec<Value> = (0..self.servers.len()).map(|server| level.sum(server).json()).collect();
                let mut json = level.load.json();
                json["rounds"] = json!(level.rounds[0].len());
                json["servers"] = json!(servers);
                if self.servers.len() == 2 {
                    let ratios = FIGURES.iter().filter_map(|(name, figure, better)| {
                        let (median, least, most) = level.ratio(*figure)?;
                        Some(json!({"figure": name, "median": median, "min": least, "max": most, "note": better}))
                    });
                    json["ratios_first_to_second"] = Value::Array(ratios.collect());
                }
                json
            })
            .collect();
        let servers: Vec<Value> = self.servers.iter().map(|(url, model)| json!({"url": url, "model": model})).collect();
        let report = json!({
            "bench": "http",
            "partial": self.partial.is_some(),
            "ended_early": self.partial,
            "servers": servers,
            "workload": self.workload,
            "levels": levels,
        });
        report.to_string() + "\n"
    }

    /// The report as text of 80 columns.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let names = ["A  ", "B  "];
        for (i, (url, model)) in self.servers.iter().enumerate() {
            let name = if self.servers.len() == 2 { names[i] } else { "" };
            let _ = writeln!(text, "{name}{url}, {model}");
        }
        let _ = writeln!(text, "{}", self.words);
        for level in &self.levels {
            for (server, name) in names.iter().enumerate().take(self.servers.len()) {
                let name = if self.servers.len() == 2 { name } else { "" };
                text += &block(&format!("{name}{}", level.load.words()), &level.sum(server));
            }
            if self.servers.len() == 2 {
                text += &ratios(level);
            }
        }
        if let Some(why) = &self.partial {
            let _ = writeln!(text, "\nPartial: {why}.");
        }
        text
    }
}

fn block(title: &str, measured: &PhaseResults) -> String {
    let mut text = format!(
        "\n{title}: {} answered in {:.1} s, {:.1} requests/s, {:.0} tokens/s\n",
        measured.answered,
        measured.took.as_secs_f64(),
        measured.requests_per_s(),
        measured.tokens_per_s(),
    );
    if measured.answered > 0 {
        let mean = |tokens: u64| tokens as f64 / measured.answered as f64;
        if measured.prompt_tokens > 0 {
            let (prompt, generated) = (mean(measured.prompt_tokens), mean(measured.tokens));
            let _ = writeln!(text, "  on average {prompt:.0} prompt tokens, {generated:.0} generated");
        }
        let _ = writeln!(text, "  {:<10}{:>10}{:>10}{:>10}{:>10}", "ms", "p50", "p90", "p99", "max");
        for (name, times) in
            [("TTFT", &measured.ttft), ("ITL", &measured.itl), ("E2E", &measured.e2e), ("sent late", &measured.late)]
        {
            // A closed loop is never late, so that line is left out.
            if times.is_empty() || (name == "sent late" && times.ms(1.0) < 0.5) {
                continue;
            }
            let _ = write!(text, "  {name:<10}");
            for fraction in FRACTIONS {
                let _ = write!(text, "{:>10.2}", times.ms(fraction));
            }
            text.push('\n');
        }
    }
    for (kind, (count, example)) in &measured.failures {
        let line = format!("  failed: {count} x {kind}: {example}");
        let cut = if line.chars().count() > 80 { "..." } else { "" };
        let _ = writeln!(text, "{}{cut}", line.chars().take(80 - cut.len()).collect::<String>());
    }
    if measured.unfinished > 0 {
        let _ = writeln!(text, "  unfinished when it was stopped: {}", measured.unfinished);
    }
    text
}

fn ratios(level: &Level) -> String {
    let rounds = level.rounds[0].len().min(level.rounds[1].len());
    let mut text = format!("\nA / B, {}: median of {rounds} rounds\n", level.load.words());
    for (name, figure, better) in FIGURES {
        if let Some((median, least, most)) = level.ratio(figure) {
            let _ = writeln!(text, "  {name:<14}{median:>7.2}   {least:.2} to {most:.2}   {better}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::measure::http::failure::RequestFailure;
    use crate::measure::http::target::MeasuredAnswer;

    fn round(tokens: u64, ms: u64) -> PhaseResults {
        let due = Instant::now();
        let at = |ms| due + Duration::from_millis(ms);
        let mut measured = PhaseResults { took: Duration::from_secs(1), ..PhaseResults::default() };
        let answer = MeasuredAnswer { tokens, prompt_tokens: Some(128), pieces_at: vec![at(ms), at(2 * ms)] };
        measured.record(due, due, at(ms * 3), &Ok(answer));
        measured.record(due, due, at(1), &Err(RequestFailure::Status(503, "x".repeat(150))));
        measured
    }

    #[test]
    fn it_fits_a_terminal_and_compares_round_by_round() {
        let server = |url: &str| (url.to_owned(), "model".to_owned());
        let rounds = vec![
            vec![round(100, 1_000), round(400, 1_000), round(90, 1_000)],
            vec![round(100, 500), round(100, 500), round(100, 500)],
        ];
        let report = HttpReport {
            servers: vec![server("http://a"), server("http://b")],
            workload: json!({}),
            words: String::new(),
            levels: vec![Level { load: Load::Closed { clients: 8 }, rounds }],
            partial: Some("stopped by Ctrl-C".to_owned()),
        };
        let text = report.text();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("  tokens/s         1.00   0.90 to 4.00   higher is better"), "{text}");
        assert!(text.contains("  TTFT p50, ms     2.00   2.00 to 2.00   lower is better"), "{text}");
        assert!(text.contains("3 x http_503") && text.contains("Partial: stopped by Ctrl-C."), "{text}");
        let json: Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["partial"], true);
        assert_eq!(json["levels"][0]["servers"][0]["failures"]["http_503"]["count"], 3);
        assert_eq!(json["levels"][0]["servers"][0]["generated_tokens"], 590);
    }
}
