//! An accepted request inside the engine: everything that stays with it while it waits, runs, is preempted or gives way.

use std::cell::RefCell;

use super::fair::QueuePlace;
use super::stats::GuessCounts;
use super::stop::{Stop, StopMatcher};
use crate::handoff::{ReplyWriter, Submission};
use crate::sample::Sampler;
use crate::types::limits::{GENERATED_TOKEN_WORK, PROMPT_TOKEN_WORK};
use crate::types::{
    BlockName, FinishReason, GenerateParams, GuessSource, PathStep, Piece, RequestId, Terminal, Token, TokenLogprobs,
    TokenMask, TokenTable, Verdict,
};

/// A request between the ring and its terminal event.
#[derive(Debug)]
pub struct AcceptedRequest {
    /// The request's number.
    pub id: RequestId,
    /// The tokens that must be in the cache before the next token can be chosen: the prompt, and after the request was
    /// preempted or gave way also the tokens that it had generated.
    pub tokens: Vec<Token>,
    /// How to generate.
    pub params: GenerateParams,
    /// Its place among waiting requests of its account.
    pub place: QueuePlace,
    /// The number of the admission in which its turn came: its age among requests that are preempted for lack of room.
    /// `None`: its turn hasn't come, or it gave up its slot and waits for another turn.
    pub turn: Option<u64>,
    /// When to end it, in microseconds of the clock; `None`: no deadline.
    pub deadline_us: Option<u64>,
    /// How many of `tokens` are the prompt.
    n_prompt: usize,
    /// How many of the prompt's tokens were in the cache and were never decoded for it.
    n_cached: usize,
    /// How many of its tokens were restored from outside the cells.
    n_restored: usize,
    /// The names of the first blocks of its tokens, as far as they were needed (`memory`).
    pub names: RefCell<Vec<BlockName>>,
    /// How many of its prompt's tokens were in the cache, decoded or found there, when it last left a slot.
    n_got: usize,
    /// Tokens that its sequence held when it last gave up its slot to an interactive request.
    gave_way_at: Option<usize>,
    /// How often it gave up its slot to an interactive request.
    gave_way: u32,
    /// Work that has been charged to its account.
    charged: u64,
    /// The first token of the prompt whose log probabilities were not reported yet.
    n_scored: usize,
    generated: usize,
    arrived_us: u64,
    admitted_us: Option<u64>,
    first_token_us: Option<u64>,
    last_token_us: u64,
    stop: StopMatcher,
    /// The state of Mirostat when the request was preempted or gave way.
    mirostat_bound: Option<f32>,
    text_end: usize,
    /// The stop string that ended it.
    stopped_by: Option<u8>,
    /// The source of its latest guesses.
    guess_source: GuessSource,
    guesses: GuessCounts,
    reply: ReplyWriter,
}

impl AcceptedRequest {
    /// A request that has just arrived.
    pub fn new(submission: Submission, place: QueuePlace) -> AcceptedRequest {
        let Submission { id, prompt, mut params, arrived_us, deadline_us, reply } = submission;
        assert!(!prompt.is_empty(), "the HTTP side validates");
        AcceptedRequest {
            id,
            n_prompt: prompt.len(),
            tokens: prompt,
            stop: StopMatcher::behind_thought(std::mem::take(&mut params.stop), params.thought.take()),
            params,
            place,
            turn: None,
            deadline_us,
            n_cached: 0,
            n_restored: 0,
            names: RefCell::default(),
            n_got: 0,
            gave_way_at: None,
            gave_way: 0,
            charged: 0,
            // The first token has no log probability, because it follows nothing.
            n_scored: 1,
            generated: 0,
            arrived_us,
            admitted_us: None,
            first_token_us: None,
            last_token_us: 0,
            mirostat_bound: None,
            text_end: 0,
            stopped_by: None,
            guess_source: GuessSource::Own,
            guesses: GuessCounts::default(),
            reply,
        }
    }

    /// Cells that the request holds when its last token is chosen; that token is never decoded.
    pub fn cells_at_end(&self) -> usize {
        self.n_prompt + self.params.max_tokens.saturating_sub(1)
    }

    /// Whether log probabilities of the prompt's tokens are still to be reported.
    pub fn is_scoring(&self) -> bool {
        self.params.prompt_logprobs && self.n_scored < self.n_prompt
    }

    /// The token at `index`, if its log probabilities are still to be reported.
    pub fn unscored(&self, index: usize) -> Option<Token> {
        (self.is_scoring() && (self.n_scored..self.n_prompt).contains(&index)).then(|| self.tokens[index])
    }

    /// Reports the log probabilities of the token at `index`.
    pub fn score(&mut self, index: usize, scores: &TokenLogprobs) {
        assert_eq!(index, self.n_scored, "rows come in the prompt's order");
        self.reply.put_prompt(index - 1, scores);
        self.n_scored += 1;
    }

