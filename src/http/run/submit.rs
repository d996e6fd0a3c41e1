//! Submits a request's generations: context check, places, slots, ring. Either all of them are submitted or none.

use std::cell::Cell;
use std::rc::Rc;

use crate::constrain::{Constraint, GuidedReader, Thinking};
use crate::handoff::{Refused, ReplyState, Stage, Submission, Wake};
use crate::http::account::Permit;
use crate::http::ask::generation::Generation;
use crate::http::caller::Caller;
use crate::http::log_line::LogLine;
use crate::http::rate::Over;
use crate::http::service::{InFlight, Service};
use crate::types::{Dry, GenerateParams, KeyTerms, RequestError, Share, Terminal, Token};

/// A generation to submit.
pub struct GenerationJob {
    /// The prompt, at least one token; with `params.max_tokens` it fits the context, see `Service::room_for`.
    pub prompt: Vec<Token>,
    /// The parameters for the engine.
    pub params: GenerateParams,
    /// The constraint of the text; `None`: the text is free.
    pub constraint: Option<Constraint>,
    /// The thought before the answer; `None`: the model doesn't think.
    pub thinking: Option<Thinking>,
}

/// A generation that the engine has accepted. It gets exactly one terminal.
pub struct Accepted {
    /// The reader of its reply.
    pub reader: GuidedReader,
    /// Kept until the answer is sent.
    _place: InFlight,
    /// What to charge to the account; `None`: the request has no account.
    charge: Option<Charge>,
    /// The field of the request that constrains the text.
    pub constrained_by: Option<String>,
    line: Rc<LogLine>,
    has_ended: Cell<bool>,
}

/// One answer's part of a request's permit.
pub struct Charge {
    permit: Permit,
    /// Tokens of the prompt; and of the prompt with the longest possible answer.
    prompt: usize,
    reserved: u64,
}

impl Charge {
    /// Charges an answer that has ended.
    pub fn ended(&self, end: &Terminal) {
        self.permit.ended(self.reserved, end);
    }

    fn left(&self, generated: usize) {
        self.permit.left(self.reserved, self.prompt, generated);
    }
}

impl Accepted {
    /// Records the end for the log and the accounts. Only the first call counts.
    pub fn ended(&self, end: &Terminal) {
        if !self.has_ended.replace(true) {
            self.line.ended(end);
            self.charge.iter().for_each(|charge| charge.ended(end));
        }
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        if self.has_ended.get() {
            return;
        }
        match self.reader.poll(Wake::AtEnd) {
            Some(ReplyState::Finished(end)) => self.ended(&end),
            _ => {
                self.line.left(self.reader.n_read());
                self.charge.iter().for_each(|charge| charge.left(self.reader.n_read()));
            }
        }
    }
}

/// The room for an answer.
pub struct Room {
    /// Most tokens of the answer.
    pub max_tokens: usize,
    /// Whether the request asked for more tokens than that.
    pub is_cut: bool,
}

impl Service {
    /// Refuses requests during shutdown, before any work is done.
    ///
    /// # Errors
    /// `ShuttingDown`.
    pub(in crate::http) fn check_running(&self) -> Result<(), RequestError> {
        if self.parts.shutdown.stage() == Stage::Running { Ok(()) } else { Err(RequestError::ShuttingDown) }
    }

    /// Refuses a request that asks for more answers than the server has places.
    ///
    /// # Errors
    /// `Field`, for the field that asks for the answers.
    pub(super) fn check_places(&self, generation: &Generation) -> Result<(), RequestError> {
        let (n, max) = (generation.inputs.len() * generation.answers, self.parts.in_flight_max);
        if n <= max {
            return Ok(());
        }
        let field = if generation.inputs.len() > 1 { "prompt" } else { generation.answers_field };
        Err(RequestError::field(field, format!("asks for {n} answers at once, this server has places for {max}")))
    }

    /// Converts biased texts to biased tokens.
    ///
    /// # Errors
    /// `logit_bias` names an unknown token.
    pub(super) fn find_biases(&self, generation: &mut Generation) -> Result<(), RequestError> {
        let biases = &mut generation.sampling.logit_bias;
        for (text, bias) in generation.biased_texts.drain(..) {
            let tokens = self.parts.tokenizer.encode(&text, false, true)?;
            biases.extend(tokens.iter().map(|token| (token.0, bias)));
        }
        let n_vocab = self.parts.tokenizer.n_vocab();
        match biases.iter().find(|(token, _)| *token as usize >= n_vocab) {
            None => Ok(()),
            Some((token, _)) => {
                let message = format!("{token} is no token id, they go up to {}", n_vocab - 1);
                Err(RequestError::field("logit_bias", message))
            }
        }
    }

    /// Most tokens to generate after a prompt of `n_prompt_tokens`: as many as the request asks for, at most as many as
    /// fit.
    ///
    /// # Errors
    /// `TooLong` if the prompt alone doesn't fit.
    pub(super) fn room_for(
        &self,
        caller: &Caller,
        n_prompt_tokens: usize,
        wanted: Option<usize>,
    ) -> Result<Room, RequestError> {
        let n_ctx = caller.n_ctx(self.parts.model.n_ctx);
        let fits = n_ctx.saturating_sub(n_prompt_tokens);
        let least = usize::from(wanted != Some(0));
        if n_prompt_tokens + least > n_ctx {
            return Err(RequestError::TooLong { n_prompt_tokens, n_ctx });
        }
        Ok(Room {
            max_tokens: wanted.map_or(fits, |wanted| wanted.min(fits)),
            is_cut: wanted.is_some_and(|wanted| wanted > fits),
        })
    }

