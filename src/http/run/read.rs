//! Converts the inputs of a generation to tokens.

use crate::chat::{ChatPrompt, Conversation, Message};
use crate::http::ask::generation::{Generation, Input, PromptPart};
use crate::http::ask::warnings::warn;
use crate::http::service::Service;
use crate::types::{RequestError, Token};

/// An input as tokens.
pub struct Read {
    /// The tokens, at least one.
    pub tokens: Vec<Token>,
    /// The text of a conversation's prompt; of other inputs the prompt's text, if the answer shows it.
    pub text: String,
    /// Whether the input is a conversation.
    pub is_chat: bool,
}

impl Service {
    /// Converts one input.
    ///
    /// # Errors
    /// The tokenizer or the template fails; there are no tokens; the vocabulary has no tokens for gaps.
    pub(in crate::http) fn read(&self, input: Input, generation: &Generation) -> Result<Read, RequestError> {
        let tokenizer = &self.parts.tokenizer;
        let (tokens, field, text) = match input {
            Input::Chat(messages) => {
                let (ChatPrompt { text, warnings, .. }, tokens) = self.prompt_of(messages, generation)?;
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
                // At most a quarter of the context is reserved for the answer.
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

    /// The prompt of a conversation as text and tokens. Control tokens spelled in messages and tools stay plain text.
    ///
    /// # Errors
    /// The template refuses the conversation and no change helps; the tokenizer fails.
    pub(in crate::http) fn prompt_of(
        &self,
        messages: Vec<Message>,
        generation: &Generation,
    ) -> Result<(ChatPrompt, Vec<Token>), RequestError> {
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

    /// The text of a prompt, if the answer shows it.
    fn shown(&self, mut parts: Vec<PromptPart>, generation: &Generation) -> String {
        match parts.as_mut_slice() {
            _ if !generation.shows_prompts => String::new(),
            [PromptPart::Text(text)] => std::mem::take(text),
            parts => {
                let tokens = self.tokens_of_parts(parts, true).unwrap_or_default();
                self.parts.tokenizer.decode(&tokens, true)
            }
        }
    }

    /// `is_prompt`: control tokens spelled in texts become control tokens, and the model's own tokens (BOS) are added
    /// before a text at the beginning. Token ids are used as they are.
    fn tokens_of_parts(&self, parts: &[PromptPart], is_prompt: bool) -> Result<Vec<Token>, RequestError> {
        let (tokenizer, mut tokens) = (&self.parts.tokenizer, Vec::new());
        for (i, part) in parts.iter().enumerate() {
            match part {
                PromptPart::Text(text) if tokens.is_empty() => {
                    tokens = tokenizer.encode(text, is_prompt && i == 0, is_prompt)?;
                }
                PromptPart::Text(text) => tokens.extend(tokenizer.encode(text, false, is_prompt)?),
                PromptPart::Token(token) if token.index() < tokenizer.n_vocab() => tokens.push(*token),
                PromptPart::Token(token) => {
                    let message = format!("{} is no token id, they go up to {}", token.0, tokenizer.n_vocab() - 1);
                    return Err(RequestError::field(format!("prompt[{i}]"), message));
                }
            }
        }
        Ok(tokens)
    }

    fn tokens_between(&self, before: &[PromptPart], after: &str) -> Result<Vec<Token>, RequestError> {
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

/// Most templates don't know the role `developer`.
fn as_system(mut message: Message) -> Message {
    if message.role == "developer" {
        message.role = "system".to_owned();
    }
    message
}
