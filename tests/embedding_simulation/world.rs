//! The world of one seed: clients and an engine in one thread, on virtual time, until all requests have ended.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use cllm::engine::{EmbedEngine, EmbedParts, Observer, PromptStats, RoundOutcome, Stats};
use cllm::handoff::{
    Inbox, InputsSubmission, Refused, ReplyPool, ReplyReader, ReplyState, Sender, Shutdown, Stage, VectorsReader, Wake,
    ring, vectors,
};
use cllm::types::seams::{Clock, EncoderCapacity, Outcome};
use cllm::types::{AccountId, FinishReason, Pooling, RequestId, Share, Terminal, Token, Weight};

use crate::Coverage;
use crate::dice::Dice;
use crate::encoder::{FakeEncoder, Faults, STEP_US_MAX, VirtualClock, alone};

/// Microseconds that pass when the engine finds nothing to do.
const IDLE_US: u64 = 10_000;
const N_VOCAB: usize = 50;

/// The ends that the engine reported.
#[derive(Clone, Default)]
struct Ends {
    reasons: Rc<RefCell<Vec<FinishReason>>>,
    /// Reported steps that went through.
    steps: u64,
    /// An end was reported, and the counts before it is sent weren't.
    owes_counts: bool,
}

impl Observer for Ends {
    fn step(&mut self, outcome: Outcome, _decode_us: u64, _now_us: u64) {
        self.steps += u64::from(outcome == Outcome::Done);
    }

    fn finished(&mut self, reason: FinishReason, _e2e_us: u64, _generated: usize) {
        assert!(!self.owes_counts, "an end was sent before it was counted");
        self.owes_counts = true;
        self.reasons.borrow_mut().push(reason);
    }

    fn counted(&mut self, stats: &Stats, _moved: Option<&PromptStats>, _now_us: u64) {
        assert_eq!(stats.steps, self.steps, "a step is counted before it is reported");
        self.owes_counts = false;
    }
}

#[derive(Debug)]
struct Client {
    id: u64,
    inputs: Vec<Vec<Token>>,
    arrived_us: u64,
    deadline_us: Option<u64>,
    /// The round in which the client leaves, and whether it then drops its reader.
    quit: Option<(u64, bool)>,
    cancelled: bool,
    reader: Option<ReplyReader>,
    vectors: VectorsReader,
    terminal: Option<Terminal>,
}

struct World {
    dice: Dice,
    capacity: EncoderCapacity,
    pooling: Pooling,
    faults: Faults,
    clock: VirtualClock,
    pool: ReplyPool,
    sender: Sender<InputsSubmission>,
    shutdown: Shutdown,
    engine: EmbedEngine<FakeEncoder, VirtualClock, Ends>,
    ends: Ends,
    clients: Vec<Client>,
    /// Of the next request.
    share: Share,
    accepted: usize,
    /// The number of requests that failed steps may have ended.
    excused: usize,
    long_ago: Instant,
    seen: Coverage,
}

/// Runs `seed` to its end. Panics if a check fails.
pub fn run(seed: u64) -> Coverage {
    let mut dice = Dice::new(seed);
    let whole = dice.chance(0.5);
    let seqs = dice.within(1..=6) as u16;
    let input_max = dice.within(1..=40);
    let rows_joined = dice.within(usize::from(seqs)..=60);
    let rows_max = if whole { rows_joined.max(input_max) } else { rows_joined };
    let capacity = EncoderCapacity { seqs, rows_max, rows_joined, input_max, whole, n_embd: dice.within(1..=5) };
    let rare = |dice: &mut Dice, p| if dice.chance(0.3) { p } else { 0.0 };
    let faults = Faults {
        no_room: rare(&mut dice, 0.1),
        partial: rare(&mut dice, 0.2),
        invalid: rare(&mut dice, 0.05),
        fatal: rare(&mut dice, 0.01),
        rots: dice.chance(0.3),
    };
    let mut world = World::new(dice, capacity, faults);
    world.count("whole inputs", u64::from(whole));
    world.live();
    world.close();
    world.seen
}

