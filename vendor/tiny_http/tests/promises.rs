//! What this crate promises where tiny_http 0.12.0 fails: one test a promise, named for it. Written against the API that
//! both have, with `rig` for the rest; `tests/against_registry.sh` runs the same file against the registry's crate,
//! where every one of them must fail.

mod rig;

use rig::Bounds;
use socket2::{Domain, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tiny_http::{Header, Response, Server};

const DEFAULTS: Bounds =
    Bounds { head_ms: 10_000, body_ms: 30_000, idle_ms: 75_000, stall_ms: 30_000, connections: 1024 };

/// A server with workers that echo, stream, wait or write at length, by path.
struct Rig {
    addr: SocketAddr,
    seen: Arc<AtomicUsize>,
    outcomes: Arc<Mutex<Vec<io::Result<()>>>>,
}

impl Rig {
    fn start(bounds: &Bounds, workers: usize) -> Rig {
        Rig::over(rig::listen(bounds), workers)
    }

    fn over(server: Server, workers: usize) -> Rig {
        let addr = server.server_addr().to_ip().unwrap();
        let server = Arc::new(server);
        let rig = Rig { addr, seen: Arc::default(), outcomes: Arc::default() };
        for _ in 0..workers {
            let (server, seen, outcomes) = (Arc::clone(&server), Arc::clone(&rig.seen), Arc::clone(&rig.outcomes));
            thread::spawn(move || {
                while let Ok(mut request) = server.recv() {
                    seen.fetch_add(1, Ordering::SeqCst);
                    let outcome = match request.url() {
                        "/stream" => rig::stream(request, 20, Duration::from_millis(50)),
                        "/wait" => {
                            thread::sleep(Duration::from_millis(300));
                            request.respond(Response::from_string("waited"))
                        }
                        "/long" => request.respond(Response::from_data(vec![b'x'; 12_000_000])),
                        _ => {
                            let mut body = Vec::new();
                            let _ = request.as_reader().read_to_end(&mut body);
                            let text = format!("{} {} {}", request.method(), request.url(), body.len());
                            request.respond(Response::from_string(text))
                        }
                    };
                    outcomes.lock().unwrap().push(outcome);
                }
            });
        }
        rig
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        stream
    }

    /// Sends `bytes`, then reads until the server closes or is silent for three seconds.
    fn answer(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        read_to_close(&mut stream).0
    }

    fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }

    /// A well-behaved client's request is answered.
    fn is_well(&self) -> bool {
        self.answer(b"GET /well HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").ends_with("GET /well 0")
    }
}

