//! The real service over the real engine in this process, with any template, vocabulary and decoder. No model is
//! loaded, so a test can start hundreds of servers.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cllm::chat::ChatTemplate;
use cllm::engine::{Engine, EngineParts, PromptRows};
use cllm::handoff::Stage;
use cllm::http::{Service, serve_requests};
use cllm::tokenizer::Tokenizer;
use cllm::types::seams::{Capacity, Decoder};

#[path = "no_model.rs"]
#[allow(dead_code)]
mod no_model;

use no_model::{NoModel, no_model};

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
    let NoModel { parts, sender, inbox, clock } = no_model(tokenizer, template, 1, 1, N_CTX);
    let shutdown = parts.shutdown.clone();
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