    /// The tokens that may come from the cache: all but the last. If log probabilities of the prompt are wanted, the
    /// token before the first unreported one must be decoded, too.
    pub fn shareable(&self) -> &[Token] {
        if self.is_scoring() { &self.tokens[..self.n_scored] } else { &self.tokens }
    }

    /// Tokens of the prompt.
    pub fn n_prompt(&self) -> usize {
        self.n_prompt
    }

    /// Prompt tokens that were in the cache.
    pub fn n_cached(&self) -> usize {
        self.n_cached
    }

    /// Tokens generated so far.
    pub fn generated(&self) -> usize {
        self.generated
    }

    /// The work that it got, including all of its prompt that wasn't in the cache, because an admitted prompt will be
    /// decoded.
    fn work(&self) -> u64 {
        self.work_of(self.n_prompt)
    }

    /// Like `work`, if only the prompt's first `n_read` tokens have been in the cache, decoded or found there.
    fn work_of(&self, n_read: usize) -> u64 {
        let read = n_read.max(self.n_got).min(self.n_prompt).saturating_sub(self.n_cached);
        read as u64 * PROMPT_TOKEN_WORK + self.generated as u64 * GENERATED_TOKEN_WORK
    }

    /// Work that was charged in advance: for prompt tokens that aren't in the cache yet, which holds `held` of them.
    pub fn charged_unread(&self, held: usize) -> u64 {
        if self.generated > 0 { 0 } else { self.charged.saturating_sub(self.work_of(held)) }
    }

    /// Records its work as charged. Returns the work charged before, and the work charged now. To be called after it
    /// was admitted.
    pub fn charge(&mut self) -> (u64, u64) {
        let now = self.work();
        (std::mem::replace(&mut self.charged, now), now)
    }

    /// Like `charge`, when it leaves its slot with `held` of its tokens in the cache: the rest of the prompt isn't
    /// charged.
    pub fn charge_at_end(&mut self, held: usize) -> (u64, u64) {
        let now = if self.generated > 0 { self.work() } else { self.work_of(held) };
        (std::mem::replace(&mut self.charged, now), now)
    }

    /// Whether the client cancelled it.
    pub fn is_cancelled(&self) -> bool {
        self.reply.is_cancelled()
    }

    /// What its grammar allows as the next token; the mask is written to `mask` if there is one. `None`: the mask isn't
    /// there yet.
    pub fn verdict(&mut self, mask: &mut TokenMask) -> Option<Verdict> {
        debug_assert!(self.params.constrained);
        self.reply.verdict(mask)
    }

    /// The path that its grammar's reader has published.
    pub fn ahead(&mut self) -> &[PathStep] {
        self.reply.ahead()
    }

    /// The tokens that its grammar's reader expects behind its latest token, without masks. To be called after `ahead`.
    pub fn sequel(&self) -> &[Token] {
        self.reply.sequel()
    }

    /// Whether its reply slot has room for another piece.
    pub fn reply_has_room(&self) -> bool {
        self.reply.has_room()
    }

    /// The most guesses behind its next token that can be of use: it ends at `max_tokens`, and each right guess is a
    /// piece.
    pub fn guesses_max(&mut self) -> usize {
        let left = self.params.max_tokens.saturating_sub(self.generated + 1);
        left.min(self.reply.room().saturating_sub(1))
    }

    /// Records that `count` guesses from `source` get rows in the next step.
    pub fn guessed(&mut self, source: GuessSource, count: usize) {
        self.guess_source = source;
        self.guesses.tried += count as u64;
    }

    /// Records that the next of its guesses was right. Returns the guess's source.
    pub fn guess_came_true(&mut self) -> GuessSource {
        self.guesses.accepted += 1;
        self.guess_source
    }

    /// Whether its deadline has passed.
    pub fn is_overdue(&self, now_us: u64) -> bool {
        self.deadline_us.is_some_and(|deadline| now_us >= deadline)
    }

    /// Records an admission at `now_us`, with `held` of its tokens in the cache.
    pub fn admitted(&mut self, now_us: u64, held: usize) {
        self.admitted_us.get_or_insert(now_us);
        self.found(held);
    }

    /// Records that the cache holds `held` of its tokens, at its admission or when a prefix comes that it waited for.
    /// Prompt tokens that it gets this way for the first time aren't charged.
    pub fn found(&mut self, held: usize) {
        let held = held.min(self.n_prompt);
        self.n_cached += held.saturating_sub(self.n_got);
        self.n_got = self.n_got.max(held);
    }

    /// Whether it holds more tokens than when it last gave up its slot. Only then may it give it up again, so that it
    /// does so no more often than it has cells.
    pub fn has_come_further(&self, held: usize) -> bool {
        self.gave_way_at.is_none_or(|before| held > before)
    }

    /// Records that it gives up its slot with `held` tokens in its sequence. Its next turn is like any other.
    pub fn give_way(&mut self, held: usize) {
        self.gave_way_at = Some(held);
        self.gave_way += 1;
        self.turn = None;
    }

    /// Adds tokens that were restored from outside the cells.
    pub fn restored(&mut self, tokens: usize) {
        self.n_restored += tokens;
    }

