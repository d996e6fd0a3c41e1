//! From tokens to reply slots: context check, places, claim, push. All jobs of a request get in, or none.

use std::cell::Cell;
use std::rc::Rc;

use tiny_http::Request;

use crate::chat::{Conversation, Prompt};
use crate::constrain::{Constraint, GuidedReader, Thinking};
use crate::handoff::{InputsSubmission, Refused, ReplyReader, Stage, State, Submission, VectorsReader, Wake, vectors};
use crate::http::ask::params::{GenerateRequest, Input};
use crate::http::ask::warnings::warn;
use crate::http::caller::Caller;
use crate::http::log_line::LogLine;
use crate::http::run::answer::{Failure, failure_of};
use crate::http::service::{Place, Service};
use crate::types::{GenerateParams, RequestError, RequestId, SamplingParams, Terminal, Token};

/// A generation to be submitted.
pub struct Job {
    /// At least one token; with `params.max_tokens` it fits, see `Service::room_for`.
    pub prompt: Vec<Token>,
    pub params: GenerateParams,
    /// What the text is held to.
    pub constraint: Option<Constraint>,
    /// How the model thinks before it answers; `None`: it doesn't.
    pub thinking: Option<Thinking>,
}

/// A generation that the engine has accepted: it gets exactly one terminal.
pub struct Accepted {
    pub id: RequestId,
    pub reader: GuidedReader,
    /// Held until the answer is there.
    _place: Place,
    pub max_tokens: usize,
    pub seed: u64,
    /// The request's field that the text is held to.
    pub constrained_by: Option<String>,
    line: Rc<LogLine>,
    has_ended: Cell<bool>,
}

impl Accepted {
    /// Notes its end for the log. The first time counts.
    pub fn ended(&self, end: &Terminal) {
        if !self.has_ended.replace(true) {
            self.line.ended(end);
        }
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        if self.has_ended.get() {
            return;
        }
        match self.reader.poll(Wake::AtEnd) {
            Some(State::Finished(end)) => self.line.ended(&end),
            _ => self.line.left(self.reader.n_read()),
        }
    }
}

/// Inputs whose embeddings are wanted.
#[derive(Default)]
pub struct Inputs {
    tokens: Vec<Token>,
    ends: Vec<usize>,
}

impl Inputs {
    /// One more, of at least one token and at most `ModelInfo::n_ctx`.
    pub fn push(&mut self, tokens: Vec<Token>) {
        self.tokens.extend(tokens);
        self.ends.push(self.tokens.len());
    }

    /// Tokens of all of them.
    pub fn n_tokens(&self) -> usize {
        self.tokens.len()
    }
}

/// Inputs that the engine has accepted: they get exactly one terminal together.
pub struct AcceptedInputs {
    pub reader: ReplyReader,
    pub vectors: VectorsReader,
    /// Held until the answer is there.
    _place: Place,
}

impl Service {
    /// Submits inputs, at least one, for `width` numbers each, and waits for them. A client that leaves cancels its request.
    /// `Ok(Err)`: what failed after the request was accepted.
    ///
    /// # Errors
    /// `QueueFull` where there is no place; `ShuttingDown`.
    pub(in crate::http) fn numbers_of(
        &self,
        request: &Request,
        caller: &Caller,
        inputs: Inputs,
        width: usize,
        arrived_us: u64,
        deadline_ms: Option<u64>,
    ) -> Result<Result<AcceptedInputs, Failure>, RequestError> {
        let mut accepted = self.submit_inputs(caller, inputs, width, arrived_us, deadline_ms)?;
        let canceller = accepted.reader.canceller();
        request.watch().on_disconnect(Box::new(move || canceller.cancel()));
        let end = loop {
            if let State::Finished(end) = accepted.reader.wait(None, Wake::AtEnd) {
                break end;
            }
        };
        caller.line.ended(&end);
        Ok(match failure_of(end.reason, None) {
            Some(failure) => Err(failure),
            None => Ok(accepted),
        })
    }

