//! Streams that fall behind: pieces that wait together are sent in one write, on every streaming route.
//!
//! The test counts writes, not time. It runs the real service and the real engine over the null decoder. The clients have
//! small buffers and read nothing until the engine has finished all of them. By then each HTTP thread has written the
//! little that its socket takes, and the rest waits in its reply slot, whatever the speed of the machine.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cllm::chat::ChatTemplate;
use cllm::clock::MonotonicClock;
use cllm::constrain::Constrainer;
use cllm::engine::{Engine, EngineParts, Observer, PromptRows};
use cllm::gguf::GgufFile;
use cllm::handoff::{ReplyPool, Shutdown, Stage, Submitter, ring};
use cllm::http::{Access, Defaults, ModelInfo, Service, ServiceParts, serve_requests};
use cllm::metrics::Metrics;
use cllm::null_decoder::NullDecoder;
use cllm::tokenizer::Tokenizer;
use cllm::types::limits::REPLY_PIECES_MAX;
use cllm::types::seams::Capacity;
use cllm::types::{FinishReason, SamplingParams};
use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};
use serde_json::json;

const STREAMS: usize = 64;
/// Tokens of each answer: fewer than a reply slot holds, so that no stream waits for its client, and far more than a small
/// buffer holds.
const TOKENS: usize = 400;
/// Bytes of a socket's buffer. The kernel raises it to its minimum, a few KiB.
const SMALL_BUFFER: usize = 2 << 10;
/// A test fails after this time, because the server must be hanging. Shorter than the time after which the server gives up
/// a client that doesn't read.
const HANG: Duration = Duration::from_secs(25);

/// Counts the requests that have ended.
struct Ended(Arc<AtomicUsize>);

impl Observer for Ended {
    fn finished(&mut self, reason: FinishReason, _e2e_us: u64, generated: usize) {
        assert_eq!((reason, generated), (FinishReason::Length, TOKENS));
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A connection with small buffers.
fn narrow(addr: SocketAddr) -> TcpStream {
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    // Set before connecting, because a larger window can't be taken back.
    sockopt::set_socket_recv_buffer_size(&fd, SMALL_BUFFER).unwrap();
    connect(&fd, &addr).unwrap();
    TcpStream::from(fd)
}

/// The number of chunks and of events in a whole chunked response.
fn chunks_and_events(answer: &[u8]) -> (usize, usize) {
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|part| part == what).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(answer));
    let mut rest = &answer[find(answer, b"\r\n\r\n") + 4..];
    let (mut chunks, mut events) = (0, 0);
    loop {
        let line = find(rest, b"\r\n");
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        let data = &rest[line + 2..line + 2 + size];
        rest = &rest[line + 2 + size + 2..];
        if size == 0 {
            assert!(rest.is_empty());
            return (chunks, events);
        }
        chunks += 1;
        assert!(data.starts_with(b"data: ") && data.ends_with(b"\n\n"), "a chunk holds whole events");
        events += data.windows(2).filter(|pair| pair == b"\n\n").count();
    }
}

