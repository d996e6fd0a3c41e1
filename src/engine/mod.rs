//! Continuous batching: requests join and leave between any two steps. Runs on the batching thread alone.
//!
//! The engine owns the cache with its decoder, and knows tokens and bytes; it never sees JSON, UTF-8 or a socket, and it never blocks
//! except in `Inbox::park`. Its clock, seeds and decoder come from outside, so that a failing run replays.
//!
//! ```text
//! engine      the loop, and what a finished step means
//! gather      waiting a moment for requests that arrive together
//! admission   which request gets a slot, with which prefix; fair: whose turn it is (pure)
//! choice      what a row's logits mean for its request; masks: tokens that wait for what a grammar allows
//! plan        which rows the next step decodes (pure); budget: how many; prompt_cost, decode_cost: what they take
//! speculate   guesses of what comes next, checked in the same step
//! room        what to do when a step doesn't go through
//! cache       the decoder and what its cells hold; blocks: what routers are told of that; memory: what is kept outside of it
//! checkpoints states of sequences whose cache can't be cut
//! request     one request; live: while it is served; slot: where; stop: where its text ends
//! stats       what is counted
//! embed       another loop beside this one, for embeddings
//! ```

mod admission;
mod blocks;
mod budget;
mod cache;
mod checkpoints;
mod choice;
mod decode_cost;
mod embed;
mod fair;
mod gather;
mod live;
mod masks;
mod memory;
mod plan;
mod prompt_cost;
mod request;
mod room;
mod slot;
mod speculate;
mod stats;
mod stop;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub use admission::Reserve;
pub use budget::PromptRows;
pub use embed::{EmbedEngine, EmbedParts};
pub use memory::{PromptMemory, PromptStats, Rates, Restored};
pub use stats::{GuessCounts, Observer, SlotState, Stats};

use crate::handoff::{Inbox, Shutdown, Stage, Submission};
use crate::sample::SampleScratch;
use crate::trace::StepTrace;
use crate::types::limits::PARK_MS_MAX;
use crate::types::seams::{Clock, Decoder, Outcome, Row};
use crate::types::{Class, FinishReason, SlotId, TokenMask, TokenTable};
use blocks::Blocks;
use budget::RowBudget;
use cache::Cache;
use fair::{FairQueue, QueuePlace};
use live::Phase;
use memory::Memory;
use plan::{First, plan};
use prompt_cost::Reading;
use request::AcceptedRequest;
use slot::{SlotSet, Slots, Taken};
use speculate::Speculation;

/// The longest sleep of the batching thread.
const PARK_MAX: Duration = Duration::from_millis(PARK_MS_MAX);

/// The parts of the engine.
pub struct EngineParts<D, C, O> {
    /// Decodes rows.
    pub decoder: D,
    /// The clock.
    pub clock: C,
    /// Gets the engine's counts and events.
    pub observer: O,
    /// The ring of requests.
    pub inbox: Inbox<Submission>,
    /// The bytes of the vocabulary's tokens.
    pub table: Arc<TokenTable>,
    /// The stage of shutdown.
    pub shutdown: Shutdown,
    /// Requests that run at the same time; at most the decoder's sequences.
    pub slots: usize,
    /// How many prompt rows a step has while requests decode (`--step-tokens`).
    pub prompt_rows: PromptRows,
}

