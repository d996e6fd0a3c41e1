//! Prompts whose rows stand behind many cells, beside requests that decode: a step takes what its rows and the cells before them take, on a
//! clock that nothing else moves. No step may hold the others up for longer than what the README says, whatever the machine is like.

use std::sync::{Arc, Mutex};

use cllm::engine::{Engine, EngineParts, PromptMemory, PromptRows, RoundOutcome};
use cllm::handoff::{ReplyPool, ReplyReader, Sender, Shutdown, Submission, ring};
use cllm::types::seams::{Capacity, Clock};
use cllm::types::{GenerateParams, Identity, RequestId, SamplingParams, Token};

use crate::dice::Dice;
use crate::ends::Ends;
use crate::fake_decoder::{FakeDecoder, Faults, Pace, VirtualClock};
use crate::shape::{N_VOCAB, table};
use crate::small::pieces;
use crate::store::{FakeStore, Seen, StoreShape};

/// Tokens of the long prompt, and of a block outside the cells.
const LONG: usize = 7_000;
const BLOCK: usize = 64;
const STREAMS: usize = 4;
/// Tokens of a stream's prompt, and those that it generates.
const STREAM_PROMPT: usize = 20;
const STREAM_TOKENS: usize = 1_500;
/// No gap is longer than this many usual ones.
const LONGEST: f64 = 4.0;

/// The Qwen3-0.6B shape on two cores, a small model, one whose attention is dear, and a GPU.
const PACES: [Pace; 4] = [
    Pace { step_us: 17_000, row_us: 750, cell_ns: 3_900, restore_us: 3_000 },
    Pace { step_us: 5_000, row_us: 150, cell_ns: 600, restore_us: 3_000 },
    Pace { step_us: 20_000, row_us: 400, cell_ns: 4_500, restore_us: 3_000 },
    Pace { step_us: 8_000, row_us: 5, cell_ns: 8, restore_us: 500 },
];

struct Deep {
    engine: Engine<FakeDecoder, VirtualClock, Ends>,
    clock: VirtualClock,
    sender: Sender<Submission>,
    pool: ReplyPool,
    streams: Vec<Stream>,
}

/// A request that decodes, and when each of its tokens came.
struct Stream {
    reader: ReplyReader,
    at_us: Vec<u64>,
}

impl Deep {
    /// `cells`: of the shared buffer; `None`: each sequence has a buffer of its own. A store outside of it keeps everything.
    fn new(pace: Pace, cells: Option<u32>) -> Deep {
        let capacity = Capacity { seqs: 5, cells_per_seq: 8_192, cells_common: cells, rows_max: 512, n_vocab: N_VOCAB };
        let (clock, (sender, inbox)) = (VirtualClock::default(), ring(8));
        let faults = Faults { pace: Some(pace), ..Faults::default() };
        let engine = Engine::new(EngineParts {
            decoder: FakeDecoder::new(capacity, faults, Dice::new(1), clock.clone()),
            clock: clock.clone(),
            observer: Ends::default(),
            inbox,
            table: table(&mut Dice::new(2)),
            shutdown: Shutdown::default(),
            slots: 5,
            prompt_rows: PromptRows::Measured,
        });
        let bytes = BLOCK * size_of::<u64>();
        let shape = StoreShape {
            block_tokens: BLOCK,
            ram_max: 1_000 * bytes,
            disk_max: 0,
            slowness: 0,
            forgets: 0.0,
            damages: 0.0,
            survives: false,
        };
        let store = FakeStore::new(shape, Dice::new(3), Arc::new(Mutex::new(Seen::default())));
        let engine = engine.remembering(PromptMemory {
            store: Box::new(store),
            identity: Identity::default(),
            block_tokens: BLOCK,
        });
        let pool = ReplyPool::with_masks(8, 2_048, N_VOCAB, sender.wake_handle());
        Deep { engine, clock, sender, pool, streams: Vec::new() }
    }