    fn submit_inputs(
        &self,
        caller: &Caller,
        inputs: Inputs,
        width: usize,
        arrived_us: u64,
        deadline_ms: Option<u64>,
    ) -> Result<AcceptedInputs, RequestError> {
        let Some(place) = self.take_places(1).and_then(|mut places| places.pop()) else {
            return Err(self.queue_full());
        };
        let (reply, reader) = self.parts.replies.claim().ok_or_else(|| self.queue_full())?;
        let Inputs { tokens, ends } = inputs;
        let (room, vectors) = vectors(ends.len() * width);
        let deadline_us = deadline_ms.map(|ms| arrived_us.saturating_add(ms.saturating_mul(1_000)));
        let (id, n_tokens) = (caller.id, tokens.len());
        let submission = InputsSubmission { id, tokens, ends, arrived_us, deadline_us, reply, vectors: room };
        self.parts.inbox.push_inputs(submission).map_err(|refused| match refused {
            Refused::Full(_) => self.queue_full(),
            Refused::Closed(_) => RequestError::ShuttingDown,
        })?;
        caller.line.accepted(n_tokens);
        Ok(AcceptedInputs { reader, vectors, _place: place })
    }

    /// Submits a native request, or says why not.
    pub(in crate::http) fn submit(&self, caller: &Caller, request: GenerateRequest) -> Result<Accepted, RequestError> {
        let arrived_us = self.now_us();
        self.check_running()?;
        let (prompt, field, thinking) = match &request.input {
            Input::Prompt(text) => (self.parts.tokenizer.encode(text, true, true)?, "prompt", None),
            Input::Messages(messages) => {
                let (prompt, tokens) = self.chat_prompt(Conversation { messages, ..Conversation::default() })?;
                prompt.warnings.iter().for_each(|warning| warn(*warning));
                let thinking = self.thinking_behind(&prompt.text, &request.format, None)?;
                (tokens, "messages", thinking)
            }
        };
        if prompt.is_empty() {
            return Err(RequestError::field(field, "has no tokens"));
        }
        self.check_bias(&request.sampling)?;
        let params = GenerateParams {
            max_tokens: self.room_for(prompt.len(), request.max_tokens)?,
            sampling: request.sampling,
            min_tokens: request.ends.min_tokens,
            stop: request.stop,
            thought: None,
            stop_tokens: request.ends.stop_tokens,
            ignore_eos: request.ignore_eos,
            logprobs: None,
            prompt_logprobs: false,
            sampled_logprobs: false,
            constrained: false,
            prediction: Vec::new(),
        };
        let constraint = match request.input {
            Input::Prompt(_) => self.constraint_of(&request.format, "json_schema")?,
            Input::Messages(_) => self.answer_constraint_of(&request.format, "json_schema")?,
        };
        let mut accepted = self.submit_jobs(
            caller,
            vec![Job { prompt, params, constraint, thinking }],
            arrived_us,
            request.deadline_ms,
        )?;
        accepted.pop().ok_or(RequestError::ShuttingDown)
    }

    /// # Errors
    /// `ShuttingDown`, before any work is done.
    pub(in crate::http) fn check_running(&self) -> Result<(), RequestError> {
        if self.parts.shutdown.stage() == Stage::Running { Ok(()) } else { Err(RequestError::ShuttingDown) }
    }

    /// A conversation as text and as tokens. What its messages and tools spell is never a control token.
    pub(in crate::http) fn chat_prompt(
        &self,
        conversation: Conversation<'_>,
    ) -> Result<(Prompt, Vec<Token>), RequestError> {
        let prompt = self.parts.template.prompt(conversation, &self.guard)?;
        // A template that writes BOS itself must not get a second one.
        let add_special = !self.parts.template.starts_with_bos(&prompt.text);
        let tokens = self.parts.tokenizer.encode_chat(&prompt.text, add_special, &prompt.barriers)?;
        Ok((prompt, tokens))
    }

