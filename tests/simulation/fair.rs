//! Fair shares: worlds of several accounts, in which the work that each gets is measured from outside the engine.
//!
//! Between two accounts of one class that both wait, work over weight must not drift apart by more than the bound of theorem 4.4 in
//! Sheng et al. (OSDI 2024): twice U, where U is the larger of the longest prompt's work and the work of all tokens that the slots
//! can hold. So must the work of the two classes, over their parts.
//!
//! Batch requests that give way change nothing in this. Let r be an account's work over its weight, and c = r + a its counter, where a
//! is what its running requests were charged for prompt tokens that are not read yet; a request that gives way gets that back, so those that
//! wait have no part in a. While accounts x and y both wait, let t be when x last had a request let in, also one that had given way before.
//! It was x's turn, so c_x(t) <= c_y(t). From then on r_x grows by W at most, the work that x's slots hold, a_x(t) included; r_y
//! doesn't fall. So now r_x - r_y <= c_x(t) - a_x(t) + W - c_y(t) + a_y(t) <= W + a_y(t), which is U at most, since W counts 2 for each token
//! of x's slots and a_y counts 1 for each of y's. Between the classes, too: an interactive request takes a slot by its turn or from a batch request, and
//! either only where the counter of batch is no less than its own.
//!
//! An account whose request finds its beginning in the cache may go first while c_x(t) <= c_y(t) + K, where K is the credit over x's weight:
//! then r_x - r_y <= U + K. So between accounts the bound is twice U + K; between the classes there is no credit.

mod cases;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::rc::Rc;

use cllm::engine::{Engine, EngineParts, Observer, PromptRows, RoundOutcome, SlotState};
use cllm::handoff::{ReplyPool, ReplyReader, ReplyState, Sender, Shutdown, Submission, Wake, ring};
use cllm::types::limits::{BATCH_SHARE_PERCENT, GENERATED_TOKEN_WORK, PROMPT_TOKEN_WORK, READY_CREDIT_WORK};
use cllm::types::seams::Capacity;
use cllm::types::{AccountId, Class, GenerateParams, RequestId, SamplingParams, Share, Token, Weight};

use crate::dice::Dice;
use crate::fake_decoder::{FakeDecoder, Faults, VirtualClock};
use crate::shape::{N_VOCAB, table};

/// Most tokens of a prompt and its answer.
const CELLS: u32 = 96;
/// Most requests of a world without an answer.
const OPEN_MAX: usize = 600;
/// Rounds in which a world must end.
const ROUNDS_MAX: u64 = 50_000;

/// The state of the slots that the engine reports before each step.
#[derive(Clone, Default)]
struct Watch(Rc<RefCell<Watched>>);

#[derive(Default)]
struct Watched {
    slots: BTreeMap<usize, SlotState>,
    /// Requests in the order of admission, with the round. The order within a round isn't visible.
    let_in: Vec<(u64, u64)>,
    round: u64,
}

impl Observer for Watch {
    fn slot(&mut self, slot: usize, state: Option<SlotState>) {
        let mut watched = self.0.borrow_mut();
        let before = match state {
            Some(state) => watched.slots.insert(slot, state),
            None => watched.slots.remove(&slot),
        };
        let (before, now) = (before.map(|state| state.id.0), state.map(|state| state.id.0));
        let (round, is_known) = (watched.round, |id: &u64| watched.let_in.iter().any(|(_, other)| other == id));
        if let Some(id) = now.filter(|id| before != Some(*id) && !is_known(id)) {
            watched.let_in.push((round, id));
        }
    }
}

/// A request from its arrival to its end.
struct Ask {
    account: usize,
    priority: i32,
    n_prompt: usize,
    /// `None`: it was answered.
    reader: Option<ReplyReader>,
    /// Whether it was in a slot in the latest step.
    runs: bool,
    /// The work that it has got.
    work: u64,
    /// The round before which its first token came.
    first_token: Option<u64>,
}

impl Ask {
    fn waits(&self) -> bool {
        self.reader.is_some() && !self.runs
    }
}

/// Which accounts the engine is told of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Fair,
    /// The engine is told that all requests are of one account: first come, first served.
    AsTheyCome,
}