    fn ask(&self, prompt: Vec<Token>, max_tokens: usize) -> Stream {
        let (reply, reader) = self.pool.claim().expect("a free slot");
        let sampling = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
        let params = GenerateParams { sampling, ignore_eos: true, max_tokens, ..GenerateParams::default() };
        let submission = Submission { id: RequestId(1), prompt, params, arrived_us: 0, deadline_us: None, reply };
        self.sender.push(submission).expect("room in the ring");
        Stream { reader, at_us: Vec::new() }
    }

    /// One round, after which each stream notes what it has got.
    fn round(&mut self) {
        assert_ne!(self.engine.step(), RoundOutcome::Broken);
        for stream in &mut self.streams {
            let new = pieces(&mut stream.reader).len();
            stream.at_us.extend(std::iter::repeat_n(self.clock.now_us(), new));
        }
    }

    /// Rounds until `asked` has its first token, with the streams beside it. Returns how many rounds had a step.
    fn first_token(&mut self, mut asked: Stream) -> u64 {
        let steps = self.engine.stats().steps;
        while pieces(&mut asked.reader).is_empty() {
            self.round();
        }
        self.engine.stats().steps - steps
    }

    /// Starts the streams, until each has 40 tokens. Returns the usual gap between two.
    fn start_streams(&mut self) -> f64 {
        for i in 0..STREAMS {
            let stream = self.ask(prompt(100 + i, 0, STREAM_PROMPT), STREAM_TOKENS);
            self.streams.push(stream);
        }
        while self.streams.iter().any(|stream| stream.at_us.len() < 40) {
            self.round();
        }
        let mut gaps = self.gaps_since(30);
        gaps.sort_unstable();
        gaps[gaps.len() / 2] as f64
    }

    /// Gaps between two tokens of a stream, from its token number `from` on.
    fn gaps_since(&self, from: usize) -> Vec<u64> {
        let gaps = self.streams.iter().flat_map(|stream| stream.at_us[from..].windows(2).map(|two| two[1] - two[0]));
        gaps.collect()
    }

    /// The longest gap while `asked` is on its way to its first token, and the steps that this took.
    fn longest_beside(&mut self, asked: Stream) -> (u64, u64) {
        let from = self.streams.iter().map(|stream| stream.at_us.len()).min().expect("streams") - 1;
        let steps = self.first_token(asked);
        let is_beside = |stream: &Stream| stream.at_us.len() < STREAM_TOKENS;
        assert!(self.streams.iter().all(is_beside), "it came while the streams decoded, and not after them");
        (self.gaps_since(from).into_iter().max().expect("they went on"), steps)
    }
}

/// A prompt of `shared` tokens that all have and `own` that only those of this number have.
fn prompt(number: usize, shared: usize, own: usize) -> Vec<Token> {
    let token = |at: usize| Token((at % N_VOCAB) as u32);
    (0..shared).map(|at| token(at * at / 7)).chain((0..own).map(|at| token(at * 3 + number))).collect()
}

/// The prompt's beginning lies in cells: only its end is read, all of it behind 7,000 cells. Where each sequence has a buffer of its own, a
/// step has a whole tile of rows if their attention leaves time for it; small models and those on a GPU have such buffers.
#[test]
fn an_end_behind_a_beginning_in_cells_holds_no_stream_up() {
    let shared = PACES.map(|pace| (pace, Some(20_000)));
    let separate = [PACES[1], PACES[3]].map(|pace| (pace, None));
    for (pace, cells) in shared.into_iter().chain(separate) {
        let mut world = Deep::new(pace, cells);
        let first = world.ask(prompt(1, LONG, 8), 2);
        world.first_token(first);
        let usual = world.start_streams();
        let again = world.ask(prompt(2, LONG, 60), 2);
        let read = world.engine.stats().prompt_tokens_decoded;
        let (longest, steps) = world.longest_beside(again);
        let read = world.engine.stats().prompt_tokens_decoded - read;
        println!("{pace:?}, {cells:?}: usual {usual} us, longest {longest} us, {read} rows in {steps} steps");
        assert!(read < 80 && longest as f64 <= LONGEST * usual, "{pace:?}: {longest} us for {usual}");
        assert!(steps <= read + 2, "{pace:?}: a row a step at least");
    }
}

