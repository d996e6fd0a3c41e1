//! One run of the workload: a context, the decoder and the engine of the server, driven in place on a new thread.
//!
//! As many sequences as there are slots generate at once. When one ends, the next prompt is read in the same steps. Prompts
//! and answers have different lengths; with equal lengths all would begin and end together, and no step would have both.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::clock::MonotonicClock;
use crate::config::Config;
use crate::engine::{Engine, EngineParts, Observer, PromptRows, PromptStats, RoundOutcome, Stats};
use crate::handoff::{ReplyPool, Shutdown, ring};
use crate::llama::Model;
use crate::measure::median;
use crate::measure::stages::served::drive_each;
use crate::measure::stages::workload::{SEED, StagePrompt, StagesWorkload};
use crate::sample::uniform;
use crate::server::decoder::llama_decoder;
use crate::server::defaults::plan;
use crate::topology::{Machine, pin};
use crate::types::limits::REPLY_PIECES_MAX;
use crate::types::seams::Outcome;
use crate::types::{GenerateParams, Token, TokenTable};

/// Tokens of the prompts that warm up a new context, and of their answers.
const WARM: (usize, usize) = (8, 4);

/// What all runs have in common.
pub struct TuneBench<'a> {
    /// The loaded model.
    pub model: Arc<Model>,
    /// The bytes of the vocabulary's tokens.
    pub table: Arc<TokenTable>,
    /// The CPUs.
    pub machine: Machine,
    /// The sizes. Its numbers of tokens are the largest of a prompt and of an answer.
    pub workload: StagesWorkload,
    /// Set by Ctrl-C.
    pub stop: &'a AtomicBool,
}

/// The results of one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    /// Generated tokens a second.
    pub tokens_per_second: f64,
    /// The run's duration.
    pub seconds: f64,
    /// Median microseconds of a step in which all rows generate.
    pub decode_us: f64,
    /// Median microseconds of a step that also reads a prompt; NaN if there was none.
    pub mixed_us: f64,
}

/// Why a run has no result.
#[derive(Debug, PartialEq, Eq)]
pub enum Halt {
    /// It was stopped by Ctrl-C.
    Stopped,
    /// It failed, for this reason.
    Failed(String),
}

impl TuneBench<'_> {
    /// Runs the workload once with `config`. Equal `salt` gives equal prompts.
    pub fn run(&self, config: &Config, salt: u64) -> Result<Run, Halt> {
        let run = || -> Result<Run, String> {
            std::thread::scope(|scope| {
                // A threadpool pins the thread that makes it.
                let thread = std::thread::Builder::new().name("tune".to_owned());
                let thread = thread.spawn_scoped(scope, || self.run_here(config, salt));
                let thread = thread.map_err(|error| error.to_string())?;
                thread.join().unwrap_or_else(|_| Err("the run's thread panicked".to_owned()))
            })
        };
        run().map_err(|reason| if self.stop.load(Ordering::Relaxed) { Halt::Stopped } else { Halt::Failed(reason) })
    }

    fn run_here(&self, config: &Config, salt: u64) -> Result<Run, String> {
        let slots = self.workload.concurrency;
        let mut config = config.clone();
        self.workload.fit(&mut config);
        let plan = plan(&self.machine, &config).map_err(|error| error.to_string())?;
        let _ = pin(plan.batch);
        let decoder = llama_decoder(&config, &plan, &self.model).map_err(|error| error.to_string())?;
        let (sender, inbox) = ring(slots);
        let replies = ReplyPool::with_wake(slots + 1, REPLY_PIECES_MAX, sender.wake_handle());
        let (clock, steps) = (MonotonicClock::start(), Steps::default());
        let seen = Rc::clone(&steps.seen);
        let mut engine = Engine::new(EngineParts {
            decoder,
            clock,
            observer: steps,
            inbox,
            table: Arc::clone(&self.table),
            shutdown: Shutdown::default(),
            slots,
            prompt_rows: config.step_tokens.map_or(PromptRows::Measured, PromptRows::Fixed),
        });
        let mut step = || match engine.step() {
            // ORDERING: Relaxed; no other data is published with the flag.
            _ if self.stop.load(Ordering::Relaxed) => Err("stopped".to_owned()),
            RoundOutcome::Broken => Err("llama.cpp can't continue".to_owned()),
            RoundOutcome::Decoded | RoundOutcome::Moved | RoundOutcome::Idle => Ok(()),
        };
        let (warm, params) = (self.prompts(slots, |_| WARM.0, !salt), self.workload.params());
        let few = |_| GenerateParams { max_tokens: WARM.1, ..params.clone() };
        drive_each(&mut step, &sender, &replies, &clock, &warm, &few, slots)?;
        seen.borrow_mut().clear();

        let StagesWorkload { requests, prompt_tokens, max_tokens, .. } = self.workload;
        let prompts = self.prompts(requests, |i| drawn(prompt_tokens.div_ceil(4)..=prompt_tokens, salt, 2 * i), salt);
        let answer = |i: usize| drawn(max_tokens.div_ceil(2)..=max_tokens, salt, 2 * i + 1);
        let each = |i| GenerateParams { max_tokens: answer(i), ..params.clone() };
        let started = Instant::now();
        let tokens = drive_each(&mut step, &sender, &replies, &clock, &prompts, &each, slots)?;
        let seconds = started.elapsed().as_secs_f64();
        let expected: usize = (0..requests).map(answer).sum();
        if tokens != expected {
            return Err(format!("{tokens} tokens instead of {expected}"));
        }
        let seen = seen.borrow();
        let times = |mixed: bool| seen.iter().filter(|step| step.0 == mixed).map(|step| step.1).collect::<Vec<f64>>();
        Ok(Run {
            tokens_per_second: tokens as f64 / seconds,
            seconds,
            decode_us: median(&times(false)),
            mixed_us: median(&times(true)),
        })
    }

    /// Random tokens. No two prompts have a common beginning, so the cache doesn't help.
    fn prompts(&self, count: usize, tokens: impl Fn(usize) -> usize, salt: u64) -> Vec<StagePrompt> {
        let n_vocab = self.model.n_vocab() as f64;
        let token = |seed: u64, i: usize| Token((uniform(seed, i as u64) * n_vocab) as u32);
        let prompt = |i: usize| {
            let seed = seed(salt).wrapping_add(i as u64);
            StagePrompt { text: String::new(), tokens: (0..tokens(i)).map(|at| token(seed, at)).collect() }
        };
        (0..count).map(prompt).collect()
    }
}

