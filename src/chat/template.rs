//! A chat template: compiled once at start-up, rendered for each request.
//!
//! Templates come from GGUF files and are written for Python's Jinja: `minijinja` with what `python.rs` adds runs them.
//! They are data from a stranger: they can't read files, and a bound on their work stops an endless loop.

use minijinja::{Environment, Value};
use serde_json::Map;

use super::message::Message;
use super::python;
use super::style::Style;
use crate::types::{RequestError, StartupError};

/// Instructions one rendering may take; the longest published templates need a few thousand for a chat of 100 turns.
const FUEL: u64 = 50_000_000;

const NAME: &str = "chat";

/// What a model without a template of its own gets.
const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n\
                      {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Names that a request's own variables can't take.
const RESERVED: [&str; 4] = ["messages", "tools", "bos_token", "eos_token"];

/// Where the template came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateSource {
    Model,
    File,
    /// The model has none and ChatML stands in.
    ChatMl,
}

/// What a template is rendered with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conversation<'a> {
    pub messages: &'a [Message],
    /// Tools as the client sent them: `{"type": "function", "function": {...}}`.
    pub tools: &'a [serde_json::Value],
    /// The request's own variables (`enable_thinking`, ...).
    pub kwargs: Option<&'a Map<String, serde_json::Value>>,
}

/// A compiled template. Shared by all HTTP threads.
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: TemplateSource,
    style: Style,
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
        python::add_to(&mut environment);
        let style = Style::of(&text);
        let text = python::without_generation_blocks(&text);
        environment.add_template_owned(NAME, text).map_err(|error| StartupError::Config {
            name: "chat template".into(),
            reason: format!("line {}: {error}", error.line().unwrap_or(0)),
        })?;
        Ok(ChatTemplate { environment, source, style, bos, eos })
    }

    /// The Jinja text.
    pub fn text(&self) -> String {
        self.environment.get_template(NAME).map_or_else(|_| String::new(), |template| template.source().to_owned())
    }

    pub fn source(&self) -> TemplateSource {
        self.source
    }

    /// How a model with this template thinks and calls tools.
    pub fn style(&self) -> &Style {
        &self.style
    }

    /// Whether a rendered prompt already begins with the BOS token's text.
    pub fn starts_with_bos(&self, prompt: &str) -> bool {
        !self.bos.is_empty() && prompt.starts_with(&self.bos)
    }

    /// The prompt of a conversation, up to where the assistant begins to speak.
    ///
    /// # Errors
    /// `RequestError::Field` on `messages` when the template refuses them, on `tools` when it has no place for them.
    pub fn render(&self, conversation: Conversation<'_>) -> Result<String, RequestError> {
        let Conversation { messages, tools, kwargs } = conversation;
        if !tools.is_empty() && !self.style.takes_tools {
            return Err(RequestError::field("tools", "this model's chat template has no place for tools"));
        }
        let refuse = |error: minijinja::Error| {
            let reason = error.detail().unwrap_or("it doesn't fit the model's template").to_owned();
            RequestError::field("messages", format!("the chat template refuses them: {reason}"))
        };
        let template = self.environment.get_template(NAME).map_err(refuse)?;
        let given = [
            ("messages", Value::from_serialize(messages)),
            // Python's callers pass None for no tools, and some templates ask whether it is none.
            ("tools", if tools.is_empty() { Value::from(()) } else { Value::from_serialize(tools) }),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(true)),
            ("bos_token", Value::from(self.bos.as_str())),
            ("eos_token", Value::from(self.eos.as_str())),
        ];
        let own = kwargs.into_iter().flatten().filter(|(name, _)| !RESERVED.contains(&name.as_str()));
        let own = own.map(|(name, value)| (name.as_str(), Value::from_serialize(value)));
        template.render(Value::from_iter(given.into_iter().chain(own))).map_err(refuse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(turns: &[(&str, &str)]) -> Vec<Message> {
        turns.iter().map(|(role, content)| Message::new(*role, *content)).collect()
    }

    fn compiled(text: &str) -> ChatTemplate {
        ChatTemplate::new(Some((text.into(), TemplateSource::Model)), "<s>".into(), "</s>".into()).unwrap()
    }

    fn rendered(template: &ChatTemplate, turns: &[(&str, &str)]) -> Result<String, RequestError> {
        template.render(Conversation { messages: &chat(turns), ..Conversation::default() })
    }

    #[test]
    fn a_model_without_a_template_speaks_chatml() {
        let template = ChatTemplate::new(None, String::new(), String::new()).unwrap();
        assert_eq!(template.source(), TemplateSource::ChatMl);
        assert_eq!(
            rendered(&template, &[("system", "Be brief."), ("user", "Hi")]).unwrap(),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        );
    }

    #[test]
    fn pythons_string_methods_and_special_tokens_work() {
        let template = compiled(
            "{{ bos_token }}{% for m in messages %}\n{% if m.role.startswith('u') %}[{{ m.content.strip() }}]{% endif %}\n{% endfor %}",
        );
        assert_eq!(rendered(&template, &[("user", "  Hi ")]).unwrap(), "<s>[Hi]");
    }

    #[test]
    fn a_refusal_names_the_field_and_the_templates_reason() {
        let template = compiled("{{ raise_exception('roles must alternate') }}");
        let error = rendered(&template, &[("user", "Hi")]).unwrap_err();
        assert_eq!(error.to_string(), "messages: the chat template refuses them: roles must alternate");
    }

    #[test]
    fn tools_where_there_is_no_place_for_them_are_refused() {
        let tools = [serde_json::json!({"type": "function", "function": {"name": "f"}})];
        let conversation = Conversation { messages: &chat(&[("user", "Hi")]), tools: &tools, kwargs: None };
        let error = compiled("{{ messages }}").render(conversation).unwrap_err();
        assert_eq!(error.to_string(), "tools: this model's chat template has no place for tools");
    }

    #[test]
    fn a_request_brings_variables_but_not_those_that_are_set() {
        let template = compiled("{{ enable_thinking }} {{ bos_token }} {{ messages | length }}");
        let kwargs = serde_json::json!({"enable_thinking": false, "bos_token": "x", "messages": []});
        let conversation =
            Conversation { messages: &chat(&[("user", "Hi")]), kwargs: kwargs.as_object(), ..Conversation::default() };
        assert_eq!(template.render(conversation).unwrap(), "False <s> 1");
    }

    #[test]
    fn an_endless_template_is_stopped() {
        let template =
            compiled("{% for a in range(10000) %}{% for b in range(10000) %}{{ a*b }}{% endfor %}{% endfor %}");
        assert!(rendered(&template, &[("user", "Hi")]).is_err());
    }

    #[test]
    fn a_broken_template_is_refused_at_start_up_with_its_line() {
        let broken = Some(("{% if %}".to_owned(), TemplateSource::File));
        let error = ChatTemplate::new(broken, String::new(), String::new()).err().unwrap();
        assert!(error.to_string().contains("line 1"), "{error}");
    }
}
