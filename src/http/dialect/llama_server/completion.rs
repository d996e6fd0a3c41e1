//! `/completion`: texts in, what follows them out, with llama-server's fields. `/infill` answers the same way.

use std::time::Duration;

use serde_json::{Value, json};
use tiny_http::Request;

use super::completion_request::{Biased, LlamaRequest, Part, settings};
use crate::chat::{OutputParser, Said};
use crate::http::ask::warnings::warn;
use crate::http::caller::Caller;
use crate::http::dialect::Dialect;
use crate::http::dialect::openai::logprobs;
use crate::http::run::choices::{Choices, Listener, Scored};
use crate::http::run::deliver::{COMMENT, Streamer};
use crate::http::run::submit::Job;
use crate::http::service::Service;
use crate::metrics::SlotGauges;
use crate::types::{FinishReason, RequestError, RequestId, Terminal, Token};

/// How often a stream that tells of its prompt looks how far that has been read.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// What is asked for each prompt, and what its answer says of it.
struct Asked {
    n_prompt: usize,
    prompt: String,
    /// Tokens to generate at most; `wanted` may be more.
    n_predict: usize,
    is_cut: bool,
    settings: Value,
}

impl Service {
    pub(in crate::http) fn completion(&self, request: Request, caller: &Caller) {
        let started_us = self.now_us();
        let parsed = LlamaRequest::parse(request.body(), &self.parts.defaults, self.fresh_seed(caller.id));
        self.complete(request, caller, parsed, started_us);
    }

    /// Goes on with the prompts of a request that arrived at `started_us`, or says why it is refused.
    pub(in crate::http) fn complete(
        &self,
        request: Request,
        caller: &Caller,
        parsed: Result<LlamaRequest, RequestError>,
        started_us: u64,
    ) {
        let begun = parsed.and_then(|body| Ok((self.begin_completion(caller, &body, started_us)?, body)));
        let ((choices, asked), body) = match begun {
            Ok(begun) => begun,
            Err(error) => return self.refuse(request, caller, &error),
        };
        Service::cancel_on_disconnect(&request, &choices);
        let is_array = body.is_array;
        let texts = asked.iter().map(|_| Text::default()).collect();
        let answer = Answers { service: self, id: caller.id, body, asked, texts, buffer: Vec::new() };
        if answer.body.options.stream {
            self.answer_streamed(request, caller, choices, answer, Dialect::OpenAi);
        } else {
            self.answer_whole(request, caller, choices, answer, Dialect::OpenAi, |mut answer, ends| {
                let mut all: Vec<Value> = ends.iter().enumerate().map(|(i, end)| answer.last(i, end)).collect();
                if is_array { json!(all) } else { all.swap_remove(0) }
            });
        }
        self.parts.metrics.http.e2e_latency.record_us(self.now_us().saturating_sub(started_us));
    }

    fn begin_completion(
        &self,
        caller: &Caller,
        body: &LlamaRequest,
        arrived_us: u64,
    ) -> Result<(Choices, Vec<Asked>), RequestError> {
        self.check_running()?;
        self.check_places(body.prompts.len(), "prompt")?;
        let several = body.prompts.len() > 1;
        for (name, is_wanted) in
            [("return_progress", body.shape.return_progress), ("timings_per_token", body.shape.timings_per_token)]
        {
            if is_wanted && several {
                warn(format!("{name}: ignored, it is for requests of one prompt"));
            }
        }
        let mut options_params = body.options.params(0, 1, body.n_probs);
        options_params.sampled_logprobs = body.post_sampling_probs;
        options_params.sampling.logit_bias = self.biases(&body.biases)?;
        self.check_bias(&options_params.sampling)?;
        let (mut jobs, mut asked) = (Vec::new(), Vec::new());
        for parts in &body.prompts {
            let prompt = self.tokens_of_parts(parts)?;
            let room = self.room_for(prompt.len(), None)?;
            // Asked for more than fit, it goes on as long as it can. Asked for none, it reads the prompt: the one token
            // that shows that it was read is nobody's.
            let wanted = body.options.max_tokens.unwrap_or(room);
            let n_predict = wanted.min(room);
            asked.push(Asked {
                n_prompt: prompt.len(),
                prompt: match parts.as_slice() {
                    [Part::Text(text)] => text.clone(),
                    _ => self.parts.tokenizer.decode(&prompt, true),
                },
                n_predict,
                is_cut: wanted > n_predict,
                settings: settings(body, n_predict),
            });
            let mut params = options_params.clone();
            params.max_tokens = n_predict.max(1);
            jobs.push(Job {
                prompt,
                params,
                constraint: self.constraint_of(&body.format, "json_schema")?,
                thinking: None,
            });
        }
        let accepted = self.submit_jobs(caller, jobs, arrived_us, body.options.deadline_ms)?;
        Ok((Choices::new(accepted, body.n_probs.is_some(), OutputParser::plain), asked))
    }

