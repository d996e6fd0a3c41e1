//! A whole server without a model: HTTP threads, the service and an engine over the null decoder, at a Unix-domain socket. And its
//! client, which reads one answer.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tiny_http::Server;

use crate::chat::ChatTemplate;
use crate::clock::MonotonicClock;
use crate::constrain::Constrainer;
use crate::engine::{Engine, EngineParts, PromptRows};
use crate::gguf::GgufFile;
use crate::handoff::{ReplyPool, Shutdown, Submitter, ring};
use crate::http::{Access, Defaults, ModelInfo, Service, ServiceParts, serve_requests};
use crate::null_decoder::NullDecoder;
use crate::tokenizer::Tokenizer;
use crate::types::SamplingParams;
use crate::types::limits::REPLY_PIECES_MAX;
use crate::types::seams::Capacity;

/// Requests that run at the same time: all answers of a request with `n` at most.
const SLOTS: usize = 16;
/// Tokens of a prompt and its answer together.
const N_CTX: usize = 128;
/// Tokens of an answer whose request has no bound, so that it takes milliseconds.
const MAX_TOKENS: usize = 8;
/// HTTP threads: one for the request, and one for a connection that closes.
const THREADS: usize = 2;

/// The built-in model's tokenizer.
///
/// # Panics
/// If the model's file can't be read.
pub fn tokenizer() -> Tokenizer {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vendor/model/cllm-tiny.gguf");
    let gguf = GgufFile::open(&model).expect("the built-in model");
    Tokenizer::from_gguf(&gguf, || panic!("a vocabulary of our own")).expect("a tokenizer")
}

/// Starts a server that runs until the process ends. Returns its socket.
///
/// # Panics
/// If it can't start.
pub fn start() -> PathBuf {
    let tokenizer = Arc::new(tokenizer());
    let n_vocab = tokenizer.n_vocab();
    let (sender, inbox) = ring(2 * SLOTS);
    let replies = ReplyPool::with_masks(2 * SLOTS + 1, REPLY_PIECES_MAX, n_vocab, sender.wake_handle());
    let (clock, shutdown) = (MonotonicClock::start(), Shutdown::default());
    let capacity =
        Capacity { seqs: SLOTS as u16, cells_per_seq: N_CTX as u32, cells_common: None, rows_max: 512, n_vocab };
    let mut engine = Engine::new(EngineParts {
        decoder: NullDecoder::new(capacity, tokenizer.table(), Duration::ZERO),
        clock,
        observer: (),
        inbox,
        table: Arc::clone(tokenizer.table()),
        shutdown: shutdown.clone(),
        slots: SLOTS,
        prompt_rows: PromptRows::Fixed(512),
    });
    std::thread::spawn(move || assert!(engine.run(), "the engine ends well"));
    let source = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/templates/kinds/named-tools.jinja"),
    );
    let source = (source.expect("a template"), crate::chat::TemplateSource::File);
    let parts = ServiceParts {
        constrainer: Constrainer::new(Arc::clone(&tokenizer)),
        access: Access::new(&[], Vec::new()),
        template: ChatTemplate::new(Some(source), String::new(), String::new()).expect("it is Jinja"),
        submitter: Submitter::Generations(sender),
        replies,
        in_flight_max: 2 * SLOTS,
        stream_ping: Duration::from_secs(10),
        metrics: Arc::default(),
        shutdown,
        clock: Arc::new(clock),
        trace: None,
        defaults: Defaults {
            sampling: SamplingParams::default(),
            seed: Some(1),
            max_tokens: Some(MAX_TOKENS),
            deadline_ms: None,
        },
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
            chat_template: "file",
            slots: SLOTS,
            n_ctx: N_CTX,
            embedding: None,
        },
        metrics_are_open: false,
        log_prompts: false,
        shares_prompts: false,
        tokenizer,
    };
    let service = Arc::new(Service::new(parts, 1));
    let socket = std::env::temp_dir().join(format!("cllm-fuzzing-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).expect("a socket");
    let server = Arc::new(Server::from_listener(listener, None).expect("it listens"));
    for _ in 0..THREADS {
        let (server, service) = (Arc::clone(&server), Arc::clone(&service));
        std::thread::spawn(move || serve_requests(&server, &service, || false));
    }
    socket
}

/// Posts `body` to `path` and returns the answer: head, body and framing.
///
/// # Panics
/// If the server doesn't answer.
pub fn post(socket: &Path, path: &str, body: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket).expect("it listens");
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut request = head.into_bytes();
    request.extend_from_slice(body);
    stream.write_all(&request).expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it answers");
    answer
}
