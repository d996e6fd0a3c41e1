//! `/v1/completions`: texts in, the texts that follow them out.

use serde_json::{Value, json};

use super::ERRORS;
use super::answer::usage;
use super::chunk::ChunkWriter;
use super::completion_request::{self, CompletionOptions};
use super::logprobs::{self, Echo};
use crate::chat::Said;
use crate::http::ask::generation::{Defaults, Generation};
use crate::http::run::choices::{Listener, Scored};
use crate::http::run::failure::GenerationFailure;
use crate::http::run::refuse::ErrorShape;
use crate::http::run::scored::mean;
use crate::http::run::speaks::{Events, Speaks, Told, Whole};
use crate::http::service::Service;
use crate::types::{FinishReason, RequestError, Terminal, TokenLogprobs};

/// OpenAI's completions.
#[derive(Debug)]
pub struct Completions {
    shown: CompletionOptions,
}

impl Completions {
    /// The prompts, if the answer shows them.
    fn echoes(&self, told: &mut Told<'_>) -> Vec<Echo> {
        let tokenizer = &told.service.parts.tokenizer;
        let prompts = told.prompts.drain(..).filter(|_| self.shown.echo);
        prompts.map(|prompt| Echo::new(tokenizer, prompt.text, prompt.tokens)).collect()
    }
}

impl Speaks for Completions {
    const ERRORS: &'static ErrorShape = &ERRORS;
    type Whole<'a> = CompletionWhole<'a>;
    type Events<'a> = CompletionStream<'a>;

    fn parse(body: &[u8], defaults: &Defaults, fresh_seed: u64) -> Result<(Generation, Completions), RequestError> {
        let (generation, shown) = completion_request::parse(body, defaults, fresh_seed)?;
        Ok((generation, Completions { shown }))
    }

    fn whole(self, mut told: Told<'_>) -> CompletionWhole<'_> {
        let texts = (0..told.prompts.len() * told.generation.answers).map(|_| Text::default()).collect();
        let echoes = self.echoes(&mut told);
        CompletionWhole { told, shown: self.shown, echoes, texts }
    }

    fn events(self, mut told: Told<'_>) -> CompletionStream<'_> {
        let (service, best_of) = (told.service, told.generation.answers);
        let lasts = (0..told.prompts.len() * best_of).map(|_| None).collect();
        let base = service.base("cmpl", "text_completion", told.id);
        let chunks = ChunkWriter::new(base, self.shown.options.include_usage.then_some(best_of));
        let echoes = self.echoes(&mut told);
        let due = (0..echoes.len() * best_of).map(|_| Due::default()).collect();
        CompletionStream { service, chunks, echoes, best_of, with_logprobs: self.shown.logprobs, due, lasts }
    }
}

/// The `n` most likely answers to one prompt, most likely first; all of them in their order if there are no more than
/// `n`.
fn best(texts: &[Text], n: usize) -> Vec<&Text> {
    let mut all: Vec<&Text> = texts.iter().collect();
    if all.len() > n {
        all.sort_by(|a, b| mean(&b.scored).total_cmp(&mean(&a.scored)));
        all.truncate(n);
    }
    all
}

/// One answer, collected.
#[derive(Default)]
struct Text {
    text: String,
    /// Log probabilities of its prompt's tokens, except the first.
    prompt: Vec<TokenLogprobs>,
    scored: Vec<Scored>,
    /// The token that ended it.
    last: Option<Scored>,
    finish_reason: &'static str,
}

impl Text {
    fn json(&self, service: &Service, index: usize, echo: Option<&Echo>, with_logprobs: bool) -> Value {
        let logprobs = with_logprobs.then(|| {
            let mut own: Vec<Scored> = self.scored.iter().chain(&self.last).cloned().collect();
            own.iter_mut().for_each(|own| own.text_offset += echo.map_or(0, |echo| echo.chars));
            logprobs::of_completion(&service.parts.tokenizer, echo.map(|echo| (echo, &self.prompt[..])), &own)
        });
        json!({
            "index": index,
            "text": format!("{}{}", echo.map_or("", |echo| &echo.text), self.text),
            "logprobs": logprobs,
            "finish_reason": self.finish_reason,
        })
    }
}

/// Collects the texts of a whole answer.
pub struct CompletionWhole<'a> {
    told: Told<'a>,
    shown: CompletionOptions,
    echoes: Vec<Echo>,
    texts: Vec<Text>,
}

impl Whole for CompletionWhole<'_> {
    fn object(self, ends: &[Terminal]) -> Value {
        let (service, best_of) = (self.told.service, self.told.generation.answers);
        let mut shown = Vec::new();
        for (i, texts) in self.texts.chunks(best_of).enumerate() {
            for text in best(texts, self.shown.n) {
                shown.push(text.json(service, shown.len(), self.echoes.get(i), self.shown.logprobs));
            }
        }
        let mut answer = service.base("cmpl", "text_completion", self.told.id);
        answer["choices"] = json!(shown);
        answer["usage"] = usage(ends, best_of).json();
        answer
    }
}