    /// Tokens restored from outside the cells so far.
    pub fn restored_tokens(&self) -> usize {
        self.n_restored
    }

    /// When it was first admitted.
    pub fn admitted_us(&self) -> Option<u64> {
        self.admitted_us
    }

    /// Microseconds that it waited for its first admission, so far.
    pub fn queued_us(&self, now_us: u64) -> u64 {
        self.admitted_us.unwrap_or(now_us).saturating_sub(self.arrived_us)
    }

    /// Microseconds since it arrived.
    pub fn age_us(&self, now_us: u64) -> u64 {
        now_us.saturating_sub(self.arrived_us)
    }

    /// Microseconds since its latest token; `None` before the first.
    pub fn since_last_token_us(&self, now_us: u64) -> Option<u64> {
        self.first_token_us.map(|_| now_us.saturating_sub(self.last_token_us))
    }

    /// Ends the text, because its grammar is complete.
    pub fn complete(&mut self, now_us: u64) -> FinishReason {
        self.first_token_us.get_or_insert(now_us);
        self.text_end = self.stop.text_len();
        FinishReason::Eos
    }

    /// Records a chosen token and publishes it. Returns why the request ends with it, if it does.
    pub fn take_token(
        &mut self,
        token: Token,
        scores: Option<&TokenLogprobs>,
        table: &TokenTable,
        now_us: u64,
    ) -> Option<FinishReason> {
        self.first_token_us.get_or_insert(now_us);
        self.last_token_us = now_us;
        if self.ends_with(token, table) {
            self.text_end = self.stop.text_len();
            if let Some(scores) = scores {
                self.reply.put_end(token, scores);
            }
            return Some(FinishReason::Eos);
        }
        self.generated += 1;
        let bytes = table.bytes(token);
        let found = self.stop.take(token, bytes, self.generated > self.params.min_tokens);
        let stopped = match found {
            Stop::Open { text_end } => {
                self.text_end = text_end;
                false
            }
            Stop::Hit { text_end, which } => {
                (self.text_end, self.stopped_by) = (text_end, Some(which));
                true
            }
        };
        let at_limit = self.generated == self.params.max_tokens;
        if at_limit && !stopped {
            self.text_end = self.stop.text_len();
        }
        let piece = Piece { token, text_end: self.text_end as u32 };
        self.reply.push_scored(piece, scores).expect("rows are planned only for requests whose reply has room");
        match (stopped, at_limit) {
            (true, _) => Some(FinishReason::Stop),
            (false, true) => Some(FinishReason::Length),
            (false, false) => None,
        }
    }

    /// Whether the text ends before `token`.
    fn ends_with(&self, token: Token, table: &TokenTable) -> bool {
        (table.is_eog(token) && !self.params.ignore_eos) || self.params.stop_tokens.contains(&token)
    }

    /// Records the state of Mirostat and of its prompt when the request leaves its slot to be continued later. `held`:
    /// tokens in its sequence.
    pub fn leave(&mut self, mirostat_bound: f32, held: usize) {
        self.mirostat_bound = self.params.sampling.mirostat.map(|_| mirostat_bound);
        let got = if self.generated > 0 { self.n_prompt } else { held.min(self.n_prompt) };
        self.n_got = self.n_got.max(got);
    }

    /// Sets up `sampler` for this request.
    pub fn prepare(&self, sampler: &mut Sampler, table: &TokenTable) {
        sampler.resume(&self.params.sampling, &self.tokens, self.generated as u64, self.mirostat_bound);
        if self.params.min_tokens > 0 {
            let eog = if self.params.ignore_eos { &[] } else { table.eog() };
            sampler.keep_back(eog.iter().chain(&self.params.stop_tokens).copied(), self.params.min_tokens);
        }
    }

    /// Publishes the terminal.
    pub fn finish(self, reason: FinishReason, now_us: u64) {
        let admitted = self.admitted_us.unwrap_or(now_us);
        let first = self.first_token_us.unwrap_or(now_us);
        // The text ends before its stop string could be completed, so the bytes held back for it are text.
        let text_end = match reason {
            FinishReason::Stop | FinishReason::Eos | FinishReason::Length => self.text_end,
            _ => self.stop.text_len(),
        };
        self.reply.finish(Terminal {
            reason,
            text_end: text_end as u32,
            generated_tokens: self.generated as u32,
            thought_tokens: self.stop.thought_tokens() as u32,
            guesses: self.guesses.tried as u32,
            guesses_accepted: self.guesses.accepted as u32,
            gave_way: self.gave_way,
            prompt_tokens: self.n_prompt as u32,
            cached_tokens: self.n_cached as u32,
            restored_tokens: self.n_restored.min(self.n_cached) as u32,
            stop: self.stopped_by.filter(|_| reason == FinishReason::Stop),
            queue_us: admitted.saturating_sub(self.arrived_us),
            prefill_us: first.saturating_sub(admitted),
            decode_us: now_us.saturating_sub(first),
        });
    }
}