    /// # Errors
    /// `logit_bias` names a token that isn't there.
    pub(in crate::http) fn check_bias(&self, sampling: &SamplingParams) -> Result<(), RequestError> {
        let n_vocab = self.parts.tokenizer.n_vocab();
        match sampling.logit_bias.iter().find(|(token, _)| *token as usize >= n_vocab) {
            None => Ok(()),
            Some((token, _)) => {
                let message = format!("{token} is no token id, they go up to {}", n_vocab - 1);
                Err(RequestError::field("logit_bias", message))
            }
        }
    }

    /// How many tokens to generate behind a prompt of `n_prompt_tokens`: what was asked for, or all that fit. A wish that does
    /// not fit is shortened, and the answer says so.
    ///
    /// # Errors
    /// `TooLong` when the prompt alone does not fit.
    pub(in crate::http) fn room_for(
        &self,
        n_prompt_tokens: usize,
        wanted: Option<usize>,
    ) -> Result<usize, RequestError> {
        let n_ctx = self.parts.model.n_ctx;
        let room = n_ctx.saturating_sub(n_prompt_tokens);
        let least = usize::from(wanted != Some(0));
        if n_prompt_tokens + least > n_ctx {
            return Err(RequestError::TooLong { n_prompt_tokens, n_ctx });
        }
        if wanted.is_some_and(|wanted| wanted > room) {
            warn(format!("max_tokens: shortened to the {room} tokens that fit behind the prompt"));
        }
        Ok(wanted.map_or(room, |wanted| wanted.min(room)))
    }

    /// Submits all of `jobs`, or none of them.
    ///
    /// # Errors
    /// `QueueFull` unless there is a place for each; `ShuttingDown`.
    pub(in crate::http) fn submit_jobs(
        &self,
        caller: &Caller,
        jobs: Vec<Job>,
        arrived_us: u64,
        deadline_ms: Option<u64>,
    ) -> Result<Vec<Accepted>, RequestError> {
        let places = self.take_places(jobs.len()).ok_or_else(|| self.queue_full())?;
        let mut accepted = Vec::with_capacity(jobs.len());
        for (Job { prompt, mut params, constraint, thinking }, place) in jobs.into_iter().zip(places) {
            if self.parts.log_prompts {
                caller.line.asked(|| self.parts.tokenizer.decode(&prompt, true));
            }
            // Whoever leaves midway drops the readers so far, and dropping cancels.
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
            params.thought = thinking.as_ref().map(|thinking| thinking.marks.clone());
            let constraint = constraint.map(|constraint| constraint.ignoring_eos(params.ignore_eos));
            let guide = self.parts.constrainer.guide(constraint, thinking)?;
            params.constrained = guide.is_some();
            let reader = GuidedReader::new(reader, guide);
            let (seed, max_tokens) = (params.sampling.seed, params.max_tokens);
            let deadline_us = deadline_ms.map(|ms| arrived_us.saturating_add(ms.saturating_mul(1_000)));
            let (id, n_prompt) = (caller.id, prompt.len());
            let submission = Submission { id, prompt, params, arrived_us, deadline_us, reply };
            self.parts.inbox.push(submission).map_err(|refused| match refused {
                Refused::Full(_) => self.queue_full(),
                Refused::Closed(_) => RequestError::ShuttingDown,
            })?;
            caller.line.accepted(n_prompt);
            let (line, has_ended) = (Rc::clone(&caller.line), Cell::new(false));
            accepted.push(Accepted { id, reader, _place: place, max_tokens, seed, constrained_by, line, has_ended });
        }
        Ok(accepted)
    }

    /// Retry when about half of those in flight will be through: their number over the slots, times the mean time of
    /// one, halved; 1 to 60 s.
    fn queue_full(&self) -> RequestError {
        let metrics = &self.parts.metrics;
        metrics.http.ring_full.inc();
        let latency = &metrics.http.e2e_latency;
        let mean_us = latency.sum_us().checked_div(latency.count()).unwrap_or(0);
        let rounds = self.parts.in_flight_max.div_ceil(self.parts.model.slots.max(1)) as u64;
        let retry_after_s = (mean_us * rounds / 2_000_000).clamp(1, 60) as u32;
        RequestError::QueueFull { retry_after_s }
    }
}