impl World {
    fn new(mut dice: Dice, capacity: EncoderCapacity, faults: Faults) -> World {
        let (sender, inbox): (_, Inbox<InputsSubmission>) = ring(dice.within(2..=8));
        let pool = ReplyPool::with_wake(dice.within(2..=10), 1, inbox.wake_handle());
        let (clock, ends, shutdown) = (VirtualClock::default(), Ends::default(), Shutdown::default());
        let pooling = *dice.pick(&[Pooling::Mean, Pooling::Cls, Pooling::Last]);
        let engine = EmbedEngine::new(EmbedParts {
            encoder: FakeEncoder::new(capacity, faults, dice.fork(), clock.clone()),
            clock: clock.clone(),
            observer: ends.clone(),
            inbox,
            shutdown: shutdown.clone(),
            pooling,
        });
        World {
            dice,
            capacity,
            pooling,
            faults,
            clock,
            pool,
            sender,
            shutdown,
            engine,
            ends,
            clients: Vec::new(),
            share: Share::default(),
            accepted: 0,
            excused: 0,
            long_ago: Instant::now(),
            seen: Coverage::new(),
        }
    }

    fn count(&mut self, what: &'static str, n: u64) {
        *self.seen.entry(what).or_default() += n;
    }

    fn live(&mut self) {
        let requests = self.dice.within(1..=25);
        let leaves = self.dice.chance(0.2).then(|| (self.dice.within(1..=40) as u64, self.dice.chance(0.5)));
        let mut asked = 0;
        for round in 1.. {
            assert!(round < 20_000, "no end");
            if let Some((_, drains)) = leaves.filter(|(when, _)| *when == round) {
                self.shutdown.advance(if drains { Stage::Draining } else { Stage::Now });
                self.count(if drains { "drained" } else { "shut down at once" }, 1);
                if !drains {
                    assert!(self.engine.run(), "the encoder works");
                    return;
                }
            }
            if self.shutdown.stage() == Stage::Running && asked < requests && self.dice.chance(0.4) {
                for _ in 0..if self.dice.chance(0.2) { self.dice.within(2..=8) } else { 1 } {
                    asked += 1;
                    self.ask(asked as u64, round);
                }
            }
            self.quit(round);
            self.read();
            match self.engine.step() {
                RoundOutcome::Decoded => self.look_at_step(),
                RoundOutcome::Moved => unreachable!("it keeps no blocks"),
                RoundOutcome::Idle => {
                    assert!(self.engine.stats().running == 0, "somebody is read, and nothing moves");
                    self.clock.advance(IDLE_US);
                }
                RoundOutcome::Broken => {
                    self.look_at_step();
                    self.count("ended by a broken encoder", 1);
                    return;
                }
            }
            self.engine.check();
            let over = asked >= requests || self.shutdown.stage() > Stage::Running;
            if over && !self.engine.has_work() {
                return;
            }
        }
    }

    fn ask(&mut self, id: u64, round: u64) {
        let n_inputs = if self.dice.chance(0.3) { self.dice.within(2..=30) } else { 1 };
        let inputs: Vec<Vec<Token>> = (0..n_inputs)
            .map(|_| {
                let len = self.dice.within(1..=self.capacity.input_max);
                (0..len).map(|_| Token(self.dice.below(N_VOCAB) as u32)).collect()
            })
            .collect();
        let arrived_us = self.clock.now_us();
        let deadline_us = self.dice.chance(0.15).then(|| arrived_us + self.dice.below(60_000) as u64);
        let quit = self.dice.chance(0.2).then(|| (round + self.dice.below(30) as u64, self.dice.chance(0.5)));
        self.share.account = AccountId(self.dice.below(3) as u64);
        self.submit(id, inputs, arrived_us, deadline_us, quit);
    }

