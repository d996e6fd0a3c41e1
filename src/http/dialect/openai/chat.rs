//! `/v1/chat/completions`: messages in, the assistant's turn out.

use serde_json::{Value, json};
use tiny_http::Request;

use super::answer::usage;
use super::chat_request::ChatRequest;
use super::chunk::ChunkWriter;
use super::logprobs;
use super::tools;
use crate::chat::{CallStyle, Conversation, Message, OutputParser, Prompt, Said};
use crate::http::ask::warnings::warn;
use crate::http::caller::Caller;
use crate::http::dialect::Dialect;
use crate::http::run::choices::{Choices, Listener, Scored};
use crate::http::run::deliver::{COMMENT, Streamer};
use crate::http::run::submit::Job;
use crate::http::service::Service;
use crate::types::{FinishReason, RequestError, RequestId, Terminal, Token};

impl Service {
    pub(in crate::http) fn chat_completions(&self, request: Request, caller: &Caller) {
        let started_us = self.now_us();
        let parsed = ChatRequest::parse(request.body(), &self.parts.defaults, self.fresh_seed(caller.id));
        let begun = parsed.and_then(|body| Ok((self.begin_chat(caller, &body, started_us)?, body)));
        let (choices, body) = match begun {
            Ok((begun, body)) => (begun.choices, body),
            Err(error) => return self.refuse(request, caller, &error),
        };
        Service::cancel_on_disconnect(&request, &choices);
        let ids = self.call_ids(caller.id);
        let n = body.options.n;
        if body.options.stream {
            let base = self.base("chatcmpl", "chat.completion.chunk", caller.id);
            let chunks = ChunkWriter::new(base, body.options.include_usage.then_some(n));
            let listener = ChatStream { service: self, chunks, ids, begun: vec![false; n], calls: vec![0; n] };
            self.answer_streamed(request, caller, choices, listener, Dialect::OpenAi);
        } else {
            let turns = (0..n).map(|_| Turn::default()).collect();
            self.answer_whole(request, caller, choices, ChatWhole { turns }, Dialect::OpenAi, |whole, ends| {
                let turns = whole.turns.iter().enumerate();
                let with_logprobs = body.logprobs.is_some();
                let choices: Vec<Value> =
                    turns.map(|(index, turn)| turn.json(self, index, &ids, with_logprobs)).collect();
                let mut answer = self.base("chatcmpl", "chat.completion", caller.id);
                answer["choices"] = json!(choices);
                answer["usage"] = usage(ends, n).json();
                answer
            });
        }
        self.parts.metrics.http.e2e_latency.record_us(self.now_us().saturating_sub(started_us));
    }

    /// Names for the calls of one request.
    pub(in crate::http) fn call_ids(&self, id: RequestId) -> CallIds {
        CallIds { base: self.mixed(id), style: self.parts.template.style().calls }
    }

    /// The prompt that a chat's body becomes.
    pub(in crate::http) fn prompt_text(&self, body: &[u8]) -> Result<String, RequestError> {
        let body = ChatRequest::parse(body, &self.parts.defaults, 0)?;
        Ok(self.prompt_of(&body)?.0.text)
    }

    /// Text and tokens of a chat's prompt.
    pub(in crate::http) fn prompt_of(&self, body: &ChatRequest) -> Result<(Prompt, Vec<Token>), RequestError> {
        let messages: Vec<Message> = match self.parts.template.style().knows_developer {
            true => body.messages.clone(),
            false => body.messages.iter().cloned().map(as_system).collect(),
        };
        let (tools, kwargs) = (&body.wanted.tools, Some(&body.kwargs));
        self.chat_prompt(Conversation { messages: &messages, tools, kwargs })
    }

    /// From a checked body to answers on their way.
    pub(in crate::http) fn begin_chat(
        &self,
        caller: &Caller,
        body: &ChatRequest,
        arrived_us: u64,
    ) -> Result<Begun, RequestError> {
        self.check_running()?;
        let options = &body.options;
        self.check_places(options.n, "n")?;
        self.check_bias(&options.sampling)?;
        let (Prompt { text, warnings, .. }, prompt) = self.prompt_of(body)?;
        warnings.into_iter().for_each(warn);
        if prompt.is_empty() {
            return Err(RequestError::field("messages", "has no tokens"));
        }
        let max_tokens = self.room_for(prompt.len(), options.max_tokens)?;
        let job = |i| {
            Ok(Job {
                prompt: prompt.clone(),
                params: options.params(i, max_tokens, body.logprobs),
                constraint: self.answer_constraint_of(&body.wanted.format, "response_format")?,
                thinking: self.thinking_behind(&text, &body.wanted.format, options.reasoning_tokens_max)?,
            })
        };
        let jobs = (0..options.n).map(job).collect::<Result<_, RequestError>>()?;
        let accepted = self.submit_jobs(caller, jobs, arrived_us, options.deadline_ms)?;
        let parser =
            || OutputParser::new(self.parts.template.style(), &text, &body.wanted.tools, body.wanted.calls_max);
        let choices = Choices::new(accepted, body.logprobs.is_some(), parser);
        Ok(Begun { choices, n_prompt_tokens: prompt.len() })
    }
}

/// Answers on their way.
pub struct Begun {
    pub choices: Choices,
    pub n_prompt_tokens: usize,
}

/// Most templates know no developer.
fn as_system(mut message: Message) -> Message {
    if message.role == "developer" {
        message.role = "system".to_owned();
    }
    message
}