    /// The model's own tokens go in front of a text that a prompt begins with; ids are taken as they are.
    fn tokens_of_parts(&self, parts: &[Part]) -> Result<Vec<Token>, RequestError> {
        let (tokenizer, mut tokens) = (&self.parts.tokenizer, Vec::new());
        for (i, part) in parts.iter().enumerate() {
            match part {
                Part::Text(text) => tokens.extend(tokenizer.encode(text, i == 0, true)?),
                Part::Token(token) if token.index() < tokenizer.n_vocab() => tokens.push(*token),
                Part::Token(token) => {
                    let message = format!("{} is no token id, they go up to {}", token.0, tokenizer.n_vocab() - 1);
                    return Err(RequestError::field("prompt", message));
                }
            }
        }
        if tokens.is_empty() { Err(RequestError::field("prompt", "has no tokens")) } else { Ok(tokens) }
    }

    fn biases(&self, biases: &[(Biased, f32)]) -> Result<Vec<(u32, f32)>, RequestError> {
        let mut all = Vec::new();
        for (on, bias) in biases {
            match on {
                Biased::Token(id) => all.push((*id, *bias)),
                Biased::Text(text) => {
                    let tokens = self.parts.tokenizer.encode(text, false, true)?;
                    all.extend(tokens.iter().map(|token| (token.0, *bias)));
                }
            }
        }
        Ok(all)
    }
}

/// One answer, as far as it has come.
#[derive(Default)]
struct Text {
    content: String,
    /// All of them; of a stream those not told yet.
    tokens: Vec<Token>,
    n_tokens: usize,
    scored: Vec<Scored>,
    /// When its first token was seen here; noted where timings are wanted.
    first_us: Option<u64>,
    /// What the last event about its prompt said.
    progress: Option<Progress>,
}

/// How much of a prompt has been read, in tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Progress {
    total: usize,
    /// Of those, how many the cache had.
    cached: usize,
    /// With them.
    processed: usize,
}

/// All answers of one request, put together or told in events.
struct Answers<'a> {
    service: &'a Service,
    /// As the engine knows the request.
    id: RequestId,
    body: LlamaRequest,
    asked: Vec<Asked>,
    texts: Vec<Text>,
    buffer: Vec<u8>,
}

