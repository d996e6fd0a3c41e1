//! `instructions STAGE REQUESTS [STEP_US [1]]`: runs one stage of `cllm bench stages` once over the null decoder, with 8 requests
//! of 32 + 50 tokens at once, for `count.sh` to count the instructions. With 1 at the end, stage 3 records its steps.
//! `instructions chat N [calls]`: renders and tokenises a chat N times. Compiles the files of cllm's rooms.

// The rooms have more functions than one stage needs.
#![allow(dead_code, unused_imports)]

#[path = "../../../src/appliance/mod.rs"]
mod appliance;
#[path = "../../../src/kv_events/hash.rs"]
pub mod block_names;
#[path = "../../../src/chat/mod.rs"]
pub mod chat;
mod chat_cost;
#[path = "../../../src/measure/stages/client.rs"]
mod client;
#[path = "../../../src/clock.rs"]
pub mod clock;
#[path = "../../../src/config/mod.rs"]
pub mod config;
#[path = "../../../src/constrain/mod.rs"]
pub mod constrain;
#[path = "../../../src/engine/mod.rs"]
pub mod engine;
#[path = "../../../src/gguf/mod.rs"]
pub mod gguf;
#[path = "../../../src/handoff/mod.rs"]
pub mod handoff;
#[path = "../../../src/http/mod.rs"]
pub mod http;
/// Names of blocks alone, which a route tells.
pub mod kv_events {
    pub use crate::block_names as hash;
}
#[path = "../../../src/metrics/mod.rs"]
pub mod metrics;
#[path = "../../../src/null_decoder.rs"]
pub mod null_decoder;
#[path = "../../../src/server/observer.rs"]
mod observer;
#[path = "../../../src/page/mod.rs"]
pub mod page;
#[path = "../../../src/sample/mod.rs"]
pub mod sample;
#[path = "../../../src/measure/stages/served.rs"]
mod served;
#[path = "../../../src/tokenizer/mod.rs"]
pub mod tokenizer;
#[path = "../../../src/topology.rs"]
pub mod topology;
#[path = "../../../src/trace/mod.rs"]
pub mod trace;
#[path = "../../../src/types/mod.rs"]
pub mod types;
#[path = "../../../src/measure/stages/workload.rs"]
mod workload;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clock::MonotonicClock;
use engine::{Engine, EngineParts, PromptRows};
use handoff::{ReplyPool, Shutdown, Stage, ring};
use http::{Access, Defaults, ModelInfo, Service, ServiceParts, serve_requests};
use null_decoder::NullDecoder;
use served::{Served, drive};
use tokenizer::Tokenizer;
use types::limits::{REPLY_PIECES_MAX, ROWS_MAX};
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
        return chat_cost::run(&tokenizer(), std::env::args().nth(3).as_deref() == Some("calls"), n);
    }
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>().expect("STAGE REQUESTS [STEP_US [1]]"));
    let (stage, requests) = (args.next().expect("STAGE") as u8, args.next().expect("REQUESTS"));
    let step = Duration::from_micros(args.next().unwrap_or(0) as u64);
    let records = args.next() == Some(1);
    let workload = StagesWorkload { requests, concurrency: SLOTS, prompt_tokens: 32, max_tokens: 50 };
    let tokenizer = Arc::new(tokenizer());
    // Always the same number, so that their cost cancels out in the difference of two runs.
    let prompts = StagesWorkload { requests: PROMPTS, ..workload }.prompts(&tokenizer, 0);
    let prompts = &prompts[..requests];

    let n_vocab = tokenizer.n_vocab();
    let cells_per_seq = workload.cells() as u32;
    let capacity = Capacity { seqs: SLOTS as u16, cells_per_seq, cells_common: None, rows_max: ROWS_MAX, n_vocab };
    let (sender, inbox) = ring(5 * SLOTS);
    let replies = ReplyPool::with_masks(5 * SLOTS + 1, REPLY_PIECES_MAX, n_vocab, sender.wake_handle());
    let (clock, shutdown, metrics) = (MonotonicClock::start(), Shutdown::default(), Arc::<metrics::Metrics>::default());
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
    let service = Arc::new(Service::new(
        ServiceParts {
            tokenizer: Arc::clone(&tokenizer),
            constrainer: constrain::Constrainer::new(Arc::clone(&tokenizer)),
            access: Access::new(&[], Vec::new()),
            template: chat::ChatTemplate::new(None, String::new(), String::new()).expect("ChatML"),
            submitter: handoff::Submitter::Generations(sender.clone()),
            replies: replies.clone(),
            in_flight_max: 5 * SLOTS,
            stream_ping: Duration::from_secs(10),
            metrics: Arc::clone(&metrics),
            shutdown: shutdown.clone(),
            clock: Arc::new(clock),
            trace: None,
            defaults: Defaults {
                sampling: types::SamplingParams::default(),
                seed: None,
                max_tokens: None,
                deadline_ms: None,
            },
            model: ModelInfo {
                name: "null".to_owned(),
                path: String::new(),
                architecture: String::new(),
                quantisation: String::new(),
                n_params: 0,
                size_bytes: 0,
                n_ctx_train: workload.cells(),
                exact: true,
                tokenizer: tokenizer.kind(),
                chat_template: "chatml",
                slots: SLOTS,
                n_ctx: workload.cells(),
                embedding: None,
            },
            metrics_are_open: false,
            log_prompts: false,
            shares_prompts: false,
        },
        2026,
    ));
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

fn tokenizer() -> Tokenizer {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vendor/model/cllm-tiny.gguf");
    let gguf = gguf::GgufFile::open(&model).expect("the built-in model");
    Tokenizer::from_gguf(&gguf, || panic!("a vocabulary of our own")).expect("a tokenizer")
}

/// A function of its own, so that callgrind lists it.
#[inline(never)]
fn http_thread(server: &tiny_http::Server, service: &Service, stop: &AtomicBool) {
    serve_requests(server, service, || stop.load(Ordering::Acquire));
}
