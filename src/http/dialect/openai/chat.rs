//! `/v1/chat/completions`: messages in, the assistant's turn out.

use serde_json::{Value, json};
use tiny_http::{Request, ResponseBox};

use super::answer::usage;
use super::chat_request;
use super::chunk::ChunkWriter;
use super::options::StreamOptions;
use super::{ERRORS, logprobs, tools};
use crate::chat::Said;
use crate::http::ask::generation::{Defaults, Generation, Input};
use crate::http::caller::Caller;
use crate::http::fault::json_response;
use crate::http::run::call_ids::CallIds;
use crate::http::run::choices::{Listener, Scored};
use crate::http::run::failure::GenerationFailure;
use crate::http::run::refuse::ErrorShape;
use crate::http::run::speaks::{Events, Speaks, Told, Whole};
use crate::http::service::Service;
use crate::types::{FinishReason, RequestError, Terminal};

/// OpenAI's chat.
#[derive(Debug)]
pub struct Chat {
    /// Options for the end of a stream.
    pub options: StreamOptions,
}

impl Speaks for Chat {
    const ERRORS: &'static ErrorShape = &ERRORS;
    type Whole<'a> = ChatWhole<'a>;
    type Events<'a> = ChatStream<'a>;

    fn parse(body: &[u8], defaults: &Defaults, fresh_seed: u64) -> Result<(Generation, Chat), RequestError> {
        let (generation, options) = chat_request::parse(body, defaults, fresh_seed)?;
        Ok((generation, Chat { options }))
    }

    fn whole(self, told: Told<'_>) -> ChatWhole<'_> {
        let turns = (0..told.generation.answers).map(|_| Turn::default()).collect();
        ChatWhole { told, turns }
    }

    fn events(self, told: Told<'_>) -> ChatStream<'_> {
        let (service, n) = (told.service, told.generation.answers);
        let base = service.base("chatcmpl", "chat.completion.chunk", told.id);
        let chunks = ChunkWriter::new(base, self.options.include_usage.then_some(n));
        ChatStream { service, chunks, ids: service.call_ids(told.id), begun: vec![false; n], calls: vec![0; n] }
    }
}

impl Service {
    /// llama-server's `/apply-template`: the body of a chat to `{"prompt"}`, the text of its prompt.
    pub(in crate::http) fn apply_template(&self, request: &Request, caller: &Caller) -> ResponseBox {
        match self.prompt_text(request.body()) {
            Ok(text) => json_response(200, &json!({"prompt": text})),
            Err(error) => self.refusal(caller, &ERRORS, &error),
        }
    }

    fn prompt_text(&self, body: &[u8]) -> Result<String, RequestError> {
        let (mut generation, _) = chat_request::parse(body, &self.parts.defaults, 0)?;
        match generation.inputs.pop() {
            Some(Input::Chat(messages)) => Ok(self.prompt_of(messages, &generation)?.0.text),
            _ => Ok(String::new()),
        }
    }
}

/// `finish_reason` of an answer that ended well.
fn finish_reason(reason: FinishReason, n_calls: usize) -> &'static str {
    match reason {
        FinishReason::Eos | FinishReason::Stop if n_calls > 0 => "tool_calls",
        other => other.as_str(),
    }
}

/// One turn of the assistant, collected.
#[derive(Default)]
struct Turn {
    content: String,
    reasoning: String,
    /// Names and arguments of calls.
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

/// Collects the turns of a whole answer.
pub struct ChatWhole<'a> {
    told: Told<'a>,
    turns: Vec<Turn>,
}

impl Whole for ChatWhole<'_> {
    fn object(self, ends: &[Terminal]) -> Value {
        let (service, id) = (self.told.service, self.told.id);
        let (ids, with_logprobs) = (service.call_ids(id), self.told.generation.scores.top.is_some());
        let turns = self.turns.iter().enumerate();
        let choices: Vec<Value> = turns.map(|(index, turn)| turn.json(service, index, &ids, with_logprobs)).collect();
        let mut answer = service.base("chatcmpl", "chat.completion", id);
        answer["choices"] = json!(choices);
        answer["usage"] = usage(ends, self.told.generation.answers).json();
        answer
    }
}

impl Listener for ChatWhole<'_> {
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

/// Sends the turns as events.
pub struct ChatStream<'a> {
    service: &'a Service,
    chunks: ChunkWriter,
    ids: CallIds,
    /// For each choice: whether its role was sent, and how many tools it has called.
    begun: Vec<bool>,
    calls: Vec<usize>,
}

impl ChatStream<'_> {
    fn begin(&mut self, choice: usize) {
        if !std::mem::replace(&mut self.begun[choice], true) {
            self.chunks.fields(choice, "\"delta\":{\"role\":\"assistant\",\"content\":\"\"}", None, None);
        }
    }

    /// Takes the log probabilities that weren't sent yet.
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

impl Events for ChatStream<'_> {
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
