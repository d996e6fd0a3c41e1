//! The embedding engine over a fake encoder: thousands of small worlds, each from one seed, in which everything goes wrong.
//!
//! Requests of one or many inputs arrive alone and in bursts, have deadlines, cancel and vanish; steps fail in every way
//! `Outcome` knows; some embeddings are no numbers. After every step the books must add up; at the end each request has
//! exactly one answer, and its vectors are what each input would have got alone, to the last bit.
//!
//! `CLLM_SIM_SEEDS=N` sets how many worlds (10,000); `CLLM_SIM_SEED=N` runs one.

#[path = "../support/dice.rs"]
mod dice;

mod encoder;
mod world;

use std::collections::BTreeMap;

/// What happened how often: so that no check is vacuous.
pub type Coverage = BTreeMap<&'static str, u64>;

const SEEDS: u64 = 10_000;
/// Worlds after which each thing must have happened.
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

/// Two thousand inputs of one request, and one of another that comes later.
#[test]
fn requests_take_turns() {
    let steps = world::steps_until_a_late_one_is_done(2_000);
    assert!(steps <= 2, "{steps} steps behind a request of 2,000 inputs");
}

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}
