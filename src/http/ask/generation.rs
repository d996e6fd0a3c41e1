//! A client's request to generate, whatever its dialect, as one typed value. Pure.

use serde_json::{Map, Value};

use super::fields::Fields;
use super::format::Format;
use super::gap::Gap;
use super::sampling::{Ends, deadline_ms};
use super::tools::ToolUse;
use crate::chat::Message;
use crate::types::{GenerateParams, Owner, RequestError, SamplingParams, Share, Token};

/// The server's defaults for fields that a request leaves out.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// Sampling parameters.
    pub sampling: SamplingParams,
    /// The seed; `None`: a new one for each request.
    pub seed: Option<u64>,
    /// Most tokens of an answer; `None`: as many as fit into the context.
    pub max_tokens: Option<usize>,
    /// Milliseconds until a request ends; a request may ask for less, not for more. `None`: no deadline.
    pub deadline_ms: Option<u64>,
}

#[cfg(test)]
impl Defaults {
    /// The program's own defaults, with a deadline of a minute.
    pub fn of_tests() -> Defaults {
        Defaults { sampling: SamplingParams::default(), seed: None, max_tokens: None, deadline_ms: Some(60_000) }
    }
}

/// One part of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub enum PromptPart {
    /// Text. Control tokens spelled in it become control tokens. If the prompt begins with it, the model's own tokens
    /// (BOS) are added.
    Text(String),
    /// A token's id.
    Token(Token),
}

/// The text to continue.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A prompt in parts.
    Prompt(Vec<PromptPart>),
    /// A conversation, for the model's chat template.
    Chat(Vec<Message>),
    /// The gap between two texts. Neither text has control tokens.
    Between {
        /// The prompt before the gap.
        before: Vec<PromptPart>,
        /// The text after the gap.
        after: String,
    },
    /// A gap, with other files of the project as context.
    Gap(Gap),
}

impl Input {
    /// A text that is continued as it is.
    pub fn text(text: String) -> Input {
        Input::Prompt(vec![PromptPart::Text(text)])
    }
}

/// Which log probabilities an answer shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scores {
    /// How many alternatives are shown beside each generated token's log probability. `None`: generated tokens have no log
    /// probabilities.
    pub top: Option<usize>,
    /// Whether the prompt's tokens have log probabilities, too.
    pub of_prompt: bool,
    /// Whether log probabilities are taken from the distribution that the tokens were drawn from, rather than the model's own.
    pub sampled: bool,
}

/// A request to generate.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The inputs, at least one. A conversation is the only input of its request.
    pub inputs: Vec<Input>,
    /// The assistant's turn at the end of a conversation, whose text the answer continues.
    pub begun: Option<Message>,
    /// Answers to generate for each input.
    pub answers: usize,
    /// The field that asks for more than one answer, for a refusal if there is no room.
    pub answers_field: &'static str,
    /// Most tokens of an answer; `None`: as many as fit.
    pub max_tokens: Option<usize>,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Texts with a bias, which is added to the logit of each of their tokens.
    pub biased_texts: Vec<(String, f32)>,
    /// Stop strings.
    pub stop: Vec<Vec<u8>>,
    /// What else ends the text.
    pub ends: Ends,
    /// Whether generation continues after end-of-generation tokens.
    pub ignore_eos: bool,
    /// Tokens after which a thought is closed by force. `None`: no bound.
    pub reasoning_tokens_max: Option<usize>,
    /// The format of the text.
    pub format: Format,
    /// Tools in the template's format; may be empty.
    pub tools: Vec<Value>,
    /// Most calls that an answer reports. 0: no calls are read.
    pub calls_max: usize,
    /// Variables for the template.
    pub kwargs: Map<String, Value>,
    /// Whether thoughts and calls are separated from the text. Otherwise the answer is the whole text of the model.
    pub is_read: bool,
    /// Whether the answer shows its prompts, so that their texts and tokens are kept.
    pub shows_prompts: bool,
    /// Which log probabilities the answer shows.
    pub scores: Scores,
    /// Text that the answer will probably contain; may be empty. It is a source of guesses and changes no answer.
    pub prediction: String,
    /// Rank among waiting requests of the account; lower goes first.
    pub priority: i32,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Milliseconds from arrival until the request ends. `None`: no deadline.
    pub deadline_ms: Option<u64>,
}

impl Generation {
    /// A request for text after `inputs`, with the defaults.
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

    /// A request for the assistant's turn in a conversation, with the defaults. If the last turn is the assistant's and
    /// only text, the answer continues it.
    pub fn chat(mut messages: Vec<Message>, defaults: &Defaults, seed: u64) -> Generation {
        let is_begun = |last: &Message| {
            let has_text = last.content.as_ref().is_some_and(|text| !text.is_empty());
            last.role == "assistant" && has_text && last.tool_calls.is_empty()
        };
        // Templates don't support a conversation without turns.
        let begun = if messages.len() > 1 { messages.pop_if(|last| is_begun(last)) } else { None };
        Generation { is_read: true, begun, ..Generation::new(vec![Input::Chat(messages)], defaults, seed) }
    }

    /// Makes the answer a new turn after the assistant's last one, instead of continuing it.
    pub fn answer_anew(&mut self) {
        if let Some(Input::Chat(messages)) = self.inputs.first_mut() {
            messages.extend(self.begun.take());
        }
    }

    /// Takes the fields that most dialects name alike: `min_tokens`, `stop_token_ids`, `ignore_eos`, `stream`,
    /// `priority`, `deadline_ms`.
    ///
    /// # Errors
    /// A field has the wrong type or is out of bounds.
    pub fn take_common(&mut self, fields: &mut Fields, defaults: &Defaults) -> Result<(), RequestError> {
        self.ends = Ends::take(fields)?;
        self.ignore_eos = fields.bool("ignore_eos")?.unwrap_or(false);
        self.stream = fields.bool("stream")?.unwrap_or(false);
        let priority = fields.signed("priority", i64::MIN..=i64::MAX)?.unwrap_or(0);
        self.priority = priority.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
        self.deadline_ms = deadline_ms(fields, defaults.deadline_ms)?;
        Ok(())
    }

    /// Takes `reasoning_budget_tokens`, the bound on a thought.
    ///
    /// # Errors
    /// It is no whole number, or out of bounds.
    pub fn take_budget(&mut self, fields: &mut Fields) -> Result<(), RequestError> {
        let budget = fields.integer("reasoning_budget_tokens", 0..=u64::from(u32::MAX))?;
        self.reasoning_tokens_max = budget.map(|n| n as usize).or(self.reasoning_tokens_max);
        Ok(())
    }

    /// Sets the format of the text and the tools.
    pub fn wants(&mut self, tools: ToolUse, format: Format) {
        (self.format, self.tools, self.calls_max) = tools.with(format);
    }

    /// The parameters for the engine of answer number `choice`, of at most `max_tokens` tokens.
    pub fn params(&self, choice: usize, max_tokens: usize) -> GenerateParams {
        // Answer 0 has the request's own seed, so it equals the answer to a request for one.
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
