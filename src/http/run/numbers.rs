//! Requests for embeddings or scores: their inputs are read, submitted together in one place, waited for and answered.
//! Written once for all routes.

use serde::Serialize;
use tiny_http::{Request, Response, ResponseBox};

use super::failure::failure_of;
use super::refuse::ErrorShape;
use crate::handoff::{InputsSubmission, Refused, ReplyReader, ReplyState, VectorsReader, Wake, vectors};
use crate::http::account::Permit;
use crate::http::ask::inputs::TextOrTokens;
use crate::http::caller::Caller;
use crate::http::fault::{header, json_response};
use crate::http::service::{InFlight, Service};
use crate::types::{RequestError, Token};

/// Inputs whose embeddings are wanted.
#[derive(Default)]
pub struct Inputs {
    tokens: Vec<Token>,
    ends: Vec<usize>,
}

impl Inputs {
    /// Adds an input of at least one token and at most `ModelInfo::n_ctx`.
    pub fn push(&mut self, tokens: Vec<Token>) {
        self.tokens.extend(tokens);
        self.ends.push(self.tokens.len());
    }

    /// The number of tokens of all inputs.
    pub fn n_tokens(&self) -> usize {
        self.tokens.len()
    }
}

/// Inputs that the engine has accepted. They get one terminal together.
pub struct AcceptedInputs {
    /// The reader of the terminal.
    pub reader: ReplyReader,
    /// The reader of the embeddings.
    pub vectors: VectorsReader,
    /// The permit and the tokens to charge to the account; `None`: the request has no account.
    charge: Option<(Permit, u64)>,
    /// Kept until the answer is sent.
    _place: InFlight,
}

/// A parsed body.
pub struct AskedNumbers<B> {
    /// The part of the body that the answer needs.
    pub body: B,
    /// The inputs.
    pub inputs: Inputs,
    /// Numbers wanted for each input.
    pub width: usize,
    /// Milliseconds from arrival; `None`: no deadline.
    pub deadline_ms: Option<u64>,
}

/// The embeddings or scores of a body's inputs.
pub struct Numbers<'a> {
    /// `width` numbers for each input, one input after the other.
    pub all: &'a [f32],
    /// Numbers of each input.
    pub width: usize,
    /// Tokens of all inputs.
    pub n_tokens: usize,
    /// Microseconds since the request arrived.
    pub took_us: u64,
}

impl<'a> Numbers<'a> {
    /// The numbers of each input.
    pub fn each(&self) -> impl Iterator<Item = &'a [f32]> + use<'a> {
        self.all.chunks(self.width.max(1))
    }
}

