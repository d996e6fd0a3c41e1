//! The other engine: embeddings instead of text. Runs on the batching thread alone, in the place of `Engine`.
//!
//! A request is a list of inputs. Each step joins inputs of all requests into one call: accounts take turns by the tokens they got
//! (`fair.rs`), and the requests of one account with one input each, so that a request of two thousand inputs doesn't hold up a request of one. Where the model needs an input
//! whole, a step takes as many whole inputs as it has rows for; otherwise long inputs come in chunks, and inputs with the
//! fewest tokens left get all their rows first. What the tokens leave is pooled as it comes, straight into the request's answer.
//!
//! A step that fails is tried again from the beginning of its inputs: nothing of it counts.

mod plan;
mod request;

use std::collections::VecDeque;
use std::time::Duration;

use plan::plan;
use request::InputsRequest;

use super::fair::{FairQueue, QueuePlace};
use super::{Observer, RoundOutcome, SlotState, Stats};
use crate::handoff::{Inbox, InputsSubmission, Shutdown, Stage};
use crate::metrics::SlotPhase;
use crate::types::limits::{EMBED_FAILURES_MAX, PARK_MS_MAX, PROMPT_TOKEN_WORK};
use crate::types::seams::{Clock, Encoder, EncoderCapacity, Outcome, Row};
use crate::types::{FinishReason, Pooling, SeqId, Share};

/// The parts of the engine.
pub struct EmbedParts<E, C, O> {
    /// Computes the embeddings.
    pub encoder: E,
    /// The clock.
    pub clock: C,
    /// Gets the engine's counts and events.
    pub observer: O,
    /// The ring of requests.
    pub inbox: Inbox<InputsSubmission>,
    /// The stage of shutdown.
    pub shutdown: Shutdown,
    /// How the embeddings of an input's tokens become one.
    pub pooling: Pooling,
}

/// The batching thread's state. Everything except the requests' own data is allocated at start-up and reused.
pub struct EmbedEngine<E, C, O> {
    encoder: E,
    capacity: EncoderCapacity,
    clock: C,
    observer: O,
    inbox: Inbox<InputsSubmission>,
    shutdown: Shutdown,
    pooling: Pooling,
    /// Requests just taken from the ring.
    arrivals: VecDeque<InputsSubmission>,
    /// Requests without an answer, in the order of arrival.
    requests: Vec<InputsRequest>,
    /// Requests that have inputs not begun yet, by their `order`; an input of the one whose turn it is is read next.
    turns: FairQueue<u64>,
    /// Turns that requests got in line for so far.
    tickets: u64,
    /// For each sequence, the input that it reads.
    inputs: Vec<Option<RunningInput>>,
    rows: Vec<Row>,
    stats: Stats,
    arrived: u64,
}

/// An input that is being read.
#[derive(Clone, Copy, Debug)]
struct RunningInput {
    /// The request that it belongs to, by its `order`.
    order: u64,
    index: usize,
    /// Tokens read so far.
    read: usize,
    /// All its tokens.
    len: usize,
}

/// Puts the request of number `order` behind those of its account.
fn get_in_line(turns: &mut FairQueue<u64>, tickets: &mut u64, share: &Share, order: u64) {
    *tickets += 1;
    turns.push(share, QueuePlace { priority: share.priority, ticket: *tickets }, order);
}

impl<E: Encoder, C: Clock, O: Observer> EmbedEngine<E, C, O> {
    /// An engine without requests.
    ///
    /// # Panics
    /// If the encoder has no sequence, has more sequences than rows, or must read inputs whole that are longer than a step.
    pub fn new(parts: EmbedParts<E, C, O>) -> Self {
        let capacity = parts.encoder.capacity();
        let seqs = usize::from(capacity.seqs);
        assert!(seqs > 0 && seqs <= capacity.rows_max, "a row for each input");
        assert!(!capacity.whole || capacity.input_max <= capacity.rows_max);
        EmbedEngine {
            encoder: parts.encoder,
            capacity,
            clock: parts.clock,
            observer: parts.observer,
            inbox: parts.inbox,
            shutdown: parts.shutdown,
            pooling: parts.pooling,
            arrivals: VecDeque::new(),
            requests: Vec::new(),
            turns: FairQueue::new(),
            tickets: 0,
            inputs: vec![None; seqs],
            rows: Vec::with_capacity(capacity.rows_max),
            stats: Stats::default(),
            arrived: 0,
        }
    }

