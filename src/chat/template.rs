//! A chat template: compiled once at start-up, rendered for each request.
//!
//! Templates come from GGUF files and are written for Python's Jinja: `minijinja` with its Python methods runs them.
//! They are data from a stranger: they can't read files, and a bound on their work stops an endless loop.

use minijinja::{Environment, ErrorKind, Value, context};
use serde::Serialize;

use crate::types::{RequestError, StartupError};

/// Instructions one rendering may take; the longest published templates need a few thousand for a chat of 100 turns.
const FUEL: u64 = 50_000_000;

const NAME: &str = "chat";

/// What a model without a template of its own gets.
const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n\
                      {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    pub content: String,
}

/// Where the template came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateSource {
    Model,
    File,
    /// The model has none and ChatML stands in.
    ChatMl,
}

/// A compiled template. Shared by all HTTP threads.
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: TemplateSource,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// Compiles `text`, or ChatML where there is none. `bos` and `eos` are the texts of those tokens.
    ///
    /// # Errors
    /// `StartupError::Config` when it isn't valid Jinja, with the line.
    pub fn new(text: Option<(String, TemplateSource)>, bos: String, eos: String) -> Result<ChatTemplate, StartupError> {
        let (text, source) = text.unwrap_or((CHATML.to_owned(), TemplateSource::ChatMl));
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_template_owned(NAME, text).map_err(|error| StartupError::Config {
            name: "chat template".into(),
            reason: format!("line {}: {error}", error.line().unwrap_or(0)),
        })?;
        Ok(ChatTemplate { environment, source, bos, eos })
    }

    pub fn source(&self) -> TemplateSource {
        self.source
    }

    /// Whether a rendered prompt already begins with the BOS token's text.
    pub fn starts_with_bos(&self, prompt: &str) -> bool {
        !self.bos.is_empty() && prompt.starts_with(&self.bos)
    }

    /// The prompt of a conversation, up to where the assistant begins to speak.
    ///
    /// # Errors
    /// `RequestError::Field` on `messages` when the template refuses them.
    pub fn render(&self, messages: &[Message]) -> Result<String, RequestError> {
        let refuse = |error: minijinja::Error| {
            let reason = error.detail().unwrap_or("it doesn't fit the model's template").to_owned();
            RequestError::field("messages", format!("the chat template refuses them: {reason}"))
        };
        let template = self.environment.get_template(NAME).map_err(refuse)?;
        template
            .render(context! {
                messages => messages,
                add_generation_prompt => true,
                bos_token => self.bos,
                eos_token => self.eos,
            })
            .map_err(refuse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(turns: &[(&str, &str)]) -> Vec<Message> {
        turns.iter().map(|(role, content)| Message { role: (*role).into(), content: (*content).into() }).collect()
    }

    fn compiled(text: &str) -> ChatTemplate {
        ChatTemplate::new(Some((text.into(), TemplateSource::Model)), "<s>".into(), "</s>".into()).unwrap()
    }

    #[test]
    fn a_model_without_a_template_speaks_chatml() {
        let template = ChatTemplate::new(None, String::new(), String::new()).unwrap();
        assert_eq!(template.source(), TemplateSource::ChatMl);
        assert_eq!(
            template.render(&chat(&[("system", "Be brief."), ("user", "Hi")])).unwrap(),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        );
    }

    #[test]
    fn pythons_string_methods_and_special_tokens_work() {
        let template = compiled(
            "{{ bos_token }}{% for m in messages %}\n{% if m.role.startswith('u') %}[{{ m.content.strip() }}]{% endif %}\n{% endfor %}",
        );
        assert_eq!(template.render(&chat(&[("user", "  Hi ")])).unwrap(), "<s>[Hi]");
    }

    #[test]
    fn a_refusal_names_the_field_and_the_templates_reason() {
        let template = compiled("{{ raise_exception('roles must alternate') }}");
        let error = template.render(&chat(&[("user", "Hi")])).unwrap_err();
        assert_eq!(error.to_string(), "messages: the chat template refuses them: roles must alternate");
    }

    #[test]
    fn an_endless_template_is_stopped() {
        let template =
            compiled("{% for a in range(10000) %}{% for b in range(10000) %}{{ a*b }}{% endfor %}{% endfor %}");
        assert!(template.render(&chat(&[("user", "Hi")])).is_err());
    }

    #[test]
    fn a_broken_template_is_refused_at_start_up_with_its_line() {
        let broken = Some(("{% if %}".to_owned(), TemplateSource::File));
        let error = ChatTemplate::new(broken, String::new(), String::new()).err().unwrap();
        assert!(error.to_string().contains("line 1"), "{error}");
    }
}
