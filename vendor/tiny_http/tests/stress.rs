//! Many clients at a time, cut and pipelined at random, against few workers: no answer is lost, doubled or out of order,
//! and no connection is forgotten. A lost wake-up shows as a client that waits in vain. `STRESS_SECONDS` makes it longer.

#[path = "fuzzing/mutate.rs"]
#[allow(dead_code)]
mod mutate;

use mutate::Random;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tiny_http::{Response, Server};

fn serve(workers: usize) -> (Arc<Server>, SocketAddr) {
    let server = Arc::new(Server::http("127.0.0.1:0").unwrap());
    for worker in 0..workers {
        let server = Arc::clone(&server);
        thread::spawn(move || {
            let mut random = Random::new(7, worker as u64);
            for request in server.incoming_requests() {
                if random.below(16) == 0 {
                    thread::sleep(Duration::from_micros(random.below(2000) as u64));
                }
                let text = format!("[{} {}]", request.url(), request.body().len());
                let _ = match random.below(3) {
                    0 => request.into_stream_with(200, Vec::new(), text.as_bytes()).and_then(|stream| stream.finish()),
                    _ => request.respond(Response::from_string(text)),
                };
            }
        });
    }
    let addr = server.server_addr().to_ip().unwrap();
    (server, addr)
}

/// One connection's life: rounds of pipelined requests in random pieces, each answered before the next round.
fn talk(addr: SocketAddr, random: &mut Random) -> usize {
    let mut client = TcpStream::connect(addr).unwrap();
    client.set_nodelay(true).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (mut asked, mut text, mut block) = (0, String::new(), [0; 8192]);
    for _ in 0..1 + random.below(20) {
        let (mut bytes, first) = (Vec::new(), asked);
        for _ in 0..1 + random.below(4) {
            let length = random.below(3) * random.below(3000);
            write!(bytes, "POST /{asked} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n").unwrap();
            bytes.resize(bytes.len() + length, b'b');
            asked += 1;
        }
        let pieces = 1 + random.below(4);
        for piece in bytes.chunks(bytes.len().div_ceil(pieces)) {
            client.write_all(piece).unwrap();
            if random.below(4) == 0 {
                thread::sleep(Duration::from_micros(random.below(300) as u64));
            }
        }
        while text.matches(']').count() < asked - first {
            let count = client.read(&mut block).expect("an answer");
            assert!(count > 0, "closed while an answer was due");
            text += std::str::from_utf8(&block[..count]).unwrap();
        }
        let answers: Vec<&str> = text.split('[').skip(1).collect();
        assert_eq!(answers.len(), asked - first, "{text}");
        for (number, answer) in (first..).zip(answers) {
            assert!(answer.starts_with(&format!("/{number} ")), "{text}");
        }
        // The end of a streamed answer may still be on its way.
        let is_streamed = text.rfind("HTTP/1.1").is_some_and(|start| text[start..].contains("chunked"));
        while is_streamed && !text.ends_with("0\r\n\r\n") {
            let count = client.read(&mut block).expect("the end of a stream");
            text += std::str::from_utf8(&block[..count]).unwrap();
        }
        text.clear();
    }
    asked
}

#[test]
fn nothing_is_lost_doubled_or_forgotten() {
    let seconds = std::env::var("STRESS_SECONDS").map_or(2, |seconds| seconds.parse().unwrap());
    for workers in [1, 3] {
        let (server, addr) = serve(workers);
        let end = Instant::now() + Duration::from_secs(seconds) / 2;
        let clients: Vec<_> = (0..12)
            .map(|client| {
                thread::spawn(move || {
                    let mut random = Random::new(11, client);
                    let mut asked = 0;
                    while Instant::now() < end {
                        asked += talk(addr, &mut random);
                    }
                    asked
                })
            })
            .collect();
        let asked: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
        assert_eq!(server.stats().requests(), asked as u64);
        let settled = Instant::now() + Duration::from_secs(2);
        while server.num_connections() > 0 && Instant::now() < settled {
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!((server.num_connections(), server.stats().in_flight()), (0, 0), "after {asked} requests");
        println!("{workers} workers: {asked} requests in order");
    }
}
