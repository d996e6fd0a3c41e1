//! The cost of the handoff, compared with `std::sync::mpsc` doing the same job: `cargo bench --profile release --bench
//! handoff`.
//!
//! Each row times both sides in turn, `ROUNDS` times, and prints the median of each. Nothing is random. Without cargo's
//! `--bench` argument it runs once and briefly, as a test.

use std::hint::black_box;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use cllm::handoff::{ReplyPool, ReplyReader, ReplyState, ReplyWriter, Wake, ring};
use cllm::types::{FinishReason, Piece, Terminal, Token};

/// An odd number, so that a median is one of the measurements.
const ROUNDS: usize = 9;
/// Pieces of a long reply: as many as a slot holds, so that neither side waits for room.
const REPLY_PIECES: u32 = 4_096;
/// The pause before a wake-up is timed: far longer than a reader spins.
const ASLEEP: Duration = Duration::from_micros(500);

fn main() {
    let full = std::env::args().any(|arg| arg == "--bench");
    let (rounds, scale) = if full { (ROUNDS, 1) } else { (1, 20) };
    let cpus = thread::available_parallelism().map_or(0, |n| n.get());
    println!("handoff: {} {}, {cpus} CPUs; median of {rounds} rounds in turn;", cpu_model(), std::env::consts::ARCH);
    println!("baseline: std::sync::mpsc::sync_channel; no randomness\n");
    println!("{:<47} {:>6} {:>9} {:>9} {:>5}", "", "unit", "handoff", "mpsc", "ratio");

    let ops = 200_000 / scale;
    row("push + pop of a u64, one thread", "ns", rounds, || ring_alone(ops), || mpsc_alone(ops));
    row("push -> pop of a u64, two busy threads", "ns", rounds, || ring_across(ops), || mpsc_across(ops));
    let replies = 40 / scale;
    row("write + read of a piece, one thread", "ns", rounds, || reply_alone(replies), || channel_alone(replies));
    row("claim + 1 piece + end + release", "ns", rounds, || short_replies(ops / 4), || short_channels(ops / 4));
    let wakes = 1_000 / scale;
    row("wake a parked reader, median", "us", rounds, || reply_wake(wakes, 50), || channel_wake(wakes, 50));
    row("wake a parked reader, 99th percentile", "us", rounds, || reply_wake(wakes, 99), || channel_wake(wakes, 99));
    println!("\n256 pieces, one each 50 us, from a writer that does nothing else:");
    row("reader's sleeps, streaming", "", rounds, || paced(Wake::EachPiece).0, || paced_mpsc().0);
    row("reader's sleeps, answer at the end", "", rounds, || paced(Wake::AtEnd).0, || paced_mpsc().0);
    row("writer's time a piece, streaming", "ns", rounds, || paced(Wake::EachPiece).1, || paced_mpsc().1);
    row("writer's time a piece, answer at the end", "ns", rounds, || paced(Wake::AtEnd).1, || paced_mpsc().1);
}

/// Runs both sides in turn and prints the medians.
fn row(name: &str, unit: &str, rounds: usize, ours: impl Fn() -> f64, theirs: impl Fn() -> f64) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        a.push(ours());
        b.push(theirs());
    }
    let (a, b) = (percentile(&mut a, 50), percentile(&mut b, 50));
    println!("{name:<47} {unit:>6} {a:>9.1} {b:>9.1} {:>5.2}", a / b);
}

fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() * percent / 100).min(values.len() - 1)]
}

fn ns_each(start: Instant, count: usize) -> f64 {
    start.elapsed().as_nanos() as f64 / count as f64
}

fn cpu_model() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    line.unwrap_or("unknown CPU").chars().take(30).collect()
}

fn piece(n: u32) -> Piece {
    Piece { token: Token(n), text_end: n }
}

const LAST: Terminal = Terminal {
    reason: FinishReason::Length,
    text_end: 0,
    generated_tokens: 0,
    prompt_tokens: 0,
    cached_tokens: 0,
    restored_tokens: 0,
    thought_tokens: 0,
    guesses: 0,
    guesses_accepted: 0,
    gave_way: 0,
    stop: None,
    queue_us: 0,
    prefill_us: 0,
    decode_us: 0,
};

/// An event of the reply over a channel: pieces, then the terminal.
#[allow(clippy::large_enum_variant, reason = "what one would write")]
enum Event {
    Piece(Piece),
    Last(Terminal),
}

// ---- the ring ----