impl Answers<'_> {
    fn is_stream(&self) -> bool {
        self.body.options.stream
    }

    /// The gauges of the slot that serves the request's prompt, or has served it last. `None`: it waits, or has made room.
    fn slot(&self) -> Option<&SlotGauges> {
        let slots = self.service.parts.metrics.slots.iter().take(self.service.parts.model.slots);
        slots.into_iter().find(|slot| slot.request.get() == self.id.0)
    }

    /// Whether a stream tells what no token says: of one prompt, or the gauges couldn't be told apart.
    fn tells(&self, is_wanted: bool) -> bool {
        is_wanted && self.is_stream() && self.texts.len() == 1
    }

    /// An event about the prompt, if there is something new to say. `cached`: of a prompt that has been read.
    fn progress(&mut self, read: bool) {
        let total = self.asked[0].n_prompt;
        let Some(slot) = self.slot() else { return };
        let cached = (slot.n_cached.get() as usize).min(total);
        let processed = if read { total } else { (slot.n_past.get() as usize).clamp(cached, total) };
        let since_us = slot.admitted_at_us.get();
        self.tell_progress(Progress { total, cached, processed }, since_us);
    }

    fn tell_progress(&mut self, progress: Progress, since_us: u64) {
        let text = &mut self.texts[0];
        // Once all has been read, that was the last of it.
        if text.progress == Some(progress) || text.progress.is_some_and(|last| last.processed == last.total) {
            return;
        }
        text.progress = Some(progress);
        let Progress { total, cached, processed } = progress;
        let event = json!({
            "index": 0,
            "content": "",
            "tokens": [],
            "stop": false,
            "tokens_predicted": 0,
            "tokens_evaluated": total,
            "prompt_progress": {
                "total": total,
                "cache": cached,
                "processed": processed,
                "time_ms": self.service.now_us().saturating_sub(since_us) / 1_000,
            },
        });
        self.buffer.extend_from_slice(format!("data: {event}\n\n").as_bytes());
    }

    /// What an answer of one prompt has taken so far, as it looks from here.
    fn timings_so_far(&self) -> Value {
        let (asked, text) = (&self.asked[0], &self.texts[0]);
        let first_us = text.first_us.unwrap_or_default();
        let (cached, admitted_us) =
            self.slot().map_or((0, first_us), |slot| (slot.n_cached.get() as u32, slot.admitted_at_us.get()));
        timings(&Taken {
            cached,
            prompt: asked.n_prompt as u32,
            prompt_us: first_us.saturating_sub(admitted_us),
            predicted: text.n_tokens as u32,
            predicted_us: self.service.now_us().saturating_sub(first_us),
        })
    }

    /// An event with what one answer has more.
    fn event(&mut self, index: usize) {
        if self.tells(self.body.shape.return_progress) {
            self.progress(true);
        }
        let timings = self.tells(self.body.shape.timings_per_token).then(|| self.timings_so_far());
        let (asked, text) = (&self.asked[index], &mut self.texts[index]);
        let tokens = std::mem::take(&mut text.tokens);
        let mut event = json!({
            "index": index,
            "content": std::mem::take(&mut text.content),
            "tokens": tokens.iter().map(|token| token.0).collect::<Vec<_>>(),
            "stop": false,
            "tokens_predicted": text.n_tokens,
            "tokens_evaluated": asked.n_prompt,
        });
        if self.body.n_probs.is_some() {
            let scored = std::mem::take(&mut text.scored);
            event["completion_probabilities"] = self.probabilities(&scored);
        }
        if let Some(timings) = timings {
            event["timings"] = timings;
        }
        self.buffer.extend_from_slice(format!("data: {event}\n\n").as_bytes());
    }

    /// What the end of an answer says; a whole answer says all of it there.
    fn last(&mut self, index: usize, end: &Terminal) -> Value {
        let (asked, text) = (&self.asked[index], &mut self.texts[index]);
        let is_silent = asked.n_predict == 0;
        let n_predicted = if is_silent { 0 } else { end.generated_tokens };
        let content = std::mem::take(&mut text.content);
        let tokens = std::mem::take(&mut text.tokens);
        let shows_tokens = self.body.options.stream || self.body.return_tokens;
        let shown = tokens.iter().filter(|_| shows_tokens && !is_silent).map(|token| token.0);
        let (stop_type, word) = match end.reason {
            FinishReason::Eos if !is_silent => ("eos", None),
            FinishReason::Stop if !is_silent => {
                ("word", end.stop.and_then(|which| self.body.options.stop.get(usize::from(which))))
            }
            _ => ("limit", None),
        };
        let mut last = json!({
            "index": index,
            "content": content,
            "tokens": shown.collect::<Vec<_>>(),
            "stop": true,
            "model": self.service.parts.model.name,
            "tokens_predicted": n_predicted,
            "tokens_evaluated": end.prompt_tokens,
            // The last token of an answer is never decoded.
            "tokens_cached": end.prompt_tokens + end.generated_tokens.saturating_sub(1),
            "generation_settings": asked.settings,
            "prompt": asked.prompt,
            "has_new_line": content.contains('\n'),
            "truncated": asked.is_cut && end.reason == FinishReason::Length,
            "stop_type": stop_type,
            "stopping_word": word.map_or("".into(), |word| String::from_utf8_lossy(word)),
            "timings": timings(&Taken {
                cached: end.cached_tokens,
                prompt: end.prompt_tokens,
                prompt_us: end.prefill_us,
                predicted: n_predicted,
                predicted_us: end.decode_us,
            }),
        });
        if self.body.n_probs.is_some() {
            let scored = std::mem::take(&mut text.scored);
            last["completion_probabilities"] = self.probabilities(&scored);
        }
        self.body.shape.wanted(last)
    }

    fn probabilities(&self, scored: &[Scored]) -> Value {
        logprobs::of_llama_server(&self.service.parts.tokenizer, scored, self.body.post_sampling_probs)
    }
}

