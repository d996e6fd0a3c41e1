//! The cost of sampling one token, compared with llama.cpp's own chain on the same rows in one run.
//!
//! `cargo bench --bench sample [-- --rounds N]` (llama.cpp isn't compiled again, because the bench profile inherits
//! release.)
//!
//! Each round runs cllm's sampler, then llama.cpp's, for each case. The table has medians over the rounds and their ratio.
//! llama.cpp's side is what `llama_sampler_sample` does for a row: fill the candidate list, apply the chain, read the
//! token, accept it. cllm's side is `Sampler::sample` and `accept`; it leaves the row unchanged, so nothing is copied back.
//! Both keep their buffers between tokens. The bounds are for 151,936 logits. The one for top-p assumes a full sort by
//! llama.cpp: on the peaked row it stops at its 256 likeliest tokens and doesn't sort.

use std::hint::black_box;
use std::time::Instant;

use cllm::sample::{SampleScratch, Sampler};
use cllm::types::{SamplingParams, Token};

#[path = "../tests/support/llama_chain.rs"]
mod llama_chain;
#[path = "../tests/support/rows.rs"]
mod rows;

use llama_chain::{Last, LlamaChain};

const SEED: u64 = 2026;

struct Case {
    name: &'static str,
    params: SamplingParams,
    /// The largest allowed share of llama.cpp's time, if the case has a bound.
    bar: Option<f64>,
}

struct Duel {
    name: &'static str,
    sampler: Sampler,
    rival: LlamaChain,
    bar: Option<f64>,
    ours_us: Vec<f64>,
    theirs_us: Vec<f64>,
}

fn cases() -> Vec<Case> {
    let open = SamplingParams { top_k: 0, top_p: 1.0, min_p: 0.0, seed: SEED, ..SamplingParams::default() };
    let case = |name, bar, params| Case { name, bar, params };
    vec![
        case("greedy", Some(1.0 / 3.0), SamplingParams { temperature: 0.0, ..open.clone() }),
        case("top-k 40", Some(1.0 / 3.0), SamplingParams { top_k: 40, ..open.clone() }),
        case("top-p 0.95", Some(1.0 / 50.0), SamplingParams { top_p: 0.95, ..open.clone() }),
        case("min-p 0.05", None, SamplingParams { min_p: 0.05, ..open.clone() }),
        case("typical-p 0.95", None, SamplingParams { typical_p: 0.95, ..open.clone() }),
        case("penalties on 64", None, SamplingParams { repetition_penalty: 1.1, ..open.clone() }),
        case("temperature only", None, open),
        case("defaults", None, SamplingParams { seed: SEED, ..SamplingParams::default() }),
    ]
}

impl Duel {
    fn new(case: Case, n_vocab: usize) -> Duel {
        let prompt: Vec<Token> = (0..64).map(|i| Token(i * 31 % n_vocab as u32)).collect();
        let last = if case.params.temperature == 0.0 { Last::Greedy } else { Last::Draw(SEED as u32) };
        let mut rival = LlamaChain::new(n_vocab, &case.params, last);
        let mut sampler = Sampler::new();
        sampler.reset(&case.params, &prompt);
        prompt.iter().for_each(|&token| rival.accept(token));
        Duel { name: case.name, sampler, rival, bar: case.bar, ours_us: Vec::new(), theirs_us: Vec::new() }
    }

    fn round(&mut self, scratch: &mut SampleScratch, row: &mut [f32], repeats: u32) {
        let start = Instant::now();
        for _ in 0..repeats {
            let token = self.sampler.sample(scratch, black_box(&mut *row)).expect("a row of numbers");
            self.sampler.accept(black_box(token));
        }
        self.ours_us.push(start.elapsed().as_secs_f64() * 1e6 / f64::from(repeats));
        let start = Instant::now();
        for _ in 0..repeats {
            let token = self.rival.sample(black_box(row));
            self.rival.accept(black_box(token));
        }
        self.theirs_us.push(start.elapsed().as_secs_f64() * 1e6 / f64::from(repeats));
    }

    /// `stated`: whether the bounds apply to this row.
    fn report(&mut self, stated: bool) {
        let (ours, theirs) = (median(&mut self.ours_us), median(&mut self.theirs_us));
        let bar = self.bar.filter(|_| stated).map_or(String::new(), |bar| {
            format!("{:>6} {}", format!("1/{:.0}", 1.0 / bar), if ours <= bar * theirs { "met" } else { "MISSED" })
        });
        println!("  {:<24}{ours:>10.1}{theirs:>14.1}{:>10}   {bar}", self.name, format!("1/{:.1}", theirs / ours));
    }
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// The processor's name as Linux gives it.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, |n| n.get());
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    format!("{}, {cores} cores", name.unwrap_or("unknown processor"))
}

fn main() {
    let mut rounds = 41;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // An argument that cargo adds.
            "--bench" => {}
            "--rounds" => match arguments.next().and_then(|n| n.parse().ok()).filter(|&n| n > 0) {
                Some(n) => rounds = n,
                None => return eprintln!("--rounds needs a number from 1"),
            },
            other => return eprintln!("unknown argument {other}; there is --rounds N"),
        }
    }
    let n = rows::VOCAB_LARGE;
    let shapes = [
        ("Zipf 1.1, 151,936 logits", rows::zipf(n, 1.1, SEED), 1),
        ("flat noise, 151,936 logits", rows::noise(n, 0.05, SEED), 1),
        ("peaked (Zipf 2.0), 151,936 logits", rows::zipf(n, 2.0, SEED), 1),
        ("Zipf 1.1, 2,048 logits (the built-in model's)", rows::zipf(2_048, 1.1, SEED), 50),
    ];
    println!("Sampling one token, microseconds (median of {rounds} rounds, ours and llama.cpp's");
    println!("in turn), seed {SEED}, one thread");
    println!("{}", machine());
    for (shape, mut row, repeats) in shapes {
        println!("\n{shape}");
        println!("{:<26}{:>10}{:>14}{:>10}   {:>6}", "", "ours us", "llama.cpp us", "ratio", "bar");
        let mut duels: Vec<Duel> = cases().into_iter().map(|case| Duel::new(case, row.len())).collect();
        let mut scratch = SampleScratch::new(row.len());
        for _ in 0..rounds {
            duels.iter_mut().for_each(|duel| duel.round(&mut scratch, &mut row, repeats));
        }
        duels.iter_mut().for_each(|duel| duel.report(row.len() == n));
    }
}
