//! Answers of `/completion` and `/infill`, with llama-server's fields.

use std::time::Duration;

use serde_json::{Value, json};

use super::completion_request::AnswerShape;
use super::settings;
use crate::chat::Said;
use crate::http::run::choices::{Listener, Scored};
use crate::http::run::failure::GenerationFailure;
use crate::http::run::scored::number;
use crate::http::run::speaks::{Events, Told, Whole};
use crate::metrics::SlotGauges;
use crate::tokenizer::Tokenizer;
use crate::types::limits::PROGRESS_MS;
use crate::types::{FinishReason, Terminal, Token};

/// One answer so far.
#[derive(Default)]
struct Text {
    content: String,
    /// Whether a line has ended in it, also in text that a stream has sent already.
    has_new_line: bool,
    /// Its tokens; in a stream only those not sent yet.
    tokens: Vec<Token>,
    n_tokens: usize,
    scored: Vec<Scored>,
    /// When its first token was seen on the HTTP thread; recorded if timings are wanted.
    first_us: Option<u64>,
    /// The progress that the last event about its prompt reported.
    progress: Option<PromptProgress>,
}

/// Progress of a prompt's prefill, in tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
struct PromptProgress {
    total: usize,
    /// Tokens that were in the cache.
    cached: usize,
    /// Tokens processed so far, cached ones included.
    processed: usize,
}

/// All answers of one request, collected or sent as events.
pub struct Answers<'a> {
    told: Told<'a>,
    shape: AnswerShape,
    texts: Vec<Text>,
    buffer: Vec<u8>,
}

impl Answers<'_> {
    /// Answers with the fields that `shape` asks for.
    pub fn new(told: Told<'_>, shape: AnswerShape) -> Answers<'_> {
        let texts = told.prompts.iter().map(|_| Text::default()).collect();
        Answers { told, shape, texts, buffer: Vec::new() }
    }

    fn is_stream(&self) -> bool {
        self.told.generation.stream
    }

    /// The metrics of the slot that serves the request's prompt, or served it last. `None`: the request waits, or gave
    /// up its slot.
    fn slot(&self) -> Option<&SlotGauges> {
        let slots = self.told.service.parts.metrics.slots.iter().take(self.told.service.parts.model.slots);
        slots.into_iter().find(|slot| slot.request.get() == self.told.id.0)
    }

    /// Whether a stream reports values that come from the slot's metrics. Only for a single prompt, because the slots
    /// of several couldn't be told apart.
    fn tells(&self, is_wanted: bool) -> bool {
        is_wanted && self.is_stream() && self.texts.len() == 1
    }

    /// Sends an event about the prompt's progress, if it changed. `read`: the prompt is complete.
    fn progress(&mut self, read: bool) {
        let total = self.told.prompts[0].n_tokens;
        let Some(slot) = self.slot() else { return };
        let cached = (slot.n_cached.get() as usize).min(total);
        let processed = if read { total } else { (slot.n_past.get() as usize).clamp(cached, total) };
        let since_us = slot.admitted_at_us.get();
        self.tell_progress(PromptProgress { total, cached, processed }, since_us);
    }

    fn tell_progress(&mut self, progress: PromptProgress, since_us: u64) {
        let text = &mut self.texts[0];
        // The event with the complete prompt is the last one about progress.
        if text.progress == Some(progress) || text.progress.is_some_and(|last| last.processed == last.total) {
            return;
        }
        text.progress = Some(progress);
        let PromptProgress { total, cached, processed } = progress;
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
                "time_ms": self.told.service.now_us().saturating_sub(since_us) / 1_000,
            },
        });
        self.buffer.extend_from_slice(format!("data: {event}\n\n").as_bytes());
    }

    /// The timings of a single prompt's answer so far, as measured on the HTTP thread.
    fn timings_so_far(&self) -> Value {
        let (asked, text) = (&self.told.prompts[0], &self.texts[0]);
        let first_us = text.first_us.unwrap_or_default();
        let (cached, admitted_us) =
            self.slot().map_or((0, first_us), |slot| (slot.n_cached.get() as u32, slot.admitted_at_us.get()));
        timings(&AnswerWork {
            cached,
            prompt: asked.n_tokens as u32,
            prompt_us: first_us.saturating_sub(admitted_us),
            predicted: text.n_tokens as u32,
            predicted_us: self.told.service.now_us().saturating_sub(first_us),
        })
    }

    /// Sends an event with the new text of one answer.
    fn event(&mut self, index: usize) {
        if self.tells(self.shape.return_progress) {
            self.progress(true);
        }
        let timings = self.tells(self.shape.timings_per_token).then(|| self.timings_so_far());
        let (asked, text) = (&self.told.prompts[index], &mut self.texts[index]);
        let tokens = std::mem::take(&mut text.tokens);
        let mut event = json!({
            "index": index,
            "content": std::mem::take(&mut text.content),
            "tokens": tokens.iter().map(|token| token.0).collect::<Vec<_>>(),
            "stop": false,
            "tokens_predicted": text.n_tokens,
            "tokens_evaluated": asked.n_tokens,
        });
        if self.told.generation.scores.top.is_some() {
            let scored = std::mem::take(&mut text.scored);
            event["completion_probabilities"] = self.probabilities(&scored);
        }
        if let Some(timings) = timings {
            event["timings"] = timings;
        }
        self.buffer.extend_from_slice(format!("data: {event}\n\n").as_bytes());
    }

    /// The fields at the end of an answer. A whole answer has only these.
    fn last(&mut self, index: usize, end: &Terminal) -> Value {
        let (asked, text) = (&self.told.prompts[index], &mut self.texts[index]);
        let content = std::mem::take(&mut text.content);
        let tokens = std::mem::take(&mut text.tokens);
        let shows_tokens = self.told.generation.stream || self.shape.return_tokens;
        let shown = tokens.iter().filter(|_| shows_tokens).map(|token| token.0);
        let (stop_type, word) = match end.reason {
            FinishReason::Eos => ("eos", None),
            FinishReason::Stop => {
                ("word", end.stop.and_then(|which| self.told.generation.stop.get(usize::from(which))))
            }
            _ => ("limit", None),
        };
        let mut last = json!({
            "index": index,
            "content": content,
            "tokens": shown.collect::<Vec<_>>(),
            "stop": true,
            "model": self.told.service.parts.model.name,
            "tokens_predicted": end.generated_tokens,
            "tokens_evaluated": end.prompt_tokens,
            // The last token of an answer is never decoded, so it isn't in the cache.
            "tokens_cached": end.prompt_tokens + end.generated_tokens.saturating_sub(1),
            "generation_settings": settings::of_request(&self.told.generation, asked.max_tokens, &self.shape),
            "prompt": asked.text,
            "has_new_line": text.has_new_line,
            // What asks for as many tokens as fit is cut by the context, too.
            "truncated": (asked.is_cut || self.told.generation.max_tokens.is_none()) && end.reason == FinishReason::Length,
            "stop_type": stop_type,
            "stopping_word": word.map_or("".into(), |word| String::from_utf8_lossy(word)),
            "timings": timings(&AnswerWork {
                cached: end.cached_tokens,
                prompt: end.prompt_tokens,
                prompt_us: end.prefill_us,
                predicted: end.generated_tokens,
                predicted_us: end.decode_us,
            }),
        });
        let is_told = self.told.generation.stream && text.scored.is_empty();
        if self.told.generation.scores.top.is_some() && !is_told {
            let scored = std::mem::take(&mut text.scored);
            last["completion_probabilities"] = self.probabilities(&scored);
        }
        self.shape.wanted(last)
    }

    fn probabilities(&self, scored: &[Scored]) -> Value {
        probabilities(&self.told.service.parts.tokenizer, scored, self.told.generation.scores.sampled)
    }
}

