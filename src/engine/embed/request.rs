//! An accepted request for embeddings: its inputs, the embeddings pooled so far, and its reply.

use crate::handoff::{InputsSubmission, ReplyWriter, VectorsWriter};
use crate::types::{FinishReason, Pooling, RequestId, Share, Terminal, Token};

/// A request between the ring and its terminal event.
#[derive(Debug)]
pub struct InputsRequest {
    /// The request's number.
    pub id: RequestId,
    /// The number of arrivals before it.
    pub order: u64,
    tokens: Vec<Token>,
    ends: Vec<usize>,
    pub share: Share,
    arrived_us: u64,
    deadline_us: Option<u64>,
    reply: ReplyWriter,
    vectors: VectorsWriter,
    /// Inputs `0..begun` have been given to a sequence.
    begun: usize,
    done: usize,
    begun_us: Option<u64>,
    /// Steps that failed since it last finished an input.
    failures: u32,
}

impl InputsRequest {
    /// A request that has just arrived.
    pub fn new(submission: InputsSubmission, order: u64) -> InputsRequest {
        let InputsSubmission { id, tokens, ends, share, arrived_us, deadline_us, reply, vectors } = submission;
        assert!(ends.first().is_some_and(|end| *end > 0) && ends.is_sorted_by(|a, b| a < b), "the HTTP side validates");
        assert_eq!(ends.last(), Some(&tokens.len()));
        InputsRequest {
            id,
            order,
            tokens,
            ends,
            share,
            arrived_us,
            deadline_us,
            reply,
            vectors,
            begun: 0,
            done: 0,
            begun_us: None,
            failures: 0,
        }
    }

    /// The tokens of one input.
    pub fn tokens(&self, index: usize) -> &[Token] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.tokens[start..self.ends[index]]
    }

    /// The number of inputs that are not finished.
    pub fn left(&self) -> usize {
        self.ends.len() - self.done
    }

    /// The number of inputs that haven't begun.
    pub fn unbegun(&self) -> usize {
        self.ends.len() - self.begun
    }

    /// The next input to begin: its index and its length in tokens.
    pub fn next(&self) -> (usize, usize) {
        (self.begun, self.tokens(self.begun).len())
    }

    /// Records that its next input begins.
    pub fn begin(&mut self, now_us: u64) {
        self.begun += 1;
        self.begun_us.get_or_insert(now_us);
    }

    /// Whether any input has begun.
    pub fn has_begun(&self) -> bool {
        self.begun > 0
    }

    /// When its first input began, in microseconds of the clock.
    pub fn begun_us(&self) -> u64 {
        self.begun_us.unwrap_or_default()
    }

    /// Microseconds since it arrived.
    pub fn age_us(&self, now_us: u64) -> u64 {
        now_us.saturating_sub(self.arrived_us)
    }

    /// Why it must end before it is finished; `None`: it needn't.
    pub fn wants_to_end(&self, now_us: u64) -> Option<FinishReason> {
        if self.reply.is_cancelled() {
            return Some(FinishReason::Cancelled);
        }
        self.deadline_us.is_some_and(|deadline| now_us >= deadline).then_some(FinishReason::Deadline)
    }

    /// Adds the embedding of one token of an input. If it has a wrong length, the input's embedding becomes NaN.
    pub fn pool(&mut self, pooling: Pooling, index: usize, embedding: &[f32], n_embd: usize) {
        let len = self.tokens(index).len();
        let sum = self.vector(index, n_embd);
        if embedding.len() == n_embd { pooling.add(sum, embedding, len) } else { sum.fill(f32::NAN) }
    }

    /// Removes everything pooled of an input.
    pub fn forget(&mut self, index: usize, n_embd: usize) {
        self.vector(index, n_embd).fill(0.0);
    }

    /// Finishes an input. Returns whether its embedding consists of finite numbers.
    pub fn input_done(&mut self, index: usize, n_embd: usize) -> bool {
        self.done += 1;
        self.failures = 0;
        self.vector(index, n_embd).iter().all(|x| x.is_finite())
    }

    /// Counts a failed step. Returns how many there were since it last finished an input.
    pub fn failed(&mut self) -> u32 {
        self.failures += 1;
        self.failures
    }

    /// Sends the terminal.
    pub fn finish(self, reason: FinishReason, now_us: u64) {
        let begun = self.begun_us.unwrap_or(now_us);
        if reason == FinishReason::Embedded {
            self.vectors.publish();
        }
        self.reply.finish(Terminal {
            reason,
            text_end: 0,
            stop: None,
            generated_tokens: 0,
            thought_tokens: 0,
            guesses: 0,
            guesses_accepted: 0,
            gave_way: 0,
            prompt_tokens: self.tokens.len() as u32,
            cached_tokens: 0,
            restored_tokens: 0,
            queue_us: begun.saturating_sub(self.arrived_us),
            prefill_us: now_us.saturating_sub(begun),
            decode_us: 0,
        });
    }

    fn vector(&mut self, index: usize, n_embd: usize) -> &mut [f32] {
        &mut self.vectors.numbers()[index * n_embd..(index + 1) * n_embd]
    }
}