/// The beginning comes from outside the cells, then the end is read.
#[test]
fn an_end_behind_a_restored_beginning_holds_no_stream_up() {
    for pace in PACES {
        let mut world = Deep::new(pace, Some(14_000));
        let first = world.ask(prompt(1, LONG, 8), 2);
        world.first_token(first);
        (0..400).for_each(|_| world.round());
        // Its cells are needed.
        let other = world.ask(prompt(3, 0, 8_000), 2);
        world.first_token(other);
        let usual = world.start_streams();
        let again = world.ask(prompt(2, LONG, 60), 2);
        let (longest, steps) = world.longest_beside(again);
        let restored = world.engine.prompt_stats().expect("a store").restored[0].tokens;
        println!("{pace:?}: usual {usual} us, longest {longest} us, {restored} tokens restored, {steps} steps");
        assert_eq!(restored as usize, LONG / BLOCK * BLOCK, "{pace:?}");
        assert!(longest as f64 <= LONGEST * usual, "{pace:?}: {longest} us for {usual}");
    }
}

/// Both are measured: where bringing a block takes longer than reading it, one is brought, and the rest is read.
#[test]
fn what_takes_longer_to_restore_than_to_read_is_read() {
    let pace = Pace { step_us: 5_000, row_us: 150, cell_ns: 0, restore_us: 3_000 };
    for (restore_us, at_first, again) in [(3_000, 100, 100), (30_000, 1, 0)] {
        let mut world = Deep::new(Pace { restore_us, ..pace }, Some(7_100));
        for (round, blocks) in [(0, 0), (1, at_first), (2, again)] {
            let before = world.engine.prompt_stats().expect("a store").restored[0].tokens;
            let asked = world.ask(prompt(1, 6_400, 8), 2);
            world.first_token(asked);
            (0..400).for_each(|_| world.round());
            let restored = world.engine.prompt_stats().expect("a store").restored[0].tokens - before;
            assert_eq!(restored as usize, blocks * BLOCK, "{restore_us} us, round {round}");
            // Its cells are needed.
            let other = world.ask(prompt(2 + round, 0, 7_000), 2);
            world.first_token(other);
        }
        assert_eq!(world.engine.prompt_stats().expect("a store").broken_off, u64::from(at_first == 1));
    }
}

/// A prompt that is read from its first token to its last: chunks shrink as it grows longer, and still use the time that there is. The
/// streams grow longer too, so that what is usual grows with them.
#[test]
fn a_long_prompt_is_read_in_steps_that_hold_no_stream_up() {
    const READ: usize = 3_000;
    for pace in PACES {
        let mut world = Deep::new(pace, Some(20_000));
        world.start_streams();
        let usual_now = |world: &Deep| {
            let cells: usize = world.streams.iter().map(|stream| STREAM_PROMPT + stream.at_us.len()).sum();
            pace.step_us + STREAMS as u64 * pace.row_us + cells as u64 * pace.cell_ns / 1_000
        };
        let mut long = world.ask(prompt(1, READ, 8), 2);
        let (mut longest, mut all, mut rounds) = (0.0_f64, 0.0, 0);
        while pieces(&mut long.reader).is_empty() {
            let from_us = world.clock.now_us();
            world.round();
            let parts = (world.clock.now_us() - from_us) as f64 / usual_now(&world) as f64;
            (longest, all, rounds) = (longest.max(parts), all + parts, rounds + 1);
        }
        let mean = all / f64::from(rounds);
        println!("{pace:?}: {rounds} steps of {mean:.2} usual ones, {longest:.2} at most");
        assert!(longest <= LONGEST, "{pace:?}: {longest} usual steps");
        assert!(mean > 1.7, "{pace:?}: half of the time goes to the prompt, or nearly: {mean}");
    }
}