/// An engine and the requests of its accounts.
struct Fair {
    engine: Engine<FakeDecoder, VirtualClock, Watch>,
    sender: Sender<Submission>,
    pool: ReplyPool,
    watch: Watch,
    dice: Dice,
    slots: usize,
    shares: Vec<Share>,
    order: Order,
    asks: Vec<Ask>,
    rounds: u64,
    /// The most times that one request gave up its slot.
    gave_way_max: u32,
}

impl Fair {
    fn new(seed: u64, slots: usize, shares: Vec<Share>, order: Order) -> Fair {
        let mut dice = Dice::new(seed);
        let rows_max = slots + dice.within(1..=32);
        let prompt_rows = dice.within(1..=rows_max);
        Fair::of_size(dice, slots, (rows_max, prompt_rows), shares, order)
    }

    /// An engine whose steps have `rows_max` rows, of which `prompt_rows` are for prompts while requests decode.
    fn of_size(
        mut dice: Dice,
        slots: usize,
        (rows_max, prompt_rows): (usize, usize),
        shares: Vec<Share>,
        order: Order,
    ) -> Fair {
        // Cells of displaced requests stay if there is a spare sequence.
        let seqs = (slots + *dice.pick(&[0, 0, 2])) as u16;
        let capacity = Capacity { seqs, cells_per_seq: CELLS, cells_common: None, rows_max, n_vocab: N_VOCAB };
        let (clock, watch) = (VirtualClock::default(), Watch::default());
        let (sender, inbox) = ring(OPEN_MAX);
        let engine = Engine::new(EngineParts {
            decoder: FakeDecoder::new(capacity, Faults::default(), dice.fork(), clock.clone()),
            clock,
            observer: watch.clone(),
            inbox,
            table: table(&mut dice),
            shutdown: Shutdown::default(),
            slots,
            prompt_rows: PromptRows::Fixed(prompt_rows),
        });
        let pool = ReplyPool::with_wake(OPEN_MAX, CELLS as usize, sender.wake_handle());
        Fair { engine, sender, pool, watch, dice, slots, shares, order, asks: Vec::new(), rounds: 0, gave_way_max: 0 }
    }

    /// Requests of `account` without an answer.
    fn open(&self, account: usize) -> usize {
        self.asks.iter().filter(|ask| ask.account == account && ask.reader.is_some()).count()
    }

    /// Sends a request, if the world has room.
    fn ask(&mut self, account: usize, priority: i32, prompt: Vec<Token>, max_tokens: usize) {
        let Some((reply, reader)) = self.pool.claim() else { return };
        let share = match self.order {
            Order::Fair => Share { priority, ..self.shares[account] },
            Order::AsTheyCome => Share::default(),
        };
        let sampling = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
        let params = GenerateParams { max_tokens, sampling, ignore_eos: true, share, ..GenerateParams::default() };
        let (n_prompt, id) = (prompt.len(), RequestId(self.asks.len() as u64));
        let submission = Submission { id, prompt, params, arrived_us: 0, deadline_us: None, reply };
        self.sender.push(submission).expect("room in the ring");
        self.asks.push(Ask {
            account,
            priority,
            n_prompt,
            reader: Some(reader),
            runs: false,
            work: 0,
            first_token: None,
        });
    }

    fn prompt(&mut self, opening: usize, own: RangeInclusive<usize>) -> Vec<Token> {
        let own = self.dice.within(own);
        let any = |dice: &mut Dice| Token(dice.below(N_VOCAB) as u32);
        (0..opening).map(|i| Token((i % 7) as u32)).chain((0..own).map(|_| any(&mut self.dice))).collect()
    }

    /// Makes one round, and records the state before the step's tokens.
    fn step(&mut self) -> RoundOutcome {
        self.rounds += 1;
        self.watch.0.borrow_mut().round = self.rounds;
        assert!(self.rounds < ROUNDS_MAX, "no end");
        let step = self.engine.step();
        self.engine.check();
        let watched = self.watch.0.borrow();
        self.asks.iter_mut().for_each(|ask| ask.runs = false);
        for state in watched.slots.values() {
            let ask = &mut self.asks[state.id.0 as usize];
            ask.runs = true;
            let read = state.n_past.min(state.n_prompt).saturating_sub(state.n_cached);
            // Tokens that are prefilled again after a displacement aren't charged again.
            ask.work = ask.work.max(work(read, state.n_generated));
        }
        let running = watched.slots.len();
        drop(watched);
        let waits = self.asks.iter().any(Ask::waits);
        assert!(running == self.slots || !waits, "{running} of {} slots run, and a request waits", self.slots);
        step
    }