/// The batching thread's state. All memory is allocated here and reused.
pub struct Engine<D, C, O> {
    cache: Cache<D>,
    clock: C,
    observer: O,
    inbox: Inbox<Submission>,
    table: Arc<TokenTable>,
    shutdown: Shutdown,
    /// Requests taken from the ring that have no slot.
    waiting: FairQueue<AcceptedRequest>,
    /// Requests taken from the ring so far.
    arrived: u64,
    /// Requests just taken from the ring, on their way to `waiting`.
    arrivals: VecDeque<Submission>,
    slots: Slots,
    /// Slots that the metrics last reported as occupied.
    shown: SlotSet,
    /// Tells which blocks the cache holds, if KV events are published.
    blocks: Option<Blocks>,
    budget: RowBudget,
    reserve: Reserve,
    /// Which prompt is prefilled first in the next step.
    first: First,
    rows: Vec<Row>,
    /// Makes guesses; `None`: tokens aren't guessed.
    speculation: Option<Box<Speculation>>,
    /// The state of `speculation` while it is switched off.
    resting: Option<Box<Speculation>>,
    /// Rows of the step that are guesses.
    guessed: usize,
    /// KV state outside the cells; `None`: there is none.
    memory: Option<Box<Memory>>,
    scratch: SampleScratch,
    /// Memory for the mask of one request.
    mask: TokenMask,
    stats: Stats,
    /// When the latest step or sleep ended: precise enough for deadlines.
    now_us: u64,
    /// Microseconds of sampling in this step, if steps are traced.
    sample_us: u64,
    /// Admissions so far; a request's number among them is its age.
    admissions: u64,
    /// Requests that left a slot since the loop last waited for others.
    departed: usize,
}

impl<D: Decoder, C: Clock, O: Observer> Engine<D, C, O> {
    /// An engine without requests.
    ///
    /// # Panics
    /// If there is no slot, or there are more slots than sequences, or as many as rows.
    pub fn new(parts: EngineParts<D, C, O>) -> Self {
        let capacity = parts.decoder.capacity();
        assert!(parts.slots > 0 && parts.slots <= usize::from(capacity.seqs) && parts.slots < capacity.rows_max);
        let cache = Cache::new(parts.decoder);
        let (_, kv_cells_total) = cache.kv().usage();
        Engine {
            cache,
            clock: parts.clock,
            observer: parts.observer,
            inbox: parts.inbox,
            table: parts.table,
            shutdown: parts.shutdown,
            waiting: FairQueue::new(),
            arrived: 0,
            arrivals: VecDeque::new(),
            slots: Slots::new(parts.slots, capacity.n_vocab),
            shown: SlotSet::default(),
            blocks: None,
            budget: RowBudget::new(&capacity, parts.prompt_rows),
            reserve: Reserve::ToTheEnd,
            first: First::Oldest,
            rows: Vec::with_capacity(capacity.rows_max),
            speculation: None,
            resting: None,
            guessed: 0,
            memory: None,
            scratch: SampleScratch::new(capacity.n_vocab),
            mask: TokenMask::none(capacity.n_vocab),
            stats: Stats { kv_cells_total, ..Stats::default() },
            now_us: 0,
            sample_us: 0,
            admissions: 0,
            departed: 0,
        }
    }

    /// Sets how many cells are reserved for an admitted request; the default is all that it may need.
    #[must_use]
    pub fn reserving(mut self, reserve: Reserve) -> Self {
        self.reserve = reserve;
        self
    }

    /// Guesses tokens and checks them in the same step, if that is faster. The cache must be able to cut off a sequence's end.
    #[must_use]
    pub fn speculating(mut self) -> Self {
        self.speculation = Some(Box::new(Speculation::new(self.slots.len())));
        self
    }

    /// Keeps KV state outside the cells, too, if the decoder can save it; requests begin with it if that is faster.
    #[must_use]
    pub fn remembering(mut self, memory: PromptMemory) -> Self {
        if self.cache.keeps_blocks() {
            let (seqs, rule) = (usize::from(self.cache.capacity().seqs), self.cache.decoder().checkpoint_rule());
            self.memory = Some(Box::new(Memory::new(memory, rule, seqs, self.slots.len())));
        }
        self
    }

    /// Switches guesses off, or on again after `speculating`. A running request continues without guesses.
    pub fn speculate(&mut self, on: bool) {
        let (from, to) = match on {
            true => (&mut self.resting, &mut self.speculation),
            false => (&mut self.speculation, &mut self.resting),
        };
        *to = from.take().or(to.take());
    }

