//! `--warm FILE`: prompts that are prefilled before the server is ready, so that the first requests find them in the
//! cache. What a disk or the appliance has of them is restored instead. Runs on a thread of its own at start-up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::chat::Said;
use crate::http::ask::generation::{Generation, Input, PromptPart};
use crate::http::caller::Caller;
use crate::http::dialect::openai;
use crate::http::run::choices::{Choices, Listener, Scored};
use crate::http::service::Service;
use crate::types::limits::WARM_LOOK_MS;
use crate::types::{RequestError, Terminal, Token};

/// Questions of different beginnings. What prompts with each of them have in common is what stands before a question.
const QUESTIONS: [&str; 3] = [".", "a", "\n1"];

/// The prompts of a file, which is one JSON value or has one in each line. A value is a chat's body (`messages`,
/// `tools`), a completion's body (`prompt`), or a text.
///
/// # Errors
/// The line, from 1, and why it is no prompt.
pub fn prompts(text: &str) -> Result<Vec<Value>, String> {
    let of_lines = || -> Result<Vec<Value>, String> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        lines.map(|(n, line)| serde_json::from_str(line).map_err(|error| format!("line {}: {error}", n + 1))).collect()
    };
    let values = match serde_json::from_str(text) {
        Ok(Value::Array(values)) => values,
        Ok(value) => vec![value],
        Err(_) => of_lines()?,
    };
    let is_prompt = |value: &Value| value.is_string() || value.get("messages").or(value.get("prompt")).is_some();
    match values.iter().position(|value| !is_prompt(value)) {
        Some(at) => Err(format!("prompt {}: is neither a text nor has messages or a prompt", at + 1)),
        None => Ok(values),
    }
}

impl Service {
    /// Prefills the prompts one after the other. Returns the number of their tokens, and how many of these were cached
    /// already.
    ///
    /// # Errors
    /// The number of the prompt, from 1, and why it can't be used.
    pub fn warm(&self, prompts: &[Value], is_over: &AtomicBool) -> Result<(u64, u64), String> {
        let (mut tokens, mut cached) = (0, 0);
        for (at, prompt) in prompts.iter().enumerate() {
            let end = self.warm_one(prompt, is_over).map_err(|error| format!("prompt {}: {error}", at + 1))?;
            let Some(end) = end else { return Ok((tokens, cached)) };
            (tokens, cached) = (tokens + u64::from(end.prompt_tokens), cached + u64::from(end.cached_tokens));
        }
        Ok((tokens, cached))
    }

    /// Prefills one prompt. One token is generated only to run the prefill, and is discarded. `None`: the server shall
    /// stop.
    fn warm_one(&self, prompt: &Value, is_over: &AtomicBool) -> Result<Option<Terminal>, RequestError> {
        let (started_us, id) = (self.now_us(), self.next_id());
        let seed = self.fresh_seed(id);
        let mut generation = match (prompt, prompt.get("prompt")) {
            (Value::String(text), _) | (_, Some(Value::String(text))) => {
                Generation::new(vec![Input::text(text.clone())], &self.parts.defaults, seed)
            }
            (Value::Object(body), _) => self.chat(body, seed)?,
            _ => return Err(RequestError::field("prompt", "must be a text")),
        };
        (generation.max_tokens, generation.answers) = (Some(1), 1);
        let caller = Caller::unconnected(id);
        let (mut choices, _) = self.begin(&caller, &mut generation, "max_tokens", started_us)?;
        // ORDERING: Relaxed; no other data is published with the flag. Dropping the choices cancels the generation.
        while !choices.wait_for_end(self, &mut Deaf, Instant::now().checked_add(Duration::from_millis(WARM_LOOK_MS))) {
            if is_over.load(Ordering::Relaxed) {
                return Ok(None);
            }
        }
        Ok(end_of(&choices))
    }

    /// What real requests with this chat begin with. A chat without a question is cut before the place of one, so that a model whose cache
    /// can't be cut has a checkpoint there.
    fn chat(&self, body: &Map<String, Value>, seed: u64) -> Result<Generation, RequestError> {
        let defaults = &self.parts.defaults;
        if has_question(body) {
            return Ok(openai::chat_body(&asked(body, None), defaults, seed)?.0);
        }
        let mut begun: Option<Vec<Token>> = None;
        for question in QUESTIONS {
            let mut generation = openai::chat_body(&asked(body, Some(question)), defaults, seed)?.0;
            let Some(input) = generation.inputs.pop() else { continue };
            let mut tokens = self.read(input, &generation)?.tokens;
            tokens.truncate(begun.map_or(tokens.len(), |begun| common(&begun, &tokens)));
            begun = Some(tokens);
        }
        match begun.filter(|tokens| !tokens.is_empty()) {
            Some(tokens) => {
                let parts = tokens.into_iter().map(PromptPart::Token).collect();
                Ok(Generation::new(vec![Input::Prompt(parts)], defaults, seed))
            }
            None => Ok(openai::chat_body(&asked(body, Some(QUESTIONS[0])), defaults, seed)?.0),
        }
    }
}

/// How many tokens both begin with.
fn common(a: &[Token], b: &[Token]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn has_question(body: &Map<String, Value>) -> bool {
    let messages = body.get("messages").and_then(Value::as_array);
    messages.is_some_and(|messages| messages.iter().any(|message| message["role"] == "user"))
}

fn end_of(choices: &Choices) -> Option<Terminal> {
    choices.ends().next().copied()
}

/// The body of a chat, with `question` at its end, because templates refuse or change a conversation without one.
fn asked(body: &Map<String, Value>, question: Option<&str>) -> Vec<u8> {
    let mut body = body.clone();
    if let (Some(question), Some(Value::Array(messages))) = (question, body.get_mut("messages")) {
        messages.push(json!({"role": "user", "content": question}));
    }
    for field in ["stream", "stream_options", "n"] {
        body.shift_remove(field);
    }
    Value::Object(body).to_string().into_bytes()
}

/// Ignores the text of an answer.
struct Deaf;

impl Listener for Deaf {
    fn said(&mut self, _: usize, _: Said<'_>, _: &mut Vec<Scored>) {}

    fn ended(&mut self, _: usize, _: &Terminal, _: usize, _: &mut Vec<Scored>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_prompt_or_one_in_each_line() {
        let chat = json!({"messages": [{"role": "system", "content": "Be brief."}], "tools": []});
        assert_eq!(prompts(&serde_json::to_string_pretty(&chat).unwrap()).unwrap(), std::slice::from_ref(&chat));
        let lines = format!("\"Once\"\n\n{chat}\n{{\"prompt\": \"a\"}}\n");
        assert_eq!(prompts(&lines).unwrap(), [json!("Once"), chat.clone(), json!({"prompt": "a"})]);
        assert_eq!(prompts("").unwrap(), [] as [Value; 0]);
        for (text, named) in [("\"a\"\nnot JSON\n", "line 2: "), ("\"a\"\n{\"x\": 1}", "prompt 2: "), ("3", "prompt 1")]
        {
            let error = prompts(text).unwrap_err();
            assert!(error.starts_with(named), "{error}");
        }
        let Value::Object(chat) = chat else { unreachable!() };
        let body: Value = serde_json::from_slice(&asked(&chat, Some("a"))).unwrap();
        assert_eq!((&body["messages"][1]["role"], &body["tools"]), (&json!("user"), &json!([])));
        assert!(!has_question(&chat) && has_question(body.as_object().unwrap()));
    }
}
