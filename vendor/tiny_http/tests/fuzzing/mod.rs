//! Fuzzing of the request path: inputs made from a seed, and three readings of each that must agree. Shared by
//! `tests/fuzz.rs` (short, always) and `examples/fuzz.rs` (long, by hand). Input `n` of seed `s` is the same everywhere.

pub mod mutate;
pub mod strict;

use mutate::Random;
use std::time::{Duration, Instant};
use tiny_http::Limits;
use tiny_http::probe::{End, Seen, read};

/// What a run found, for the one who started it.
#[derive(Debug, Default)]
pub struct Tally {
    pub inputs: u64,
    pub requests: u64,
    pub refused: u64,
    pub waiting: u64,
    pub bytes: u64,
    pub slowest: Duration,
}

/// Small enough for inputs to reach them.
pub fn tight_limits() -> Limits {
    Limits { head_bytes_max: 600, headers_max: 8, body_bytes_max: 96, ..Limits::default() }
}

/// One input, read three ways. Panics where they differ, with all it takes to see why.
pub fn check(seed: u64, number: u64, tally: &mut Tally) {
    let mut random = Random::new(seed, number);
    let input = mutate::input(&mut random);
    let limits = if random.below(2) == 0 { Limits::default() } else { tight_limits() };
    let start = Instant::now();
    let (seen, end) = read([input.as_slice()], &limits);
    let cuts = mutate::cuts(&mut random, &input);
    let (seen_in_pieces, end_in_pieces) = read(cuts.iter().copied(), &limits);
    tally.slowest = tally.slowest.max(start.elapsed());
    let context =
        || format!("seed {seed} input {number}: {:?}\nserver: {seen:?} {end:?}", String::from_utf8_lossy(&input));

    // The server's reading doesn't depend on how the bytes were cut. The status may: a limit can be passed before the
    // byte that is wrong is seen, or after.
    assert_eq!(seen, seen_in_pieces, "cut into {} pieces\n{}", cuts.len(), context());
    assert_eq!(is_refused(end), is_refused(end_in_pieces), "cut into {} pieces\n{}", cuts.len(), context());

    // The strict reading: the same requests, the same bodies, the same end.
    let reading = strict::read(&input, limits.head_bytes_max, limits.headers_max, limits.body_bytes_max);
    let strict_seen: Vec<Seen> = reading
        .requests
        .iter()
        .map(|request| Seen {
            method: request.method.clone(),
            url: request.target.clone(),
            headers: request.fields,
            body: request.body.clone(),
        })
        .collect();
    assert_eq!(seen, strict_seen, "strict: {:?}\n{}", reading.end, context());
    let strict_end = match reading.end {
        strict::End::More => End::Waiting,
        strict::End::Bad => End::Refused(0),
        strict::End::Close => End::Closing,
    };
    let plain_end = if is_refused(end) { End::Refused(0) } else { end };
    assert_eq!(plain_end, strict_end, "\n{}", context());

    // httparse by itself: it may accept what we refuse, never the other way round, and it finds the same heads.
    for request in &reading.requests {
        let mut fields = [httparse::EMPTY_HEADER; 256];
        let mut parsed = httparse::Request::new(&mut fields);
        let head = &input[request.head.clone()];
        assert_eq!(parsed.parse(head), Ok(httparse::Status::Complete(head.len())), "\n{}", context());
        assert_eq!((parsed.method, parsed.path), (Some(request.method.as_str()), Some(request.target.as_str())));
        assert_eq!(parsed.headers.len(), request.fields, "\n{}", context());
    }

    tally.inputs += 1;
    tally.bytes += input.len() as u64;
    tally.requests += seen.len() as u64;
    tally.refused += u64::from(is_refused(end));
    tally.waiting += u64::from(end == End::Waiting);
}

fn is_refused(end: End) -> bool {
    matches!(end, End::Refused(_))
}
