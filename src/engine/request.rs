//! One accepted request inside the engine: everything that stays with it while it waits, runs or is set aside.

use std::cell::RefCell;

use super::fair::Place;
use super::stats::Guesses;
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
pub struct Request {
    pub id: RequestId,
    /// What must be in the cache before the next token can be chosen: the prompt, and after the request was set aside
    /// also what it had generated.
    pub tokens: Vec<Token>,
    pub params: GenerateParams,
    /// Its place among waiting requests of its account.
    pub place: Place,
    /// The number of the admission in which its turn came: its age among requests that are set aside for want of room. `None`: its
    /// turn has not come, or it gave way and waits for another.
    pub turn: Option<u64>,
    pub deadline_us: Option<u64>,
    /// Tokens of `tokens` that the client sent.
    n_prompt: usize,
    /// Of those, how many came out of the cache and were never read for it.
    n_cached: usize,
    /// Tokens that came from outside the cells.
    n_restored: usize,
    /// Names of its tokens' first blocks, as far as they were needed (`memory`).
    pub names: RefCell<Vec<BlockName>>,
    /// Of those, how many had been in the cache, read or found there, when it last left a slot.
    n_got: usize,
    /// Tokens that its sequence held when it last gave way.
    gave_way_at: Option<usize>,
    /// Times that it gave way.
    gave_way: u32,
    /// Work that has been charged to its account.
    charged: u64,
    /// Where the prompt begins of which the client hasn't been told how likely it was.
    n_scored: usize,
    generated: usize,
    arrived_us: u64,
    admitted_us: Option<u64>,
    first_token_us: Option<u64>,
    last_token_us: u64,
    stop: StopMatcher,
    /// Where Mirostat stood when the request was set aside.
    mirostat_bound: Option<f32>,
    text_end: usize,
    /// The stop string that ended it.
    stopped_by: Option<u8>,
    /// Where its latest guesses came from, and how many have had a row and have come true.
    guess_source: GuessSource,
    guesses: Guesses,
    reply: ReplyWriter,
}

impl Request {
    pub fn new(submission: Submission, place: Place) -> Request {
        let Submission { id, prompt, mut params, arrived_us, deadline_us, reply } = submission;
        assert!(!prompt.is_empty(), "the HTTP side validates");
        Request {
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
            // The first token follows nothing.
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
            guesses: Guesses::default(),
            reply,
        }
    }

    /// Cells the request holds when its last token has been chosen: that one is never decoded.
    pub fn cells_at_end(&self) -> usize {
        self.n_prompt + self.params.max_tokens.saturating_sub(1)
    }

    /// Whether the client is to be told how likely more of the prompt's tokens were.
    pub fn is_scoring(&self) -> bool {
        self.params.prompt_logprobs && self.n_scored < self.n_prompt
    }

    /// The token at `index`, if how likely it was is still to be told.
    pub fn unscored(&self, index: usize) -> Option<Token> {
        (self.is_scoring() && (self.n_scored..self.n_prompt).contains(&index)).then(|| self.tokens[index])
    }

    /// Tells how likely the token at `index` was.
    pub fn score(&mut self, index: usize, scores: &TokenLogprobs) {
        assert_eq!(index, self.n_scored, "rows come in the prompt's order");
        self.reply.put_prompt(index - 1, scores);
        self.n_scored += 1;
    }

    /// What the cache may know already, all but the last token: of a token that is still to be scored the one before
    /// must be decoded.
    pub fn shareable(&self) -> &[Token] {
        if self.is_scoring() { &self.tokens[..self.n_scored] } else { &self.tokens }
    }

    pub fn n_prompt(&self) -> usize {
        self.n_prompt
    }

    pub fn n_cached(&self) -> usize {
        self.n_cached
    }

    pub fn generated(&self) -> usize {
        self.generated
    }

    /// Work of what it has got, all of its prompt that the cache didn't have included: what is let in will be read.
    fn work(&self) -> u64 {
        self.work_of(self.n_prompt)
    }

    /// As `work`, where only the prompt's first `n_read` tokens have been in the cache, whether they were read or found there.
    fn work_of(&self, n_read: usize) -> u64 {
        let read = n_read.max(self.n_got).min(self.n_prompt).saturating_sub(self.n_cached);
        read as u64 * PROMPT_TOKEN_WORK + self.generated as u64 * GENERATED_TOKEN_WORK
    }

    /// Work that was charged in advance: of its prompt's tokens that are not in the cache yet, with `held` there.
    pub fn charged_unread(&self, held: usize) -> u64 {
        if self.generated > 0 { 0 } else { self.charged.saturating_sub(self.work_of(held)) }
    }

    /// Notes its work as charged. Returns what was charged before, and what is now. Once it is let in.
    pub fn charge(&mut self) -> (u64, u64) {
        let now = self.work();
        (std::mem::replace(&mut self.charged, now), now)
    }

