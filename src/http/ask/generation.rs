//! What a client wants generated, whatever dialect said it: one typed value. Pure.

use serde_json::{Map, Value};

use super::fields::Fields;
use super::format::Format;
use super::gap::Gap;
use super::sampling::{Ends, deadline_ms};
use super::tools::ToolUse;
use crate::chat::Message;
use crate::types::{GenerateParams, Owner, RequestError, SamplingParams, Share, Token};

/// Answers that a request may have to one input.
pub const CHOICES_MAX: u64 = 16;

/// What a request gets where it says nothing.
#[derive(Clone, Debug)]
pub struct Defaults {
    pub sampling: SamplingParams,
    /// `None`: a fresh one for each request.
    pub seed: Option<u64>,
    /// `None`: as many as fit.
    pub max_tokens: Option<usize>,
    /// Also the most a request may ask for. `None`: a request has the time it takes.
    pub deadline_ms: Option<u64>,
}

#[cfg(test)]
impl Defaults {
    /// The program's own, with a deadline of a minute.
    pub fn of_tests() -> Defaults {
        Defaults { sampling: SamplingParams::default(), seed: None, max_tokens: None, deadline_ms: Some(60_000) }
    }
}

/// A stretch of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Special tokens in it count as such; the model's own go in front of a text that a prompt begins with.
    Text(String),
    Token(Token),
}

/// What to continue.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    Prompt(Vec<Part>),
    /// A conversation for the model's chat template.
    Chat(Vec<Message>),
    /// The text between two texts, neither of which has control tokens.
    Between {
        before: Vec<Part>,
        after: String,
    },
    /// The text between two texts, with other files of the project around them.
    Gap(Gap),
}

impl Input {
    /// A text that is continued as it is.
    pub fn text(text: String) -> Input {
        Input::Prompt(vec![Part::Text(text)])
    }
}

/// Which log-probabilities an answer tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scores {
    /// Of each generated token, with so many alternatives. `None`: of none.
    pub top: Option<usize>,
    /// Of the prompt's tokens, too.
    pub of_prompt: bool,
    /// Of the distribution that the tokens were drawn from, not of the model's own.
    pub sampled: bool,
}

/// A request to generate.
#[derive(Clone, Debug)]
pub struct Generation {
    /// At least one. A conversation is the only one of its request.
    pub inputs: Vec<Input>,
    /// The assistant's turn that a conversation ended with: the answer continues its text.
    pub begun: Option<Message>,
    /// Answers to generate for each input.
    pub answers: usize,
    /// The field that asks for more answers than one, to be named where there is no room for them.
    pub answers_field: &'static str,
    /// `None`: as many as fit.
    pub max_tokens: Option<usize>,
    pub sampling: SamplingParams,
    /// Biases on each token of a text.
    pub biased_texts: Vec<(String, f32)>,
    pub stop: Vec<Vec<u8>>,
    pub ends: Ends,
    pub ignore_eos: bool,
    /// Tokens that a thought may have before it is closed. `None`: any number.
    pub reasoning_tokens_max: Option<usize>,
    pub format: Format,
    /// Tools in the template's shape; empty without.
    pub tools: Vec<Value>,
    /// Calls that are handed on; 0: none may be made.
    pub calls_max: usize,
    /// Variables for the template.
    pub kwargs: Map<String, Value>,
    /// Thoughts and calls are told apart from text. Otherwise an answer is all that the model wrote.
    pub is_read: bool,
    /// The answer shows its prompts: their texts and tokens are kept.
    pub shows_prompts: bool,
    pub scores: Scores,
    /// What the answer is expected to be like; empty where nothing is. Guesses come from it, and it changes no answer.
    pub prediction: String,
    /// Its place among requests of its account that wait: lower goes first.
    pub priority: i32,
    pub stream: bool,
    /// From arrival. `None`: the request has the time it takes.
    pub deadline_ms: Option<u64>,
}