    /// Reads all finished answers.
    fn read(&mut self) {
        for ask in &mut self.asks {
            let Some(reader) = &mut ask.reader else { continue };
            if reader.read_into(&mut Vec::new()) > 0 {
                ask.first_token.get_or_insert(self.rounds);
            }
            if let Some(ReplyState::Finished(end)) = reader.poll(Wake::AtEnd) {
                ask.work = work(ask.n_prompt - end.cached_tokens as usize, end.generated_tokens as usize);
                self.gave_way_max = self.gave_way_max.max(end.gave_way);
                ask.reader = None;
            }
        }
    }

    fn waits(&self, account: usize) -> bool {
        self.asks.iter().any(|ask| ask.account == account && ask.waits())
    }

    fn work(&self, account: usize) -> u64 {
        self.asks.iter().filter(|ask| ask.account == account).map(|ask| ask.work).sum()
    }

    /// The theorem's U, divided by the weight.
    fn bound(&self, weight: u32) -> f64 {
        let of_slots = self.slots as u64 * u64::from(CELLS) * GENERATED_TOKEN_WORK;
        of_slots.max(u64::from(CELLS) * PROMPT_TOKEN_WORK) as f64 / f64::from(weight)
    }
}

fn work(read: usize, generated: usize) -> u64 {
    read as u64 * PROMPT_TOKEN_WORK + generated as u64 * GENERATED_TOKEN_WORK
}

/// For each pair, the range of the difference since it began to count.
#[derive(Default)]
struct Drift(HashMap<(usize, usize), RangeInclusive<f64>>);

impl Drift {
    /// The width of the range of `pair`'s difference for as long as `counts` has held without a break.
    fn of(&mut self, pair: (usize, usize), counts: bool, difference: f64) -> f64 {
        if !counts {
            self.0.remove(&pair);
            return 0.0;
        }
        let range = self.0.entry(pair).or_insert(difference..=difference);
        *range = range.start().min(difference)..=range.end().max(difference);
        range.end() - range.start()
    }
}

/// How an account's requests arrive.
#[derive(Clone, Copy)]
enum Comes {
    /// All at once, before this round.
    AtOnce { round: u64 },
    /// So that this many have no answer at any time.
    Steadily { open: usize },
    /// One before each round, with this probability.
    ByChance { p: f64 },
}

struct Party {
    comes: Comes,
    left: usize,
    /// Tokens that its prompts have in common, and tokens of each prompt's own.
    opening: usize,
    prompt_max: usize,
    tokens_max: usize,
    has_priorities: bool,
}

/// Counts over all worlds, to show that every check was exercised.
#[derive(Default)]
pub struct Seen {
    /// Rounds in which two accounts of a class waited.
    pub rivalries: u64,
    pub class_rivalries: u64,
    /// The largest drift of two accounts, divided by its bound.
    pub drift_max: f64,
    pub class_drift_max: f64,
    pub cached: u64,
    /// Batch requests that gave up their slots.
    pub gave_way: u64,
    pub gave_way_max: u32,
}

/// Runs `seed` to its end, or panics. Whether the drift stayed within its bound is in `seen`.
pub fn run(seed: u64, order: Order, seen: &mut Seen) {
    let mut dice = Dice::new(seed ^ 0xFA1C);
    let n = dice.within(2..=5);
    let has_batch = dice.chance(0.4);
    let shares = (0..n)
        .map(|i| Share {
            account: AccountId(i as u64 * 7 + 1),
            weight: Weight::new(*dice.pick(&[1, 1, 2, 4, 10])).expect("within bounds"),
            class: if has_batch && dice.chance(0.5) { Class::Batch } else { Class::Interactive },
            priority: 0,
        })
        .collect();
    let mut parties: Vec<Party> = (0..n)
        .map(|_| Party {
            comes: match dice.below(3) {
                0 => Comes::AtOnce { round: dice.within(1..=60) as u64 },
                1 => Comes::Steadily { open: dice.within(1..=12) },
                _ => Comes::ByChance { p: *dice.pick(&[0.02, 0.2, 0.9]) },
            },
            left: dice.within(1..=45),
            opening: *dice.pick(&[0, 0, 20, 40]),
            prompt_max: dice.within(1..=24),
            tokens_max: dice.within(1..=24),
            has_priorities: dice.chance(0.3),
        })
        .collect();
    let mut world = Fair::new(dice.next(), dice.within(1..=6), shares, order);
    let (mut drift, mut class_drift) = (Drift::default(), Drift::default());
    loop {
        arrive(&mut world, &mut parties);
        let step = world.step();
        look(&world, &mut drift, &mut class_drift, seen);
        world.read();
        let is_asked = parties.iter().all(|party| party.left == 0);
        if is_asked && step == RoundOutcome::Idle && world.asks.iter().all(|ask| ask.reader.is_none()) {
            break;
        }
    }
    assert_eq!(world.pool.free(), world.pool.capacity(), "a reply slot leaked");
    seen.cached += world.engine.stats().prompt_tokens_cached;
    seen.gave_way += world.engine.stats().gave_way;
    seen.gave_way_max = seen.gave_way_max.max(world.gave_way_max);
    if order == Order::Fair {
        first_come_first_served(&world);
    }
}