    /// Runs until shutdown, like `Engine::run`.
    pub fn run(&mut self) -> bool {
        loop {
            match self.shutdown.stage() {
                Stage::Running => {}
                Stage::Draining if !self.has_work() => break,
                Stage::Draining => {}
                Stage::Now => break,
            }
            match self.step() {
                RoundOutcome::Decoded | RoundOutcome::Moved => {}
                RoundOutcome::Idle => _ = self.inbox.park(Some(Duration::from_millis(PARK_MS_MAX))),
                RoundOutcome::Broken => return false,
            }
        }
        self.end_all(FinishReason::Shutdown);
        true
    }

    /// Makes one round: admit, plan, encode, pool.
    pub fn step(&mut self) -> RoundOutcome {
        self.receive();
        self.drop_cancelled_and_overdue();
        self.admit();
        plan(&self.inputs, &self.requests, self.capacity.rows_max, &mut self.rows);
        self.refresh_gauges();
        if self.rows.is_empty() {
            self.observer.counted(&self.stats, None, self.clock.now_us());
            return RoundOutcome::Idle;
        }
        let started_us = self.clock.now_us();
        let outcome = self.encoder.encode(&self.rows);
        let now_us = self.clock.now_us();
        self.observer.step(outcome, now_us - started_us, now_us);
        match outcome {
            Outcome::Done => self.commit(),
            Outcome::NoRoom | Outcome::Partial => self.start_over(EMBED_FAILURES_MAX),
            // The rows broke a rule, which is a fault of cllm: another attempt would break it again.
            Outcome::Invalid => self.start_over(0),
            Outcome::Fatal => self.end_all(FinishReason::EngineError),
        }
        self.observer.counted(&self.stats, None, now_us);
        if outcome == Outcome::Fatal { RoundOutcome::Broken } else { RoundOutcome::Decoded }
    }

    /// Whether a request waits for its answer.
    pub fn has_work(&self) -> bool {
        !self.requests.is_empty() || !self.inbox.is_empty()
    }

    /// The engine's counts.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The encoder, for tests.
    pub fn encoder(&self) -> &E {
        &self.encoder
    }

    /// Checks what must hold between any two steps: each input of each request is done, being read or not begun, and
    /// each request with inputs that haven't begun has one turn. Visits everything; for tests.
    ///
    /// # Panics
    /// If something doesn't hold.
    pub fn check(&self) {
        assert!(self.requests.is_sorted_by(|a, b| a.order < b.order));
        for request in &self.requests {
            let reading = self.inputs.iter().flatten().filter(|input| input.order == request.order).count();
            assert_eq!(request.left(), request.unbegun() + reading, "an input was lost or is read twice");
            let turns = self.turns.iter().filter(|order| **order == request.order).count();
            assert_eq!(turns, usize::from(request.unbegun() > 0));
        }
        let live = |order: u64| self.requests.binary_search_by_key(&order, |request| request.order).is_ok();
        assert!(self.turns.iter().all(|order| live(*order)) && self.inputs.iter().flatten().all(|i| live(i.order)));
    }

    fn receive(&mut self) {
        self.inbox.drain_into(&mut self.arrivals);
        for submission in self.arrivals.drain(..) {
            self.arrived += 1;
            let request = InputsRequest::new(submission, self.arrived);
            get_in_line(&mut self.turns, &mut self.tickets, &request.share, self.arrived);
            self.requests.push(request);
        }
    }

    fn drop_cancelled_and_overdue(&mut self) {
        let now_us = self.clock.now_us();
        let mut i = 0;
        while i < self.requests.len() {
            match self.requests[i].wants_to_end(now_us) {
                Some(reason) => self.end(i, reason),
                None => i += 1,
            }
        }
    }

    /// Gives free sequences to requests in turn, for one input each.
    fn admit(&mut self) {
        let now_us = self.clock.now_us();
        let mut joined: usize = self.inputs.iter().flatten().map(|input| input.len).sum();
        for seq in 0..self.inputs.len() {
            if self.inputs[seq].is_some() {
                continue;
            }
            let Some(&order) = self.turns.next() else { return };
            let request = self.request_mut(order);
            let (index, len) = request.next();
            // A long input is read alone, because every row would attend to every other.
            if self.capacity.whole && joined > 0 && joined + len > self.capacity.rows_joined {
                return;
            }
            let request = self.request_mut(order);
            request.begin(now_us);
            let (has_more, share) = (request.unbegun() > 0, request.share);
            // Before it leaves its old place, so that its account is never seen to stop waiting.
            if has_more {
                get_in_line(&mut self.turns, &mut self.tickets, &share, order);
            }
            self.turns.pop();
            self.turns.charge(&share, 0, len as u64 * PROMPT_TOKEN_WORK);
            joined += len;
            self.inputs[seq] = Some(RunningInput { order, index, read: 0, len });
        }
    }