fn ring_alone(ops: usize) -> f64 {
    let (sender, inbox) = ring(64);
    let start = Instant::now();
    for n in 0..ops as u64 {
        sender.push(n).unwrap();
        black_box(inbox.pop());
    }
    ns_each(start, ops)
}

fn mpsc_alone(ops: usize) -> f64 {
    let (sender, receiver) = sync_channel(64);
    let start = Instant::now();
    for n in 0..ops as u64 {
        sender.try_send(n).unwrap();
        black_box(receiver.try_recv().unwrap());
    }
    ns_each(start, ops)
}

fn ring_across(ops: usize) -> f64 {
    let (sender, inbox) = ring(64);
    let start = Instant::now();
    let producer = thread::spawn(move || {
        for n in 0..ops as u64 {
            let mut value = n;
            while let Err(refused) = sender.push(value) {
                value = refused.into_inner();
                thread::yield_now();
            }
        }
    });
    let mut left = ops;
    while left > 0 {
        match inbox.pop() {
            Some(n) => {
                black_box(n);
                left -= 1;
            }
            None => thread::yield_now(),
        }
    }
    producer.join().unwrap();
    ns_each(start, ops)
}

fn mpsc_across(ops: usize) -> f64 {
    let (sender, receiver) = sync_channel(64);
    let start = Instant::now();
    let producer = thread::spawn(move || {
        for n in 0..ops as u64 {
            // The server would answer 429 instead of waiting.
            while sender.try_send(n).is_err() {
                thread::yield_now();
            }
        }
    });
    let mut left = ops;
    while left > 0 {
        match receiver.try_recv() {
            Ok(n) => {
                black_box(n);
                left -= 1;
            }
            Err(_) => thread::yield_now(),
        }
    }
    producer.join().unwrap();
    ns_each(start, ops)
}

// ---- the reply slot ----

fn reply_alone(replies: usize) -> f64 {
    let pool = ReplyPool::new(1, REPLY_PIECES as usize);
    let mut out = Vec::with_capacity(REPLY_PIECES as usize);
    let start = Instant::now();
    for _ in 0..replies {
        let (mut writer, mut reader) = pool.claim().unwrap();
        out.clear();
        for n in 0..REPLY_PIECES {
            writer.push(piece(n)).unwrap();
        }
        writer.finish(LAST);
        reader.read_into(&mut out);
        black_box((&out, reader.wait(None, Wake::AtEnd)));
    }
    ns_each(start, replies * REPLY_PIECES as usize)
}

fn channel_alone(replies: usize) -> f64 {
    let mut out = Vec::with_capacity(REPLY_PIECES as usize);
    let start = Instant::now();
    for _ in 0..replies {
        let (sender, receiver) = sync_channel(REPLY_PIECES as usize + 1);
        out.clear();
        for n in 0..REPLY_PIECES {
            sender.try_send(Event::Piece(piece(n))).ok().unwrap();
        }
        sender.try_send(Event::Last(LAST)).ok().unwrap();
        black_box(drain(&receiver, &mut out));
    }
    ns_each(start, replies * REPLY_PIECES as usize)
}

fn drain(receiver: &Receiver<Event>, out: &mut Vec<Piece>) -> Terminal {
    loop {
        match receiver.recv().unwrap() {
            Event::Piece(piece) => out.push(piece),
            Event::Last(last) => return last,
        }
    }
}

fn read_all(reader: &mut ReplyReader, wish: Wake, out: &mut Vec<Piece>) -> Terminal {
    loop {
        match reader.wait(None, wish) {
            ReplyState::Pieces => drop(reader.read_into(out)),
            ReplyState::Finished(last) => return last,
            ReplyState::TimedOut => unreachable!("no deadline was given"),
        }
    }
}

fn short_replies(replies: usize) -> f64 {
    let pool = ReplyPool::new(8, REPLY_PIECES as usize);
    let mut out = Vec::new();
    let start = Instant::now();
    for n in 0..replies as u32 {
        let (mut writer, mut reader) = pool.claim().unwrap();
        writer.push(piece(n)).unwrap();
        writer.finish(LAST);
        out.clear();
        black_box(read_all(&mut reader, Wake::AtEnd, &mut out));
    }
    ns_each(start, replies)
}

fn short_channels(replies: usize) -> f64 {
    let mut out = Vec::new();
    let start = Instant::now();
    for n in 0..replies as u32 {
        // One channel for each request, with a capacity that costs little to allocate.
        let (sender, receiver) = sync_channel(8);
        sender.try_send(Event::Piece(piece(n))).ok().unwrap();
        sender.try_send(Event::Last(LAST)).ok().unwrap();
        out.clear();
        black_box(drain(&receiver, &mut out));
    }
    ns_each(start, replies)
}

