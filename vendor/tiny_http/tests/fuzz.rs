//! The short run: tens of thousands of inputs through the state machine, hundreds through a socket. The long run is
//! `cargo run --release --example fuzz -- --inputs 10000000`.

mod fuzzing;

use fuzzing::mutate::{self, Random};
use fuzzing::{Tally, check, strict};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tiny_http::{Response, Server};

#[test]
fn three_readings_agree_about_forty_thousand_inputs() {
    let mut tally = Tally::default();
    (0..40_000).for_each(|number| check(1, number, &mut tally));
    // The generator still reaches all ends, or the run says nothing.
    assert!(tally.requests > 20_000 && tally.refused > 10_000 && tally.waiting > 4_000, "{tally:?}");
    assert!(tally.slowest < Duration::from_secs(1), "{tally:?}");
}

#[test]
fn a_served_connection_gives_the_strict_number_of_answers_and_always_ends() {
    let server = Arc::new(Server::http("127.0.0.1:0").unwrap());
    let addr = server.server_addr().to_ip().unwrap();
    let served = Arc::new(AtomicUsize::new(0));
    for _ in 0..2 {
        let (server, served) = (Arc::clone(&server), Arc::clone(&served));
        thread::spawn(move || {
            for request in server.incoming_requests() {
                served.fetch_add(1, Ordering::SeqCst);
                let _ = request.respond(Response::from_string("ok"));
            }
        });
    }
    let limits = server.limits().clone();
    for number in 0..400 {
        let mut random = Random::new(2, number);
        let input = mutate::input(&mut random);
        let before = served.load(Ordering::SeqCst);
        let mut client = TcpStream::connect(addr).unwrap();
        client.set_nodelay(true).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let asked = Instant::now();
        for piece in mutate::cuts(&mut random, &input).chunks(8) {
            // A server that has refused doesn't read on.
            let _ = client.write_all(&piece.concat());
        }
        let _ = client.shutdown(Shutdown::Write);
        let mut answers = Vec::new();
        let _ = client.read_to_end(&mut answers);
        assert!(asked.elapsed() < Duration::from_secs(4), "input {number} hangs");
        let wanted =
            strict::read(&input, limits.head_bytes_max, limits.headers_max, limits.body_bytes_max).requests.len();
        let count = served.load(Ordering::SeqCst) - before;
        assert_eq!(count, wanted, "input {number}: {:?}", String::from_utf8_lossy(&input));
    }
    assert_eq!(server.stats().in_flight(), 0);
}
