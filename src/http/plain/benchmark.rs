//! `POST /benchmark`: generates load on the shared engine from inside, and measures it. One at a time.
//!
//! Its generations take the same way as all others: places, ring, slots. They run on threads of their own, as many as
//! `concurrency`; the HTTP thread waits for them. If the client leaves, they are cancelled.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tiny_http::{Request, ResponseBox};

use crate::chat::Said;
use crate::http::account::Standing;
use crate::http::ask::fields::{Fields, wrong_type};
use crate::http::ask::generation::{Generation, Input};
use crate::http::ask::notes::note;
use crate::http::ask::warnings;
use crate::http::caller::Caller;
use crate::http::dialect::native::ERRORS;
use crate::http::fault::{header, json_response};
use crate::http::run::choices::{Listener, Scored};
use crate::http::service::Service;
use crate::types::limits::{BENCHMARK_LOOK_MS, BENCHMARK_PROMPTS_MAX, BENCHMARK_REQUESTS_MAX};
use crate::types::{RequestError, SamplingParams, Terminal};

/// The prompt if the request has none.
const PROMPT: &str = "Once upon a time there was a small server that answered every question it was asked. One day";

/// The parameters of a benchmark.
#[derive(Debug)]
pub(in crate::http) struct BenchmarkParams {
    requests: usize,
    concurrency: usize,
    max_tokens: usize,
    /// The prompts, used in turn.
    prompts: Vec<String>,
    sampling: SamplingParams,
    ignore_eos: bool,
}

/// A generation that ended well: how long it took and how many tokens it has.
struct Sample {
    took: Duration,
    generated: u32,
}

impl Service {
    /// Runs a benchmark and answers with its results.
    pub(in crate::http) fn benchmark(&self, request: Request, caller: &Caller) {
        let response = match self.benchmark_plan(request.body()) {
            Err(error) => self.refusal(caller, &ERRORS, &error),
            // ORDERING: AcqRel, so that a benchmark begins after the previous one has ended.
            Ok(_) if self.benchmarking.swap(true, Ordering::AcqRel) => {
                self.note_refusal(caller, "benchmark_running");
                ERRORS
                    .answer(429, "another benchmark is running", "benchmark_running", Value::Null)
                    .with_header(header("Retry-After", "5"))
            }
            Ok(plan) => {
                let left = std::sync::Arc::new(AtomicBool::new(false));
                let leaves = std::sync::Arc::clone(&left);
                // ORDERING: Relaxed, here and where it is read; no other data is published with the flag.
                request.watch().on_disconnect(Box::new(move || leaves.store(true, Ordering::Relaxed)));
                let response = self.run_benchmark(&plan, &left, &caller.standing);
                self.benchmarking.store(false, Ordering::Release);
                response
            }
        };
        self.respond(request, caller, response);
    }

    pub(in crate::http) fn benchmark_plan(&self, body: &[u8]) -> Result<BenchmarkParams, RequestError> {
        let mut fields = Fields::parse(if body.is_empty() { b"{}" } else { body })?;
        let in_flight = self.parts.in_flight_max as u64;
        let max_tokens = self.parts.model.n_ctx as u64;
        let count = |value: Option<u64>, usual: usize| value.map_or(usual, |n| n as usize);
        let requests = count(fields.integer("requests", 1..=BENCHMARK_REQUESTS_MAX as u64)?, 40);
        let concurrency = count(fields.integer("concurrency", 1..=in_flight)?, 8.min(self.parts.in_flight_max));
        let max_tokens = count(fields.integer("max_tokens", 1..=max_tokens)?, 50);
        let prompts = prompts(fields.take_noted("prompt", || json!({"type": "string", "minLength": 1})))?;
        let temperature = fields.number("temperature", 0.0..=100.0)?;
        let usual = &self.parts.defaults.sampling;
        let sampling = SamplingParams { temperature: temperature.unwrap_or(usual.temperature), ..usual.clone() };
        let ignore_eos = fields.bool("ignore_eos")?.unwrap_or(true);
        warnings::ignored(&fields.unknown());
        Ok(BenchmarkParams {
            requests,
            concurrency: concurrency.min(requests),
            max_tokens,
            prompts,
            sampling,
            ignore_eos,
        })
    }

