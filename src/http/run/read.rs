//! What shall be continued, as tokens.

use crate::chat::{Conversation, Message, Prompt};
use crate::http::ask::generation::{Generation, Input, Part};
use crate::http::ask::warnings::warn;
use crate::http::service::Service;
use crate::types::{RequestError, Token};

/// An input that was read.
pub struct Read {
    /// At least one.
    pub tokens: Vec<Token>,
    /// A conversation as the template wrote it; of other inputs what was asked for, where the answer shows it.
    pub text: String,
    pub is_chat: bool,
}

impl Service {
    /// The tokens of an input.
    ///
    /// # Errors
    /// The tokeniser's and the template's; there are no tokens; the vocabulary has no tokens for a gap.
    pub(in crate::http) fn read(&self, input: Input, generation: &Generation) -> Result<Read, RequestError> {
        let tokenizer = &self.parts.tokenizer;
        let (tokens, field, text) = match input {
            Input::Chat(messages) => {
                let (Prompt { text, warnings, .. }, tokens) = self.prompt_of(messages, generation)?;
                warnings.into_iter().for_each(warn);
                return match tokens.is_empty() {
                    true => Err(RequestError::field("messages", "has no tokens")),
                    false => Ok(Read { tokens, text, is_chat: true }),
                };
            }
            Input::Prompt(parts) => {
                let tokens = self.tokens_of_parts(&parts, true)?;
                (tokens, "prompt", self.shown(parts, generation))
            }
            Input::Between { before, after } => {
                let tokens = self.tokens_between(&before, &after)?;
                (tokens, "prompt", self.shown(before, generation))
            }
            Input::Gap(gap) => {
                // A quarter of the context at most is kept free for the answer.
                let n_ctx = self.parts.model.n_ctx;
                let kept_free = generation.max_tokens.unwrap_or(n_ctx).clamp(1, (n_ctx / 4).max(1));
                let tokens = gap.tokens(tokenizer, n_ctx.saturating_sub(kept_free))?;
                let text = if generation.shows_prompts { tokenizer.decode(&tokens, true) } else { String::new() };
                (tokens, "input_prefix", text)
            }
        };
        match tokens.is_empty() {
            true => Err(RequestError::field(field, "has no tokens")),
            false => Ok(Read { tokens, text, is_chat: false }),
        }
    }

    /// A generation's conversation as text and tokens. What its messages and tools spell is never a control token.
    ///
    /// # Errors
    /// The template's, where no change to the conversation helps; the tokeniser's.
    pub(in crate::http) fn prompt_of(
        &self,
        messages: Vec<Message>,
        generation: &Generation,
    ) -> Result<(Prompt, Vec<Token>), RequestError> {
        let messages: Vec<Message> = match self.parts.template.style().knows_developer {
            true => messages,
            false => messages.into_iter().map(as_system).collect(),
        };
        let (tools, kwargs) = (&generation.tools, Some(&generation.kwargs));
        let conversation = Conversation { messages: &messages, tools, kwargs };
        let mut prompt = self.parts.template.prompt(conversation, &self.guard)?;
        if let Some(begun) = generation.begun.as_ref().and_then(|turn| turn.content.as_deref()) {
            prompt = self.parts.template.continued(prompt, begun, &self.guard);
        }
        // A template that writes BOS itself must not get a second one.
        let add_special = !self.parts.template.starts_with_bos(&prompt.text);
        let tokens = self.parts.tokenizer.encode_chat(&prompt.text, add_special, &prompt.barriers)?;
        Ok((prompt, tokens))
    }

    /// The text of a prompt, where the answer shows it.
    fn shown(&self, mut parts: Vec<Part>, generation: &Generation) -> String {
        match parts.as_mut_slice() {
            _ if !generation.shows_prompts => String::new(),
            [Part::Text(text)] => std::mem::take(text),
            parts => {
                let tokens = self.tokens_of_parts(parts, true).unwrap_or_default();
                self.parts.tokenizer.decode(&tokens, true)
            }
        }
    }

    /// `is_prompt`: special tokens in texts count as such, and the model's own go in front of a text that stands first. Ids are
    /// taken as they are.
    fn tokens_of_parts(&self, parts: &[Part], is_prompt: bool) -> Result<Vec<Token>, RequestError> {
        let (tokenizer, mut tokens) = (&self.parts.tokenizer, Vec::new());
        for (i, part) in parts.iter().enumerate() {
            match part {
                Part::Text(text) if tokens.is_empty() => {
                    tokens = tokenizer.encode(text, is_prompt && i == 0, is_prompt)?;
                }
                Part::Text(text) => tokens.extend(tokenizer.encode(text, false, is_prompt)?),
                Part::Token(token) if token.index() < tokenizer.n_vocab() => tokens.push(*token),
                Part::Token(token) => {
                    let message = format!("{} is no token id, they go up to {}", token.0, tokenizer.n_vocab() - 1);
                    return Err(RequestError::field(format!("prompt[{i}]"), message));
                }
            }
        }
        Ok(tokens)
    }

    fn tokens_between(&self, before: &[Part], after: &str) -> Result<Vec<Token>, RequestError> {
        let tokenizer = &self.parts.tokenizer;
        let Some([prefix, suffix, middle]) = tokenizer.fim() else {
            return Err(RequestError::field("suffix", "this model's vocabulary has no tokens to fill in between"));
        };
        let bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
        let mut all: Vec<Token> = bos.into_iter().chain([prefix]).collect();
        all.extend(self.tokens_of_parts(before, false)?);
        all.push(suffix);
        all.extend(tokenizer.encode(after, false, false)?);
        all.push(middle);
        Ok(all)
    }
}

/// Most templates know no developer.
fn as_system(mut message: Message) -> Message {
    if message.role == "developer" {
        message.role = "system".to_owned();
    }
    message
}