impl Generation {
    /// Text after `inputs`, at the defaults.
    pub fn new(inputs: Vec<Input>, defaults: &Defaults, seed: u64) -> Generation {
        Generation {
            inputs,
            begun: None,
            answers: 1,
            answers_field: "n",
            max_tokens: defaults.max_tokens,
            sampling: SamplingParams { seed, ..defaults.sampling.clone() },
            biased_texts: Vec::new(),
            stop: Vec::new(),
            ends: Ends::default(),
            ignore_eos: false,
            reasoning_tokens_max: None,
            format: Format::default(),
            tools: Vec::new(),
            calls_max: 0,
            kwargs: Map::new(),
            is_read: false,
            shows_prompts: false,
            scores: Scores::default(),
            prediction: String::new(),
            priority: 0,
            stream: false,
            deadline_ms: defaults.deadline_ms,
        }
    }

    /// A turn of the assistant's in a conversation, at the defaults. Where the last turn is the assistant's and has a text alone, the
    /// answer continues it.
    pub fn chat(mut messages: Vec<Message>, defaults: &Defaults, seed: u64) -> Generation {
        let is_begun = |last: &Message| {
            let has_text = last.content.as_ref().is_some_and(|text| !text.is_empty());
            last.role == "assistant" && has_text && last.tool_calls.is_empty()
        };
        // Templates know no conversation without a turn.
        let begun = if messages.len() > 1 { messages.pop_if(|last| is_begun(last)) } else { None };
        Generation { is_read: true, begun, ..Generation::new(vec![Input::Chat(messages)], defaults, seed) }
    }

    /// Has the answer follow the assistant's last turn, as a turn of its own.
    pub fn answer_anew(&mut self) {
        if let Some(Input::Chat(messages)) = self.inputs.first_mut() {
            messages.extend(self.begun.take());
        }
    }

    /// Takes what most dialects name alike: `min_tokens`, `stop_token_ids`, `ignore_eos`, `stream`, `priority`, `deadline_ms`.
    ///
    /// # Errors
    /// A field's type or bounds.
    pub fn take_common(&mut self, fields: &mut Fields, defaults: &Defaults) -> Result<(), RequestError> {
        self.ends = Ends::take(fields)?;
        self.ignore_eos = fields.bool("ignore_eos")?.unwrap_or(false);
        self.stream = fields.bool("stream")?.unwrap_or(false);
        let priority = fields.signed("priority", i64::MIN..=i64::MAX)?.unwrap_or(0);
        self.priority = priority.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
        self.deadline_ms = deadline_ms(fields, defaults.deadline_ms)?;
        Ok(())
    }

    /// Takes `reasoning_budget_tokens`: the bound on a thought.
    ///
    /// # Errors
    /// It is no whole number, or out of bounds.
    pub fn take_budget(&mut self, fields: &mut Fields) -> Result<(), RequestError> {
        let budget = fields.integer("reasoning_budget_tokens", 0..=u64::from(u32::MAX))?;
        self.reasoning_tokens_max = budget.map(|n| n as usize).or(self.reasoning_tokens_max);
        Ok(())
    }

    /// Has the text follow `format`, and tools be called as `tools` has it.
    pub fn wants(&mut self, tools: ToolUse, format: Format) {
        (self.format, self.tools, self.calls_max) = tools.with(format);
    }

    /// What the engine is told of answer number `choice`, of at most `max_tokens`.
    pub fn params(&self, choice: usize, max_tokens: usize) -> GenerateParams {
        // The first answer is the one that a request for one alone gets.
        let seed = self.sampling.seed.wrapping_add((choice as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        GenerateParams {
            sampling: SamplingParams { seed, ..self.sampling.clone() },
            max_tokens,
            stop: self.stop.clone(),
            thought: None,
            min_tokens: self.ends.min_tokens,
            stop_tokens: self.ends.stop_tokens.clone(),
            ignore_eos: self.ignore_eos,
            logprobs: self.scores.top,
            prompt_logprobs: self.scores.of_prompt,
            sampled_logprobs: self.scores.sampled,
            prediction: Vec::new(),
            owner: None,
            space: Owner::default(),
            share: Share { priority: self.priority, ..Share::default() },
            constrained: false,
        }
    }
}