    fn submit(
        &mut self,
        id: u64,
        inputs: Vec<Vec<Token>>,
        arrived_us: u64,
        deadline_us: Option<u64>,
        quit: Option<(u64, bool)>,
    ) {
        let Some((reply, reader)) = self.pool.claim() else { return self.count("no reply slot", 1) };
        let (room, vectors) = vectors(inputs.len() * self.capacity.n_embd);
        let ends = inputs.iter().scan(0, |end, input| {
            *end += input.len();
            Some(*end)
        });
        let submission = InputsSubmission {
            id: RequestId(id),
            tokens: inputs.concat(),
            ends: ends.collect(),
            share: self.share,
            arrived_us,
            deadline_us,
            reply,
            vectors: room,
        };
        match self.sender.push(submission) {
            Err(Refused::Full(_)) => return self.count("ring full", 1),
            Err(Refused::Closed(_)) => panic!("the ring is closed"),
            Ok(()) => self.accepted += 1,
        }
        let reader = Some(reader);
        let client =
            Client { id, inputs, arrived_us, deadline_us, quit, cancelled: false, reader, vectors, terminal: None };
        self.clients.push(client);
    }

    /// Steps until the client of this number has its answer.
    fn steps_until_done(&mut self, id: u64) -> u64 {
        assert!(self.clients.iter().any(|client| client.id == id), "it was let in");
        for steps in 1.. {
            assert_eq!(self.engine.step(), RoundOutcome::Decoded);
            self.read();
            if self.clients.iter().all(|client| client.id != id) {
                return steps;
            }
        }
        unreachable!()
    }

    fn quit(&mut self, round: u64) {
        let mut vanished = 0;
        for client in &mut self.clients {
            match client.quit.filter(|(when, _)| *when <= round && !client.cancelled) {
                Some((_, true)) => {
                    client.reader = None;
                    vanished += 1;
                }
                Some((_, false)) => client.reader.as_ref().expect("it still reads").cancel(),
                None => continue,
            }
            client.cancelled = true;
        }
        self.count("vanished", vanished);
    }

    fn read(&mut self) {
        for client in &mut self.clients {
            let Some(reader) = &mut client.reader else { continue };
            if let ReplyState::Finished(terminal) = reader.wait(Some(self.long_ago), Wake::AtEnd) {
                client.terminal = Some(terminal);
            }
        }
        let (done, open) = std::mem::take(&mut self.clients)
            .into_iter()
            .partition(|client| client.terminal.is_some() || client.reader.is_none());
        self.clients = open;
        for client in done {
            self.finish(&client);
        }
    }

    fn finish(&mut self, client: &Client) {
        // A client that dropped its reader gets no terminal; `ends` has counted its end.
        let Some(terminal) = client.terminal else { return };
        let alone: Option<Vec<Vec<f32>>> =
            client.inputs.iter().map(|input| alone(input, self.pooling, &self.capacity, self.faults.rots)).collect();
        assert_eq!(terminal.prompt_tokens as usize, client.inputs.concat().len());
        assert_eq!(terminal.generated_tokens, 0);
        let ended_us = client.arrived_us + terminal.queue_us + terminal.prefill_us + terminal.decode_us;
        let what = match terminal.reason {
            FinishReason::Embedded => {
                let alone = alone.expect("no numbers were passed off as some").concat();
                assert!(client.vectors.numbers() == Some(&alone[..]), "req-{}: not its own vectors", client.id);
                "answers: embedded"
            }
            FinishReason::Cancelled => {
                assert!(client.cancelled, "it wasn't cancelled");
                "answers: cancelled"
            }
            FinishReason::Deadline => {
                let deadline_us = client.deadline_us.expect("a deadline");
                assert!(ended_us >= deadline_us, "before the deadline");
                "answers: deadline"
            }
            FinishReason::Shutdown => {
                assert_eq!(self.shutdown.stage(), Stage::Now);
                "answers: shutdown"
            }
            FinishReason::EngineError if alone.is_none() => "answers: no numbers",
            FinishReason::EngineError => {
                assert!(self.excused > 0, "req-{}: an error that nothing explains", client.id);
                self.excused -= 1;
                "answers: error"
            }
            other => panic!("{other:?} of an embedding"),
        };
        assert!(terminal.reason == FinishReason::Embedded || client.vectors.numbers().is_none());
        if let Some(deadline_us) = client.deadline_us {
            let late = ended_us.saturating_sub(deadline_us.max(client.arrived_us));
            assert!(late <= STEP_US_MAX + IDLE_US, "req-{}: {late} us after its deadline", client.id);
        }
        self.count(what, 1);
    }

