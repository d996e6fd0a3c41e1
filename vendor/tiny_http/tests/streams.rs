//! Streams, disconnects, keep-alive, and the small print of answers: what the server does with well-behaved clients, and
//! how it learns that one has left.

use socket2::SockRef;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use tiny_http::{ConfigListenAddr, HalfClose, Header, Limits, Request, Response, Server, ServerConfig};

fn serve(
    limits: Limits,
    workers: usize,
    handler: impl Fn(Request) + Send + Sync + 'static,
) -> (Arc<Server>, SocketAddr) {
    let addr = ConfigListenAddr::from_socket_addrs("127.0.0.1:0").unwrap();
    let server = Arc::new(Server::with_limits(ServerConfig { addr, ssl: None }, limits).unwrap());
    let handler = Arc::new(handler);
    for _ in 0..workers {
        let (server, handler) = (Arc::clone(&server), Arc::clone(&handler));
        thread::spawn(move || server.incoming_requests().for_each(|request| handler(request)));
    }
    let addr = server.server_addr().to_ip().unwrap();
    (server, addr)
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn get(stream: &mut TcpStream, path: &str) {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).unwrap();
}

/// Reads exactly one answer with a Content-Length: its head and its body.
fn read_answer(stream: &mut BufReader<TcpStream>, has_body: bool) -> (String, String) {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim().parse().unwrap();
        }
        head += &line;
        if line == "\r\n" || line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; if has_body { length } else { 0 }];
    stream.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn an_event_is_one_chunk_in_one_write() {
    let (_server, addr) = serve(Limits::default(), 1, |request| {
        let header = Header::from_bytes("Content-Type", "text/event-stream").unwrap();
        let mut stream = request.into_stream_with(200, vec![header], b"data: 0\n\n").unwrap();
        for number in 1..5 {
            thread::sleep(Duration::from_millis(60));
            stream.write_event(format!("data: {number}\n\n").as_bytes()).unwrap();
        }
        stream.write_event(b"").unwrap();
        thread::sleep(Duration::from_millis(60));
        stream.finish_with(b"data: end\n\n").unwrap();
    });
    let mut client = connect(addr);
    get(&mut client, "/");
    let (mut reads, mut block) = (Vec::new(), [0; 4096]);
    while !reads.last().is_some_and(|read: &String| read.ends_with("0\r\n\r\n")) {
        let count = client.read(&mut block).unwrap();
        assert!(count > 0);
        reads.push(String::from_utf8_lossy(&block[..count]).into_owned());
    }
    assert_eq!(reads.len(), 6, "{reads:?}");
    assert!(reads[0].contains("Transfer-Encoding: chunked\r\n") && reads[0].ends_with("\r\n\r\n9\r\ndata: 0\n\n\r\n"));
    assert_eq!(
        &reads[1..],
        [
            "9\r\ndata: 1\n\n\r\n",
            "9\r\ndata: 2\n\n\r\n",
            "9\r\ndata: 3\n\n\r\n",
            "9\r\ndata: 4\n\n\r\n",
            "b\r\ndata: end\n\n\r\n0\r\n\r\n",
        ]
    );
}