fn arrive(world: &mut Fair, parties: &mut [Party]) {
    for (account, party) in parties.iter_mut().enumerate() {
        let many = match party.comes {
            Comes::AtOnce { round } if round == world.rounds + 1 => party.left,
            Comes::AtOnce { .. } => 0,
            Comes::Steadily { open } => open.saturating_sub(world.open(account)).min(party.left),
            Comes::ByChance { p } => usize::from(world.dice.chance(p)).min(party.left),
        };
        party.left -= many;
        for _ in 0..many {
            let prompt = world.prompt(party.opening, 1..=party.prompt_max);
            let max_tokens = world.dice.within(1..=party.tokens_max);
            let priority = if party.has_priorities { *world.dice.pick(&[0, -3, 5]) } else { 0 };
            world.ask(account, priority, prompt, max_tokens);
        }
    }
}

/// Compares the work of all accounts so far.
fn look(world: &Fair, drift: &mut Drift, class_drift: &mut Drift, seen: &mut Seen) {
    let n = world.shares.len();
    let waits: Vec<bool> = (0..n).map(|account| world.waits(account)).collect();
    let work: Vec<u64> = (0..n).map(|account| world.work(account)).collect();
    let weight = |account: usize| world.shares[account].weight.get();
    let of_one = |account: usize| work[account] as f64 / f64::from(weight(account));
    for i in 0..n {
        for j in i + 1..n {
            if world.shares[i].class != world.shares[j].class {
                continue;
            }
            let both = waits[i] && waits[j];
            let weight = weight(i).min(weight(j));
            let credit = READY_CREDIT_WORK as f64 / f64::from(weight);
            let bound = 2.0 * (world.bound(weight) + credit);
            let parts = drift.of((i, j), both, of_one(i) - of_one(j)) / bound;
            seen.drift_max = seen.drift_max.max(parts);
            seen.rivalries += u64::from(both);
        }
    }
    let waits_in = |class: Class| (0..n).any(|i| world.shares[i].class == class && waits[i]);
    let work_in =
        |class: Class| -> f64 { (0..n).filter(|i| world.shares[*i].class == class).map(|i| work[i] as f64).sum() };
    let both = waits_in(Class::Interactive) && waits_in(Class::Batch);
    let (interactive, batch) = (f64::from(100 - BATCH_SHARE_PERCENT), f64::from(BATCH_SHARE_PERCENT));
    let difference = work_in(Class::Interactive) / interactive - work_in(Class::Batch) / batch;
    let parts = class_drift.of((0, 0), both, difference) / (2.0 * world.bound(BATCH_SHARE_PERCENT));
    seen.class_drift_max = seen.class_drift_max.max(parts);
    seen.class_rivalries += u64::from(both);
}

/// Checks that within an account and a priority, requests were admitted in the order of arrival.
fn first_come_first_served(world: &Fair) {
    let let_in = &world.watch.0.borrow().let_in;
    let mut last = HashMap::new();
    for (round, id) in let_in {
        let ask = &world.asks[*id as usize];
        let before = last.insert((ask.account, ask.priority), (*round, *id));
        let is_in_order = before.is_none_or(|(before, older)| older < *id || before == *round);
        assert!(is_in_order, "request {id} went before an older one");
    }
    assert_eq!(let_in.len(), world.asks.len(), "each was let in once");
}