    /// Runs until shutdown, or until the decoder is broken. Returns whether the decoder still works.
    // Under its own name in profiles, and for `benches/instructions/count.sh`, which counts what it does.
    #[inline(never)]
    pub fn run(&mut self) -> bool {
        loop {
            match self.shutdown.stage() {
                Stage::Running => {}
                Stage::Draining if !self.has_work() => break,
                Stage::Draining => {}
                Stage::Now => break,
            }
            self.gather();
            match self.round() {
                RoundOutcome::Decoded | RoundOutcome::Moved => {}
                RoundOutcome::Idle => {
                    self.cache.idle();
                    self.inbox.park(Some(if self.has_work() { PARK_MAX / 10 } else { PARK_MAX }));
                    self.now_us = self.clock.now_us();
                }
                RoundOutcome::Broken => return false,
            }
        }
        self.end_all(FinishReason::Shutdown);
        self.save_at_the_end();
        true
    }

    /// Makes one round with the requests that have arrived by now.
    pub fn step(&mut self) -> RoundOutcome {
        self.now_us = self.clock.now_us();
        self.receive();
        self.round()
    }

    /// Like `step`; if there is nothing to do, it sleeps until there is, for at most `most`.
    pub fn step_or_sleep(&mut self, most: Duration) -> RoundOutcome {
        let done = self.step();
        if done == RoundOutcome::Idle {
            self.inbox.park(Some(most));
        }
        done
    }

    /// Makes one round: admit, plan, decode, commit.
    fn round(&mut self) -> RoundOutcome {
        let (begun_us, generated) = (self.mark(), self.stats.generated_tokens);
        self.drop_cancelled_and_overdue();
        self.take_verdicts();
        self.admit();
        self.follow_leaders();
        let has_moved = self.memory.is_some() && self.move_blocks();
        let admitted_us = self.mark();
        let decoding = plan(&self.slots, self.cache.kv(), &self.budget, self.first, &mut self.rows);
        self.add_guesses(decoding);
        self.refresh_gauges();
        if self.rows.is_empty() {
            self.budget.restore();
            self.tell_blocks();
            self.count(self.clock.now_us());
            return if has_moved { RoundOutcome::Moved } else { RoundOutcome::Idle };
        }
        let started_us = self.clock.now_us();
        let outcome = self.cache.decode(&self.rows, self.guessed > 0);
        let now_us = self.clock.now_us();
        self.now_us = now_us;
        let rows = self.rows.len() as u32;
        self.observer.step(outcome, now_us - started_us, now_us);
        if O::TRACES {
            // Choosing tokens from kept logits counts as admission, not as sampling.
            self.sample_us = 0;
        }
        match outcome {
            Outcome::Done => self.commit(decoding, now_us, now_us - started_us),
            Outcome::NoRoom => self.make_room(),
            Outcome::Partial => self.resync(),
            Outcome::Invalid => self.fail_rows(),
            Outcome::Fatal => self.end_all(FinishReason::EngineError),
        }
        self.tell_blocks();
        self.count(now_us);
        if O::TRACES {
            self.observer.traced(StepTrace {
                begun_us,
                admitted_us,
                planned_us: started_us,
                decoded_us: now_us,
                ended_us: self.clock.now_us(),
                sample_us: self.sample_us,
                rows,
                tokens: (self.stats.generated_tokens - generated) as u32,
                waiting: self.stats.waiting as u32,
                running: self.stats.running as u32,
                guesses: self.guessed as u32,
            });
        }
        if outcome == Outcome::Fatal { RoundOutcome::Broken } else { RoundOutcome::Decoded }
    }

    /// Whether a request waits or runs.
    pub fn has_work(&self) -> bool {
        !self.waiting.is_empty() || !self.inbox.is_empty() || !self.slots.are_idle()
    }

    /// The engine's counts.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Counts of what was moved between the cells and the store; `None`: there is no store.
    pub fn prompt_stats(&self) -> Option<&PromptStats> {
        self.memory.as_deref().map(Memory::stats)
    }

    /// The decoder, for tests.
    pub fn decoder(&self) -> &D {
        self.cache.decoder()
    }

