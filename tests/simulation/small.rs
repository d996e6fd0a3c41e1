//! Small worlds made by hand: faults that seeds found, and cases that rarely occur by chance.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use cllm::engine::{Engine, EngineParts, PromptMemory, PromptRows, Reserve, RoundOutcome};
use cllm::handoff::{ReplyPool, ReplyReader, ReplyState, Sender, Shutdown, Stage, Submission, Wake, ring};
use cllm::types::seams::{Capacity, CheckpointRule, Outcome};
use cllm::types::{FinishReason, GenerateParams, RequestId, SamplingParams, Token, TokenMask, Verdict};

use crate::dice::Dice;
use crate::ends::Ends;
use crate::fake_decoder::{FakeDecoder, Faults, Pace, VirtualClock};
use crate::shape::{N_VOCAB, table};

pub struct Small {
    pub engine: Engine<FakeDecoder, VirtualClock, Ends>,
    sender: Sender<Submission>,
    pool: ReplyPool,
    pub shutdown: Shutdown,
    pub ends: Ends,
    /// While set, the outcome of every step.
    pub forced: Rc<Cell<Option<Outcome>>>,
}

/// Three slots and steps of 8 rows over `cells` shared cells, or 64 each.
pub fn small(cells: Option<u32>, pieces_per_reply: usize) -> Small {
    small_with(cells, pieces_per_reply, Reserve::ToTheEnd)
}

/// Like `small`, with a cache that can't cut the end of a sequence.
pub fn small_recurrent() -> Small {
    small_of(None, 64, Reserve::ToTheEnd, Faults { recurrent: true, ..Faults::default() })
}

/// Like `small`, with a recurrent model's cache, of whose states one is kept after every `every` tokens.
pub fn small_with_checkpoints(every: usize) -> Small {
    let checkpoints = Some(CheckpointRule { every, bytes_max: 4_000, is_whole: true });
    small_of(None, 64, Reserve::ToTheEnd, Faults { recurrent: true, checkpoints, ..Faults::default() })
}

/// Like `small`, over one buffer of 192 cells, with steps that take as long as `pace` says.
pub fn small_paced(pace: Pace) -> Small {
    small_of(Some(192), 64, Reserve::ToTheEnd, Faults { pace: Some(pace), ..Faults::default() })
}

fn small_with(cells: Option<u32>, pieces_per_reply: usize, reserve: Reserve) -> Small {
    small_of(cells, pieces_per_reply, reserve, Faults::default())
}

fn small_of(cells: Option<u32>, pieces_per_reply: usize, reserve: Reserve, faults: Faults) -> Small {
    let capacity = Capacity { seqs: 3, cells_per_seq: 64, cells_common: cells, rows_max: 8, n_vocab: N_VOCAB };
    let (clock, ends, shutdown) = (VirtualClock::default(), Ends::default(), Shutdown::default());
    let (sender, inbox) = ring(8);
    let decoder = FakeDecoder::new(capacity, faults, Dice::new(1), clock.clone());
    let forced = decoder.forced();
    let engine = Engine::new(EngineParts {
        decoder,
        clock,
        observer: ends.clone(),
        inbox,
        table: table(&mut Dice::new(2)),
        shutdown: shutdown.clone(),
        slots: 3,
        prompt_rows: PromptRows::Fixed(8),
    })
    .reserving(reserve);
    let pool = ReplyPool::with_masks(8, pieces_per_reply, N_VOCAB, sender.wake_handle());
    Small { engine, sender, pool, shutdown, ends, forced }
}

impl Small {
    /// Asks for `max_tokens` tokens after a prompt of `shared` tokens that all prompts have and `own` tokens of its
    /// own.
    pub fn ask(&self, shared: u32, own: u32, max_tokens: usize) -> ReplyReader {
        self.ask_for(shared, own, GenerateParams { max_tokens, ..GenerateParams::default() })
    }

    pub fn ask_for(&self, shared: u32, own: u32, params: GenerateParams) -> ReplyReader {
        let (reply, reader) = self.pool.claim().expect("a free slot");
        let stranger = self.ends.reasons.borrow().len() as u32 + self.pool.free() as u32;
        let prompt = (0..shared).map(|i| Token(i % 7)).chain((0..own).map(|_| Token(10 + stranger))).collect();
        let sampling = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
        let params = GenerateParams { sampling, ignore_eos: true, ..params };
        let submission = Submission { id: RequestId(1), prompt, params, arrived_us: 0, deadline_us: None, reply };
        self.sender.push(submission).expect("room in the ring");
        reader
    }

