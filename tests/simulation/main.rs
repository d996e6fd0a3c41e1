//! The engine over a fake decoder: thousands of small worlds, each from one seed, in which everything goes wrong.
//!
//! Requests arrive alone and in bursts, share beginnings, have deadlines, cancel, vanish and read slowly; the cache is
//! too small; steps fail in every way `Outcome` knows; masks of constrained requests come late. After every step the books must equal the decoder's cells; at the
//! end each request has exactly one answer, and it is what it would have got alone (`oracle`).
//!
//! `CLLM_SIM_SEEDS=N` sets how many worlds (10,000); `CLLM_SIM_SEED=N` replays one and prints what happens.

#[path = "../support/dice.rs"]
mod dice;
#[path = "../support/fake_decoder.rs"]
mod fake_decoder;

mod client;
mod depth;
mod ends;
mod fair;
mod gather;
mod gives_way;
mod grammar;
mod guesses;
mod oracle;
mod outside;
mod shape;
mod small;
mod store;
mod told;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use oracle::Oracle;
use shape::N_VOCAB;
use world::Coverage;

const SEEDS: u64 = 10_000;
/// The machines that run CI have two cores.
const THREADS: usize = 2;
/// Number of worlds in which each event must have happened.
const ENOUGH_SEEDS: u64 = 2_000;

/// Events that must happen, or the simulation would show nothing about them.
const MUST_HAPPEN: &[&str] = &[
    "answers: eos",
    "answers: stop",
    "answers: length",
    "answers: deadline",
    "answers: cancelled",
    "answers: shutdown",
    "answers: too large",
    "answers: no logits",
    "answers: error",
    "steps: no room",
    "steps: no room, injected",
    "steps: partial",
    "steps: invalid",
    "steps: fatal",
    "answers: constrained",
    "answers: grammar complete",
    "answers: grammar broken",
    "answers: grammar at a dead end",
    "masks awaited",
    "masks late while nobody else runs",
    "cancelled while waiting for a mask",
    "deadline while waiting for a mask",
    "prompts scored",
    "prompts scored in chunks",
    "prompts scored, nothing generated",
    "blocks compared",
    "blocks told late",
    "evictions",
    "preemptions",
    "gave way",
    "gave way more than once",
    "gave way: drawn by a seed",
    "gave way: penalties",
    "gave way: Mirostat",
    "gave way: log-probabilities",
    "gave way: prompt scored",
    "gave way: stop strings",
    "gave way: constrained",
    "gave way: guesses came true",
    "prompt tokens cached",
    "prefix copies",
    "prefixes awaited",
    "blocks saved",
    "blocks restored from ram",
    "blocks restored from disk",
    "blocks that were gone",
    "blocks of a wrong size",
    "blocks evicted",
    "rounds that waited for a block",
    "rounds that only moved blocks",
    "restores broken off",
    "restores cancelled",
    "answers behind restored blocks",
    "states saved",
    "states saved with cells",
    "states restored",
    "states restored with cells",
    "checkpoints kept",
    "went on from a checkpoint of its own",
    "went on from a checkpoint of another",
    "worlds in which checkpoints made room for others",
    "no reply slot",
    "ring full",
    "drained",
    "shut down at once",
    "ended by a broken decoder",
    "guesses that came true",
    "guesses that did not",
    "steps of guesses that all came true",
    "guesses without room",
    "guesses in a step that failed midway",
    "guesses in an invalid step",
    "ended by a token in a step of guesses",
    "ended by a stop string in a step of guesses",
    "ended by the limit in a step of guesses",
    "no logits in a step of guesses",
    "guesses where nothing can be cut",
    "guesses along a grammar that came true",
    "guesses along a grammar that did not",
    "guesses of earlier answers that came true",
    "guesses of earlier answers that did not",
];

