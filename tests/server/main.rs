//! `cllm serve` through its public interface: the real program, the built-in model, HTTP over loopback.
//!
//! No test depends on the speed of the machine: tests count events, and waits end when something happens.
//! `CLLM_COMPANY` makes `company` try more prompts on more models. `CLLM_EXACT=full` makes `exact` try each prompt with
//! each combination of stops and limits.

#[path = "../support/dice.rs"]
mod dice;
#[path = "../support/http.rs"]
mod http;
#[path = "../support/models.rs"]
mod models;
#[path = "../support/server.rs"]
mod server;

mod access;
mod alive;
mod bad_input;
mod company;
mod constrained;
mod exact;
mod fair;
#[cfg(target_arch = "x86_64")]
mod inject;
mod leave;
mod limits;
mod listeners;
mod log;
mod prefix;
mod prompts;
mod queue;
mod real;
mod refusals;
mod refused_alike;
mod routes;
mod samplers;
mod sandbox;
mod shapes;
mod shutdown;
mod soak;
mod speculation;
mod states;
mod stream;
mod supervise;
mod systemd;
mod trace;

use std::thread;

use serde_json::{Value, json};

/// With this request the built-in model generates to the end of its context.
fn endless() -> Value {
    json!({"prompt": "Once upon a time", "temperature": 0, "ignore_eos": true})
}

/// A request that generates exactly this many tokens.
fn exactly(max_tokens: usize) -> Value {
    json!({"prompt": "Once upon a time", "temperature": 0, "ignore_eos": true, "max_tokens": max_tokens})
}

/// Runs `work` on each item with `threads` threads; the results are in the items' order.
fn at_once<T: Sync, R: Send>(threads: usize, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let mut all: Vec<(usize, R)> = thread::scope(|scope| {
        let worker = || {
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some(item) = items.get(index) else { return done };
                done.push((index, work(item)));
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect()
    });
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, result)| result).collect()
}
