//! An observer that records what the engine reports of requests: why they ended, their times, and what it had counted by then. Small worlds
//! and random ones read it.

use std::cell::RefCell;
use std::rc::Rc;

use cllm::engine::{Observer, PromptStats, Stats};
use cllm::handoff::{ReplyReader, Wake};
use cllm::types::FinishReason;
use cllm::types::seams::Outcome;

/// What the engine has reported. A copy reads the same records.
#[derive(Clone, Default)]
pub struct Ends {
    /// Why each request ended, in the order of their ends.
    pub reasons: Rc<RefCell<Vec<FinishReason>>>,
    pub times: Rc<RefCell<Times>>,
    pub watched: Rc<RefCell<Watched>>,
}

/// What was reported before a client could see its answer's end, and after that.
#[derive(Default)]
pub struct Watched {
    /// The client; `None`: nothing is recorded.
    pub reader: Option<ReplyReader>,
    /// Reported steps that went through.
    steps: u64,
    /// An end was reported, and the counts before it is sent weren't.
    owes_counts: bool,
    pub before: Option<Reported>,
    pub after: Option<Reported>,
}

/// Steps that went through, and the latest counts.
#[derive(Clone, Copy, Debug)]
pub struct Reported {
    pub steps: u64,
    pub stats: Stats,
    pub moved: Option<PromptStats>,
}

/// Sums over all requests, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// From arrival to first token.
    pub first_us: u64,
    /// From each token to the next.
    pub between_us: u64,
    /// From arrival to end.
    pub whole_us: u64,
}

impl Observer for Ends {
    fn step(&mut self, outcome: Outcome, _decode_us: u64, _now_us: u64) {
        self.watched.borrow_mut().steps += u64::from(outcome == Outcome::Done);
    }

    fn counted(&mut self, stats: &Stats, moved: Option<&PromptStats>, _now_us: u64) {
        let watched = &mut *self.watched.borrow_mut();
        assert_eq!(stats.steps, watched.steps, "a step is counted before it is reported");
        watched.owes_counts = false;
        let Watched { reader: Some(reader), steps, before, after, .. } = watched else { return };
        let reported = Reported { steps: *steps, stats: *stats, moved: moved.copied() };
        let has_ended = reader.poll(Wake::AtEnd).is_some();
        *(if has_ended { after } else { before }) = Some(reported);
    }

    fn first_token(&mut self, ttft_us: u64, _queue_us: u64) {
        self.times.borrow_mut().first_us += ttft_us;
    }

    fn token(&mut self, since_last_us: u64) {
        self.times.borrow_mut().between_us += since_last_us;
    }

    fn finished(&mut self, reason: FinishReason, e2e_us: u64, _generated: usize) {
        let owed = std::mem::replace(&mut self.watched.borrow_mut().owes_counts, true);
        assert!(!owed, "an end was sent before it was counted");
        self.reasons.borrow_mut().push(reason);
        self.times.borrow_mut().whole_us += e2e_us;
    }
}