impl Service {
    /// Serves a request for numbers: `read` makes inputs of its body, `write` makes the answer of the numbers. If the
    /// client leaves, the request is cancelled.
    pub(in crate::http) fn run_numbers<B, A: Serialize>(
        &self,
        request: Request,
        caller: &Caller,
        errors: &ErrorShape,
        read: impl FnOnce(&[u8]) -> Result<AskedNumbers<B>, RequestError>,
        write: impl FnOnce(B, Numbers<'_>) -> A,
    ) {
        let started_us = self.now_us();
        let asked = self.check_running().and_then(|()| read(request.body()));
        match asked.and_then(|asked| self.numbers_of(&request, caller, errors, asked, write, started_us)) {
            Ok(response) => {
                self.respond(request, caller, response);
                self.record(started_us);
            }
            Err(error) => self.refuse(request, caller, errors, &error),
        }
    }

    fn numbers_of<B, A: Serialize>(
        &self,
        request: &Request,
        caller: &Caller,
        errors: &ErrorShape,
        asked: AskedNumbers<B>,
        write: impl FnOnce(B, Numbers<'_>) -> A,
        arrived_us: u64,
    ) -> Result<ResponseBox, RequestError> {
        let AskedNumbers { body, inputs, width, deadline_ms } = asked;
        let n_tokens = inputs.n_tokens();
        let answer = |all: &[f32]| {
            let took_us = self.now_us().saturating_sub(arrived_us);
            let mut bytes =
                serde_json::to_vec(&write(body, Numbers { all, width, n_tokens, took_us })).unwrap_or_default();
            bytes.push(b'\n');
            Response::from_data(bytes).with_header(header("Content-Type", "application/json")).boxed()
        };
        if n_tokens == 0 {
            return Ok(answer(&[]));
        }
        let mut accepted = self.submit_inputs(caller, inputs, width, arrived_us, deadline_ms)?;
        let canceller = accepted.reader.canceller();
        request.watch().on_disconnect(Box::new(move || canceller.cancel()));
        let end = loop {
            if let ReplyState::Finished(end) = accepted.reader.wait(None, Wake::AtEnd) {
                break end;
            }
        };
        caller.line.ended(&end);
        accepted.charge.iter().for_each(|(permit, reserved)| permit.ended(*reserved, &end));
        let response = match failure_of(end.reason, None) {
            Some(failure) => json_response(failure.status, &errors.failure(&failure)),
            None => answer(accepted.vectors.numbers().unwrap_or_default()),
        };
        // The place is freed before the client gets the answer, because its next request may come at once.
        drop(accepted);
        Ok(response)
    }

    fn submit_inputs(
        &self,
        caller: &Caller,
        inputs: Inputs,
        width: usize,
        arrived_us: u64,
        deadline_ms: Option<u64>,
    ) -> Result<AcceptedInputs, RequestError> {
        let reserved = inputs.n_tokens() as u64;
        let permit = self.permit(caller, || reserved)?;
        let Some(place) = self.take_places(1).and_then(|mut places| places.pop()) else {
            return Err(self.queue_full());
        };
        let (reply, reader) = self.parts.replies.claim().ok_or_else(|| self.queue_full())?;
        let Inputs { tokens, ends } = inputs;
        let (room, vectors) = vectors(ends.len() * width);
        let deadline_us = deadline_ms.map(|ms| arrived_us.saturating_add(ms.saturating_mul(1_000)));
        let (id, n_tokens) = (caller.id, tokens.len());
        let share = caller.standing.share;
        let submission = InputsSubmission { id, tokens, ends, share, arrived_us, deadline_us, reply, vectors: room };
        self.parts.submitter.push_inputs(submission).map_err(|refused| match refused {
            Refused::Full(_) => self.queue_full(),
            Refused::Closed(_) => RequestError::ShuttingDown,
        })?;
        caller.line.accepted(n_tokens);
        Ok(AcceptedInputs { reader, vectors, charge: permit.map(|permit| (permit, reserved)), _place: place })
    }

    /// Length of the model's embeddings; 0 if it makes none.
    pub(in crate::http) fn n_embd(&self) -> usize {
        self.parts.model.embedding.map_or(0, |embedding| embedding.n_embd)
    }

    /// The inputs in `field`, which may be a list.
    ///
    /// # Errors
    /// An input is longer than the context, has no tokens, or has unknown token ids.
    pub(in crate::http) fn inputs_of(
        &self,
        prompts: &[TextOrTokens],
        field: &str,
        is_list: bool,
    ) -> Result<Inputs, RequestError> {
        let mut inputs = Inputs::default();
        for (i, prompt) in prompts.iter().enumerate() {
            let path = if is_list { format!("{field}[{i}]") } else { field.to_owned() };
            inputs.push(self.input_tokens(prompt, &path)?);
        }
        Ok(inputs)
    }

    /// The tokens of one input, which stands at `path`.
    fn input_tokens(&self, input: &TextOrTokens, path: &str) -> Result<Vec<Token>, RequestError> {
        let (tokenizer, n_ctx) = (&self.parts.tokenizer, self.parts.model.n_ctx);
        let too_long = |n: usize, at_least: &str| {
            RequestError::field(path, format!("has {at_least}{n} tokens, at most {n_ctx} fit"))
        };
        let tokens = match input {
            TextOrTokens::Text(text) => {
                let n_min = tokenizer.n_tokens_min(text);
                if n_min > n_ctx {
                    return Err(too_long(n_min, "at least "));
                }
                tokenizer.encode(text, true, true).map_err(|error| match error {
                    RequestError::Field { message, .. } => RequestError::field(path, message),
                    other => other,
                })?
            }
            TextOrTokens::Tokens(tokens) => {
                let n_vocab = tokenizer.n_vocab();
                if let Some(i) = tokens.iter().position(|token| token.index() >= n_vocab) {
                    let message = format!("must be a token id from 0 to {}, not {}", n_vocab - 1, tokens[i].0);
                    return Err(RequestError::field(format!("{path}[{i}]"), message));
                }
                tokens.clone()
            }
        };
        match tokens.len() {
            0 => Err(RequestError::field(path, "has no tokens")),
            n if n > n_ctx => Err(too_long(n, "")),
            _ => Ok(tokens),
        }
    }
}

/// Scales to unit L2 norm; an all-zero vector is unchanged.
pub fn of_length_one(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
    vector.iter().map(|x| (f64::from(*x) * scale) as f32).collect()
}
