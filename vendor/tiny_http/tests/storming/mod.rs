//! Storms: more clients than is polite, against a server in a process of its own, so that its threads, descriptors,
//! memory and CPU can be read from `/proc`. Shared by `tests/storm.rs` (small, always) and `examples/storm.rs` (full size).
//! Everything is on loopback and bounded.

mod server;

pub use server::serve;

use socket2::SockRef;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A server under storm, and what `/proc` says about it.
pub struct Target {
    child: Child,
    addr: SocketAddr,
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub threads: usize,
    pub descriptors: usize,
    pub resident_kib: usize,
}

impl Target {
    /// Starts `command`, which must call [`serve`].
    pub fn start(command: &mut Command) -> Target {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let addr = lines.find_map(|line| line.unwrap().rsplit_once("listening on ")?.1.parse().ok()).unwrap();
        thread::spawn(move || lines.for_each(drop));
        Target { child, addr }
    }

    pub fn held(&self) -> Held {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).unwrap();
        let status = read("status");
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count();
        Held { threads: field("Threads:"), descriptors, resident_kib: field("VmRSS:") }
    }

    /// CPU time used so far, user and system together.
    fn cpu(&self) -> Duration {
        let schedstat = |task: std::fs::DirEntry| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            text.split_whitespace().next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0)
        };
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        Duration::from_nanos(tasks.map(|task| schedstat(task.unwrap())).sum())
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    fn open(&self, path: &str) -> TcpStream {
        let mut stream = self.connect();
        // Over the limit the server may have answered and closed by now.
        let _ = stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        stream
    }

    /// One request on a connection of its own: status and body.
    pub fn ask(&self, path: &str) -> (u16, String) {
        let mut stream = self.connect();
        let _ = stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        let status = answer.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or(0);
        (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The value below which `part` of the sorted `times` lie.
fn percentile(times: &mut [Duration], part: f64) -> Duration {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * part) as usize]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// `count` connections in one burst, each streaming. How long until all of them, and the slowest one, had a byte.
pub fn burst(target: &Target, count: usize) {
    let start = Instant::now();
    let mut clients: Vec<TcpStream> = (0..count).map(|_| target.open("/ticker")).collect();
    let opened = start.elapsed();
    let mut served = 0;
    for client in &mut clients {
        served += usize::from(client.read_exact(&mut [0]).is_ok());
    }
    println!(
        "burst: {served} of {count} streams had their first byte, opened in {opened:.0?}, served in {:.0?}",
        start.elapsed()
    );
    assert_eq!(served, count);
    let during = target.held();
    drop(clients);
    println!("burst: meanwhile {during:?}");
}

/// Half of `count` clients drip a byte of a head every second, half ask for 256 KiB and never read. Rounds with and
/// without them alternate; what a good client sees in each.
pub fn drips(target: &Target, count: usize, rounds: usize, requests: usize) {
    let mut good = target.connect();
    let mut ask_for_a_while = || {
        let mut times: Vec<Duration> = Vec::with_capacity(requests);
        let mut block = [0; 4096];
        for _ in 0..requests {
            let asked = Instant::now();
            good.write_all(b"GET /hello HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
            let mut got = 0;
            while !block[..got].ends_with(b"hello") {
                got += good.read(&mut block[got..]).unwrap();
            }
            times.push(asked.elapsed());
            thread::sleep(Duration::from_micros(500));
        }
        percentile(&mut times, 0.99)
    };
    let before = target.held();
    let (mut ratios, mut quiet_times, mut storm_times, mut resident_kib) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..rounds {
        let quiet = ask_for_a_while();
        let mut dripping: Vec<TcpStream> = (0..count / 2).map(|_| target.connect()).collect();
        let reading_nothing: Vec<TcpStream> = (0..count / 2).map(|_| target.open("/long")).collect();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let dripper = thread::spawn(move || {
            let head = b"GET / HTTP/1.1\r\nHost: h\r\nX: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy";
            let pause = Duration::from_secs(1) / dripping.len() as u32;
            for byte in head {
                for client in &mut dripping {
                    let _ = client.write_all(&[*byte]);
                    if stopped.recv_timeout(pause) != Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                        return;
                    }
                }
            }
        });
        thread::sleep(Duration::from_millis(500));
        let storm = ask_for_a_while();
        resident_kib = resident_kib.max(target.held().resident_kib);
        drop((stop, reading_nothing));
        dripper.join().unwrap();
        thread::sleep(Duration::from_millis(200));
        ratios.push(storm.as_secs_f64() / quiet.as_secs_f64());
        quiet_times.push(quiet.as_secs_f64() * 1e6);
        storm_times.push(storm.as_secs_f64() * 1e6);
    }
    println!(
        "drips: a good client's p99 is {:.0} us quiet, {:.0} us beside {} drippers and {} that never read (medians of {rounds} rounds), ratio {:.2}",
        median(quiet_times),
        median(storm_times),
        count / 2,
        count / 2,
        median(ratios.clone()),
    );
    let grown_mib = resident_kib.saturating_sub(before.resident_kib) as f64 / 1024.0;
    println!("drips: ratios by round {ratios:.2?}; resident memory {grown_mib:.1} MiB above quiet");
    assert!(grown_mib < 64.0);
}

/// Fills the server to its limit, asks once more, lets one go, asks again.
pub fn limit(target: &Target, connections: usize) {
    assert_eq!(target.ask("/hello").0, 200);
    let before = target.held();
    let mut held: Vec<TcpStream> = (0..connections).map(|_| target.open("/hello")).collect();
    for client in &mut held {
        client.read_exact(&mut [0; 20]).unwrap();
    }
    let grown_kib = target.held().resident_kib.saturating_sub(before.resident_kib);
    println!("limit: {connections} idle connections take {grown_kib} KiB");
    let asked = Instant::now();
    let (status, body) = target.ask("/hello");
    println!("limit: connection {} is told {status} after {:.1?}: {body}", connections + 1, asked.elapsed());
    assert_eq!(status, 503);
    held.pop();
    let freed = Instant::now();
    while target.ask("/hello").0 != 200 {
        assert!(freed.elapsed() < Duration::from_secs(1));
    }
    println!("limit: served again {:.1?} after one closed", freed.elapsed());
}

/// `count` clients leave in the middle of an answer, half of them streamed, half reset rather than closed.
pub fn disconnects(target: &Target, count: usize, at_once: usize) {
    // Ten waves first: buffers and stacks of every worker are touched for the first time.
    let (mut left, mut number) = (Vec::new(), 0);
    while number < 10 * at_once {
        left.extend(wave(target, number, at_once));
        number += at_once;
    }
    settle(target);
    let before = target.held();
    while number < count {
        left.extend(wave(target, number, at_once));
        number += at_once;
    }
    settle(target);
    let after = target.held();
    let seen = target.ask("/seen").1;
    let mut times = Vec::new();
    for line in seen.lines() {
        let (number, at) = line.split_once(' ').unwrap();
        let (number, at): (usize, u128) = (number.parse().unwrap(), at.parse().unwrap());
        times.push(Duration::from_micros(at.saturating_sub(left[number]) as u64));
    }
    let late = times.iter().filter(|time| **time > Duration::from_millis(100)).count();
    println!(
        "disconnects: {} of {number} seen, p50 {:.1?}, p99 {:.1?}, slowest {:.1?}, {late} later than 100 ms",
        times.len(),
        percentile(&mut times, 0.5),
        percentile(&mut times, 0.99),
        percentile(&mut times, 1.0),
    );
    println!("disconnects: before {before:?}\ndisconnects: after  {after:?}");
    assert_eq!(times.len(), number);
    assert_eq!((after.threads, after.descriptors), (before.threads, before.descriptors));
    assert!(after.resident_kib < before.resident_kib + 2048, "resident memory returns to the baseline");
}

fn wave(target: &Target, first: usize, at_once: usize) -> Vec<u128> {
    let paths = |number: usize| format!("/{}/{number}", if number.is_multiple_of(2) { "stream" } else { "wait" });
    let mut clients: Vec<TcpStream> = (first..first + at_once).map(|number| target.open(&paths(number))).collect();
    for client in clients.iter_mut().step_by(2) {
        client.read_exact(&mut [0; 120]).unwrap();
    }
    thread::sleep(Duration::from_millis(20));
    let leave = |(number, client): (usize, TcpStream)| {
        if number % 4 < 2 {
            SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        }
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
        drop(client);
        at
    };
    clients.into_iter().enumerate().map(leave).collect()
}

/// Waits until no other request is in flight.
fn settle(target: &Target) {
    let start = Instant::now();
    while target.ask("/in-flight").1 != "1" && start.elapsed() < Duration::from_secs(5) {
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(Duration::from_millis(200));
}

/// CPU time a streamed event: `streams` at a time, an event each every two milliseconds.
pub fn events(target: &Target, streams: usize, seconds: u64) {
    let mut clients: Vec<TcpStream> = (0..streams).map(|_| target.open("/fast-ticker")).collect();
    for client in &mut clients {
        client.read_exact(&mut [0]).unwrap();
        client.set_nonblocking(true).unwrap();
    }
    let count = |target: &Target| target.ask("/events").1.parse::<u64>().unwrap();
    let (events, cpu, start) = (count(target), target.cpu(), Instant::now());
    let mut block = [0; 65536];
    while start.elapsed() < Duration::from_secs(seconds) {
        for client in &mut clients {
            let _ = client.read(&mut block);
        }
        thread::sleep(Duration::from_millis(1));
    }
    let (events, cpu) = (count(target) - events, target.cpu() - cpu);
    let each = cpu.as_secs_f64() * 1e6 / events as f64;
    println!(
        "events: {events} events on {streams} streams in {seconds} s, {each:.2} us of CPU an event, one write each"
    );
    println!("events: a bare write to a plain socket at the same pace costs {:.2} us", bare_writes(streams, seconds));
}

/// The baseline of [`events`]: the same bytes at the same pace, by a thread that does nothing but write. CPU a write, us.
fn bare_writes(streams: usize, seconds: u64) -> f64 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let connect = |_| {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        let server = listener.accept().unwrap().0;
        server.set_nodelay(true).unwrap();
        (client, server)
    };
    let (mut clients, mut servers): (Vec<TcpStream>, Vec<TcpStream>) = (0..streams).map(connect).unzip();
    let start = Instant::now();
    let writer = thread::spawn(move || {
        let mut writes = 0_u64;
        while start.elapsed() < Duration::from_secs(seconds) {
            servers.iter_mut().for_each(|server| server.write_all(server::CHUNK).unwrap());
            writes += servers.len() as u64;
            thread::sleep(Duration::from_millis(2));
        }
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        stat.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1000.0 / writes as f64
    });
    let mut block = [0; 65536];
    while !writer.is_finished() {
        for client in &mut clients {
            let _ = client.read(&mut block);
        }
        thread::sleep(Duration::from_millis(1));
    }
    writer.join().unwrap()
}