    /// Checks what must hold between any two steps: each running request's sequence has one owner and as many tokens as
    /// the decoder holds, every cell is accounted for, and requests that were preempted for lack of room are at the
    /// head of the queue, in the order of their turns. Visits everything; for tests.
    ///
    /// # Panics
    /// If something doesn't hold.
    pub fn check(&self) {
        self.cache.check();
        let turns: Vec<_> = self.waiting.returned().map(|request| request.turn).collect();
        assert!(turns.is_sorted() && turns.first() != Some(&None), "preempted requests out of order: {turns:?}");
        for (slot, live) in self.slots.live() {
            assert_eq!(self.cache.kv().owner(live.seq), Some(slot));
            let (held, tokens) = (self.cache.kv().tokens(live.seq), &live.request.tokens);
            assert!(held.len() <= live.request.cells_at_end());
            match live.phase {
                Phase::AwaitingPrefix { .. } => assert!(held.is_empty()),
                Phase::Restoring { until } => {
                    assert!(held.len() % self.block() == 0 || held.len() == until);
                    assert!(held.len() <= until && until < tokens.len());
                    assert!(tokens.starts_with(held));
                }
                Phase::Prefill => assert!(held.len() < tokens.len() && tokens.starts_with(held)),
                Phase::Decoding { .. } | Phase::AwaitingMask => {
                    assert!(held.len() >= tokens.len() && held.starts_with(tokens));
                }
            }
        }
        for seq in (0..self.cache.capacity().seqs).map(crate::types::SeqId) {
            if let Some(slot) = self.cache.kv().owner(seq) {
                let live = self.slots.get(slot);
                assert_eq!(live.map(|live| live.seq), Some(seq), "{seq:?} leaked");
            }
        }
    }

    /// The time, if steps are traced.
    fn mark(&self) -> u64 {
        if O::TRACES { self.clock.now_us() } else { 0 }
    }

    fn receive(&mut self) {
        // Popping from an empty ring would cost a memory fence.
        if self.inbox.is_empty() {
            return;
        }
        self.inbox.drain_into(&mut self.arrivals);
        while let Some(submission) = self.arrivals.pop_front() {
            self.arrived += 1;
            let share = submission.params.share;
            let place = QueuePlace { priority: share.priority, ticket: self.arrived };
            if self.waiting.would_share(&share) {
                self.settle();
            }
            self.waiting.push(&share, place, AcceptedRequest::new(submission, place));
        }
    }

    /// Charges the work of running requests since the last charge. Called only when the order of waiting requests matters.
    fn settle(&mut self) {
        let mut unread = [0; Class::ALL.len()];
        for slot in self.slots.taken() {
            let Some(live) = self.slots.get_mut(slot) else { continue };
            let (before, now) = live.request.charge();
            self.waiting.charge(&live.request.params.share, before, now);
            let held = self.cache.kv().tokens(live.seq).len();
            unread[live.request.params.share.class as usize] += live.request.charged_unread(held);
        }
        self.waiting.charged_unread(unread);
    }

    fn drop_cancelled_and_overdue(&mut self) {
        let now_us = self.now_us;
        let why = |request: &AcceptedRequest| match request {
            request if request.is_cancelled() => Some(FinishReason::Cancelled),
            request if request.is_overdue(now_us) => Some(FinishReason::Deadline),
            _ => None,
        };
        for slot in self.slots.taken() {
            if let Some(reason) = self.slots.get(slot).and_then(|live| why(&live.request)) {
                self.end(slot, reason);
            }
        }
        if !self.waiting.is_empty() && self.waiting.iter().any(|request| why(request).is_some()) {
            for request in self.waiting.remove_if(|request| why(request).is_some()) {
                let reason = why(&request).unwrap_or(FinishReason::Cancelled);
                self.finish(request, reason);
            }
        }
    }

