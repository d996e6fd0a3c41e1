//! The server under storm: answers at once, at length, in streams, or not before its client has left. Streams of
//! `/ticker` are values handed to one thread that writes to all of them, the rest are served by the workers.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tiny_http::{Request, Response, ResponseStream, Server};

const EVENT: &[u8] = b"data: {\"id\":\"request-1\",\"token\":\" word\",\"done\":false}\n\n";

/// The event as it is on the wire.
pub const CHUNK: &[u8] = b"37\r\ndata: {\"id\":\"request-1\",\"token\":\" word\",\"done\":false}\n\n\r\n";

struct State {
    server: Server,
    seen: Mutex<Vec<(u32, u128)>>,
    events: Arc<AtomicU64>,
}

/// Disconnects that one run may note down.
const SEEN_MAX: usize = 50_000;

/// Serves until killed. Prints its address first.
pub fn serve(workers: usize) {
    let server = Server::http("127.0.0.1:0").unwrap();
    println!("listening on {}", server.server_addr());
    let _ = std::io::stdout().flush();
    let events = Arc::new(AtomicU64::new(0));
    let slow = start_ticker(Duration::from_millis(50), Arc::clone(&events));
    let fast = start_ticker(Duration::from_millis(2), Arc::clone(&events));
    // What the test itself writes down takes its memory now, so that growth later is the server's.
    let mut seen = vec![(1, 1); SEEN_MAX];
    seen.clear();
    let state = Arc::new(State { server, seen: Mutex::new(seen), events });
    let work = |_| {
        let (state, slow, fast) = (Arc::clone(&state), slow.clone(), fast.clone());
        thread::spawn(move || {
            state.server.incoming_requests().for_each(|request| handle(&state, request, &slow, &fast))
        })
    };
    (0..workers).map(work).collect::<Vec<_>>().into_iter().for_each(|worker| worker.join().unwrap());
}

fn start_ticker(pause: Duration, events: Arc<AtomicU64>) -> Sender<ResponseStream> {
    let (sender, receiver) = mpsc::channel::<ResponseStream>();
    thread::spawn(move || {
        let mut streams: Vec<ResponseStream> = Vec::new();
        loop {
            if streams.is_empty() {
                let Ok(stream) = receiver.recv() else { return };
                streams.push(stream);
            }
            streams.extend(receiver.try_iter());
            streams.retain_mut(|stream| stream.write_event(EVENT).is_ok());
            events.fetch_add(streams.len() as u64, Ordering::Relaxed);
            thread::sleep(pause);
        }
    });
    sender
}

fn handle(state: &State, request: Request, slow: &Sender<ResponseStream>, fast: &Sender<ResponseStream>) {
    let url = request.url().to_owned();
    let (kind, number) = url[1..].split_once('/').unwrap_or((&url[1..], ""));
    let _ = match kind {
        "ticker" => request.into_stream(200, Vec::new()).map(|stream| slow.send(stream).unwrap()),
        "fast-ticker" => request.into_stream(200, Vec::new()).map(|stream| fast.send(stream).unwrap()),
        "long" => request.respond(Response::from_data(vec![b'x'; 256 * 1024])),
        "events" => request.respond(Response::from_string(state.events.load(Ordering::Relaxed).to_string())),
        "in-flight" => request.respond(Response::from_string(state.server.stats().in_flight().to_string())),
        "seen" => {
            let seen = state.seen.lock().unwrap();
            let text: String = seen.iter().map(|(number, at)| format!("{number} {at}\n")).collect();
            request.respond(Response::from_string(text))
        }
        "stream" => request.into_stream(200, Vec::new()).map(|mut stream| {
            while stream.write_event(EVENT).is_ok() {
                thread::sleep(Duration::from_millis(10));
            }
            note(state, number);
        }),
        "wait" => {
            let (watch, worker) = (request.watch(), thread::current());
            watch.on_disconnect(Box::new(move || worker.unpark()));
            while !watch.is_disconnected() {
                thread::park_timeout(Duration::from_secs(1));
            }
            note(state, number);
            Ok(())
        }
        _ => request.respond(Response::from_string("hello")),
    };
}

fn note(state: &State, number: &str) {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    state.seen.lock().unwrap().push((number.parse().unwrap(), at));
}
