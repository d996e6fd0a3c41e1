//! An observer that records what the engine reports of requests: why they ended, and their times. Small worlds and random ones read it.

use std::cell::RefCell;
use std::rc::Rc;

use cllm::engine::Observer;
use cllm::types::FinishReason;

/// What the engine has reported. A copy reads the same records.
#[derive(Clone, Default)]
pub struct Ends {
    /// Why each request ended, in the order of their ends.
    pub reasons: Rc<RefCell<Vec<FinishReason>>>,
    pub times: Rc<RefCell<Times>>,
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
    fn first_token(&mut self, ttft_us: u64, _queue_us: u64) {
        self.times.borrow_mut().first_us += ttft_us;
    }

    fn token(&mut self, since_last_us: u64) {
        self.times.borrow_mut().between_us += since_last_us;
    }

    fn finished(&mut self, reason: FinishReason, e2e_us: u64, _generated: usize) {
        self.reasons.borrow_mut().push(reason);
        self.times.borrow_mut().whole_us += e2e_us;
    }
}
