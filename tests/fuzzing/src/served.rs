//! A whole server without a model: HTTP threads, the service and an engine over the null decoder, at a Unix-domain socket. And its
//! client, which reads one answer.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tiny_http::Server;

use crate::chat::ChatTemplate;
use crate::engine::{Engine, EngineParts, PromptRows};
use crate::http::{Service, serve_requests};
use crate::no_model::{NoModel, built_in_tokenizer, no_model};
use crate::null_decoder::NullDecoder;
use crate::types::seams::Capacity;

/// Requests that run at the same time: all answers of a request with `n` at most.
const SLOTS: usize = 16;
/// Tokens of a prompt and its answer together.
const N_CTX: usize = 128;
/// Tokens of an answer whose request has no bound, so that it takes milliseconds.
const MAX_TOKENS: usize = 8;
/// HTTP threads: one for the request, and one for a connection that closes.
const THREADS: usize = 2;

/// Starts a server that runs until the process ends. Returns its socket.
///
/// # Panics
/// If it can't start.
pub fn start() -> PathBuf {
    let tokenizer = Arc::new(built_in_tokenizer());
    let source = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/templates/kinds/named-tools.jinja"),
    );
    let source = (source.expect("a template"), crate::chat::TemplateSource::File);
    let template = ChatTemplate::new(Some(source), String::new(), String::new()).expect("it is Jinja");
    let NoModel { mut parts, sender: _, inbox, clock } = no_model(&tokenizer, template, SLOTS, 2 * SLOTS, N_CTX);
    (parts.defaults.seed, parts.defaults.max_tokens) = (Some(1), Some(MAX_TOKENS));
    let n_vocab = tokenizer.n_vocab();
    let capacity =
        Capacity { seqs: SLOTS as u16, cells_per_seq: N_CTX as u32, cells_common: None, rows_max: 512, n_vocab };
    let mut engine = Engine::new(EngineParts {
        decoder: NullDecoder::new(capacity, tokenizer.table(), Duration::ZERO),
        clock,
        observer: (),
        inbox,
        table: Arc::clone(tokenizer.table()),
        shutdown: parts.shutdown.clone(),
        slots: SLOTS,
        prompt_rows: PromptRows::Fixed(512),
    });
    std::thread::spawn(move || assert!(engine.run(), "the engine ends well"));
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