impl Listener for CompletionWhole<'_> {
    fn scored_prompt(&mut self, choice: usize, scores: Vec<TokenLogprobs>) {
        self.texts[choice].prompt = scores;
    }

    fn ended_by(&mut self, choice: usize, last: Scored) {
        self.texts[choice].last = Some(last);
    }

    fn said(&mut self, choice: usize, said: Said<'_>, scored: &mut Vec<Scored>) {
        let text = &mut self.texts[choice];
        text.scored.append(scored);
        if let Said::Content(more) = said {
            text.text.push_str(more);
        }
    }

    fn ended(&mut self, choice: usize, end: &Terminal, _n_calls: usize, scored: &mut Vec<Scored>) {
        let text = &mut self.texts[choice];
        text.scored.append(scored);
        text.finish_reason = end.reason.as_str();
    }
}

/// Sends the texts as events.
pub struct CompletionStream<'a> {
    service: &'a Service,
    chunks: ChunkWriter,
    /// Prompts to show first, each before `best_of` choices; empty without `echo`.
    echoes: Vec<Echo>,
    best_of: usize,
    with_logprobs: bool,
    /// For each choice, the prompt that is still to be shown.
    due: Vec<Due>,
    /// For each choice, the token that ended it.
    lasts: Vec<Option<Scored>>,
}

/// A prompt that must be shown before anything else of its choice.
#[derive(Clone, Default)]
struct Due {
    is_shown: bool,
    /// Log probabilities of its tokens, except the first.
    scores: Vec<TokenLogprobs>,
}

impl CompletionStream<'_> {
    fn echo(&mut self, choice: usize) {
        let Some(due) = self.due.get_mut(choice).filter(|due| !due.is_shown) else { return };
        due.is_shown = true;
        let (echo, scores) = (&self.echoes[choice / self.best_of], std::mem::take(&mut due.scores));
        let all = || logprobs::of_completion(&self.service.parts.tokenizer, Some((echo, &scores)), &[]);
        let logprobs = self.with_logprobs.then(all);
        self.chunks.text(choice, "\"text\":", &echo.text, "", logprobs.as_ref());
    }

    fn logprobs(&self, choice: usize, scored: &mut Vec<Scored>) -> Option<Value> {
        let mut scored = std::mem::take(scored);
        let before = self.echoes.get(choice / self.best_of).map_or(0, |echo| echo.chars);
        scored.iter_mut().for_each(|scored| scored.text_offset += before);
        (!scored.is_empty()).then(|| logprobs::of_completion(&self.service.parts.tokenizer, None, &scored))
    }
}

impl Listener for CompletionStream<'_> {
    fn scored_prompt(&mut self, choice: usize, scores: Vec<TokenLogprobs>) {
        if let Some(due) = self.due.get_mut(choice) {
            due.scores = scores;
        }
    }

    fn ended_by(&mut self, choice: usize, last: Scored) {
        self.lasts[choice] = Some(last);
    }

    fn said(&mut self, choice: usize, said: Said<'_>, scored: &mut Vec<Scored>) {
        self.echo(choice);
        if let Said::Content(text) = said {
            let logprobs = self.logprobs(choice, scored);
            self.chunks.text(choice, "\"text\":", text, "", logprobs.as_ref());
        }
    }

    fn ended(&mut self, choice: usize, end: &Terminal, _n_calls: usize, scored: &mut Vec<Scored>) {
        if !matches!(end.reason, FinishReason::Eos | FinishReason::Stop | FinishReason::Length) {
            // The stream ends with an error.
            return;
        }
        self.echo(choice);
        scored.extend(self.lasts[choice].take());
        let logprobs = self.logprobs(choice, scored);
        self.chunks.fields(choice, "\"text\":\"\"", logprobs.as_ref(), Some(end.reason.as_str()));
    }
}

impl Events for CompletionStream<'_> {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.chunks.buffer
    }

    fn close(&mut self, ends: &[Terminal]) {
        self.chunks.close(ends);
    }

    fn fail(&mut self, _: &[Terminal], _: &GenerationFailure, error: &Value) {
        self.chunks.event(error);
    }
}
