//! The real service over the real engine in this process, with any template, vocabulary and decoder. No model is
//! loaded, so a test can start hundreds of servers.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cllm::chat::ChatTemplate;
use cllm::clock::MonotonicClock;
use cllm::constrain::Constrainer;
use cllm::engine::{Engine, EngineParts, PromptRows};
use cllm::handoff::{ReplyPool, Shutdown, Stage, Submitter, ring};
use cllm::http::{Access, Defaults, ModelInfo, Service, ServiceParts, serve_requests};
use cllm::tokenizer::Tokenizer;
use cllm::types::SamplingParams;
use cllm::types::limits::REPLY_PIECES_MAX;
use cllm::types::seams::{Capacity, Decoder};

/// Tokens of a prompt and its answer together.
pub const N_CTX: usize = 16_384;

/// The capacity for one request at a time.
pub fn capacity(tokenizer: &Tokenizer) -> Capacity {
    let n_vocab = tokenizer.n_vocab();
    Capacity { seqs: 1, cells_per_seq: N_CTX as u32, cells_common: None, rows_max: 512, n_vocab }
}

/// Runs a server while `ask` runs, which gets its address; one request at a time.
pub fn serve<T>(
    tokenizer: &Arc<Tokenizer>,
    template: ChatTemplate,
    decoder: impl Decoder + Send,
    ask: impl FnOnce(SocketAddr) -> T,
) -> T {
    let (sender, inbox) = ring(1);
    let replies = ReplyPool::with_masks(2, REPLY_PIECES_MAX, tokenizer.n_vocab(), sender.wake_handle());
    let (clock, shutdown) = (MonotonicClock::start(), Shutdown::default());
    let mut engine = Engine::new(EngineParts {
        decoder,
        clock,
        observer: (),
        inbox,
        table: Arc::clone(tokenizer.table()),
        shutdown: shutdown.clone(),
        slots: 1,
        prompt_rows: PromptRows::Fixed(512),
    });
    let parts = ServiceParts {
        constrainer: Constrainer::new(Arc::clone(tokenizer)),
        access: Access::new(&[], Vec::new()),
        template,
        submitter: Submitter::Generations(sender.clone()),
        replies,
        in_flight_max: 1,
        stream_ping: Duration::from_secs(10),
        metrics: Arc::default(),
        shutdown: shutdown.clone(),
        clock: Arc::new(clock),
        trace: None,
        defaults: Defaults { sampling: SamplingParams::default(), seed: None, max_tokens: None, deadline_ms: None },
        model: ModelInfo {
            name: "none".to_owned(),
            path: String::new(),
            architecture: String::new(),
            quantisation: String::new(),
            n_params: 0,
            size_bytes: 0,
            n_ctx_train: N_CTX,
            exact: true,
            tokenizer: tokenizer.kind(),
            chat_template: "model",
            slots: 1,
            n_ctx: N_CTX,
            embedding: None,
        },
        metrics_are_open: false,
        log_prompts: false,
        shares_prompts: false,
        tokenizer: Arc::clone(tokenizer),
    };
    let service = Service::new(parts, 1);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = listener.local_addr().expect("it has an address");
    let server = tiny_http::Server::from_listener(listener, None).expect("it listens");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let engine = scope.spawn(move || engine.run());
        let worker = scope.spawn(|| serve_requests(&server, &service, || stop.load(Ordering::SeqCst)));
        // If `ask` panics, the server must be stopped first, because a scope waits for its threads.
        let asked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ask(addr)));
        shutdown.advance(Stage::Now);
        sender.wake_handle().wake();
        stop.store(true, Ordering::SeqCst);
        while !worker.is_finished() {
            server.unblock();
            thread::sleep(Duration::from_millis(1));
        }
        let has_worked = engine.join().is_ok_and(|has_worked| has_worked);
        match asked {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(asked) => {
                assert!(has_worked, "the engine ends well");
                asked
            }
        }
    })
}