    fn run_benchmark(&self, plan: &BenchmarkParams, left: &AtomicBool, standing: &Standing) -> ResponseBox {
        // ORDERING: Relaxed; `fetch_add` alone makes sure that each number is used once.
        let next = AtomicUsize::new(0);
        let samples = Mutex::new(Vec::with_capacity(plan.requests));
        let failed = AtomicUsize::new(0);
        let started = Instant::now();
        let work = || {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= plan.requests || left.load(Ordering::Relaxed) {
                    return;
                }
                match self.benchmark_one(plan, i, left, standing) {
                    Some(sample) => samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample),
                    None => drop(failed.fetch_add(1, Ordering::Relaxed)),
                }
            }
        };
        std::thread::scope(|scope| {
            // This thread also runs generations. If the system can't start more threads, fewer run at once.
            for i in 1..plan.concurrency {
                let _ = std::thread::Builder::new().name(format!("benchmark-{i}")).spawn_scoped(scope, work);
            }
            work();
        });
        let total = started.elapsed();
        let samples = samples.into_inner().unwrap_or_else(PoisonError::into_inner);
        json_response(200, &json!({"success": true, "data": figures(plan.requests, &samples, total)}))
    }

    /// Runs generation number `i`. `None`: it was refused or failed, or the client has left.
    fn benchmark_one(
        &self,
        plan: &BenchmarkParams,
        i: usize,
        left: &AtomicBool,
        standing: &Standing,
    ) -> Option<Sample> {
        let (started, started_us, id) = (Instant::now(), self.now_us(), self.next_id());
        let prompt = plan.prompts[i % plan.prompts.len()].clone();
        let mut generation = Generation::new(vec![Input::text(prompt)], &self.parts.defaults, self.fresh_seed(id));
        generation.max_tokens = Some(plan.max_tokens);
        generation.sampling = SamplingParams { seed: generation.sampling.seed, ..plan.sampling.clone() };
        generation.ignore_eos = plan.ignore_eos;
        // The generations count for the account that asked for the benchmark; their texts are not kept as guesses.
        let caller = Caller::unconnected(id).coming_as(Standing { owner: None, ..standing.clone() });
        let begun = self.begin(&caller, &mut generation, "max_tokens", started_us);
        let (mut choices, _) = begun.ok()?;
        // Dropping the choices cancels the generation.
        while !choices.wait_for_end(
            self,
            &mut Deaf,
            Instant::now().checked_add(Duration::from_millis(BENCHMARK_LOOK_MS)),
        ) {
            if left.load(Ordering::Relaxed) {
                return None;
            }
        }
        let end = *choices.ends().next()?;
        if choices.failure().is_some() {
            return None;
        }
        drop(choices);
        self.record(started_us);
        Some(Sample { took: started.elapsed(), generated: end.generated_tokens })
    }
}

/// Ignores the text of an answer.
struct Deaf;

impl Listener for Deaf {
    fn said(&mut self, _: usize, _: Said<'_>, _: &mut Vec<Scored>) {}

    fn ended(&mut self, _: usize, _: &Terminal, _: usize, _: &mut Vec<Scored>) {}
}

/// Reads `prompt`: one text, or several that are used in turn, so that not all come from the cache.
fn prompts(value: Option<Value>) -> Result<Vec<String>, RequestError> {
    note("prompt", || json!({"type": "array", "minItems": 1, "maxItems": BENCHMARK_PROMPTS_MAX}));
    note("prompt[]", || json!({"type": "string", "minLength": 1}));
    let texts = match value {
        None => vec![PROMPT.to_owned()],
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(list)) if !list.is_empty() && list.len() <= BENCHMARK_PROMPTS_MAX => list
            .into_iter()
            .map(|entry| match entry {
                Value::String(text) => Ok(text),
                other => Err(wrong_type("prompt", "a string or an array of strings", &other)),
            })
            .collect::<Result<_, _>>()?,
        Some(Value::Array(list)) => {
            let message = format!("must have 1 to {BENCHMARK_PROMPTS_MAX} entries, not {}", list.len());
            return Err(RequestError::field("prompt", message));
        }
        Some(other) => return Err(wrong_type("prompt", "a string or an array of strings", &other)),
    };
    if texts.iter().any(String::is_empty) {
        return Err(RequestError::field("prompt", "must not be empty"));
    }
    Ok(texts)
}

/// The body of the answer. Times in seconds; 0 if no generation ended well.
fn figures(requests: usize, samples: &[Sample], total: Duration) -> Value {
    let times: Vec<f64> = samples.iter().map(|sample| sample.took.as_secs_f64()).collect();
    let tokens: u64 = samples.iter().map(|sample| u64::from(sample.generated)).sum();
    let mean = |sum: f64| if samples.is_empty() { 0.0 } else { sum / samples.len() as f64 };
    let total_s = total.as_secs_f64();
    let rate = |n: f64| if total_s > 0.0 { n / total_s } else { 0.0 };
    json!({
        "total_requests": requests,
        "successful_requests": samples.len(),
        "failed_requests": requests - samples.len(),
        "avg_response_time": mean(times.iter().sum()),
        "min_response_time": times.iter().copied().reduce(f64::min).unwrap_or(0.0),
        "max_response_time": times.iter().copied().reduce(f64::max).unwrap_or(0.0),
        "avg_throughput": rate(samples.len() as f64),
        "avg_tokens_per_second": rate(tokens as f64),
        "total_tokens_processed": tokens,
        "avg_generated_tokens": mean(tokens as f64),
        "total_time": total_s,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_add_up() {
        let sample = |ms, generated| Sample { took: Duration::from_millis(ms), generated };
        let data = figures(3, &[sample(500, 10), sample(1_500, 30)], Duration::from_secs(2));
        let number = |name: &str| data[name].as_f64().unwrap();
        assert_eq!((number("successful_requests"), number("failed_requests")), (2.0, 1.0));
        assert_eq!(
            (number("avg_response_time"), number("min_response_time"), number("max_response_time")),
            (1.0, 0.5, 1.5)
        );
        assert_eq!((number("avg_throughput"), number("avg_tokens_per_second")), (1.0, 20.0));
        assert_eq!((number("total_tokens_processed"), number("avg_generated_tokens")), (40.0, 20.0));
        assert!(figures(1, &[], Duration::ZERO)["avg_response_time"] == 0.0);
    }

    #[test]
    fn a_prompt_is_a_text_or_several() {
        assert_eq!(prompts(Some(json!(["a", "b"]))).unwrap(), ["a", "b"]);
        assert_eq!(prompts(None).unwrap(), [PROMPT]);
        for bad in [json!(3), json!([]), json!([1]), json!(""), json!(["a", ""])] {
            assert!(prompts(Some(bad.clone())).unwrap_err().to_string().starts_with("prompt: "), "{bad}");
        }
    }
}
