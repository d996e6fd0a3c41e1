//! The world of one seed: clients and an engine in one thread, on virtual time, until all requests have ended.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use cllm::engine::{Engine, EngineParts, GuessCounts, PromptMemory, RoundOutcome, Stats};
use cllm::handoff::{Refused, ReplyPool, Sender, Shutdown, Stage, Submission, ring};
use cllm::types::limits::SCORED_ROWS_MAX;
use cllm::types::seams::{Clock, Outcome};
use cllm::types::{
    AccountId, FinishReason, GenerateParams, GuessSource, Identity, RequestId, Tier, Token, TokenTable, Verdict,
};

use crate::client::{Client, Quit};
use crate::dice::Dice;
use crate::ends::Ends;
use crate::fake_decoder::{FakeDecoder, Faults, STEP_US_MAX, VirtualClock};
use crate::oracle::Oracle;
use crate::shape::{Ask, N_VOCAB, Shape, prediction, table};
use crate::store::{FakeStore, Seen};
use crate::told::{Look, Told};

/// How often each event happened, to show that every check was exercised.
pub type Coverage = BTreeMap<&'static str, u64>;

/// Time that passes when the engine finds nothing to do.
const IDLE_US: u64 = 10_000;

/// Guesses of all sources together.
fn guesses(stats: &Stats) -> GuessCounts {
    let add = |sum: GuessCounts, more: &GuessCounts| GuessCounts {
        tried: sum.tried + more.tried,
        accepted: sum.accepted + more.accepted,
    };
    stats.guesses.iter().fold(GuessCounts::default(), add)
}

struct World<'a> {
    shape: Shape,
    trace: bool,
    dice: Dice,
    clock: VirtualClock,
    table: Arc<TokenTable>,
    oracle: &'a mut Oracle,
    pool: ReplyPool,
    sender: Sender<Submission>,
    shutdown: Shutdown,
    engine: Engine<FakeDecoder, VirtualClock, Ends>,
    ends: Ends,
    told: Told,
    round: u64,
    asked: usize,
    accepted: usize,
    clients: Vec<Client>,
    /// Prompts with their answers.
    talks: Vec<Vec<Token>>,
    /// Earlier requests, some of which are sent again.
    asks: Vec<Ask>,
    /// When errors may have ended requests, and how many requests.
    excuses: HashMap<u64, usize>,
    /// First admissions as clients see them: (account, number of arrival, time).
    admissions: Vec<(AccountId, u64, u64)>,
    /// The number of rounds after which the world must have ended.
    rounds_max: u64,
    long_ago: Instant,
    seen: Coverage,
    /// Counts of what happened in the store.
    stored: Arc<Mutex<Seen>>,
}

/// Runs `seed` to its end, or panics.
pub fn run(seed: u64, oracle: &mut Oracle, trace: bool) -> Coverage {
    let mut dice = Dice::new(seed);
    let shape = Shape::roll(&mut dice);
    if trace {
        println!("{shape:?}");
    }
    let mut world = World::new(shape, dice, oracle, trace);
    world.live();
    world.close();
    world.seen
}