    /// As `charge`, as it leaves its slot with `held` of its tokens in the cache: a prompt that is left unread costs nothing.
    pub fn charge_at_end(&mut self, held: usize) -> (u64, u64) {
        let now = if self.generated > 0 { self.work() } else { self.work_of(held) };
        (std::mem::replace(&mut self.charged, now), now)
    }

    pub fn is_cancelled(&self) -> bool {
        self.reply.is_cancelled()
    }

    /// What its grammar says about the next token; the mask goes into `mask` if there is one. `None`: nothing yet.
    pub fn verdict(&mut self, mask: &mut TokenMask) -> Option<Verdict> {
        debug_assert!(self.params.constrained);
        self.reply.verdict(mask)
    }

    /// How it goes on as far as its grammar says.
    pub fn ahead(&mut self) -> &[PathStep] {
        self.reply.ahead()
    }

    /// Whether its reader has taken enough for another piece.
    pub fn reply_has_room(&self) -> bool {
        self.reply.has_room()
    }

    /// Guesses behind its next token that can have a use: it ends with `max_tokens`, and each that comes true is a piece.
    pub fn guesses_max(&mut self) -> usize {
        let left = self.params.max_tokens.saturating_sub(self.generated + 1);
        left.min(self.reply.room().saturating_sub(1))
    }

    /// `count` guesses from `source` get rows in the next step.
    pub fn guessed(&mut self, source: GuessSource, count: usize) {
        self.guess_source = source;
        self.guesses.tried += count as u64;
    }

    /// The next of its guesses has come true. Says where it came from.
    pub fn guess_came_true(&mut self) -> GuessSource {
        self.guesses.accepted += 1;
        self.guess_source
    }

    pub fn is_overdue(&self, now_us: u64) -> bool {
        self.deadline_us.is_some_and(|deadline| now_us >= deadline)
    }

    /// Notes an admission: when, and how many of its tokens the cache has.
    pub fn admitted(&mut self, now_us: u64, held: usize) {
        self.admitted_us.get_or_insert(now_us);
        self.found(held);
    }

    /// The cache has `held` of its tokens, as it is let in or as a prefix comes that it waited for. Tokens of the prompt that it never
    /// had before are free.
    pub fn found(&mut self, held: usize) {
        let held = held.min(self.n_prompt);
        self.n_cached += held.saturating_sub(self.n_got);
        self.n_got = self.n_got.max(held);
    }

    /// Whether it has come further than when it last gave way. Only then may it give way again: so it gives way no more often than it
    /// has cells, however often its cells are lost.
    pub fn has_come_further(&self, held: usize) -> bool {
        self.gave_way_at.is_none_or(|before| held > before)
    }

    /// Notes that it gives way, with `held` tokens in its sequence. Its next turn is as any other's.
    pub fn give_way(&mut self, held: usize) {
        self.gave_way_at = Some(held);
        self.gave_way += 1;
        self.turn = None;
    }

    /// So many more of its tokens came from outside the cells.
    pub fn restored(&mut self, tokens: usize) {
        self.n_restored += tokens;
    }

    /// Tokens that came from outside the cells so far.
    pub fn restored_tokens(&self) -> usize {
        self.n_restored
    }

    /// When it was first admitted.
    pub fn admitted_us(&self) -> Option<u64> {
        self.admitted_us
    }

    /// Microseconds it waited for its first admission, so far.
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

    /// Its grammar is complete: all text stands.
    pub fn complete(&mut self, now_us: u64) -> FinishReason {
        self.first_token_us.get_or_insert(now_us);
        self.text_end = self.stop.text_len();
        FinishReason::Eos
    }

    /// Takes note of a chosen token and publishes it. Returns why the request ends with it, if it does.
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

    /// Notes where Mirostat stands and what it had of its prompt, as the request leaves its slot to come back later. `held`: tokens in
    /// its sequence.
    pub fn leave(&mut self, mirostat_bound: f32, held: usize) {
        self.mirostat_bound = self.params.sampling.mirostat.map(|_| mirostat_bound);
        let got = if self.generated > 0 { self.n_prompt } else { held.min(self.n_prompt) };
        self.n_got = self.n_got.max(got);
    }

    /// Makes `sampler` this request's.
    pub fn prepare(&self, sampler: &mut Sampler, table: &TokenTable) {
        sampler.resume(&self.params.sampling, &self.tokens, self.generated as u64, self.mirostat_bound);
        if self.params.min_tokens > 0 {
            let eog = if self.params.ignore_eos { &[] } else { table.eog() };
            sampler.keep_back(eog.iter().chain(&self.params.stop_tokens).copied(), self.params.min_tokens);
        }
    }

    /// The last word.
    pub fn finish(self, reason: FinishReason, now_us: u64) {
        let admitted = self.admitted_us.unwrap_or(now_us);
        let first = self.first_token_us.unwrap_or(now_us);
        // Cut off midway: what was held back for a stop string that never came is text after all.
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
