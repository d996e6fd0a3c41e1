//! The whole way of a request to generate: parse, check, read, submit, deliver, record.

use tiny_http::{Request, ResponseBox};

use super::choices::Choices;
use super::speaks::{Prompted, Speaks, Told};
use super::submit::GenerationJob;
use crate::chat::{CallStyle, OutputParser};
use crate::http::ask::generation::Generation;
use crate::http::ask::warnings::warn;
use crate::http::caller::Caller;
use crate::http::service::Service;
use crate::types::limits::PREDICTION_TOKENS_MAX;
use crate::types::{GenerateParams, RequestError};

/// A parsed request and its dialect, or why it can't be used.
pub type ParsedRequest<D> = Result<(Generation, D), RequestError>;

impl Service {
    /// Serves a request of dialect `D`.
    pub(in crate::http) fn run<D: Speaks>(&self, request: Request, caller: &Caller) {
        let parsed = self.parsed(caller, request.body());
        self.run_parsed::<D>(request, caller, parsed);
    }

    /// Parses a body of dialect `D`.
    pub(in crate::http) fn parsed<D: Speaks>(&self, caller: &Caller, body: &[u8]) -> ParsedRequest<D> {
        D::parse(body, &self.parts.defaults, self.seed_for(caller))
    }

    /// The seed of a request that has none.
    pub(in crate::http) fn seed_for(&self, caller: &Caller) -> u64 {
        self.parts.defaults.seed.unwrap_or_else(|| self.fresh_seed(caller.id))
    }

    /// Serves a parsed request. One HTTP thread stays with it until its end.
    pub(in crate::http) fn run_parsed<D: Speaks>(&self, request: Request, caller: &Caller, parsed: ParsedRequest<D>) {
        let started_us = self.now_us();
        let (choices, told, dialect) = match self.begun(caller, parsed, started_us) {
            Ok(begun) => begun,
            Err(error) => return self.refuse(request, caller, D::ERRORS, &error),
        };
        let cancellers = choices.cancellers();
        request.watch().on_disconnect(Box::new(move || cancellers.iter().for_each(|canceller| canceller.cancel())));
        if told.generation.stream {
            self.answer_in_events(request, caller, choices, dialect.events(told), D::ERRORS);
        } else {
            let response = self.whole_answer(choices, dialect.whole(told), D::ERRORS);
            self.respond(request, caller, response);
        }
        self.record(started_us);
    }

    /// The whole answer to `body`, without a connection.
    pub(in crate::http) fn run_unconnected<D: Speaks>(&self, caller: &Caller, body: &[u8]) -> ResponseBox {
        let started_us = self.now_us();
        match self.begun::<D>(caller, self.parsed(caller, body), started_us) {
            Err(error) => self.refusal(caller, D::ERRORS, &error),
            Ok((choices, told, dialect)) => {
                let response = self.whole_answer(choices, dialect.whole(told), D::ERRORS);
                self.record(started_us);
                response
            }
        }
    }

    /// Records the duration of a served request. Refusals aren't recorded, because `Retry-After` is computed from the
    /// mean.
    pub(in crate::http) fn record(&self, started_us: u64) {
        self.parts.metrics.http.e2e_latency.record_us(self.now_us().saturating_sub(started_us));
    }

    fn begun<D: Speaks>(
        &self,
        caller: &Caller,
        parsed: ParsedRequest<D>,
        arrived_us: u64,
    ) -> Result<(Choices, Told<'_>, D), RequestError> {
        let (mut generation, dialect) = parsed?;
        let begun = self.begin(caller, &mut generation, D::MAX_TOKENS, arrived_us);
        let (choices, prompts) = begun.map_err(D::in_own_words)?;
        Ok((choices, Told { service: self, id: caller.id, prompts, generation }, dialect))
    }

    /// Submits a checked request and returns its answers, which are then generated. `limit`: the field that bounds an
    /// answer's tokens.
    ///
    /// # Errors
    /// The vocabulary, the context, the grammar compiler or the queue refuses the request.
    pub(in crate::http) fn begin(
        &self,
        caller: &Caller,
        generation: &mut Generation,
        limit: &str,
        arrived_us: u64,
    ) -> Result<(Choices, Vec<Prompted>), RequestError> {
        self.check_running()?;
        self.check_places(generation)?;
        self.find_biases(generation)?;
        let answers = generation.answers;
        let inputs = std::mem::take(&mut generation.inputs);
        // A prediction that can't be tokenised is no reason to refuse the request. Of a prediction that is too long,
        // the beginning is used.
        let mut expected = self.parts.tokenizer.encode(&generation.prediction, false, false).unwrap_or_default();
        expected.truncate(PREDICTION_TOKENS_MAX);
        let (mut jobs, mut prompts) = (Vec::with_capacity(inputs.len() * answers), Vec::with_capacity(inputs.len()));
        let mut conversation = None;
        for input in inputs {
            let mut read = self.read(input, generation)?;
            let room = self.room_for(caller, read.tokens.len(), generation.max_tokens)?;
            if room.is_cut {
                let n = room.max_tokens;
                warn(format!("{limit}: shortened to the {n} tokens that fit behind the prompt"));
            }
            let n_tokens = read.tokens.len();
            let tokens = if generation.shows_prompts { read.tokens.clone() } else { Vec::new() };
            for choice in 0..answers {
                let (constraint, thinking) = match read.is_chat {
                    true => {
                        let constraint = self.answer_constraint_of(&generation.format)?;
                        (constraint, self.thinking_behind(&read.text, generation)?)
                    }
                    false => (self.constraint_of(&generation.format)?, None),
                };
                let is_last = choice + 1 == answers;
                let prompt = if is_last { std::mem::take(&mut read.tokens) } else { read.tokens.clone() };
                let params =
                    GenerateParams { prediction: expected.clone(), ..generation.params(choice, room.max_tokens) };
                jobs.push(GenerationJob { prompt, params, constraint, thinking });
            }
            let mut text = read.text;
            if read.is_chat {
                conversation = Some(std::mem::take(&mut text));
            }
            prompts.push(Prompted { n_tokens, max_tokens: room.max_tokens, is_cut: room.is_cut, text, tokens });
        }
        let accepted = self.submit_jobs(caller, jobs, arrived_us, generation.deadline_ms)?;
        let (style, is_read) = (self.parts.template.style(), generation.is_read);
        let parser = || match &conversation {
            // GPT-OSS writes no channels in an answer whose beginning was given.
            Some(_) if generation.begun.is_some() && style.calls == CallStyle::Harmony => OutputParser::plain(),
            Some(prompt) if is_read => OutputParser::new(style, prompt, &generation.tools, generation.calls_max),
            _ => OutputParser::plain(),
        };
        Ok((Choices::new(accepted, generation.scores.top.is_some(), is_read, parser), prompts))
    }
}