impl<'a> World<'a> {
    fn new(shape: Shape, mut dice: Dice, oracle: &'a mut Oracle, trace: bool) -> World<'a> {
        let clock = VirtualClock::default();
        let table = table(&mut dice);
        let (sender, inbox) = ring(shape.ring);
        let pool = ReplyPool::with_masks(shape.reply_slots, shape.pieces_per_reply, N_VOCAB, inbox.wake_handle());
        let (ends, shutdown) = (Ends::default(), Shutdown::default());
        let engine = Engine::new(EngineParts {
            decoder: FakeDecoder::new(shape.capacity, shape.faults, dice.fork(), clock.clone()),
            clock: clock.clone(),
            observer: ends.clone(),
            inbox,
            table: Arc::clone(&table),
            shutdown: shutdown.clone(),
            slots: shape.slots,
            prompt_rows: shape.prompt_rows,
        })
        .reserving(shape.reserve);
        let engine = if shape.speculates { engine.speculating() } else { engine };
        let stored = Arc::new(Mutex::new(Seen::default()));
        let engine = match &shape.memory {
            Some(memory) => engine.remembering(PromptMemory {
                store: Box::new(FakeStore::new(memory.clone(), dice.fork(), Arc::clone(&stored))),
                identity: Identity::default(),
                block_tokens: memory.block_tokens,
            }),
            None => engine,
        };
        // Uses no random numbers, so that each seed's world stays the same.
        let (writer, told) = Told::new(1 + shape.requests % 5, [1, 3, 1_000][shape.ring % 3]);
        let engine = engine.telling(writer);
        let rounds_max = 2_000 + shape.requests as u64 * 600;
        World {
            shape,
            trace,
            dice,
            clock,
            table,
            oracle,
            pool,
            sender,
            shutdown,
            engine,
            ends,
            told,
            round: 0,
            asked: 0,
            accepted: 0,
            clients: Vec::new(),
            talks: Vec::new(),
            asks: Vec::new(),
            excuses: HashMap::new(),
            admissions: Vec::new(),
            rounds_max,
            long_ago: Instant::now(),
            seen: Coverage::new(),
            stored,
        }
    }

    fn count(&mut self, what: &'static str, n: u64) {
        *self.seen.entry(what).or_default() += n;
    }

    /// Makes rounds until all requests are answered, or the engine ends.
    fn live(&mut self) {
        loop {
            self.round += 1;
            assert!(self.round < self.rounds_max, "no end after {} rounds", self.round);
            if self.leave() {
                return;
            }
            self.arrive();
            for client in &mut self.clients {
                client.maybe_quit(self.round);
            }
            self.read();
            self.publish();
            let ends_before = self.ends.reasons.borrow().len();
            let guessed_before = guesses(self.engine.stats());
            match self.engine.step() {
                RoundOutcome::Decoded => {
                    self.look_at_step(ends_before);
                    self.look_at_guesses(guessed_before, ends_before);
                }
                RoundOutcome::Idle => self.look_at_idleness(),
                RoundOutcome::Moved => self.count("rounds that only moved blocks", 1),
                RoundOutcome::Broken => {
                    self.look_at_step(ends_before);
                    self.count("ended by a broken decoder", 1);
                    return;
                }
            }
            self.look_at_engine();
            self.look_at_quitters();
            let is_over = self.asked == self.shape.requests || self.shutdown.stage() > Stage::Running;
            if is_over && !self.engine.has_work() && self.clients.iter().all(Client::is_done) {
                return;
            }
        }
    }

    /// Tells the server to end, if the round has come. Returns whether it has ended.
    fn leave(&mut self) -> bool {
        if self.shape.shutdown.is_some_and(|leave| leave.round == self.round) {
            let drains = self.shape.shutdown.is_some_and(|leave| leave.drains);
            self.shutdown.advance(if drains { Stage::Draining } else { Stage::Now });
            self.count(if drains { "drained" } else { "shut down at once" }, 1);
            if self.trace {
                println!("{:>5} shutdown, drains: {drains}", self.round);
            }
            if !drains {
                self.arrive();
                assert!(self.engine.run(), "the decoder works");
                return true;
            }
        }
        false
    }

    /// New requests, alone or many at once.
    fn arrive(&mut self) {
        if self.shutdown.stage() == Stage::Draining || !self.dice.chance(self.shape.crowd.arrives) {
            return;
        }
        let many = if self.dice.chance(self.shape.crowd.burst) { self.dice.within(2..=12) } else { 1 };
        for _ in 0..many {
            if self.asked < self.shape.requests {
                self.asked += 1;
                self.ask();
            }
        }
    }

    fn ask(&mut self) {
        let dice = &mut self.dice;
        let crowd = &self.shape.crowd;
        let mut ask = match dice.chance(0.1) && !self.asks.is_empty() {
            true => dice.pick(&self.asks).clone(),
            false => crowd.ask(dice, &self.talks, self.shape.cells_max()),
        };
        if dice.chance(crowd.predicts) {
            let alone = self.oracle.answer(&ask, &self.table, self.shape.faults.rots);
            ask.params.prediction = prediction(dice, &alone.tokens);
        }
        let arrived_us = self.clock.now_us();
        let deadline_us = dice.chance(crowd.has_deadline).then(|| arrived_us + dice.within(0..=100_000) as u64);
        let quit_round = self.round + dice.within(0..=60) as u64;
        let quit = match dice.chance(crowd.quits) {
            true if dice.chance(0.5) => Some(Quit::Cancels { round: quit_round }),
            true => Some(Quit::Vanishes { round: quit_round }),
            false => None,
        };
        let reads = if dice.chance(crowd.reads_slowly) { *dice.pick(&[0.1, 0.3]) } else { 1.0 };
        let thinks = *dice.pick(&[0.1, 0.5, 0.9, 1.0]);
        let claimed = match ask.params.logprobs {
            None => self.pool.claim(),
            Some(top) => {
                let of_prompt = if ask.params.prompt_logprobs { ask.prompt.len() - 1 } else { 0 };
                self.pool.claim_with_logprobs(of_prompt, ask.params.max_tokens, top)
            }
        };
        let Some((writer, reader)) = claimed else { return self.count("no reply slot", 1) };
        let id = self.asked as u64;
        let looks_ahead = *self.dice.pick(&[0.0, 0.5, 1.0]);
        let will = match ask.grammar {
            Some(_) => self.oracle.answer(&ask, &self.table, self.shape.faults.rots).tokens,
            None => Vec::new(),
        };
        let mut client = Client {
            id,
            looks_ahead,
            will,
            gave_path: false,
            owes: ask.grammar.map(|grammar| grammar.next(&[])),
            ask: ask.clone(),
            arrived_us,
            deadline_us,
            quit,
            reads,
            thinks,
            reader: Some(reader),
            cancelled: false,
            pieces: Vec::new(),
            scores: Vec::new(),
            terminal: None,
        };
        // Usually before the request is sent.
        if self.dice.chance(0.8) {
            client.thinks = 1.0;
            client.maybe_publish(&mut self.dice);
            client.thinks = thinks;
        }
        let submission = Submission {
            id: RequestId(id),
            prompt: ask.prompt.clone(),
            params: ask.params.clone(),
            arrived_us,
            deadline_us,
            reply: writer,
        };
        match self.sender.push(submission) {
            Err(Refused::Full(_)) => return self.count("ring full", 1),
            Err(Refused::Closed(_)) => panic!("nobody closed the ring"),
            Ok(()) => self.accepted += 1,
        }
        if self.trace {
            let (prompt, max) = (ask.prompt.len(), ask.params.max_tokens);
            println!("{:>5} req-{id} arrives: {prompt} tokens, up to {max}, {quit:?}", self.round);
        }
        self.clients.push(client);
    }

    fn publish(&mut self) {
        for client in &mut self.clients {
            client.maybe_publish(&mut self.dice);
        }
    }

    fn read(&mut self) {
        let mut finished = Vec::new();
        for (i, client) in self.clients.iter_mut().enumerate() {
            if client.maybe_read(&mut self.dice, self.long_ago) {
                finished.push(i);
            }
        }
        for i in finished {
            self.finish(i);
        }
        let before = self.clients.len();
        self.clients.retain(|client| !client.is_done());
        let gone = before - self.clients.len();
        self.count("clients gone", gone as u64);
    }

    /// Checks a finished reply.
    fn finish(&mut self, index: usize) {
        let client = &self.clients[index];
        let terminal = client.terminal.expect("it is finished");
        let cells = client.ask.prompt.len() + client.ask.params.max_tokens.saturating_sub(1);
        let fits = cells <= self.shape.cells_max();
        let alone = self.oracle.answer(&client.ask, &self.table, self.shape.faults.rots);
        if self.trace {
            println!("{:>5} req-{} got {terminal:?}", self.round, client.id);
        }
        let ended_us = client.ended_us(&terminal);
        if client.check(&terminal, &alone, &self.table, fits) {
            let excuse = self.excuses.get_mut(&ended_us).filter(|left| **left > 0);
            *excuse.unwrap_or_else(|| panic!("req-{}: an error that nothing explains", client.id)) -= 1;
        }
        if let Some(deadline_us) = client.deadline_us {
            let late = ended_us.saturating_sub(deadline_us.max(client.arrived_us));
            assert!(late <= STEP_US_MAX + IDLE_US, "req-{}: {late} us after its deadline", client.id);
        }
        if terminal.generated_tokens > 0 {
            let account = client.ask.params.share.account;
            self.admissions.push((account, client.id, client.arrived_us + terminal.queue_us));
        }
        if matches!(terminal.reason, FinishReason::Eos | FinishReason::Length) {
            let mut talk = client.ask.prompt.clone();
            talk.extend(client.tokens());
            self.talks.push(talk);
            self.asks.push(client.ask.clone());
        }
        let (constrained, owed) = (client.ask.grammar.is_some(), client.owes.is_some());
        let told = client.ask.grammar.map(|grammar| grammar.next(&client.tokens()).0);
        let reason = terminal.reason;
        let restored = terminal.restored_tokens > 0;
        let is_whole = matches!(reason, FinishReason::Eos | FinishReason::Stop | FinishReason::Length);
        let is_cut = matches!(reason, FinishReason::Cancelled | FinishReason::Deadline);
        let no_logits = alone.reason == FinishReason::EngineError && alone.tokens == client.tokens();
        let prompt_scored = client.ask.params.prompt_logprobs && alone.reason == reason;
        let (n_prompt, max_tokens) = (client.ask.prompt.len(), client.ask.params.max_tokens);
        // A request that gave up its slot must still get the answer that it gets alone.
        let gave_way =
            terminal.gave_way > 0 && matches!(reason, FinishReason::Eos | FinishReason::Stop | FinishReason::Length);
        let GenerateParams { sampling, stop, logprobs, .. } = &client.ask.params;
        let (draws, penalises) = (!sampling.is_greedy(), sampling.penalises());
        let (mirostat, stops, scored) = (sampling.mirostat.is_some(), !stop.is_empty(), logprobs.is_some());
        for (what, happened) in [
            ("gave way more than once", terminal.gave_way > 1),
            ("gave way: drawn by a seed", draws),
            ("gave way: penalties", penalises),
            ("gave way: Mirostat", mirostat),
            ("gave way: log-probabilities", scored),
            ("gave way: prompt scored", prompt_scored),
            ("gave way: stop strings", stops),
            ("gave way: constrained", constrained),
            ("gave way: guesses came true", terminal.guesses_accepted > 0),
        ] {
            self.count(what, u64::from(gave_way && happened));
        }
        self.count("answers: constrained", u64::from(constrained));
        for (what, happened) in [
            ("answers behind restored blocks", restored && is_whole),
            ("restores cancelled", restored && is_cut && terminal.generated_tokens == 0),
            ("prompts scored", prompt_scored),
            ("prompts scored in chunks", prompt_scored && n_prompt > SCORED_ROWS_MAX),
            ("prompts scored, nothing generated", prompt_scored && max_tokens == 0),
            ("answers: grammar complete", reason == FinishReason::Eos && told == Some(Verdict::Complete)),
            ("answers: grammar broken", reason == FinishReason::EngineError && told == Some(Verdict::Broken)),
            ("answers: grammar at a dead end", reason == FinishReason::Grammar && told == Some(Verdict::DeadEnd)),
            ("cancelled while waiting for a mask", reason == FinishReason::Cancelled && owed),
            ("deadline while waiting for a mask", reason == FinishReason::Deadline && owed),
        ] {
            self.count(what, u64::from(happened));
        }
        self.count(
            match terminal.reason {
                FinishReason::Eos => "answers: eos",
                FinishReason::Stop => "answers: stop",
                FinishReason::Length => "answers: length",
                FinishReason::Deadline => "answers: deadline",
                FinishReason::Cancelled => "answers: cancelled",
                FinishReason::Shutdown => "answers: shutdown",
                FinishReason::EngineError if !fits => "answers: too large",
                FinishReason::EngineError if no_logits => "answers: no logits",
                FinishReason::EngineError => "answers: error",
                FinishReason::Grammar => "answers: grammar",
                FinishReason::Embedded => unreachable!("`check` has seen it"),
            },
            1,
        );
    }

    /// Checks the outcome of a step, and which requests it may have affected.
    fn look_at_step(&mut self, ends_before: usize) {
        let decoder = self.engine.decoder();
        let happened = decoder.happened.expect("a step");
        if self.trace {
            println!("{:>5} {happened:?}", self.round);
        }
        if let Some(rule) = &decoder.violation {
            panic!("the rows break a rule: {rule}");
        }
        assert_eq!(happened.cells_before, self.engine.stats().kv_cells_used, "the books miscount the cells");
        let is_error = |reason: &&FinishReason| **reason == FinishReason::EngineError;
        let errors = self.ends.reasons.borrow()[ends_before..].iter().filter(is_error).count();
        assert!(happened.outcome != Outcome::Invalid || errors >= happened.seqs, "our bug, and nobody is told");
        let excused = match happened.outcome {
            Outcome::Done => 0,
            Outcome::NoRoom => usize::from(happened.injected && happened.rows == 1 && self.engine.stats().running == 1),
            Outcome::Partial => happened.seqs_hopeless,
            Outcome::Invalid => happened.seqs,
            Outcome::Fatal => usize::MAX,
        };
        if excused > 0 {
            self.excuses.insert(self.clock.now_us(), excused);
        }
        self.count(
            match (happened.outcome, happened.injected) {
                (Outcome::Done, _) => "steps: done",
                (Outcome::NoRoom, false) => "steps: no room",
                (Outcome::NoRoom, true) => "steps: no room, injected",
                (Outcome::Partial, _) => "steps: partial",
                (Outcome::Invalid, _) => "steps: invalid",
                (Outcome::Fatal, _) => "steps: fatal",
            },
            1,
        );
    }

    /// Checks the guesses of a step, if it had any.
    fn look_at_guesses(&mut self, before: GuessCounts, ends_before: usize) {
        let now = guesses(self.engine.stats());
        let (tried, accepted) = (now.tried - before.tried, now.accepted - before.accepted);
        assert!(accepted <= tried, "{accepted} of {tried} guesses came true");
        if tried == 0 {
            return;
        }
        let outcome = self.engine.decoder().happened.expect("a step").outcome;
        assert!(outcome == Outcome::Done || accepted == 0);
        let ended = |why: FinishReason| self.ends.reasons.borrow()[ends_before..].contains(&why);
        let ends = [FinishReason::Eos, FinishReason::Stop, FinishReason::Length, FinishReason::EngineError].map(ended);
        let is_done = outcome == Outcome::Done;
        for (what, n) in [
            ("guesses that came true", accepted),
            ("guesses that did not", tried - accepted),
            ("steps of guesses that all came true", u64::from(tried == accepted)),
            ("guesses without room", u64::from(outcome == Outcome::NoRoom)),
            ("guesses in a step that failed midway", u64::from(outcome == Outcome::Partial)),
            ("guesses in an invalid step", u64::from(outcome == Outcome::Invalid)),
            ("ended by a token in a step of guesses", u64::from(is_done && ends[0])),
            ("ended by a stop string in a step of guesses", u64::from(is_done && ends[1])),
            ("ended by the limit in a step of guesses", u64::from(is_done && ends[2])),
            ("no logits in a step of guesses", u64::from(is_done && ends[3])),
            ("guesses where nothing can be cut", u64::from(self.shape.faults.recurrent)),
        ] {
            self.count(what, n);
        }
    }

    /// Nothing was decoded: there must be no request, or none whose client reads.
    fn look_at_idleness(&mut self) {
        let Stats { waiting, running, .. } = *self.engine.stats();
        assert!(running > 0 || waiting == 0, "{waiting} wait for nobody");
        if self.dice.chance(0.3) {
            let full = self.shape.pieces_per_reply;
            // Requests whose mask was missing, or whose reply was full before this reading, explain why the engine
            // waits.
            let waits = |client: &mut Client| client.owes.is_some() || client.read() == full || client.owes.is_some();
            let stalled = self.clients.iter_mut().filter_map(|client| waits(client).then_some(())).count();
            let restoring = self.engine.prompt_stats().map_or(0, |stats| stats.restoring);
            self.count("rounds that waited for a block", u64::from(restoring > 0));
            // Requests may also wait for another one that waits for its blocks.
            assert!(restoring > 0 || running <= stalled, "{running} run, {stalled} are stalled, yet nothing moves");
            let owing = self.clients.iter().filter(|client| client.owes.is_some()).count();
            self.count("masks late while nobody else runs", u64::from(running > 0 && owing > 0));
        }
        self.clock.advance(IDLE_US);
    }

    /// Requests whose clients left before the step must be gone after it.
    fn look_at_quitters(&mut self) {
        let staying = self.clients.iter().filter(|client| !client.cancelled && client.terminal.is_none()).count();
        let open = self.accepted - self.ends.reasons.borrow().len();
        assert!(open <= staying, "{open} requests are open for {staying} clients");
    }

    fn look_at_engine(&mut self) {
        self.engine.check();
        match self.told.look() {
            Look::Late => self.count("blocks told late", 1),
            Look::Equal(0) => {}
            Look::Equal(_) => self.count("blocks compared", 1),
        }
        let Faults { no_room, copy_refused, recurrent, partial, loses, .. } = self.shape.faults;
        // A sequence that lost shared cells needs new ones.
        let shares = copy_refused == 0.0 && !recurrent && partial * loses == 0.0;
        if no_room == 0.0 && shares && self.shape.reserve == cllm::engine::Reserve::ToTheEnd {
            assert_eq!(self.engine.stats().preemptions, 0, "admitted more than fits");
        }
    }

    /// The end: each request has one answer, and all slots, cells and queues are empty.
    fn close(&mut self) {
        for client in &mut self.clients {
            client.reads = 1.0;
        }
        self.read();
        assert!(self.clients.is_empty(), "req-{} has no answer", self.clients[0].id);
        assert!(!self.engine.has_work(), "the engine still has work");
        assert_eq!(self.ends.reasons.borrow().len(), self.accepted, "each request ends once");
        assert_eq!(self.pool.free(), self.pool.capacity(), "a reply slot leaked");
        self.engine.check();
        self.admissions.sort_unstable();
        let in_order = self.admissions.is_sorted_by_key(|(account, _, when)| (*account, *when));
        assert!(in_order, "a request went before an older one of its account");
        let Stats { evictions, preemptions, masks_awaited, prompt_tokens_cached, prefixes_awaited, .. } =
            *self.engine.stats();
        self.count("evictions", evictions);
        self.count("preemptions", preemptions);
        self.count("gave way", self.engine.stats().gave_way);
        self.count("masks awaited", masks_awaited);
        let GuessCounts { tried, accepted } = self.engine.stats().guesses[GuessSource::Grammar as usize];
        self.count("guesses along a grammar that came true", accepted);
        self.count("guesses along a grammar that did not", tried - accepted);
        let GuessCounts { tried, accepted } = self.engine.stats().guesses[GuessSource::Earlier as usize];
        self.count("guesses of earlier answers that came true", accepted);
        self.count("guesses of earlier answers that did not", tried - accepted);
        self.count("prompt tokens cached", prompt_tokens_cached);
        self.count("prefixes awaited", prefixes_awaited);
        self.count("prefix copies", self.engine.decoder().copies);
        self.count("blocks saved", self.engine.decoder().saves);
        if let Some(stats) = self.engine.prompt_stats().copied() {
            let [ram, disk] = [Tier::Ram, Tier::Disk].map(|tier| stats.restored[tier as usize].tokens);
            let (broken_off, saved) = (stats.broken_off, stats.saved_blocks);
            assert_eq!(saved, self.engine.decoder().saves);
            self.count("blocks restored from ram", ram);
            self.count("blocks restored from disk", disk);
            self.count("restores broken off", broken_off);
            if let Some(rule) = self.shape.faults.checkpoints {
                self.count(if rule.is_whole { "states saved" } else { "states saved with cells" }, saved);
                self.count(if rule.is_whole { "states restored" } else { "states restored with cells" }, ram + disk);
            }
            let Seen { evicted, gone, damaged, coming } = *self.stored.lock().expect("one thread");
            self.count("blocks evicted", evicted);
            self.count("blocks that were gone", gone);
            self.count("blocks of a wrong size", damaged);
            self.count("blocks that were coming", coming);
        }
        let Stats { checkpoints_kept, checkpoint_bytes, .. } = *self.engine.stats();
        let [own, of_others] = self.engine.decoder().resumed;
        let dropped = checkpoints_kept > 0 && checkpoint_bytes < 8 * checkpoints_kept as usize;
        self.count("checkpoints kept", checkpoints_kept);
        self.count("went on from a checkpoint of its own", own);
        self.count("went on from a checkpoint of another", of_others);
        self.count("worlds in which checkpoints made room for others", u64::from(dropped));
        self.count("accepted", self.accepted as u64);
        self.count("rounds", self.round);
    }
}