    /// Lets the engine keep blocks outside the cells.
    pub fn remembering(self, memory: PromptMemory) -> Small {
        Small { engine: self.engine.remembering(memory), ..self }
    }

    pub fn steps(&mut self, n: usize) {
        for _ in 0..n {
            self.engine.step();
            self.engine.check();
        }
    }
}

pub fn reason(reader: &mut ReplyReader) -> Option<FinishReason> {
    reader.read_into(&mut Vec::new());
    match reader.wait(Some(Instant::now()), Wake::EachPiece) {
        ReplyState::Finished(terminal) => Some(terminal.reason),
        _ => None,
    }
}

/// The cells that a request still needs were counted two too few for each token it had generated, and the count wrapped
/// below 0.
#[test]
fn a_promise_stays_whole_while_tokens_are_generated() {
    let mut world = small(Some(40), 64);
    let _long = world.ask(0, 4, 30);
    world.steps(21);
    let _newcomer = world.ask(0, 4, 20);
    world.steps(5);
    assert_eq!(world.engine.stats().running, 1, "33 + 23 cells don't fit into 40");
    world.steps(30);
    assert_eq!((world.engine.stats().preemptions, world.ends.reasons.borrow().len()), (0, 2));
}

/// Requests that may use a whole pool, as all without a bound may, were served one after the other.
#[test]
fn requests_that_may_take_everything_are_served_together() {
    let mut world = small_with(Some(60), 64, Reserve::Share);
    let _readers = [world.ask(0, 4, 50), world.ask(0, 4, 50), world.ask(0, 4, 50)];
    world.steps(3);
    assert_eq!(world.engine.stats().running, 3, "a share of 20 cells each");
    world.steps(400);
    assert_eq!(*world.ends.reasons.borrow(), [FinishReason::Length; 3], "each has all its tokens");
    assert!(world.engine.stats().preemptions > 0, "3 times 53 cells don't fit into 60");
}

/// A request that uses nearly the whole pool leaves room for short ones beside it, and is preempted until there is room
/// for it to grow.
#[test]
fn a_long_request_and_short_ones_share_a_pool() {
    let mut world = small_with(Some(64), 64, Reserve::Share);
    let _long = world.ask(0, 30, 34);
    let _short = [world.ask(0, 2, 6), world.ask(0, 2, 6)];
    world.steps(1);
    assert_eq!(world.engine.stats().running, 3);
    world.steps(20);
    // 30 tokens and a quarter of a share of 21 don't fit beside the long one.
    let _second = world.ask(0, 30, 34);
    world.steps(12);
    assert_eq!((world.engine.stats().running, world.engine.stats().preemptions), (1, 0));
    world.steps(200);
    assert_eq!(*world.ends.reasons.borrow(), [FinishReason::Length; 4]);
}

/// A beginning that was too short to be copied was counted as shared.
#[test]
fn what_is_not_copied_is_not_counted_as_shared() {
    let mut world = small(Some(30), 64);
    let _first = world.ask(10, 2, 4);
    world.steps(2);
    let _second = world.ask(10, 2, 8);
    world.steps(1);
    assert_eq!(world.engine.stats().running, 1, "15 + 19 cells don't fit into 30");
    world.steps(20);
    assert_eq!((world.engine.stats().preemptions, world.ends.reasons.borrow().len()), (0, 2));
}

/// When a leader ended early, all requests that had waited for its prefix prefilled it at the same time.
#[test]
fn when_a_leader_goes_the_next_one_leads() {
    let mut world = small(None, 64);
    let leader = world.ask(56, 1, 1);
    let _next = world.ask(56, 2, 1);
    let _last = world.ask(56, 2, 1);
    // 1 row, 8 and 8: enough to share.
    world.steps(3);
    drop(leader);
    world.steps(20);
    assert_eq!(world.ends.reasons.borrow().len(), 3);
    assert_eq!(world.engine.stats().prompt_tokens_decoded, 56 + 2 + 2);
}

/// A request that was preempted was admitted at once and preempted again, for ever if the cache stayed without room.
#[test]
fn without_any_room_every_request_is_told_in_the_end() {
    let mut world = small(None, 64);
    let mut readers: Vec<_> = (0..4).map(|_| world.ask(0, 4, 8)).collect();
    world.steps(2);
    world.forced.set(Some(Outcome::NoRoom));
    world.steps(60);
    assert!(readers.iter_mut().all(|reader| reason(reader) == Some(FinishReason::EngineError)));
}