/// The number of writes and of events of all streams of `path`. Their clients read only after all tokens have been
/// generated.
fn writes_and_events(path: &str) -> (usize, usize) {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("vendor/model/cllm-tiny.gguf");
    let gguf = GgufFile::open(&model).unwrap();
    let tokenizer = Arc::new(Tokenizer::from_gguf(&gguf, || unreachable!("a vocabulary of our own")).unwrap());
    let n_vocab = tokenizer.n_vocab();
    let (sender, inbox) = ring(STREAMS);
    let replies = ReplyPool::with_masks(STREAMS + 1, REPLY_PIECES_MAX, n_vocab, sender.wake_handle());
    let (clock, shutdown) = (MonotonicClock::start(), Shutdown::default());
    let (metrics, ended) = (Arc::<Metrics>::default(), Arc::new(AtomicUsize::new(0)));
    let capacity = Capacity { seqs: STREAMS as u16, cells_per_seq: 512, cells_common: None, rows_max: 512, n_vocab };
    let mut engine = Engine::new(EngineParts {
        decoder: NullDecoder::new(capacity, tokenizer.table(), Duration::ZERO),
        clock,
        observer: Ended(Arc::clone(&ended)),
        inbox,
        table: Arc::clone(tokenizer.table()),
        shutdown: shutdown.clone(),
        slots: STREAMS,
        prompt_rows: PromptRows::Measured,
    });
    let parts = ServiceParts {
        constrainer: Constrainer::new(Arc::clone(&tokenizer)),
        access: Access::new(&[], Vec::new()),
        template: ChatTemplate::new(None, String::new(), String::new()).unwrap(),
        submitter: Submitter::Generations(sender.clone()),
        replies,
        in_flight_max: STREAMS,
        stream_ping: Duration::from_secs(10),
        metrics: Arc::clone(&metrics),
        shutdown: shutdown.clone(),
        clock: Arc::new(clock),
        trace: None,
        defaults: Defaults { sampling: SamplingParams::default(), seed: None, max_tokens: None, deadline_ms: None },
        model: ModelInfo {
            name: "null".to_owned(),
            path: String::new(),
            architecture: String::new(),
            quantisation: String::new(),
            n_params: 0,
            size_bytes: 0,
            n_ctx_train: 512,
            exact: true,
            tokenizer: tokenizer.kind(),
            chat_template: "chatml",
            slots: STREAMS,
            n_ctx: 512,
            embedding: None,
        },
        metrics_are_open: false,
        log_prompts: false,
        shares_prompts: false,
        tokenizer,
    };
    let service = Service::new(parts, 1);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // Accepted connections inherit it.
    sockopt::set_socket_send_buffer_size(&listener, SMALL_BUFFER).unwrap();
    let addr = listener.local_addr().unwrap();
    let server = tiny_http::Server::from_listener(listener, None).unwrap();
    let stop = AtomicBool::new(false);

    let sums = thread::scope(|scope| {
        let engine = scope.spawn(move || engine.run());
        let serve = || serve_requests(&server, &service, || stop.load(Ordering::SeqCst));
        let workers: Vec<_> = (0..STREAMS).map(|_| scope.spawn(serve)).collect();
        let body = json!({"prompt": "a", "max_tokens": TOKENS, "temperature": 0, "ignore_eos": true, "stream": true});
        let body = body.to_string();
        let head = format!("POST {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {}", body.len());
        let ask = |_| {
            let mut stream = narrow(addr);
            stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
            stream
        };
        let streams: Vec<TcpStream> = (0..STREAMS).map(ask).collect();
        let started = Instant::now();
        while ended.load(Ordering::SeqCst) < STREAMS && started.elapsed() < HANG {
            thread::sleep(Duration::from_millis(1));
        }
        let read = |mut stream: TcpStream| {
            sockopt::set_socket_recv_buffer_size(&stream, 1 << 20).unwrap();
            stream.set_read_timeout(Some(HANG)).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            chunks_and_events(&answer)
        };
        let counts: Vec<(usize, usize)> = streams.into_iter().map(read).collect();
        shutdown.advance(Stage::Now);
        sender.wake_handle().wake();
        assert!(engine.join().unwrap(), "the engine ends well");
        stop.store(true, Ordering::SeqCst);
        for worker in workers {
            while !worker.is_finished() {
                server.unblock();
                thread::sleep(Duration::from_millis(1));
            }
        }
        counts.iter().fold((0, 0), |sums, counts| (sums.0 + counts.0, sums.1 + counts.1))
    });
    if path == "/generate_stream" {
        assert_eq!(metrics.http.stream_writes.get(), sums.0 as u64, "what is counted is what was written");
    }
    sums
}

#[test]
fn pieces_that_wait_together_leave_in_one_write() {
    for path in ["/generate_stream", "/v1/completions"] {
        let (writes, events) = writes_and_events(path);
        let tokens = STREAMS * TOKENS;
        println!("{path}: {tokens} tokens, {events} events, {writes} writes");
        assert!(events >= tokens, "{path}: each token is an event");
        assert!(2 * writes < tokens, "{path}: {writes} writes for {tokens} tokens");
    }
}