/// What an answer has taken: tokens, and microseconds for those of the prompt that the cache hadn't, and for its own.
struct Taken {
    cached: u32,
    prompt: u32,
    prompt_us: u64,
    predicted: u32,
    predicted_us: u64,
}

/// In milliseconds, as there.
fn timings(taken: &Taken) -> Value {
    let (prompt_n, n_predicted) = (taken.prompt.saturating_sub(taken.cached), taken.predicted);
    let (prompt_ms, predicted_ms) = (taken.prompt_us as f64 / 1e3, taken.predicted_us as f64 / 1e3);
    let each = |ms: f64, n: u32| if n > 0 { ms / f64::from(n) } else { 0.0 };
    let rate = |n: u32, ms: f64| if ms > 0.0 { f64::from(n) * 1e3 / ms } else { 0.0 };
    json!({
        "cache_n": taken.cached,
        "prompt_n": prompt_n,
        "prompt_ms": prompt_ms,
        "prompt_per_token_ms": each(prompt_ms, prompt_n),
        "prompt_per_second": rate(prompt_n, prompt_ms),
        "predicted_n": n_predicted,
        "predicted_ms": predicted_ms,
        "predicted_per_token_ms": each(predicted_ms, n_predicted),
        "predicted_per_second": rate(n_predicted, predicted_ms),
    })
}

impl Listener for Answers<'_> {
    fn looks_every(&self) -> Option<Duration> {
        let waits = self.tells(self.body.shape.return_progress) && self.texts[0].n_tokens == 0;
        waits.then_some(PROGRESS_EVERY)
    }

    fn looked(&mut self) {
        if self.texts[0].n_tokens == 0 {
            self.progress(false);
        }
    }

    fn took(&mut self, choice: usize, token: Token) {
        let now_us = self.tells(self.body.shape.timings_per_token).then(|| self.service.now_us());
        let text = &mut self.texts[choice];
        text.first_us = text.first_us.or(now_us);
        text.tokens.push(token);
        text.n_tokens += 1;
    }

    fn said(&mut self, choice: usize, said: Said<'_>, scored: &mut Vec<Scored>) {
        if self.asked[choice].n_predict == 0 {
            scored.clear();
            return;
        }
        let text = &mut self.texts[choice];
        text.scored.append(scored);
        if let Said::Content(more) = said {
            text.content.push_str(more);
        }
        if self.is_stream() {
            self.event(choice);
        }
    }

    fn ended(&mut self, choice: usize, end: &Terminal, _n_calls: usize, scored: &mut Vec<Scored>) {
        let is_silent = self.asked[choice].n_predict == 0;
        self.texts[choice].scored.extend(scored.drain(..).filter(|_| !is_silent));
        let ended_well = matches!(end.reason, FinishReason::Eos | FinishReason::Stop | FinishReason::Length);
        // Otherwise the stream ends with an error.
        if self.is_stream() && ended_well {
            if self.tells(self.body.shape.return_progress) {
                let total = end.prompt_tokens as usize;
                let progress = Progress { total, cached: end.cached_tokens as usize, processed: total };
                self.tell_progress(progress, self.service.now_us().saturating_sub(end.prefill_us + end.decode_us));
            }
            let last = self.last(choice, end);
            self.buffer.extend_from_slice(format!("data: {last}\n\n").as_bytes());
        }
    }
}

impl Streamer for Answers<'_> {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    fn sign(&mut self) {
        self.buffer.extend_from_slice(COMMENT);
    }

    fn close(&mut self, _: &[Terminal]) {}

    fn fail(&mut self, body: &Value) {
        self.buffer.extend_from_slice(format!("data: {body}\n\n").as_bytes());
    }
}