/// And its connection serves the next request.
#[test]
fn a_stream_that_is_over_is_one_write() {
    let (_server, addr) = serve(Limits::default(), 1, |request| {
        let header = Header::from_bytes("Content-Type", "text/event-stream").unwrap();
        request.respond_streamed(200, vec![header], b"data: 0\n\ndata: 1\n\n").unwrap();
    });
    let mut client = connect(addr);
    for _ in 0..2 {
        get(&mut client, "/");
        let mut block = [0; 4096];
        let count = client.read(&mut block).unwrap();
        let read = String::from_utf8_lossy(&block[..count]).into_owned();
        assert!(read.contains("Transfer-Encoding: chunked\r\n"), "{read}");
        assert!(read.ends_with("\r\n\r\n12\r\ndata: 0\n\ndata: 1\n\n\r\n0\r\n\r\n"), "{read}");
    }
    let mut old = connect(addr);
    old.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let read = read_to_end(&mut old);
    assert!(read.contains("Content-Length: 18\r\n") && read.ends_with("\r\n\r\ndata: 0\n\ndata: 1\n\n"), "{read}");
    let mut head = connect(addr);
    head.write_all(b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let read = read_to_end(&mut head);
    assert!(read.starts_with("HTTP/1.1 200 ") && read.ends_with("\r\n\r\n"), "{read}");
}

#[test]
fn keep_alive_serves_the_next_request_after_an_answer_and_after_a_stream() {
    let (server, addr) = serve(Limits::default(), 2, |request| match request.url() {
        "/stream" => request.into_stream(200, Vec::new()).unwrap().finish_with(b"x").unwrap(),
        _ => request.respond(Response::from_string("a")).unwrap(),
    });
    let mut client = connect(addr);
    get(&mut client, "/");
    let mut client = BufReader::new(client);
    assert_eq!(read_answer(&mut client, true).1, "a");
    get(client.get_mut(), "/stream");
    assert!(read_answer(&mut client, false).0.contains("chunked"));
    client.read_exact(&mut [0; 11]).unwrap();
    get(client.get_mut(), "/");
    assert_eq!(read_answer(&mut client, true).1, "a");
    assert_eq!((server.num_connections(), server.stats().accepted(), server.stats().requests()), (1, 1, 3));
}

#[test]
fn a_hundred_pipelined_requests_are_answered_in_order() {
    let (_server, addr) = serve(Limits::default(), 4, |request| {
        let url = request.url().to_owned();
        request.respond(Response::from_string(url)).unwrap();
    });
    let mut client = connect(addr);
    // More than one read's worth, so that what comes after a full read is not forgotten.
    let padding = "x".repeat(2000);
    let requests: String =
        (0..100).map(|number| format!("GET /{number} HTTP/1.1\r\nHost: h\r\nX: {padding}\r\n\r\n")).collect();
    client.write_all(requests.as_bytes()).unwrap();
    let mut client = BufReader::new(client);
    for number in 0..100 {
        assert_eq!(read_answer(&mut client, true).1, format!("/{number}"));
    }
}

#[test]
fn a_client_that_pipelines_without_end_doesnt_hold_the_only_worker() {
    let (_server, addr) = serve(Limits::default(), 1, |request| {
        thread::sleep(Duration::from_millis(2));
        request.respond(Response::from_string("a")).unwrap();
    });
    let mut hog = connect(addr);
    hog.write_all(&b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(1000)).unwrap();
    thread::sleep(Duration::from_millis(50));
    let asked = Instant::now();
    let mut polite = connect(addr);
    get(&mut polite, "/");
    polite.read_exact(&mut [0; 10]).unwrap();
    assert!(asked.elapsed() < Duration::from_millis(1000), "{:?}", asked.elapsed());
}

#[test]
fn head_has_the_headers_and_no_body() {
    let (_server, addr) = serve(Limits::default(), 1, |request| match request.url() {
        "/stream" => {
            let mut stream = request.into_stream(200, Vec::new()).unwrap();
            stream.write_event(b"never sent").unwrap();
            stream.finish_with(b"nor this").unwrap();
        }
        _ => request.respond(Response::from_string("hello")).unwrap(),
    });
    let mut client = connect(addr);
    client.write_all(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut client = BufReader::new(client);
    let head = read_answer(&mut client, false).0;
    assert!(head.contains("Content-Length: 5\r\n") && head.contains("Date: "), "{head}");
    client.get_mut().write_all(b"HEAD /stream HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert!(read_answer(&mut client, false).0.starts_with("HTTP/1.1 200 "));
    client.get_mut().write_all(b"HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    let head = read_answer(&mut client, false).0;
    assert!(head.contains("Connection: close"));
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "nothing behind the head");
}

#[test]
fn http_1_0_gets_a_buffered_answer_and_keeps_alive_when_asked() {
    let (_server, addr) = serve(Limits::default(), 1, |request| {
        let mut stream = request.into_stream(200, Vec::new()).unwrap();
        stream.write_event(b"one ").unwrap();
        stream.write_event(b"two").unwrap();
        stream.finish().unwrap();
    });
    let mut client = connect(addr);
    client.write_all(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").unwrap();
    let mut client = BufReader::new(client);
    let (head, body) = read_answer(&mut client, true);
    assert!(head.contains("Connection: keep-alive") && !head.contains("chunked") && body == "one two", "{head}{body}");
    client.get_mut().write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    assert!(read_to_end(client.get_mut()).ends_with("Content-Length: 7\r\nConnection: close\r\n\r\none two"));
}

#[test]
fn continue_is_said_when_the_head_is_fine_and_not_otherwise() {
    let (_server, addr) = serve(Limits::default(), 1, |request| {
        let length = request.body_length().unwrap();
        request.respond(Response::from_string(length.to_string())).unwrap();
    });
    let mut client = connect(addr);
    client.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n").unwrap();
    let mut word = [0; 25];
    client.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"abc").unwrap();
    assert_eq!(read_answer(&mut BufReader::new(client), true).1, "3");
    let mut client = connect(addr);
    client
        .write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n")
        .unwrap();
    assert!(read_to_end(&mut client).starts_with("HTTP/1.1 413 "), "no 100 first");
}

#[test]
fn a_dropped_request_is_500_and_a_dropped_stream_lacks_its_end() {
    let (server, addr) = serve(Limits::default(), 3, |request| match request.url() {
        "/panic" => panic!("on purpose"),
        "/stream" => drop(request.into_stream(200, Vec::new()).unwrap().write_event(b"x")),
        _ => drop(request),
    });
    for path in ["/drop", "/panic"] {
        let mut client = connect(addr);
        get(&mut client, path);
        let answer = read_to_end(&mut client);
        assert!(answer.starts_with("HTTP/1.1 500 ") && answer.contains(r#""code":"internal_error""#), "{answer}");
    }
    let mut client = connect(addr);
    get(&mut client, "/stream");
    assert!(read_to_end(&mut client).ends_with("\r\n\r\n1\r\nx\r\n"), "no last chunk");
    thread::sleep(Duration::from_millis(100));
    assert_eq!((server.num_connections(), server.stats().in_flight(), server.stats().refused(500)), (0, 0, 2));
}

#[test]
fn answers_of_every_kind_of_length() {
    let (_server, addr) = serve(Limits::default(), 2, |request| {
        let long = vec![b'y'; 300_000];
        // "/lies" is an error by design; the client's view of all of them is asserted below.
        let _ = match request.url() {
            "/unknown" => request.respond(Response::new(200.into(), vec![], io::Cursor::new(b"short"), None, None)),
            "/chunked" => request.respond(Response::new(200.into(), vec![], io::Cursor::new(long), None, None)),
            "/known" => request.respond(Response::from_data(long)),
            "/empty" => request.respond(Response::empty(204).with_data(io::Cursor::new(b"no"), Some(2))),
            _ => request.respond(Response::new(200.into(), vec![], io::empty(), Some(7), None)),
        };
    });
    let ask = |path: &str| {
        let mut client = connect(addr);
        client.write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
        read_to_end(&mut client)
    };
    assert!(ask("/unknown").ends_with("Content-Length: 5\r\nConnection: close\r\n\r\nshort"));
    let chunked = ask("/chunked");
    assert!(chunked.contains("chunked") && chunked.ends_with("\r\n0\r\n\r\n"));
    assert_eq!(chunked.matches('y').count(), 300_000);
    let known = ask("/known");
    assert!(known.contains("Content-Length: 300000\r\n") && known.matches('y').count() == 300_000);
    assert!(ask("/empty").ends_with("Connection: close\r\n\r\n") && !ask("/empty").contains("Content-Length"));
    assert!(ask("/lies").starts_with("HTTP/1.1 500 "), "a reader shorter than its length");
}

/// How a client leaves.
#[derive(Clone, Copy, Debug)]
enum Exit {
    Close,
    Reset,
}

/// The longest a handler may take to learn that its client has left.
const NEWS: Duration = Duration::from_millis(100);

/// The best of up to five tries: the machine that tests may be busy, the promise is about the server.
fn best_of_five(within: Duration, mut attempt: impl FnMut() -> Duration) {
    let times: Vec<Duration> = (0..5)
        .scan(false, |done, _| {
            (!*done).then(|| {
                let time = attempt();
                *done = time < within;
                time
            })
        })
        .collect();
    assert!(times.iter().any(|time| *time < within), "{times:?}");
}

#[test]
fn a_client_that_leaves_is_seen_within_100_ms_while_others_wait_and_while_none_does() {
    for (workers, exit) in [(4, Exit::Close), (4, Exit::Reset), (1, Exit::Close), (1, Exit::Reset)] {
        best_of_five(NEWS, || {
            let (sender, receiver) = mpsc::channel();
            let (server, addr) = serve(Limits::default(), workers, move |request| {
                let (watch, called) = (request.watch(), Arc::new(AtomicBool::new(false)));
                let (worker, flag) = (thread::current(), Arc::clone(&called));
                watch.on_disconnect(Box::new(move || {
                    flag.store(true, Ordering::SeqCst);
                    worker.unpark();
                }));
                sender.send(None).unwrap();
                while !called.load(Ordering::SeqCst) {
                    thread::park_timeout(Duration::from_secs(5));
                }
                sender.send(Some((Instant::now(), watch.is_disconnected()))).unwrap();
                drop(request);
            });
            let mut client = connect(addr);
            get(&mut client, "/");
            assert!(receiver.recv().unwrap().is_none());
            let left = Instant::now();
            match exit {
                Exit::Close => drop(client),
                Exit::Reset => reset(client),
            }
            let (at, flag) = receiver.recv_timeout(Duration::from_secs(5)).unwrap().unwrap();
            assert!(flag && server.stats().disconnects() == 1, "{workers} workers, {exit:?}");
            at - left
        });
    }
}

#[test]
fn a_stream_ends_with_an_error_within_one_event_or_100_ms() {
    for exit in [Exit::Close, Exit::Reset] {
        best_of_five(NEWS + Duration::from_millis(20), || {
            let (sender, receiver) = mpsc::channel();
            let (_server, addr) = serve(Limits::default(), 1, move |request| {
                let mut stream = request.into_stream(200, Vec::new()).unwrap();
                while stream.write_event(b"event").is_ok() {
                    thread::sleep(Duration::from_millis(10));
                }
                sender.send(Instant::now()).unwrap();
            });
            let mut client = connect(addr);
            get(&mut client, "/");
            client.read_exact(&mut [0; 200]).unwrap();
            let left = Instant::now();
            match exit {
                Exit::Close => drop(client),
                Exit::Reset => reset(client),
            }
            receiver.recv_timeout(Duration::from_secs(5)).unwrap() - left
        });
    }
}

#[test]
fn a_half_close_counts_as_leaving_but_an_answer_is_still_delivered() {
    for half_close in [HalfClose::Disconnected, HalfClose::StillListening] {
        let limits = Limits { half_close, ..Limits::default() };
        let (server, addr) = serve(limits, 1, |request| {
            thread::sleep(Duration::from_millis(150));
            let text = format!("gone: {}", request.is_disconnected());
            request.respond(Response::from_string(text)).unwrap();
        });
        let mut client = connect(addr);
        get(&mut client, "/");
        client.shutdown(Shutdown::Write).unwrap();
        let gone = half_close == HalfClose::Disconnected;
        let answer = read_to_end(&mut client);
        assert!(answer.ends_with(&format!("gone: {gone}")), "{answer}");
        assert_eq!(server.stats().half_closes(), u64::from(gone), "and it is counted");
        thread::sleep(Duration::from_millis(50));
        assert_eq!(server.num_connections(), 0);
    }
}

#[test]
fn an_event_wakes_one_thread() {
    let (server, addr) = serve(Limits::default(), 16, |request| request.respond(Response::from_string("a")).unwrap());
    let mut client = BufReader::new(connect(addr));
    let ask = |client: &mut BufReader<TcpStream>| {
        get(client.get_mut(), "/");
        read_answer(client, true);
    };
    ask(&mut client);
    let before = server.stats().wakeups();
    (0..500).for_each(|_| ask(&mut client));
    let wakeups = server.stats().wakeups() - before;
    assert!((500..=525).contains(&wakeups), "500 requests, 16 waiting threads, {wakeups} wake-ups");
}

#[test]
fn a_request_that_drips_costs_no_worker() {
    let (_server, addr) = serve(Limits::default(), 1, |request| request.respond(Response::from_string("a")).unwrap());
    let mut drips: Vec<_> = (0..50).map(|_| connect(addr)).collect();
    for byte in b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n12" {
        drips.iter_mut().for_each(|drip| drip.write_all(&[*byte]).unwrap());
    }
    let mut client = connect(addr);
    get(&mut client, "/");
    assert_eq!(read_answer(&mut BufReader::new(client), true).1, "a");
    drips.iter_mut().for_each(|drip| drip.write_all(b"345").unwrap());
    for drip in drips {
        assert_eq!(read_answer(&mut BufReader::new(drip), true).1, "a");
    }
}

#[test]
fn unblock_timeouts_and_try_recv() {
    let server = Arc::new(Server::http("127.0.0.1:0").unwrap());
    assert!(server.try_recv().unwrap().is_none());
    let asked = Instant::now();
    assert!(server.recv_timeout(Duration::from_millis(50)).unwrap().is_none());
    assert!(asked.elapsed() >= Duration::from_millis(50));
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let server = Arc::clone(&server);
            thread::spawn(move || server.recv().is_err())
        })
        .collect();
    thread::sleep(Duration::from_millis(50));
    (0..4).for_each(|_| server.unblock());
    assert!(waiting.into_iter().all(|thread| thread.join().unwrap()), "each unblock frees one thread");
}

#[test]
fn draining_serves_what_has_begun_and_takes_nothing_new() {
    let (server, addr) = serve(Limits::default(), 2, |request| {
        thread::sleep(Duration::from_millis(300));
        request.respond(Response::from_string("late")).unwrap();
    });
    let mut idle = connect(addr);
    let mut busy = connect(addr);
    get(&mut busy, "/");
    thread::sleep(Duration::from_millis(100));
    server.drain();
    assert_eq!(read_to_end(&mut idle), "", "idle connections are closed");
    assert!(TcpStream::connect(addr).is_err(), "new ones refused");
    let answer = read_to_end(&mut busy);
    assert!(answer.contains("Connection: close") && answer.ends_with("late"), "{answer}");
}

#[test]
fn a_dropped_server_frees_its_port_and_ends_its_keeper() {
    let server = Server::http("127.0.0.1:0").unwrap();
    let addr = server.server_addr().to_ip().unwrap();
    let mut client = connect(addr);
    thread::sleep(Duration::from_millis(50));
    drop(server);
    assert_eq!(read_to_end(&mut client), "");
    assert!(Server::http(addr).is_ok(), "the port is free");
}
