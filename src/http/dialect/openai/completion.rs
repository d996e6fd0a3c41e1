//! `/v1/completions`: texts in, what follows them out.

use serde_json::{Value, json};
use tiny_http::Request;

use super::answer::usage;
use super::chunk::ChunkWriter;
use super::completion_request::{CompletionRequest, Prompt};
use super::logprobs::{self, Echo};
use crate::chat::{OutputParser, Said};
use crate::http::caller::Caller;
use crate::http::dialect::Dialect;
use crate::http::run::choices::{Choices, Listener, Scored};
use crate::http::run::deliver::{COMMENT, Streamer};
use crate::http::run::submit::Job;
use crate::http::service::Service;
use crate::types::{FinishReason, GenerateParams, RequestError, Terminal, Token, TokenLogprobs};

impl Service {
    pub(in crate::http) fn completions(&self, request: Request, caller: &Caller) {
        let started_us = self.now_us();
        let parsed = CompletionRequest::parse(request.body(), &self.parts.defaults, self.fresh_seed(caller.id));
        let begun = parsed.and_then(|body| Ok((self.begin_completions(caller, &body, started_us)?, body)));
        let ((choices, echoes), body) = match begun {
            Ok(begun) => begun,
            Err(error) => return self.refuse(request, caller, &error),
        };
        Service::cancel_on_disconnect(&request, &choices);
        let (n, best_of, with_logprobs) = (body.options.n, body.best_of, body.logprobs.is_some());
        let total = body.prompts.len() * best_of;
        if body.options.stream {
            let base = self.base("cmpl", "text_completion", caller.id);
            let chunks = ChunkWriter::new(base, body.options.include_usage.then_some(best_of));
            let echoes =
                echoes.iter().flat_map(|echo| std::iter::repeat_n(Due::new(echo, with_logprobs), best_of)).collect();
            let lasts = (0..total).map(|_| None).collect();
            let listener = CompletionStream { service: self, chunks, echoes, lasts };
            self.answer_streamed(request, caller, choices, listener, Dialect::OpenAi);
        } else {
            let texts = (0..total).map(|_| Text::default()).collect();
            self.answer_whole(request, caller, choices, CompletionWhole { texts }, Dialect::OpenAi, |whole, ends| {
                let mut shown = Vec::with_capacity(body.prompts.len() * n);
                for (i, texts) in whole.texts.chunks(best_of).enumerate() {
                    let echo = echoes.get(i);
                    for text in best(texts, n) {
                        shown.push(text.json(self, shown.len(), echo, with_logprobs));
                    }
                }
                let mut answer = self.base("cmpl", "text_completion", caller.id);
                answer["choices"] = json!(shown);
                answer["usage"] = usage(ends, best_of).json();
                answer
            });
        }
        self.parts.metrics.http.e2e_latency.record_us(self.now_us().saturating_sub(started_us));
    }

    /// From a checked body to answers on their way; with them the prompts' texts, where they are to be shown.
    fn begin_completions(
        &self,
        caller: &Caller,
        body: &CompletionRequest,
        arrived_us: u64,
    ) -> Result<(Choices, Vec<Echo>), RequestError> {
        self.check_running()?;
        let options = &body.options;
        let field = if body.prompts.len() > 1 {
            "prompt"
        } else if body.best_of > options.n {
            "best_of"
        } else {
            "n"
        };
        self.check_places(body.prompts.len() * body.best_of, field)?;
        self.check_bias(&options.sampling)?;
        // What is ranked must be scored, whether or not it is shown.
        let scored = body.logprobs.or((body.best_of > options.n).then_some(0));
        let (mut jobs, mut echoes) = (Vec::new(), Vec::new());
        for prompt in &body.prompts {
            let tokens = self.prompt_tokens(prompt, body.suffix.as_deref())?;
            let max_tokens = self.room_for(tokens.len(), options.max_tokens)?;
            for i in 0..body.best_of {
                let params = options.params(i, max_tokens, scored);
                jobs.push(Job {
                    prompt: tokens.clone(),
                    params: GenerateParams { prompt_logprobs: body.echo && body.logprobs.is_some(), ..params },
                    constraint: self.constraint_of(&body.format, "response_format")?,
                    thinking: None,
                });
            }
            if body.echo {
                let text = match prompt {
                    Prompt::Text(text) => text.clone(),
                    Prompt::Tokens(tokens) => self.parts.tokenizer.decode(tokens, true),
                };
                echoes.push(Echo::new(&self.parts.tokenizer, text, tokens));
            }
        }
        let accepted = self.submit_jobs(caller, jobs, arrived_us, options.deadline_ms)?;
        Ok((Choices::new(accepted, scored.is_some(), OutputParser::plain), echoes))
    }

