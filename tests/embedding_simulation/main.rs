//! The embedding engine over a fake encoder: thousands of small worlds, each from one seed, with faults of every kind.
//!
//! Requests of one or many inputs arrive alone and in groups, have deadlines, are cancelled or dropped; steps fail in every
//! way of `Outcome`; some embeddings aren't finite. After every step the engine's counts must be consistent. At the end
//! each request has exactly one answer, and its embeddings equal, to the last bit, those that each input gets alone.
//!
//! `CLLM_SIM_SEEDS=N` sets the number of worlds (10,000); `CLLM_SIM_SEED=N` runs one.

#[path = "../support/dice.rs"]
mod dice;

mod encoder;
mod world;

use std::collections::BTreeMap;

/// How often each event happened, to show that every check was exercised.
pub type Coverage = BTreeMap<&'static str, u64>;

const SEEDS: u64 = 10_000;
/// Number of worlds in which every event must happen.
const ENOUGH_SEEDS: u64 = 2_000;

const MUST_HAPPEN: &[&str] = &[
    "answers: embedded",
    "answers: deadline",
    "answers: cancelled",
    "answers: shutdown",
    "answers: no numbers",
    "answers: error",
    "steps: done",
    "steps: no room",
    "steps: partial",
    "steps: invalid",
    "steps: fatal",
    "steps of many inputs",
    "steps of many requests",
    "inputs in chunks",
    "vanished",
    "no reply slot",
    "ring full",
    "drained",
    "shut down at once",
    "ended by a broken encoder",
    "whole inputs",
];

#[test]
fn every_request_gets_its_own_vectors_exactly_once() {
    if let Some(seed) = from_env("CLLM_SIM_SEED") {
        println!("{:#?}", world::run(seed));
        return;
    }
    let seeds = from_env("CLLM_SIM_SEEDS").unwrap_or(SEEDS);
    let mut seen = Coverage::new();
    for seed in 0..seeds {
        let world = std::panic::catch_unwind(|| world::run(seed)).unwrap_or_else(|_| {
            panic!("replay: CLLM_SIM_SEED={seed} cargo test --release --test embedding_simulation")
        });
        world.iter().for_each(|(what, n)| *seen.entry(what).or_default() += n);
    }
    println!("{seeds} worlds:");
    seen.iter().for_each(|(what, n)| println!("{n:>12} {what}"));
    if seeds >= ENOUGH_SEEDS {
        for what in MUST_HAPPEN {
            assert!(seen.get(what).is_some_and(|n| *n > 0), "never happened: {what}");
        }
    }
}

#[test]
fn a_seed_replays() {
    for seed in 0..20 {
        assert_eq!(world::run(seed), world::run(seed));
    }
}

/// A request of two thousand inputs, and a request of one input that arrives later.
#[test]
fn requests_take_turns() {
    let steps = world::steps_until_a_late_one_is_done(2_000);
    assert!(steps <= 2, "{steps} steps behind a request of 2,000 inputs");
}

/// Eight requests of one account with 100 inputs each, and then one input of another: it is next.
#[test]
fn accounts_take_turns() {
    let (fair, in_order) = (world::steps_behind_a_crowd(2), world::steps_behind_a_crowd(1));
    println!("behind 800 inputs: {fair} steps as another account, {in_order} as the same");
    assert!(fair <= 2 && in_order >= 8, "{fair} {in_order}");
}

/// Work is tokens: weights 3 and 1, with inputs of 10 and of 5 tokens, are 3 inputs to 2.
#[test]
fn tokens_follow_the_weights() {
    let steps = world::steps_of_weight_three();
    assert!(steps.abs_diff(36) <= 1, "{steps} of 60");
}

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}