    /// The step went through, with `decoding` decode rows: each request with logits gets a token.
    fn commit(&mut self, decoding: usize, now_us: u64, step_us: u64) {
        self.budget.restore();
        let (mut decode, mut reading) = (Reading::default(), Reading::default());
        self.stats.steps += 1;
        self.stats.rows += self.rows.len() as u64;
        self.stats.prompt_tokens_decoded += (self.rows.len() - decoding - self.guessed) as u64;
        if self.cache.kv().checkpoints().is_some() {
            self.keep_checkpoints();
        }
        for i in 0..self.rows.len() {
            let row = self.rows[i];
            // A token of an earlier row may have ended the request.
            let Some(slot) = self.cache.kv().owner(row.seq) else { continue };
            if self.is_guess(i) {
                if self.comes_true(slot, row) {
                    self.choose(slot, i, now_us);
                }
                continue;
            }
            let Taken { live, .. } = self.slots.serving(slot);
            live.failures = 0;
            if live.phase == Phase::Prefill {
                reading.add(row.pos.count_before(), 1);
            } else {
                decode.add(row.pos.count_before(), 1);
            }
            if row.wants_logits {
                let next = row.pos.plus(1).count_before();
                match live.request.unscored(next) {
                    Some(token) => self.score(slot, i, next, token),
                    None => self.choose(slot, i, now_us),
                }
            }
        }
        if let Some(memory) = self.memory.as_deref_mut() {
            memory.learn_step(decode.rows, reading.rows, step_us, self.budget.decode_us());
        }
        if self.guessed > 0 {
            self.cut_guesses();
        } else {
            self.budget.learn(&decode, &reading, step_us);
        }
        if let Some(speculation) = self.speculation.as_deref_mut().filter(|_| reading.rows == 0) {
            if self.guessed > 0 {
                speculation.account(self.rows.len());
            }
            speculation.learn(self.rows.len(), step_us);
        }
        if reading.rows > 0 {
            self.first = if self.first == First::Oldest { First::Shortest } else { First::Oldest };
        }
    }

    /// Ends the request in `slot`, if there is one. Its sequence keeps its KV cells for later requests with the same beginning.
    fn end(&mut self, slot: SlotId, reason: FinishReason) {
        let Some(mut live) = self.slots.take(slot) else { return };
        if let Some(speculation) = self.speculation.as_deref_mut() {
            speculation.end(slot);
        }
        if self.waiting.is_shared() {
            let (before, now) = live.request.charge_at_end(self.cache.kv().tokens(live.seq).len());
            self.waiting.charge(&live.request.params.share, before, now);
        }
        self.cache.release(live.seq);
        self.departed += 1;
        self.finish(live.request, reason);
    }

    fn finish(&mut self, request: AcceptedRequest, reason: FinishReason) {
        let now_us = self.clock.now_us();
        self.observer.finished(reason, request.age_us(now_us), request.generated());
        self.count(now_us);
        request.finish(reason, now_us);
    }

    /// Reports what was counted so far.
    fn count(&mut self, now_us: u64) {
        self.observer.counted(&self.stats, self.memory.as_deref().map(Memory::stats), now_us);
    }

    fn refresh_gauges(&mut self) {
        self.stats.waiting = self.waiting.len();
        self.stats.running = self.slots.len() - self.slots.n_free();
        (self.stats.kv_cells_used, self.stats.kv_cells_total) = self.cache.kv().usage();
        let taken = self.slots.taken();
        for slot in taken.union(&self.shown) {
            let pace = self.speculation.as_deref().map(|speculation| speculation.tokens_per_step(slot));
            let state = self.slots.get(slot).map(|live| live.state(self.cache.kv().tokens(live.seq).len(), pace));
            self.observer.slot(slot.index(), state);
        }
        self.shown = taken;
    }
}

/// What one round did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoundOutcome {
    /// Rows were decoded.
    Decoded,
    /// There was nothing to decode. Blocks were moved between the cells and the store, and there may be more to move.
    Moved,
    /// There was nothing to do.
    Idle,
    /// The decoder can't be used any more, and all requests have ended.
    Broken,
}