#[test]
fn every_request_gets_its_own_answer_exactly_once() {
    if let Some(seed) = from_env("CLLM_SIM_SEED") {
        world::run(seed, &mut Oracle::new(N_VOCAB), true);
        return;
    }
    let seeds = from_env("CLLM_SIM_SEEDS").unwrap_or(SEEDS);
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let work = || {
        let (mut oracle, mut seen) = (Oracle::new(N_VOCAB), Coverage::new());
        while !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                break;
            }
            match catch_unwind(AssertUnwindSafe(|| world::run(seed, &mut oracle, false))) {
                Ok(world) => add(&mut seen, &world),
                Err(_) => {
                    failed.store(true, Ordering::Relaxed);
                    eprintln!("{}", replay(seed));
                }
            }
        }
        seen
    };
    let mut seen = Coverage::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().for_each(|thread| add(&mut seen, &thread.join().expect("panics are caught")));
    });
    assert!(!failed.into_inner(), "a world failed; see above");
    println!("{seeds} worlds:");
    seen.iter().for_each(|(what, n)| println!("{n:>12} {what}"));
    if seeds >= ENOUGH_SEEDS {
        for what in MUST_HAPPEN {
            assert!(seen.get(what).is_some_and(|n| *n > 0), "never happened: {what}");
        }
    }
}

/// Between two waiting accounts the work differs by at most the bound; no account starves; no slot is free while a
/// request waits.
#[test]
fn accounts_that_wait_get_their_shares() {
    if let Some(seed) = from_env("CLLM_SIM_SEED") {
        return fair::run(seed, fair::Order::Fair, &mut fair::Seen::default());
    }
    let seeds = from_env("CLLM_SIM_SEEDS").unwrap_or(SEEDS);
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let work = || {
        let mut seen = fair::Seen::default();
        while !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                break;
            }
            let ran = catch_unwind(AssertUnwindSafe(|| fair::run(seed, fair::Order::Fair, &mut seen)));
            if ran.is_err() || seen.drift_max > 1.0 || seen.class_drift_max > 1.0 {
                failed.store(true, Ordering::Relaxed);
                eprintln!("replay: CLLM_SIM_SEED={seed} cargo test --release --test simulation accounts_that_wait");
            }
        }
        seen
    };
    let seen: Vec<fair::Seen> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("panics are caught")).collect()
    });
    assert!(!failed.into_inner(), "a world failed; see above");
    let sum = |what: fn(&fair::Seen) -> u64| seen.iter().map(what).sum::<u64>();
    let (rivalries, of_classes, cached) = (sum(|s| s.rivalries), sum(|s| s.class_rivalries), sum(|s| s.cached));
    let drift_max = seen.iter().map(|seen| seen.drift_max).fold(0.0, f64::max);
    println!("{seeds} worlds: two accounts waited {rivalries} times, both classes {of_classes} times");
    let class_drift_max = seen.iter().map(|seen| seen.class_drift_max).fold(0.0, f64::max);
    println!(
        "the largest drift: {:.0} % of the bound, of the classes {:.0} %",
        drift_max * 100.0,
        class_drift_max * 100.0
    );
    let (gave_way, most) = (sum(|s| s.gave_way), seen.iter().map(|seen| seen.gave_way_max).max());
    println!("batch requests gave way {gave_way} times, one of them {} times", most.unwrap_or_default());
    assert!(seeds < ENOUGH_SEEDS || (rivalries > 0 && of_classes > 0 && cached > 0 && gave_way > 0));
}

#[test]
fn a_seed_replays() {
    let mut oracle = Oracle::new(N_VOCAB);
    for seed in 0..20 {
        assert_eq!(world::run(seed, &mut oracle, false), world::run(seed, &mut oracle, false));
    }
}

/// The command that replays `seed`.
fn replay(seed: u64) -> String {
    format!("replay: CLLM_SIM_SEED={seed} cargo test --release --test simulation -- --nocapture every_request")
}

fn add(sum: &mut Coverage, world: &Coverage) {
    world.iter().for_each(|(what, n)| *sum.entry(what).or_default() += n);
}

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}