/// Work of an answer: prompt tokens from the cache, prompt tokens prefilled, generated tokens, and the microseconds of
/// prefill and decode.
struct AnswerWork {
    cached: u32,
    prompt: u32,
    prompt_us: u64,
    predicted: u32,
    predicted_us: u64,
}

/// llama-server's `timings`, in milliseconds.
fn timings(taken: &AnswerWork) -> Value {
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
        let waits = self.tells(self.shape.return_progress) && self.texts[0].n_tokens == 0;
        waits.then_some(Duration::from_millis(PROGRESS_MS))
    }

    fn looked(&mut self) {
        if self.texts[0].n_tokens == 0 {
            self.progress(false);
        }
    }

    fn took(&mut self, choice: usize, token: Token) {
        let now_us = self.tells(self.shape.timings_per_token).then(|| self.told.service.now_us());
        let text = &mut self.texts[choice];
        text.first_us = text.first_us.or(now_us);
        text.tokens.push(token);
        text.n_tokens += 1;
    }

    fn said(&mut self, choice: usize, said: Said<'_>, scored: &mut Vec<Scored>) {
        let text = &mut self.texts[choice];
        text.scored.append(scored);
        if let Said::Content(more) = said {
            text.content.push_str(more);
            text.has_new_line |= more.contains('\n');
        }
        if self.is_stream() {
            self.event(choice);
        }
    }

    fn ended(&mut self, choice: usize, end: &Terminal, _n_calls: usize, scored: &mut Vec<Scored>) {
        self.texts[choice].scored.append(scored);
        let ended_well = matches!(end.reason, FinishReason::Eos | FinishReason::Stop | FinishReason::Length);
        // If an answer failed, the stream ends with an error instead.
        if self.is_stream() && ended_well {
            if self.tells(self.shape.return_progress) {
                let total = end.prompt_tokens as usize;
                let progress = PromptProgress { total, cached: end.cached_tokens as usize, processed: total };
                self.tell_progress(progress, self.told.service.now_us().saturating_sub(end.prefill_us + end.decode_us));
            }
            let last = self.last(choice, end);
            self.buffer.extend_from_slice(format!("data: {last}\n\n").as_bytes());
        }
    }
}

impl Whole for Answers<'_> {
    fn object(mut self, ends: &[Terminal]) -> Value {
        let mut all: Vec<Value> = ends.iter().enumerate().map(|(i, end)| self.last(i, end)).collect();
        if self.shape.is_array || all.is_empty() { json!(all) } else { all.swap_remove(0) }
    }
}

impl Events for Answers<'_> {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    fn fail(&mut self, _: &[Terminal], _: &GenerationFailure, error: &Value) {
        self.buffer.extend_from_slice(format!("data: {error}\n\n").as_bytes());
    }
}

/// llama-server's `completion_probabilities`: logarithms, or if `plain` probabilities, which have other names.
fn probabilities(tokenizer: &Tokenizer, scored: &[Scored], plain: bool) -> Value {
    let (own, top) = if plain { ("prob", "top_probs") } else { ("logprob", "top_logprobs") };
    let entry = |token: Token, logprob: f32| {
        let bytes = tokenizer.piece(token, true);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let value = if plain { json!(logprob.exp()) } else { number(logprob) };
        json!({"id": token.0, "token": text, "bytes": bytes, own: value})
    };
    let entries = scored.iter().map(|scored| {
        let mut chosen = entry(scored.token, scored.scores.chosen);
        chosen[top] = scored.scores.top.iter().map(|(token, logprob)| entry(*token, *logprob)).collect();
        chosen
    });
    entries.collect()
}