fn seed(salt: u64) -> u64 {
    SEED ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A number of `range`, all equally likely. `salt` and `i` determine it.
fn drawn(range: std::ops::RangeInclusive<usize>, salt: u64, i: usize) -> usize {
    let count = range.end() - range.start() + 1;
    range.start() + (uniform(!seed(salt), i as u64) * count as f64) as usize
}

/// For each step that generated: whether it also read a prompt, and its microseconds.
#[derive(Default)]
struct Steps {
    seen: Rc<RefCell<Vec<(bool, f64)>>>,
    /// The microseconds of a step that went through, until its rows are counted.
    latest_us: Option<u64>,
    rows: u64,
    prompt: u64,
}

impl Observer for Steps {
    fn step(&mut self, outcome: Outcome, decode_us: u64, _now_us: u64) {
        self.latest_us = (outcome == Outcome::Done).then_some(decode_us);
    }

    fn counted(&mut self, stats: &Stats, _moved: Option<&PromptStats>, _now_us: u64) {
        let (rows, prompt) = (stats.rows - self.rows, stats.prompt_tokens_decoded - self.prompt);
        (self.rows, self.prompt) = (stats.rows, stats.prompt_tokens_decoded);
        if let Some(us) = self.latest_us.take()
            && rows > prompt
        {
            self.seen.borrow_mut().push((prompt > 0, us as f64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_drawn_from_all_of_their_range_and_repeat() {
        let all = |salt| (0..500).map(|i| drawn(6..=24, salt, i)).collect::<Vec<_>>();
        let (least, most) = (*all(1).iter().min().unwrap(), *all(1).iter().max().unwrap());
        assert_eq!((least, most), (6, 24));
        assert!(all(1) == all(1) && all(1) != all(2));
        assert_eq!(drawn(1..=1, 7, 3), 1);
    }

    #[test]
    fn steps_that_only_read_prompts_hold_no_request_up() {
        let mut steps = Steps::default();
        let mut told = |rows, prompt_tokens_decoded, us| {
            let stats = Stats { rows, prompt_tokens_decoded, ..Stats::default() };
            steps.step(Outcome::Done, us, 0);
            // Once more where the step ended a request.
            steps.counted(&stats, None, 0);
            steps.counted(&stats, None, 0);
        };
        told(100, 100, 1);
        told(108, 100, 2);
        told(181, 165, 3);
        assert_eq!(*steps.seen.borrow(), [(false, 2.0), (true, 3.0)]);
    }
}