    /// Finds the tokens at which DRY lets repetitions end, if DRY is on.
    fn find_breakers(&self, dry: &mut Dry) {
        if dry.is_on() && dry.breakers.is_none() {
            dry.breakers = Some(self.breakers.of(&self.parts.tokenizer, dry.breaker_texts.as_deref()));
        }
    }

    /// Submits all of `jobs`, or none of them.
    ///
    /// # Errors
    /// `RateLimited` by the limits of the key; `QueueFull` if there isn't a place for each; `ShuttingDown`.
    pub(super) fn submit_jobs(
        &self,
        caller: &Caller,
        jobs: Vec<GenerationJob>,
        arrived_us: u64,
        deadline_ms: Option<u64>,
    ) -> Result<Vec<Accepted>, RequestError> {
        let tokens = |job: &GenerationJob| (job.prompt.len() + job.params.max_tokens) as u64;
        let permit = self.permit(caller, || jobs.iter().map(tokens).sum())?;
        let places = self.take_places(jobs.len()).ok_or_else(|| self.queue_full())?;
        let mut accepted = Vec::with_capacity(jobs.len());
        for (GenerationJob { prompt, mut params, constraint, thinking }, place) in jobs.into_iter().zip(places) {
            if self.parts.log_prompts {
                caller.line.asked(|| self.parts.tokenizer.decode(&prompt, true));
            }
            // If this fails for a later job, dropping the earlier readers cancels their requests.
            let claimed = match params.logprobs {
                None => self.parts.replies.claim(),
                Some(top) => {
                    let of_prompt = if params.prompt_logprobs { prompt.len() - 1 } else { 0 };
                    self.parts.replies.claim_with_logprobs(of_prompt, params.max_tokens, top)
                }
            };
            let (reply, reader) = claimed.ok_or_else(|| self.queue_full())?;
            self.find_breakers(&mut params.sampling.dry);
            let constrained_by = constraint.as_ref().map(|constraint| constraint.field().to_owned());
            params.owner = caller.standing.owner;
            params.space = caller.standing.owner.filter(|_| !self.parts.shares_prompts).unwrap_or_default();
            params.share = Share { priority: params.share.priority, ..caller.standing.share };
            params.thought = thinking.as_ref().map(|thinking| thinking.marks.clone());
            let constraint = constraint.map(|constraint| constraint.ignoring_eos(params.ignore_eos));
            let guide = self.parts.constrainer.guide(constraint, thinking)?;
            params.constrained = guide.is_some();
            let reader = GuidedReader::new(reader, guide);
            let deadline_us = deadline_ms.map(|ms| arrived_us.saturating_add(ms.saturating_mul(1_000)));
            let (id, n_prompt) = (caller.id, prompt.len());
            let reserved = (n_prompt + params.max_tokens) as u64;
            let submission = Submission { id, prompt, params, arrived_us, deadline_us, reply };
            self.parts.submitter.push(submission).map_err(|refused| match refused {
                Refused::Full(_) => self.queue_full(),
                Refused::Closed(_) => RequestError::ShuttingDown,
            })?;
            caller.line.accepted(n_prompt);
            let charge = permit.clone().map(|permit| Charge { permit, prompt: n_prompt, reserved });
            let (line, has_ended) = (Rc::clone(&caller.line), Cell::new(false));
            accepted.push(Accepted { reader, _place: place, charge, constrained_by, line, has_ended });
        }
        Ok(accepted)
    }

    /// Admits a request that uses at most this many tokens, if its key has limits.
    ///
    /// # Errors
    /// `RateLimited`.
    pub(super) fn permit(&self, caller: &Caller, tokens: impl FnOnce() -> u64) -> Result<Option<Permit>, RequestError> {
        let Some(account) = &caller.standing.account else { return Ok(None) };
        let begun = account.begin(tokens(), &self.parts.clock);
        caller.limited(account, self.now_us());
        begun.map(Some).map_err(|over| self.rate_limited(&account.terms, over))
    }

    /// The refusal for a limit, with the time of a retry. If a running request of the key must end first, that time is
    /// half the mean duration of a request, 1 to 60 s.
    fn rate_limited(&self, terms: &KeyTerms, over: Over) -> RequestError {
        let latency = &self.parts.metrics.http.e2e_latency;
        let mean_us = latency.sum_us().checked_div(latency.count()).unwrap_or(0);
        let one_ends_s = (mean_us / 2_000_000).clamp(1, 60);
        let (wait_s, of_what) = match over {
            Over::Tokens { retry_after_s: Some(wait_s) } => (wait_s, "tokens a minute"),
            Over::Tokens { retry_after_s: None } => {
                (one_ends_s, "tokens a minute, which its running requests may need")
            }
            Over::Requests => (one_ends_s, "requests at once"),
        };
        let limits = &terms.limits;
        let most = if over == Over::Requests { limits.requests } else { limits.tokens_per_minute };
        let message =
            format!("the key {} has used its {} {of_what}: try again in {wait_s} s", terms.name, most.unwrap_or(0));
        RequestError::RateLimited { message, retry_after_s: wait_s as u32 }
    }

    /// The refusal of a full queue. The time of a retry is when about half of the requests in flight will have ended:
    /// their number divided by the slots, times the mean duration of a request, halved; 1 to 60 s.
    pub(super) fn queue_full(&self) -> RequestError {
        let metrics = &self.parts.metrics;
        metrics.http.ring_full.inc();
        let latency = &metrics.http.e2e_latency;
        let mean_us = latency.sum_us().checked_div(latency.count()).unwrap_or(0);
        let rounds = self.parts.in_flight_max.div_ceil(self.parts.model.slots.max(1)) as u64;
        let retry_after_s = (mean_us * rounds / 2_000_000).clamp(1, 60) as u32;
        RequestError::QueueFull { retry_after_s }
    }
}