// ---- waking ----

/// Microseconds from just before the push until the parked reader has the piece.
fn reply_wake(wakes: usize, percent: usize) -> f64 {
    let pool = ReplyPool::new(1, wakes);
    let (hand, take) = sync_channel::<ReplyWriter>(1);
    let writer = thread::spawn(move || {
        let mut writer = take.recv().unwrap();
        let sent: Vec<Instant> = (0..wakes as u32)
            .map(|n| {
                thread::sleep(ASLEEP);
                let now = Instant::now();
                writer.push(piece(n)).unwrap();
                now
            })
            .collect();
        writer.finish(LAST);
        sent
    });
    let (half, mut reader) = pool.claim().unwrap();
    hand.send(half).unwrap();
    let (mut got, mut out) = (Vec::with_capacity(wakes), Vec::new());
    while let ReplyState::Pieces = reader.wait(None, Wake::EachPiece) {
        let now = Instant::now();
        got.extend(std::iter::repeat_n(now, reader.read_into(&mut out)));
    }
    latency(&writer.join().unwrap(), &got, percent)
}

fn channel_wake(wakes: usize, percent: usize) -> f64 {
    let (sender, receiver) = sync_channel(wakes);
    let writer = thread::spawn(move || {
        let sent: Vec<Instant> = (0..wakes as u32)
            .map(|n| {
                thread::sleep(ASLEEP);
                let now = Instant::now();
                sender.try_send(Event::Piece(piece(n))).ok().unwrap();
                now
            })
            .collect();
        sender.send(Event::Last(LAST)).ok().unwrap();
        sent
    });
    let mut got = Vec::with_capacity(wakes);
    while let Event::Piece(_) = receiver.recv().unwrap() {
        got.push(Instant::now());
    }
    latency(&writer.join().unwrap(), &got, percent)
}

fn latency(sent: &[Instant], got: &[Instant], percent: usize) -> f64 {
    assert_eq!(sent.len(), got.len());
    let mut us: Vec<f64> = sent.iter().zip(got).map(|(a, b)| (*b - *a).as_nanos() as f64 / 1e3).collect();
    percentile(&mut us, percent)
}

// ---- a paced reply: how often each side sleeps, and the cost for the writer ----

const PACED: u32 = 256;
const PACE: Duration = Duration::from_micros(50);

/// Writes a piece each `PACE` and spins in between, as a decoder keeps its core busy. Returns the mean nanoseconds in
/// `push`.
fn write_paced(mut push: impl FnMut(Piece)) -> f64 {
    let mut inside = Duration::ZERO;
    let mut next = Instant::now();
    for n in 0..PACED {
        next += PACE;
        while Instant::now() < next {
            std::hint::spin_loop();
        }
        let start = Instant::now();
        push(piece(n));
        inside += start.elapsed();
    }
    inside.as_nanos() as f64 / f64::from(PACED)
}

fn paced(wish: Wake) -> (f64, f64) {
    let pool = ReplyPool::new(1, REPLY_PIECES as usize);
    let (hand, take) = sync_channel::<ReplyWriter>(1);
    let writer = thread::spawn(move || {
        let mut writer = take.recv().unwrap();
        let inside = write_paced(|piece| writer.push(piece).unwrap());
        writer.finish(LAST);
        inside
    });
    let (half, mut reader) = pool.claim().unwrap();
    let mut out = Vec::with_capacity(PACED as usize);
    hand.send(half).unwrap();
    let before = sleeps();
    black_box(read_all(&mut reader, wish, &mut out));
    (sleeps() - before, writer.join().unwrap())
}

fn paced_mpsc() -> (f64, f64) {
    let (sender, receiver): (SyncSender<Event>, _) = sync_channel(REPLY_PIECES as usize);
    let writer = thread::spawn(move || {
        let inside = write_paced(|piece| sender.try_send(Event::Piece(piece)).ok().unwrap());
        sender.send(Event::Last(LAST)).ok().unwrap();
        inside
    });
    let mut out = Vec::with_capacity(PACED as usize);
    let before = sleeps();
    black_box(drain(&receiver, &mut out));
    (sleeps() - before, writer.join().unwrap())
}

/// How often this thread has given up its core to wait, as Linux counts it.
fn sleeps() -> f64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(f64::NAN)
}