    fn prompt_tokens(&self, prompt: &Prompt, suffix: Option<&str>) -> Result<Vec<Token>, RequestError> {
        let tokenizer = &self.parts.tokenizer;
        let tokens = match (prompt, suffix) {
            (Prompt::Text(text), None) => tokenizer.encode(text, true, true)?,
            (Prompt::Text(text), Some(_)) => tokenizer.encode(text, false, false)?,
            (Prompt::Tokens(tokens), _) => {
                let n_vocab = tokenizer.n_vocab();
                if let Some(i) = tokens.iter().position(|token| token.index() >= n_vocab) {
                    let message = format!("must be a token id from 0 to {}, not {}", n_vocab - 1, tokens[i].0);
                    return Err(RequestError::field(format!("prompt[{i}]"), message));
                }
                tokens.clone()
            }
        };
        let Some(suffix) = suffix else {
            return if tokens.is_empty() { Err(RequestError::field("prompt", "has no tokens")) } else { Ok(tokens) };
        };
        let Some([before, after, middle]) = tokenizer.fim() else {
            return Err(RequestError::field("suffix", "this model's vocabulary has no tokens to fill in between"));
        };
        let bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
        let mut all: Vec<Token> = bos.into_iter().chain([before]).collect();
        all.extend(tokens);
        all.push(after);
        all.extend(tokenizer.encode(suffix, false, false)?);
        all.push(middle);
        Ok(all)
    }
}

/// The `n` likeliest of the answers to one prompt, likeliest first; all of them in their order, if there are no more.
fn best(texts: &[Text], n: usize) -> Vec<&Text> {
    let mut all: Vec<&Text> = texts.iter().collect();
    if all.len() > n {
        all.sort_by(|a, b| logprobs::mean(&b.scored).total_cmp(&logprobs::mean(&a.scored)));
        all.truncate(n);
    }
    all
}

/// One answer, put together.
#[derive(Default)]
struct Text {
    text: String,
    /// Of its prompt's tokens but the first.
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

struct CompletionWhole {
    texts: Vec<Text>,
}

impl Listener for CompletionWhole {
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

/// Texts as events.
struct CompletionStream<'a> {
    service: &'a Service,
    chunks: ChunkWriter,
    /// Prompts that are shown first, by choice; none without `echo`.
    echoes: Vec<Due<'a>>,
    /// The tokens that ended them, by choice.
    lasts: Vec<Option<Scored>>,
}

/// A prompt that is to be shown before anything else of its choice.
#[derive(Clone)]
struct Due<'a> {
    echo: &'a Echo,
    is_shown: bool,
    with_logprobs: bool,
    /// Of its tokens but the first.
    scores: Vec<TokenLogprobs>,
}

impl Due<'_> {
    fn new(echo: &Echo, with_logprobs: bool) -> Due<'_> {
        Due { echo, is_shown: false, with_logprobs, scores: Vec::new() }
    }
}

impl CompletionStream<'_> {
    fn echo(&mut self, choice: usize) {
        let Some(due) = self.echoes.get_mut(choice).filter(|due| !due.is_shown) else { return };
        due.is_shown = true;
        let scores = std::mem::take(&mut due.scores);
        let all = || logprobs::of_completion(&self.service.parts.tokenizer, Some((due.echo, &scores)), &[]);
        let logprobs = due.with_logprobs.then(all);
        self.chunks.text(choice, "\"text\":", &due.echo.text, "", logprobs.as_ref());
    }

    fn logprobs(&self, choice: usize, scored: &mut Vec<Scored>) -> Option<Value> {
        let mut scored = std::mem::take(scored);
        let before = self.echoes.get(choice).map_or(0, |due| due.echo.chars);
        scored.iter_mut().for_each(|scored| scored.text_offset += before);
        (!scored.is_empty()).then(|| logprobs::of_completion(&self.service.parts.tokenizer, None, &scored))
    }
}

impl Listener for CompletionStream<'_> {
    fn scored_prompt(&mut self, choice: usize, scores: Vec<TokenLogprobs>) {
        if let Some(due) = self.echoes.get_mut(choice) {
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

impl Streamer for CompletionStream<'_> {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.chunks.buffer
    }

    fn sign(&mut self) {
        self.chunks.buffer.extend_from_slice(COMMENT);
    }

    fn close(&mut self, ends: &[Terminal]) {
        self.chunks.close(ends);
    }

    fn fail(&mut self, body: &Value) {
        self.chunks.event(body);
    }
}