/// What came, and whether the server closed the connection.
fn read_to_close(stream: &mut TcpStream) -> (String, bool) {
    let (mut bytes, mut block) = (Vec::new(), [0; 4096]);
    let closed = loop {
        match stream.read(&mut block) {
            Ok(0) => break true,
            Ok(count) => bytes.extend_from_slice(&block[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break error.kind() == io::ErrorKind::ConnectionReset,
        }
    };
    (String::from_utf8_lossy(&bytes).into_owned(), closed)
}

/// The answer is `status` with a JSON body, and nothing follows it.
#[track_caller]
fn assert_refusal(answer: &str, status: u16) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "wanted {status}, got {answer:?}");
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    assert!(body.starts_with(r#"{"success":false,"error":""#) && body.ends_with("\"}"), "{body:?}");
    assert!(answer.contains("Connection: close\r\n") && answer.matches("HTTP/1.1 ").count() == 1, "{answer:?}");
}

#[track_caller]
fn assert_refused(bytes: &[u8], status: u16) {
    let rig = Rig::start(&DEFAULTS, 2);
    assert_refusal(&rig.answer(bytes), status);
    assert_eq!(rig.seen(), 0, "a refused request reaches no handler");
    assert!(rig.is_well());
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_huge_content_length_is_413_and_costs_nothing() {
    assert_refused(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000000\r\n\r\nx", 413);
}

#[test]
fn sixty_four_streams_at_once_are_all_served() {
    let rig = Rig::start(&DEFAULTS, 64);
    let mut clients: Vec<_> = (0..64).map(|_| rig.connect()).collect();
    for client in &mut clients {
        client.write_all(b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    }
    let start = Instant::now();
    for client in &mut clients {
        client.read_exact(&mut [0]).expect("every stream has its first byte");
    }
    assert!(start.elapsed() < Duration::from_millis(900), "while all of them last");
}

#[test]
fn an_http2_request_line_is_505_and_leaks_no_descriptor() {
    let rig = Rig::start(&DEFAULTS, 2);
    assert!(rig.is_well());
    // Measured in a process of its own: other tests open descriptors too.
    if is_alone("an_http2_request_line_is_505_and_leaks_no_descriptor", None) {
        let before = descriptors();
        for _ in 0..20 {
            assert_refusal(&rig.answer(b"GET / HTTP/2.0\r\nHost: h\r\n\r\n"), 505);
        }
        thread::sleep(Duration::from_millis(300));
        assert!(descriptors() <= before, "{before} descriptors became {}", descriptors());
    }
}

/// Runs one test of this file in a process of its own, there with at most `descriptors` open. True in that process.
fn is_alone(test: &str, descriptors: Option<usize>) -> bool {
    if std::env::var_os("ALONE").is_some() {
        return true;
    }
    let limit = descriptors.map_or(String::new(), |count| format!("ulimit -n {count};"));
    let program = std::env::current_exe().unwrap();
    let status = Command::new("sh")
        .args(["-c", &format!("{limit} exec \"$0\" --exact {test} --nocapture")])
        .arg(program)
        .env("ALONE", "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} fails in a process of its own");
    false
}

#[test]
fn accepting_goes_on_within_a_second_of_descriptors_coming_free() {
    if !is_alone("accepting_goes_on_within_a_second_of_descriptors_coming_free", Some(40)) {
        return;
    }
    let rig = Rig::start(&DEFAULTS, 2);
    let mut held = Vec::new();
    while let Ok(client) = TcpStream::connect(rig.addr) {
        held.push(client);
        thread::sleep(Duration::from_millis(5));
    }
    thread::sleep(Duration::from_millis(200));
    held.clear();
    let freed = Instant::now();
    assert!(rig.is_well() && freed.elapsed() < Duration::from_secs(1), "back after {:?}", freed.elapsed());
}

#[test]
fn an_accept_timeout_on_the_listener_doesnt_end_accepting() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(16).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let listener: std::net::TcpListener = socket.into();
    let rig = Rig::over(Server::from_listener(listener, None).unwrap(), 2);
    thread::sleep(Duration::from_millis(400));
    assert!(rig.is_well());
}

#[test]
fn a_head_that_drips_is_408_at_its_deadline() {
    let rig = Rig::start(&Bounds { head_ms: 400, ..DEFAULTS }, 1);
    let mut client = rig.connect();
    let start = Instant::now();
    for byte in b"GET / HT" {
        client.write_all(&[*byte]).unwrap();
        thread::sleep(Duration::from_millis(40));
    }
    assert_refusal(&read_to_close(&mut client).0, 408);
    assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
}

#[test]
fn a_body_that_doesnt_come_is_408_at_its_deadline_and_holds_no_worker() {
    let rig = Rig::start(&Bounds { body_ms: 1000, ..DEFAULTS }, 1);
    let mut client = rig.connect();
    client.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc").unwrap();
    thread::sleep(Duration::from_millis(100));
    let asked = Instant::now();
    assert!(rig.is_well() && asked.elapsed() < Duration::from_millis(700), "the one worker is free meanwhile");
    assert_refusal(&read_to_close(&mut client).0, 408);
    assert_eq!(rig.seen(), 1, "only the other client's request");
}

#[test]
fn an_idle_connection_is_closed_at_its_deadline() {
    let rig = Rig::start(&Bounds { idle_ms: 300, ..DEFAULTS }, 1);
    let mut client = rig.connect();
    client.write_all(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let (answer, closed) = read_to_close(&mut client);
    assert!(answer.ends_with("GET /a 0") && closed, "{answer:?}");
}

#[test]
fn a_client_that_never_reads_is_cut_off_and_its_worker_is_free() {
    let rig = Rig::start(&Bounds { stall_ms: 500, ..DEFAULTS }, 1);
    let mut client = rig.connect();
    client.write_all(b"GET /long HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    thread::sleep(Duration::from_millis(100));
    assert!(rig.is_well(), "the only worker is back");
    thread::sleep(Duration::from_millis(900));
    let (answer, closed) = read_to_close(&mut client);
    assert!(closed && answer.len() < 12_000_000, "{} bytes, closed: {closed}", answer.len());
}

#[test]
fn a_head_of_more_than_16_kib_is_431() {
    let head = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(16 * 1024));
    assert_refused(head.as_bytes(), 431);
}

#[test]
fn more_than_100_header_fields_are_431() {
    assert_refused(format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(100)).as_bytes(), 431);
}

#[test]
fn a_body_of_more_than_8_mib_is_413_chunked_or_not() {
    assert_refused(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8388609\r\n\r\n", 413);
    assert_refused(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n800001\r\n", 413);
}

#[test]
fn the_connection_over_the_limit_is_503_and_service_recovers_when_one_closes() {
    let rig = Rig::start(&Bounds { connections: 8, ..DEFAULTS }, 2);
    let mut held: Vec<_> = (0..8).map(|_| rig.connect()).collect();
    for client in &mut held {
        client.write_all(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        client.read_exact(&mut [0; 16]).unwrap();
    }
    let asked = Instant::now();
    assert_refusal(&read_to_close(&mut rig.connect()).0, 503);
    assert!(asked.elapsed() < Duration::from_millis(500), "at once");
    held.pop();
    thread::sleep(Duration::from_millis(100));
    assert!(rig.is_well());
}

#[test]
fn pipelined_requests_are_handled_one_at_a_time() {
    let rig = Rig::start(&DEFAULTS, 4);
    let mut client = rig.connect();
    client.write_all(&b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n".repeat(3)).unwrap();
    thread::sleep(Duration::from_millis(150));
    assert_eq!(rig.seen(), 1, "the second waits for the first one's answer");
    thread::sleep(Duration::from_millis(1200));
    assert_eq!(rig.seen(), 3);
}

#[test]
fn both_length_and_chunked_is_400_and_smuggles_nothing() {
    assert_refused(
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
        400,
    );
}

#[test]
fn two_content_lengths_are_400_and_smuggle_nothing() {
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    let lengths = format!("Content-Length: 0\r\nContent-Length: {}\r\n", smuggled.len());
    assert_refused(format!("POST / HTTP/1.1\r\nHost: h\r\n{lengths}\r\n{smuggled}").as_bytes(), 400);
}

#[test]
fn a_folded_header_is_400() {
    assert_refused(b"POST / HTTP/1.1\r\nHost: h\r\nX: a\r\n Content-Length: 5\r\n\r\nabcde", 400);
}

#[test]
fn other_framing_with_two_readings_is_refused() {
    let field = |field: &str, status| {
        let rig = Rig::start(&DEFAULTS, 1);
        let request =
            format!("POST / HTTP/1.1\r\nHost: h\r\n{field}\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_refusal(&rig.answer(request.as_bytes()), status);
        assert_eq!(rig.seen(), 0, "{field}");
    };
    field("Content-Length: +5", 400);
    field("Content-Length: 5, 5", 400);
    field("Content-Length : 5", 400);
    field("Transfer-Encoding: xchunked", 501);
    field("Transfer-Encoding: chunked, identity", 501);
    field("Transfer-Encoding : chunked", 400);
    field("X: a\nTransfer-Encoding: chunked", 400);
    field("Host: other", 400);
}

#[test]
fn a_line_break_doesnt_get_into_a_header() {
    assert!(Header::from_bytes("X", "a\r\nSet-Cookie: b").is_err());
    assert!(Header::from_bytes("X", "a\nSet-Cookie: b").is_err());
    assert!(Header::from_bytes("X\r\nSet-Cookie", "b").is_err());
    assert!(Header::from_bytes("X", "a\0b").is_err());
}

#[test]
fn a_body_cut_short_is_400_and_reaches_no_handler() {
    let rig = Rig::start(&DEFAULTS, 1);
    for request in [
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
    ] {
        let mut client = rig.connect();
        client.write_all(request.as_bytes()).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_refusal(&read_to_close(&mut client).0, 400);
    }
    assert_eq!(rig.seen(), 0);
}

#[test]
fn an_answer_to_a_client_that_left_is_an_error() {
    let rig = Rig::start(&DEFAULTS, 1);
    let mut client = rig.connect();
    client.write_all(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    thread::sleep(Duration::from_millis(100));
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    thread::sleep(Duration::from_millis(500));
    let outcomes = rig.outcomes.lock().unwrap();
    assert!(matches!(outcomes.as_slice(), [Err(_)]), "{outcomes:?}");
}

#[test]
fn an_unknown_expectation_is_417_and_nonsense_is_400() {
    assert_refused(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nExpect: tea\r\n\r\nx", 417);
    assert_refused(b"nonsense\r\n\r\n", 400);
    assert_refused(b"POST / HTTP/1.0\r\n\r\n", 411);
}

#[test]
fn a_request_without_a_host_is_400() {
    assert_refused(b"GET / HTTP/1.1\r\n\r\n", 400);
}