/// `finish_reason`, of an answer that ended well.
fn finish_reason(reason: FinishReason, n_calls: usize) -> &'static str {
    match reason {
        FinishReason::Eos | FinishReason::Stop if n_calls > 0 => "tool_calls",
        other => other.as_str(),
    }
}

/// Names for tool calls.
#[derive(Clone, Copy)]
pub struct CallIds {
    base: u64,
    style: CallStyle,
}

impl CallIds {
    pub fn of(self, choice: usize, call: usize) -> String {
        let number = self.base.wrapping_add((choice as u64) << 40).wrapping_add(call as u64);
        match self.style {
            // Its templates insist on nine letters and digits.
            CallStyle::Mistral => format!("{:09x}", number % (1 << 36)),
            _ => format!("call_{number:014x}"),
        }
    }
}

/// One turn of the assistant's, put together.
#[derive(Default)]
struct Turn {
    content: String,
    reasoning: String,
    /// Names and arguments.
    calls: Vec<(String, String)>,
    scored: Vec<Scored>,
    finish_reason: &'static str,
}

impl Turn {
    fn json(&self, service: &Service, index: usize, ids: &CallIds, with_logprobs: bool) -> Value {
        let mut message = json!({"role": "assistant", "content": self.content, "refusal": null});
        if !self.reasoning.is_empty() {
            message["reasoning_content"] = json!(self.reasoning);
        }
        if !self.calls.is_empty() {
            let calls = self.calls.iter().enumerate();
            let calls = calls.map(|(i, (name, text))| tools::call(None, &ids.of(index, i), name, text));
            message["tool_calls"] = calls.collect();
            if self.content.is_empty() {
                message["content"] = Value::Null;
            }
        }
        let logprobs = with_logprobs.then(|| logprobs::of_chat(&service.parts.tokenizer, &self.scored));
        json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": self.finish_reason})
    }
}

/// All turns, put together.
struct ChatWhole {
    turns: Vec<Turn>,
}

impl Listener for ChatWhole {
    fn said(&mut self, choice: usize, said: Said<'_>, scored: &mut Vec<Scored>) {
        let turn = &mut self.turns[choice];
        turn.scored.append(scored);
        match said {
            Said::Content(text) => turn.content.push_str(text),
            Said::Reasoning(text) => turn.reasoning.push_str(text),
            Said::Call { name } => turn.calls.push((name.to_owned(), String::new())),
            Said::Arguments(text) => {
                if let Some((_, arguments)) = turn.calls.last_mut() {
                    arguments.push_str(text);
                }
            }
        }
    }

    fn ended(&mut self, choice: usize, end: &Terminal, n_calls: usize, scored: &mut Vec<Scored>) {
        let turn = &mut self.turns[choice];
        turn.scored.append(scored);
        turn.finish_reason = finish_reason(end.reason, n_calls);
    }
}

/// Turns as events.
struct ChatStream<'a> {
    service: &'a Service,
    chunks: ChunkWriter,
    ids: CallIds,
    /// Whether a choice has said who speaks, and how many tools it has called.
    begun: Vec<bool>,
    calls: Vec<usize>,
}

impl ChatStream<'_> {
    fn begin(&mut self, choice: usize) {
        if !std::mem::replace(&mut self.begun[choice], true) {
            self.chunks.fields(choice, "\"delta\":{\"role\":\"assistant\",\"content\":\"\"}", None, None);
        }
    }

    /// The scores that nobody has had yet.
    fn logprobs(&self, scored: &mut Vec<Scored>) -> Option<Value> {
        let scored = std::mem::take(scored);
        (!scored.is_empty()).then(|| logprobs::of_chat(&self.service.parts.tokenizer, &scored))
    }
}

impl Listener for ChatStream<'_> {
    fn said(&mut self, choice: usize, said: Said<'_>, scored: &mut Vec<Scored>) {
        self.begin(choice);
        let logprobs = self.logprobs(scored);
        let logprobs = logprobs.as_ref();
        match said {
            Said::Content(text) => self.chunks.text(choice, "\"delta\":{\"content\":", text, "}", logprobs),
            Said::Reasoning(text) => {
                self.chunks.text(choice, "\"delta\":{\"reasoning_content\":", text, "}", logprobs);
            }
            Said::Call { name } => {
                let index = self.calls[choice];
                self.calls[choice] += 1;
                let call = tools::call(Some(index), &self.ids.of(choice, index), name, "");
                self.chunks.fields(choice, &format!("\"delta\":{{\"tool_calls\":[{call}]}}"), logprobs, None);
            }
            Said::Arguments(text) => {
                let index = self.calls[choice].saturating_sub(1);
                let open = format!("\"delta\":{{\"tool_calls\":[{{\"index\":{index},\"function\":{{\"arguments\":");
                self.chunks.text(choice, &open, text, "}}]}", logprobs);
            }
        }
    }

    fn ended(&mut self, choice: usize, end: &Terminal, n_calls: usize, scored: &mut Vec<Scored>) {
        if !matches!(end.reason, FinishReason::Eos | FinishReason::Stop | FinishReason::Length) {
            // The stream ends with an error.
            return;
        }
        self.begin(choice);
        let logprobs = self.logprobs(scored);
        self.chunks.fields(choice, "\"delta\":{}", logprobs.as_ref(), Some(finish_reason(end.reason, n_calls)));
    }
}

impl Streamer for ChatStream<'_> {
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
