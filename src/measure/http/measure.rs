//! The results of a phase: latencies as HDR histograms of three digits, and failures by kind. One lock for each request,
//! taken after its clock has stopped.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::failure::RequestFailure;
use super::target::MeasuredAnswer;
use crate::types::limits::MEASURED_US_MAX;

/// A histogram of times in microseconds.
#[derive(Clone, Debug)]
pub struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        Times(Histogram::new_with_bounds(1, MEASURED_US_MAX, 3).expect("the bounds are constants in order"))
    }
}

impl Times {
    fn record(&mut self, time: Duration) {
        self.0.saturating_record((time.as_micros() as u64).max(1));
    }

    fn add(&mut self, other: &Times) {
        self.0 += &other.0;
    }

    /// Whether no time was recorded.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The quantile `fraction` in milliseconds; 1 is the longest time.
    pub fn ms(&self, fraction: f64) -> f64 {
        let us = if fraction >= 1.0 { self.0.max() } else { self.0.value_at_quantile(fraction) };
        us as f64 / 1e3
    }

    fn json(&self) -> Value {
        let buckets: Vec<Value> = self
            .0
            .iter_recorded()
            .map(|step| json!([step.value_iterated_to(), step.count_since_last_iteration()]))
            .collect();
        json!({
            "count": self.0.len(),
            "mean_ms": self.0.mean() / 1e3,
            "p50_ms": self.ms(0.5),
            "p90_ms": self.ms(0.9),
            "p99_ms": self.ms(0.99),
            "max_ms": self.ms(1.0),
            "histogram_us": buckets,
        })
    }
}

/// The results of one phase: one server at one level of load.
#[derive(Clone, Debug, Default)]
pub struct PhaseResults {
    /// From the time a request was due to its first text. Streams only.
    pub ttft: Times,
    /// Between two pieces of text of one stream.
    pub itl: Times,
    /// From the time a request was due to its last byte.
    pub e2e: Times,
    /// From the time a request was due until a connection was free: the load generator's own queue.
    pub late: Times,
    /// Answered requests.
    pub answered: u64,
    /// Generated tokens.
    pub tokens: u64,
    /// Prompt tokens, as far as the server counts them.
    pub prompt_tokens: u64,
    /// For each kind of failure, the number of requests and an example.
    pub failures: BTreeMap<String, (u64, String)>,
    /// Requests that were running when the phase was stopped. They are counted nowhere else.
    pub unfinished: u64,
    /// The duration of the phase.
    pub took: Duration,
}

impl PhaseResults {
    /// Adds the result of one request, which was due at `due`, sent at `sent` and finished at `ended`.
    pub fn record(
        &mut self,
        due: Instant,
        sent: Instant,
        ended: Instant,
        result: &Result<MeasuredAnswer, RequestFailure>,
    ) {
        let answer = match result {
            Ok(answer) => answer,
            Err(RequestFailure::Stopped) => {
                self.unfinished += 1;
                return;
            }
            Err(failure) => {
                let example = || (0, failure.to_string());
                self.failures.entry(failure.kind()).or_insert_with(example).0 += 1;
                return;
            }
        };
        self.answered += 1;
        self.tokens += answer.tokens;
        self.prompt_tokens += answer.prompt_tokens.unwrap_or(0);
        self.late.record(sent.saturating_duration_since(due));
        self.e2e.record(ended.saturating_duration_since(due));
        if let Some(first) = answer.pieces_at.first() {
            self.ttft.record(first.saturating_duration_since(due));
        }
        for pair in answer.pieces_at.windows(2) {
            self.itl.record(pair[1].saturating_duration_since(pair[0]));
        }
    }

    /// The number of failed requests, of all kinds.
    pub fn failed(&self) -> u64 {
        self.failures.values().map(|(count, _)| count).sum()
    }

    /// Generated tokens a second over the whole phase.
    pub fn tokens_per_s(&self) -> f64 {
        self.tokens as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// Answered requests a second over the whole phase.
    pub fn requests_per_s(&self) -> f64 {
        self.answered as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// Adds the results of another round of the same phase.
    pub fn add(&mut self, other: &PhaseResults) {
        self.ttft.add(&other.ttft);
        self.itl.add(&other.itl);
        self.e2e.add(&other.e2e);
        self.late.add(&other.late);
        self.answered += other.answered;
        self.tokens += other.tokens;
        self.prompt_tokens += other.prompt_tokens;
        for (kind, (count, example)) in &other.failures {
            self.failures.entry(kind.clone()).or_insert_with(|| (0, example.clone())).0 += count;
        }
        self.unfinished += other.unfinished;
        self.took += other.took;
    }

    /// The results as a JSON object, with complete histograms.
    pub fn json(&self) -> Value {
        let times = |times: &Times| if times.is_empty() { Value::Null } else { times.json() };
        let failures: serde_json::Map<String, Value> = self
            .failures
            .iter()
            .map(|(kind, (count, example))| (kind.clone(), json!({"count": count, "example": example})))
            .collect();
        json!({
            "seconds": self.took.as_secs_f64(),
            "requests_answered": self.answered,
            "requests_failed": self.failed(),
            "requests_unfinished": self.unfinished,
            "failures": failures,
            "requests_per_second": self.requests_per_s(),
            "tokens_per_second": self.tokens_per_s(),
            "generated_tokens": self.tokens,
            "prompt_tokens": self.prompt_tokens,
            "ttft": times(&self.ttft),
            "itl": times(&self.itl),
            "e2e": times(&self.e2e),
            "sent_late": times(&self.late),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_count_from_when_a_request_was_due() {
        let due = Instant::now();
        let at = |ms| due + Duration::from_millis(ms);
        let answer = MeasuredAnswer { tokens: 3, prompt_tokens: Some(9), pieces_at: vec![at(150), at(160), at(190)] };
        let mut measured = PhaseResults { took: Duration::from_secs(2), ..PhaseResults::default() };
        measured.record(due, at(100), at(200), &Ok(answer));
        measured.record(due, due, at(5), &Err(RequestFailure::Status(429, "full".to_owned())));
        measured.record(due, due, at(5), &Err(RequestFailure::Stopped));
        let near = |times: &Times, fraction, ms: f64| (times.ms(fraction) - ms).abs() / ms < 0.002;
        assert!(
            near(&measured.ttft, 0.5, 150.0) && near(&measured.e2e, 1.0, 200.0) && near(&measured.late, 1.0, 100.0)
        );
        assert!(near(&measured.itl, 0.5, 10.0) && near(&measured.itl, 1.0, 30.0));
        assert_eq!((measured.answered, measured.failed(), measured.unfinished), (1, 1, 1));
        assert_eq!(measured.tokens_per_s(), 1.5);
        assert_eq!(measured.failures["http_429"], (1, "status 429: full".to_owned()));
        let mut twice = measured.clone();
        twice.add(&measured);
        assert_eq!((twice.answered, twice.failed(), twice.tokens_per_s()), (2, 2, 1.5));
    }
}
