//! Requests that arrive together are prefilled together. The engine runs its own loop here; a second thread sends
//! requests.

use std::cell::Cell;
use std::ops::Range;
use std::time::{Duration, Instant};

use cllm::engine::{Engine, EngineParts, PromptRows, RoundOutcome};
use cllm::handoff::{ReplyPool, ReplyReader, ReplyState, Sender, Shutdown, Stage, Submission, Wake, ring};
use cllm::types::seams::{Capacity, Clock, Decoder, Outcome, Row};
use cllm::types::{GenerateParams, Pos, RequestId, SamplingParams, SeqId, Token};

use crate::dice::Dice;
use crate::fake_decoder::{FakeDecoder, Faults, VirtualClock};
use crate::shape::{N_VOCAB, table};

/// The duration of a step.
const STEP_US: u64 = 64_000;

/// A decoder with long steps.
struct Slow(FakeDecoder, VirtualClock);

impl Decoder for Slow {
    fn capacity(&self) -> Capacity {
        self.0.capacity()
    }

    fn decode(&mut self, rows: &[Row]) -> Outcome {
        self.1.advance(STEP_US);
        self.0.decode(rows)
    }

    fn logits(&mut self, row: usize) -> &mut [f32] {
        self.0.logits(row)
    }

    fn seq_remove(&mut self, seq: SeqId, range: Range<Pos>) -> bool {
        self.0.seq_remove(seq, range)
    }

    fn seq_copy(&mut self, from: SeqId, to: SeqId, len: usize) -> bool {
        self.0.seq_copy(from, to, len)
    }

    fn seq_pos_max(&self, seq: SeqId) -> Option<Pos> {
        self.0.seq_pos_max(seq)
    }
}

/// A clock that advances by a fixed time with each reading.
struct Ticking {
    clock: VirtualClock,
    us_a_look: u64,
    looks: Cell<u64>,
}

impl Clock for Ticking {
    fn now_us(&self) -> u64 {
        self.looks.set(self.looks.get() + 1);
        self.clock.now_us() + self.looks.get() * self.us_a_look
    }
}

struct Served {
    engine: Engine<Slow, Ticking, ()>,
    sender: Sender<Submission>,
    pool: ReplyPool,
    shutdown: Shutdown,
}

/// Four slots, and an engine that knows the duration of a step.
fn served(us_a_look: u64) -> Served {
    let capacity = Capacity { seqs: 4, cells_per_seq: 64, cells_common: None, rows_max: 16, n_vocab: N_VOCAB };
    let (clock, shutdown) = (VirtualClock::default(), Shutdown::default());
    let (sender, inbox) = ring(8);
    let decoder = Slow(FakeDecoder::new(capacity, Faults::default(), Dice::new(1), clock.clone()), clock.clone());
    let engine = Engine::new(EngineParts {
        decoder,
        clock: Ticking { clock, us_a_look, looks: Cell::new(0) },
        observer: (),
        inbox,
        table: table(&mut Dice::new(2)),
        shutdown: shutdown.clone(),
        slots: 4,
        prompt_rows: PromptRows::Fixed(8),
    });
    let pool = ReplyPool::with_wake(8, 64, sender.wake_handle());
    let mut served = Served { engine, sender, pool, shutdown };
    // Dropped, a reader would cancel its request. Here and below the answers stay unread.
    std::mem::forget(ask(&served.sender, &served.pool, 0, 3));
    while served.engine.step() == RoundOutcome::Decoded {}
    served
}

/// Sends a request for `max_tokens` tokens.
fn ask(sender: &Sender<Submission>, pool: &ReplyPool, first: u32, max_tokens: usize) -> ReplyReader {
    let (reply, reader) = pool.claim().expect("a free slot");
    let sampling = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
    let params = GenerateParams { max_tokens, sampling, ignore_eos: true, ..GenerateParams::default() };
    let prompt = vec![Token(first), Token(1)];
    let submission = Submission { id: RequestId(1), prompt, params, arrived_us: 0, deadline_us: None, reply };
    sender.push(submission).expect("room in the ring");
    reader
}

/// Steps of the engine for requests that arrive a little after one another, each for this many tokens.
fn steps_for(mut served: Served, max_tokens: &'static [usize]) -> u64 {
    let before = served.engine.stats().steps;
    let (sender, pool, shutdown) = (served.sender.clone(), served.pool.clone(), served.shutdown.clone());
    let asks = std::thread::spawn(move || {
        for (i, max_tokens) in max_tokens.iter().enumerate() {
            std::mem::forget(ask(&sender, &pool, 2 + i as u32, *max_tokens));
            std::thread::sleep(Duration::from_millis(20));
        }
        shutdown.advance(Stage::Draining);
        sender.wake_handle().wake();
    });
    assert!(served.engine.run());
    asks.join().expect("asked");
    served.engine.stats().steps - before
}

#[test]
fn an_idle_engine_waits_for_requests_that_come_with_the_first() {
    assert_eq!(steps_for(served(0), &[1, 1, 1, 1]), 1);
}

/// Two of four requests end in the first step; the two that arrive next join the second step.
#[test]
fn the_engine_waits_for_as_many_requests_as_have_ended() {
    assert_eq!(steps_for(served(0), &[1, 1, 3, 3, 2, 2]), 3);
}

/// The engine isn't told to end before the request has its answer.
#[test]
fn an_engine_does_not_wait_long_for_requests_that_do_not_come() {
    let mut served = served(100);
    let before = served.engine.stats().steps;
    let (sender, pool, shutdown) = (served.sender.clone(), served.pool.clone(), served.shutdown.clone());
    let waits = std::thread::spawn(move || {
        let (mut reader, until) = (ask(&sender, &pool, 2, 2), Instant::now() + Duration::from_secs(30));
        let is_answered = loop {
            match reader.wait(Some(until), Wake::AtEnd) {
                ReplyState::Finished(_) => break true,
                _ if Instant::now() > until => break false,
                _ => _ = reader.read_into(&mut Vec::new()),
            }
        };
        shutdown.advance(Stage::Draining);
        sender.wake_handle().wake();
        is_answered
    });
    assert!(served.engine.run());
    assert!(waits.join().expect("it waited"), "no answer within 30 s");
    assert_eq!(served.engine.stats().steps - before, 2);
}