/// A request that was preempted, and whose client didn't read, blocked the requests that waited for its prefix.
#[test]
fn no_request_waits_behind_a_client_that_does_not_read() {
    let mut world = small(None, 1);
    let mut older = world.ask(0, 4, 60);
    let _stalled = world.ask(40, 1, 8);
    for _ in 0..12 {
        reason(&mut older);
        world.steps(1);
    }
    world.forced.set(Some(Outcome::NoRoom));
    while world.engine.stats().preemptions == 0 {
        reason(&mut older);
        world.steps(1);
    }
    world.forced.set(None);
    let mut newcomer = world.ask(40, 2, 1);
    for _ in 0..20 {
        reason(&mut older);
        world.steps(1);
    }
    assert_eq!(reason(&mut newcomer), Some(FinishReason::Length));
}

/// If the only running request can't decode because its client doesn't read, other requests must still be admitted.
#[test]
fn a_client_that_does_not_read_keeps_no_request_out() {
    let mut world = small(None, 1);
    let _stalled = world.ask(0, 4, 8);
    world.steps(2);
    let mut younger = world.ask(0, 4, 8);
    world.steps(1);
    world.forced.set(Some(Outcome::NoRoom));
    while world.engine.stats().preemptions == 0 {
        reason(&mut younger);
        world.steps(1);
    }
    world.forced.set(None);
    let mut ended = None;
    for _ in 0..20 {
        world.steps(1);
        ended = reason(&mut younger);
    }
    assert_eq!(ended, Some(FinishReason::Length));
}

#[test]
fn the_last_cell_is_given_away_and_none_twice() {
    for (cells, together) in [(26, 2), (25, 1)] {
        let mut world = small(Some(cells), 64);
        let _readers = [world.ask(0, 4, 10), world.ask(0, 4, 10)];
        world.steps(3);
        assert_eq!(world.engine.stats().running, together, "13 + 13 cells in {cells}");
        world.steps(30);
        assert_eq!((world.engine.stats().preemptions, world.ends.reasons.borrow().len()), (0, 2));
    }
}

#[test]
fn a_request_whose_steps_always_fail_midway_is_told_and_the_next_one_served() {
    let mut world = small(Some(64), 64);
    let mut hopeless = world.ask(0, 12, 4);
    world.forced.set(Some(Outcome::Partial));
    world.steps(4);
    assert_eq!(reason(&mut hopeless), Some(FinishReason::EngineError));
    world.forced.set(None);
    let mut next = world.ask(0, 12, 4);
    world.steps(8);
    assert_eq!(reason(&mut next), Some(FinishReason::Length));
}

#[test]
fn only_requests_whose_rows_were_invalid_are_told() {
    let mut world = small(None, 64);
    let mut first = [world.ask(0, 4, 8), world.ask(0, 4, 8), world.ask(0, 4, 8)];
    let mut waits = world.ask(0, 4, 8);
    world.forced.set(Some(Outcome::Invalid));
    world.steps(1);
    world.forced.set(None);
    world.steps(20);
    let told = first.each_mut().map(reason).iter().filter(|why| **why == Some(FinishReason::EngineError)).count();
    assert!(told > 0 && told < 3, "8 rows carry two of three prompts");
    assert_eq!(reason(&mut waits), Some(FinishReason::Length));
}

/// Requests still in the ring at the end were answered but not counted.
#[test]
fn requests_in_the_ring_at_the_end_are_told_and_counted() {
    let mut world = small(None, 64);
    let mut reader = world.ask(0, 4, 8);
    world.shutdown.advance(Stage::Now);
    assert!(world.engine.run());
    assert_eq!(reason(&mut reader), Some(FinishReason::Shutdown));
    assert_eq!(*world.ends.reasons.borrow(), [FinishReason::Shutdown]);
}

/// Only `run` ended the requests: callers of `step` left them waiting.
#[test]
fn a_broken_decoder_is_told_to_every_request_within_the_step() {
    let mut world = small(None, 64);
    let mut readers: Vec<_> = (0..5).map(|_| world.ask(0, 4, 8)).collect();
    world.forced.set(Some(Outcome::Fatal));
    assert_eq!(world.engine.step(), RoundOutcome::Broken);
    assert!(readers.iter_mut().all(|reader| reason(reader) == Some(FinishReason::EngineError)));
}

