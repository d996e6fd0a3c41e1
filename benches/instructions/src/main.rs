//! `instructions STAGE REQUESTS [STEP_US [each|one [1]]]`: runs one stage of `cllm bench stages` once over the null decoder, with 8
//! requests of 32 + 50 tokens at once, for `count.sh` to count the instructions. `each` sequence has a buffer of cells, or all share
//! `one`. With 1 at the end, stage 3 records its steps.
//! `instructions chat N [calls]`: renders and tokenises a chat N times. Compiles the files of cllm's rooms.

// The rooms have more functions than one stage needs.
#![allow(dead_code, unused_imports)]

// Files of tests/support name the crate whose rooms they use.
extern crate self as cllm;

include!("../../../tests/support/rooms.rs");
mod chat_cost;
#[path = "../../../src/measure/stages/client.rs"]
mod client;
#[path = "../../../tests/support/no_model.rs"]
mod no_model;
#[path = "../../../src/server/observer.rs"]
mod observer;
#[path = "../../../src/measure/stages/served.rs"]
mod served;
#[path = "../../../src/measure/stages/workload.rs"]
mod workload;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use engine::{Engine, EngineParts, PromptRows};
use handoff::Stage;
use http::{Service, serve_requests};
use no_model::{NoModel, built_in_tokenizer, no_model};
use null_decoder::NullDecoder;
use served::{Served, drive};
use types::limits::ROWS_MAX;
use types::seams::Capacity;
use workload::StagesWorkload;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SLOTS: usize = 8;
/// Most requests of a run.
const PROMPTS: usize = 160;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("chat") {
        let n = std::env::args().nth(2).and_then(|n| n.parse().ok()).expect("chat N");
        return chat_cost::run(&built_in_tokenizer(), std::env::args().nth(3).as_deref() == Some("calls"), n);
    }
    let mut args = std::env::args().skip(1);
    let mut number = || args.next().map(|arg| arg.parse::<usize>().expect("STAGE REQUESTS [STEP_US [each|one [1]]]"));
    let (stage, requests) = (number().expect("STAGE") as u8, number().expect("REQUESTS"));
    let step = Duration::from_micros(number().unwrap_or(0) as u64);
    let shares_buffer = args.next().as_deref() == Some("one");
    let records = args.next().as_deref() == Some("1");
    let workload = StagesWorkload { requests, concurrency: SLOTS, prompt_tokens: 32, max_tokens: 50 };
    let tokenizer = Arc::new(built_in_tokenizer());
    // Always the same number, so that their cost cancels out in the difference of two runs.
    let prompts = StagesWorkload { requests: PROMPTS, ..workload }.prompts(&tokenizer, 0);
    let prompts = &prompts[..requests];

    let n_vocab = tokenizer.n_vocab();
    let (cells, all_cells) = (workload.cells() as u32, (SLOTS * workload.cells()) as u32);
    // As `null_capacity` in src/server/decoder.rs: one sequence may fill the buffer that all share.
    let (cells_per_seq, cells_common) = if shares_buffer { (all_cells, Some(all_cells)) } else { (cells, None) };
    let capacity = Capacity { seqs: SLOTS as u16, cells_per_seq, cells_common, rows_max: ROWS_MAX, n_vocab };
    let template = chat::ChatTemplate::new(None, String::new(), String::new()).expect("ChatML");
    let NoModel { parts: service_parts, sender, inbox, clock } =
        no_model(&tokenizer, template, SLOTS, 5 * SLOTS, workload.cells());
    let replies = service_parts.replies.clone();
    let (shutdown, metrics) = (service_parts.shutdown.clone(), Arc::clone(&service_parts.metrics));
    let parts = EngineParts {
        decoder: NullDecoder::new(capacity, tokenizer.table(), step),
        clock,
        observer: observer::MetricsObserver::new(Arc::clone(&metrics)),
        inbox,
        table: Arc::clone(tokenizer.table()),
        shutdown: shutdown.clone(),
        slots: SLOTS,
        // A fixed number: if the engine measured it, the clock would influence the counts.
        prompt_rows: PromptRows::Fixed(64),
    };
    if stage == 3 {
        let drive = |step: &mut dyn FnMut()| {
            let tokens = drive(&mut *step, &sender, &replies, &clock, prompts, &workload.params(), SLOTS);
            assert_eq!(tokens, Ok(requests * workload.max_tokens));
        };
        if !records {
            let mut engine = Engine::new(parts);
            return drive(&mut || _ = engine.step());
        }
        let EngineParts { decoder, clock, observer, inbox, table, shutdown, slots, prompt_rows } = parts;
        let observer = (observer, observer::StepTracer(trace::trace_buffer().0));
        let parts = EngineParts { decoder, clock, observer, inbox, table, shutdown, slots, prompt_rows };
        let mut engine = Engine::new(parts);
        return drive(&mut || _ = engine.step());
    }
    let mut engine = Engine::new(parts);
    let batch = std::thread::spawn(move || engine.run());
    let service = Arc::new(Service::new(service_parts, 2026));
    let server = Arc::new(tiny_http::Server::http("127.0.0.1:0").expect("a free port"));
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..SLOTS + 4)
        .map(|_| {
            let (server, service, stop) = (Arc::clone(&server), Arc::clone(&service), Arc::clone(&stop));
            std::thread::spawn(move || http_thread(&server, &service, &stop))
        })
        .collect();
    let addr = server.server_addr().to_string();
    let served = Served { tokenizer, submissions: sender.clone(), replies, clock, service, addr };
    let ready = served.ready(stage, prompts, &workload).expect("it listens");
    let tokens = served.run(stage, prompts, &workload, ready, &mut client::Streamed::default());
    assert_eq!(tokens, Ok(requests * workload.max_tokens));
    println!("{} writes", metrics.http.stream_writes.get());
    shutdown.advance(Stage::Now);
    sender.wake_handle().wake();
    assert_eq!(batch.join().ok(), Some(true), "the batching thread ends well");
    stop.store(true, Ordering::Release);
    for worker in workers {
        while !worker.is_finished() {
            server.unblock();
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A function of its own, so that callgrind lists it.
#[inline(never)]
fn http_thread(server: &tiny_http::Server, service: &Service, stop: &AtomicBool) {
    serve_requests(server, service, || stop.load(Ordering::Acquire));
}