    /// After a successful step: pools the tokens' embeddings, and finishes inputs that are read to their end.
    fn commit(&mut self) {
        self.stats.steps += 1;
        self.stats.rows += self.rows.len() as u64;
        self.stats.prompt_tokens_decoded += self.rows.len() as u64;
        for i in 0..self.rows.len() {
            let seq = self.rows[i].seq;
            let Some(input) = self.inputs[seq.index()].as_mut() else { continue };
            if self.pooling.counts(input.read, input.len) {
                let embedding = self.encoder.embedding(i);
                let at = self.requests.binary_search_by_key(&input.order, |request| request.order);
                let request = &mut self.requests[at.expect("who is read has a request")];
                request.pool(self.pooling, input.index, embedding, self.capacity.n_embd);
            }
            input.read += 1;
        }
        for seq in 0..self.inputs.len() {
            let Some(RunningInput { order, index, .. }) = self.inputs[seq].filter(|input| input.read == input.len)
            else {
                continue;
            };
            self.release(seq);
            let at = self.position(order);
            if !self.requests[at].input_done(index, self.capacity.n_embd) {
                tracing::error!(request = %self.requests[at].id, "a request is ended: one of its embeddings has NaN or infinity");
                self.end(at, FinishReason::EngineError);
                continue;
            }
            self.stats.embeddings += 1;
            if self.requests[at].left() == 0 {
                self.end(at, FinishReason::Embedded);
            }
        }
    }

    /// After a failed step, when it is unknown what was read: its inputs start again. Ends requests that have failed
    /// more than `failures_max` times since they last finished an input.
    fn start_over(&mut self, failures_max: u32) {
        let mut orders: Vec<u64> = self.inputs.iter().flatten().map(|input| input.order).collect();
        orders.sort_unstable();
        orders.dedup();
        for seq in 0..self.inputs.len() {
            let Some(input) = &mut self.inputs[seq] else { continue };
            input.read = 0;
            let RunningInput { order, index, .. } = *input;
            self.encoder.seq_clear(SeqId(seq as u16));
            let n_embd = self.capacity.n_embd;
            self.request_mut(order).forget(index, n_embd);
        }
        for order in orders {
            let at = self.position(order);
            if self.requests[at].failed() > failures_max {
                tracing::error!(request = %self.requests[at].id, "a request is ended: its steps failed repeatedly");
                self.end(at, FinishReason::EngineError);
            }
        }
    }

    /// Ends the request at index `at` and frees its sequences.
    fn end(&mut self, at: usize, reason: FinishReason) {
        let request = self.requests.remove(at);
        self.turns.remove_if(|order| *order == request.order);
        for seq in 0..self.inputs.len() {
            if self.inputs[seq].is_some_and(|input| input.order == request.order) {
                self.release(seq);
            }
        }
        let now_us = self.clock.now_us();
        self.observer.finished(reason, request.age_us(now_us), 0);
        self.observer.counted(&self.stats, None, now_us);
        request.finish(reason, now_us);
    }

    /// Ends all requests with `reason`, and refuses further ones: the decoder is broken, or the grace period is over.
    fn end_all(&mut self, reason: FinishReason) {
        self.inbox.close();
        self.receive();
        while let Some(last) = self.requests.len().checked_sub(1) {
            self.end(last, reason);
        }
    }

    fn release(&mut self, seq: usize) {
        self.inputs[seq] = None;
        self.encoder.seq_clear(SeqId(seq as u16));
    }

    fn position(&self, order: u64) -> usize {
        let found = self.requests.binary_search_by_key(&order, |request| request.order);
        found.expect("turns and inputs are of requests that live")
    }

    fn request_mut(&mut self, order: u64) -> &mut InputsRequest {
        let at = self.position(order);
        &mut self.requests[at]
    }

    fn refresh_gauges(&mut self) {
        self.stats.waiting = self.requests.iter().filter(|request| !request.has_begun()).count();
        self.stats.running = self.requests.len() - self.stats.waiting;
        self.stats.kv_cells_used = self.inputs.iter().flatten().map(|input| input.read).sum();
        for seq in 0..self.inputs.len() {
            let state = self.inputs[seq].map(|input| {
                let request = &self.requests[self.position(input.order)];
                SlotState {
                    id: request.id,
                    phase: SlotPhase::Prefill,
                    n_prompt: input.len,
                    n_cached: 0,
                    n_past: input.read,
                    n_generated: 0,
                    max_tokens: 0,
                    admitted_us: request.begun_us(),
                    tokens_per_step: None,
                }
            });
            self.observer.slot(seq, state);
        }
    }
}