fn only(token: u32) -> TokenMask {
    let mut mask = TokenMask::none(N_VOCAB);
    mask.set(Token(token), true);
    mask
}

pub fn pieces(reader: &mut ReplyReader) -> Vec<u32> {
    let mut pieces = Vec::new();
    reader.read_into(&mut pieces);
    pieces.iter().map(|piece| piece.token.0).collect()
}

/// Counted in steps: while a mask is missing, the other requests get a token in each step, and the request without a
/// mask costs no row. It gets its token, from the logits that were kept, in the first round after its mask has
/// come.
#[test]
fn no_step_waits_for_a_mask() {
    let mut world = small(None, 64);
    let constrained = GenerateParams { max_tokens: 3, constrained: true, ..GenerateParams::default() };
    let mut late = world.ask_for(0, 2, constrained);
    let mut others = [world.ask(0, 2, 40), world.ask(0, 2, 40)];
    world.steps(1);
    let others_got = |others: &mut [ReplyReader; 2]| others.each_mut().map(|other| pieces(other).len());
    assert_eq!((pieces(&mut late), others_got(&mut others)), (vec![], [1, 1]));
    for missing in 0..3 {
        let rows = world.engine.stats().rows;
        world.steps(5);
        assert_eq!((pieces(&mut late), others_got(&mut others)), (vec![], [5, 5]));
        assert_eq!(
            (world.engine.stats().rows - rows, world.engine.stats().masks_awaited),
            (10, 1 + u64::from(missing))
        );
        late.publish(Verdict::Allow, &only(7 + missing));
        let steps = world.engine.stats().steps;
        // The round that finds the mask chooses a token before it plans.
        world.engine.step();
        assert_eq!(pieces(&mut late), [7 + missing]);
        assert_eq!((world.engine.stats().steps, others_got(&mut others)), (steps + 1, [1, 1]));
    }
    assert_eq!(reason(&mut late), Some(FinishReason::Length));
}

/// If the mask is always there in time, a constrained request gets a token in each step like any other.
#[test]
fn a_mask_in_time_costs_no_step() {
    let mut world = small(None, 64);
    let constrained = GenerateParams { max_tokens: 20, constrained: true, ..GenerateParams::default() };
    let mut reader = world.ask_for(0, 2, constrained);
    reader.publish(Verdict::Allow, &only(3));
    for _ in 0..9 {
        world.steps(1);
        assert_eq!(pieces(&mut reader), [3]);
        reader.publish(Verdict::Allow, &only(3));
    }
    world.steps(1);
    assert_eq!(pieces(&mut reader), [3]);
    reader.publish(Verdict::Complete, &only(3));
    let rows = world.engine.stats().rows;
    assert_eq!(world.engine.step(), RoundOutcome::Idle, "nothing is decoded for a text that is complete");
    assert_eq!((reason(&mut reader), world.engine.stats().rows), (Some(FinishReason::Eos), rows));
    assert_eq!(world.engine.stats().masks_awaited, 0);
}

/// What the metrics say of tokens: the times between them are those from the first to the last.
#[test]
fn the_times_between_tokens_fill_the_time_from_the_first_to_the_end() {
    let mut world = small(None, 64);
    let _readers = [world.ask(0, 4, 8), world.ask(0, 4, 5), world.ask(0, 20, 3)];
    world.steps(40);
    let times = *world.ends.times.borrow();
    assert_eq!(world.ends.reasons.borrow().len(), 3);
    assert!(times.first_us > 0 && times.between_us > 0, "{times:?}");
    assert_eq!(times.first_us + times.between_us, times.whole_us);
}

/// A follower goes on from the leader's checkpoint, which is the only place where such a cache can be copied.
#[test]
fn where_a_cache_cannot_be_cut_a_request_waits_for_the_checkpoint_of_another() {
    let mut world = small_with_checkpoints(8);
    let mut readers = [world.ask(44, 1, 2), world.ask(44, 2, 2)];
    world.steps(40);
    assert_eq!(readers.each_mut().map(reason), [Some(FinishReason::Length); 2]);
    let stats = world.engine.stats();
    assert_eq!((stats.prefixes_awaited, stats.prompt_tokens_decoded), (1, 45 + 6));
}
