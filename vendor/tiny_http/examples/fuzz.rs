//! The long fuzzing run, on all cores. `fuzz [--inputs N] [--seed S]`

#[path = "../tests/fuzzing/mod.rs"]
mod fuzzing;

use fuzzing::{Tally, check};
use std::thread;
use std::time::Instant;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (mut inputs, mut seed) = (1_000_000_u64, 1_u64);
    while let Some(name) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse().ok()).expect("a number after each flag");
        match name.as_str() {
            "--inputs" => inputs = value,
            "--seed" => seed = value,
            other => panic!("unknown flag {other}"),
        }
    }
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    let start = Instant::now();
    let run = |thread: u64| {
        let mut tally = Tally::default();
        (thread..inputs).step_by(threads as usize).for_each(|number| check(seed, number, &mut tally));
        tally
    };
    let tallies: Vec<Tally> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        threads.into_iter().map(|thread| thread.join().expect("the readings agree")).collect()
    });
    let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
    println!(
        "seed {seed}: {} inputs, {} bytes, in {:.0} s on {threads} threads: {} requests served, {} inputs refused, {} waiting \
         for more, 0 differences; slowest input {:?}",
        sum(|tally| tally.inputs),
        sum(|tally| tally.bytes),
        start.elapsed().as_secs_f64(),
        sum(|tally| tally.requests),
        sum(|tally| tally.refused),
        sum(|tally| tally.waiting),
        tallies.iter().map(|tally| tally.slowest).max().unwrap_or_default(),
    );
}