    fn look_at_step(&mut self) {
        let (outcome, rows) = self.engine.encoder().happened.clone().expect("a step");
        let inputs = rows.chunk_by(|a, b| a.seq == b.seq).count();
        self.count("steps of many inputs", u64::from(inputs > 1));
        self.count("inputs in chunks", rows.iter().filter(|row| row.pos.0 > 0).count().min(1) as u64);
        self.count("steps of many requests", u64::from(self.engine.stats().running > 1));
        let what = match outcome {
            Outcome::Done => "steps: done",
            Outcome::NoRoom => "steps: no room",
            Outcome::Partial => "steps: partial",
            Outcome::Invalid => "steps: invalid",
            Outcome::Fatal => "steps: fatal",
        };
        self.count(what, 1);
        // Each request in a failed step may have failed for the last allowed time.
        self.excused += match outcome {
            Outcome::Done => 0,
            Outcome::Fatal => usize::MAX / 2,
            _ => inputs,
        };
    }

    /// Checks that each request has one answer and that nothing is left over.
    fn close(&mut self) {
        self.read();
        assert!(self.clients.is_empty(), "req-{} has no answer", self.clients[0].id);
        assert!(!self.engine.has_work(), "the engine still has work");
        assert_eq!(self.ends.reasons.borrow().len(), self.accepted, "each request ends once");
        assert_eq!(self.pool.free(), self.pool.capacity(), "a reply slot leaked");
        assert_eq!(self.engine.encoder().held(), 0, "a sequence still holds tokens");
        self.engine.check();
    }
}

/// Steps between the arrival of a request of one input, behind a request of `n` inputs, and its answer.
pub fn steps_until_a_late_one_is_done(n: usize) -> u64 {
    let capacity = EncoderCapacity { seqs: 4, rows_max: 64, rows_joined: 64, input_max: 10, whole: true, n_embd: 2 };
    let mut world = World::new(Dice::new(1), capacity, Faults::default());
    world.submit(1, vec![vec![Token(1); 10]; n], 0, None, None);
    assert_eq!(world.engine.step(), RoundOutcome::Decoded);
    world.submit(2, vec![vec![Token(2)]], 0, None, None);
    world.steps_until_done(2)
}

/// Steps between the arrival of a request of one input, of account `account`, and its answer, behind eight requests of account 1 that have
/// 100 inputs each.
pub fn steps_behind_a_crowd(account: u64) -> u64 {
    let capacity = EncoderCapacity { seqs: 1, rows_max: 16, rows_joined: 16, input_max: 10, whole: true, n_embd: 2 };
    let mut world = World::new(Dice::new(1), capacity, Faults::default());
    world.share.account = AccountId(1);
    world.pool = ReplyPool::with_wake(16, 1, world.sender.wake_handle());
    for id in 0..8 {
        world.submit(id, vec![vec![Token(1); 10]; 100], 0, None, None);
        assert_eq!(world.engine.step(), RoundOutcome::Decoded);
    }
    world.share.account = AccountId(account);
    world.submit(8, vec![vec![Token(2)]], 0, None, None);
    world.steps_until_done(8)
}

/// Of 60 steps, those in which an input of an account of weight 3 was read, beside an account of weight 1. Both have requests of many
/// inputs, of 5 tokens and of 10.
pub fn steps_of_weight_three() -> usize {
    let capacity = EncoderCapacity { seqs: 1, rows_max: 16, rows_joined: 16, input_max: 10, whole: true, n_embd: 2 };
    let mut world = World::new(Dice::new(1), capacity, Faults::default());
    world.pool = ReplyPool::with_wake(16, 1, world.sender.wake_handle());
    for (account, weight, tokens) in [(1, 3, 10), (2, 1, 5)] {
        let weight = Weight::new(weight).expect("within bounds");
        world.share = Share { account: AccountId(account), weight, ..Share::default() };
        (0..2).for_each(|i| {
            world.submit(10 * account + i, vec![vec![Token(account as u32); tokens]; 100], 0, None, None)
        });
    }
    let mut rows = 0;
    let mut of_three = 0;
    for _ in 0..60 {
        assert_eq!(world.engine.step(), RoundOutcome::Decoded);
        let now = world.engine.stats().rows;
        of_three += usize::from(now - rows == 10);
        rows = now;
    }
    of_three
}
