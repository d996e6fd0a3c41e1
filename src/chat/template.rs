//! A chat template: compiled once at start-up, rendered for each request.
//!
//! Templates come from GGUF files and are written for Python's Jinja; `minijinja` with the additions in `python.rs`
//! runs them. They are untrusted: they can't read files, and a bound on their work stops an endless loop.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::{Environment, Value};

use super::facts::{THINKING_BUDGET, TemplateFacts, ToolsVariable};
use super::message::Conversation;
use super::python;
use super::python_print::{JsonStyle, json};
use super::style::Style;
use super::thought::Thought;
use super::values::{self, OfText};
use crate::types::StartupError;
use crate::types::limits::{TEMPLATE_FUEL_MAX, TEMPLATE_TRIAL_FUEL_MAX};

const NAME: &str = "chat";

/// The template of a model that has none.
const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n\
                      {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Variables that a request can't set.
const RESERVED: [&str; 4] = ["messages", "tools", "bos_token", "eos_token"];

/// The origin of the template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateSource {
    /// The model's GGUF file.
    Model,
    /// A file that the user named.
    File,
    /// ChatML, because the model has none.
    ChatMl,
}

/// A compiled template. Shared by all HTTP threads.
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: TemplateSource,
    style: Style,
    facts: TemplateFacts,
    /// The template for conversations with tools, if the model has a separate one.
    tool_use: Option<Box<ChatTemplate>>,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// Compiles `text`, or ChatML if it is `None`. `bos` and `eos` are the texts of those tokens.
    ///
    /// # Errors
    /// `StartupError::Config` if it isn't valid Jinja, with the line.
    pub fn new(text: Option<(String, TemplateSource)>, bos: String, eos: String) -> Result<ChatTemplate, StartupError> {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        ChatTemplate::at(now, text, bos, eos)
    }

    /// Like `new`; `now` returns the seconds since 1970 that the template is given.
    ///
    /// # Errors
    /// As for `new`.
    pub fn at(
        now: fn() -> u64,
        text: Option<(String, TemplateSource)>,
        bos: String,
        eos: String,
    ) -> Result<ChatTemplate, StartupError> {
        let (text, source) = text.unwrap_or((CHATML.to_owned(), TemplateSource::ChatMl));
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(TEMPLATE_TRIAL_FUEL_MAX));
        python::add_to(&mut environment, now);
        let style = Style::of(&text);
        let text = python::with_markup_sums(&python::without_generation_blocks(&text));
        environment.add_template_owned(NAME, text).map_err(|error| StartupError::Config {
            name: "chat template".into(),
            reason: format!("line {}: {error}", error.line().unwrap_or(0)),
        })?;
        let facts = TemplateFacts::default();
        let mut template = ChatTemplate { environment, source, style, facts, tool_use: None, bos, eos };
        template.facts = TemplateFacts::of(&template.variables(), &|facts, conversation| {
            template.render_as(facts, conversation, &|text| text.into()).ok()
        });
        template.style.takes_tools = template.facts.tools.is_some();
        let mut style = template.style.clone();
        let render = |messages: &[_], tools: &[_], prompt| template.render_trial(messages, tools, prompt);
        style.learn(&template.text(), &render);
        style.thought = Thought::of(&template.text(), &render, template.facts.thought);
        template.style = style;
        template.environment.set_fuel(Some(TEMPLATE_FUEL_MAX));
        Ok(template)
    }

    /// Adds the model's separate template for conversations with tools.
    ///
    /// # Errors
    /// As for `new`.
    pub fn with_tool_use(mut self, text: String) -> Result<ChatTemplate, StartupError> {
        let other = ChatTemplate::new(Some((text, self.source)), self.bos.clone(), self.eos.clone())?;
        if self.facts.tools.is_none() && other.facts.tools.is_some() {
            self.style = other.style.clone();
            self.tool_use = Some(Box::new(other));
        }
        Ok(self)
    }

    /// The template that renders this conversation.
    pub(super) fn for_conversation(&self, conversation: &Conversation<'_>) -> &ChatTemplate {
        let has_tools = !conversation.tools.is_empty()
            || conversation.messages.iter().any(|message| !message.tool_calls.is_empty() || message.role == "tool");
        self.tool_use.as_deref().filter(|_| has_tools).unwrap_or(self)
    }

    /// The Jinja text.
    pub fn text(&self) -> String {
        self.environment.get_template(NAME).map_or_else(|_| String::new(), |template| template.source().to_owned())
    }

    /// Where the template came from.
    pub fn source(&self) -> TemplateSource {
        self.source
    }

    /// How a model with this template thinks and calls tools.
    pub fn style(&self) -> &Style {
        &self.style
    }

    /// Which features the template supports.
    pub fn facts(&self) -> &TemplateFacts {
        &self.facts
    }

    /// Whether a rendered prompt already begins with the BOS token's text.
    pub fn starts_with_bos(&self, prompt: &str) -> bool {
        !self.bos.is_empty() && prompt.starts_with(&self.bos)
    }

    /// Names that the template reads and doesn't set.
    pub(super) fn variables(&self) -> Vec<String> {
        let template = self.environment.get_template(NAME);
        let mut names: Vec<String> =
            template.map(|template| template.undeclared_variables(false).into_iter().collect()).unwrap_or_default();
        names.sort_unstable();
        names
    }

    /// Renders the conversation unchanged; `facts` give the names of the template's variables. `text` makes the value
    /// of each text of the request.
    pub(super) fn render_as(
        &self,
        facts: &TemplateFacts,
        conversation: &Conversation<'_>,
        text: &OfText<'_>,
    ) -> Result<String, minijinja::Error> {
        let Conversation { messages, tools, kwargs } = conversation;
        let template = self.environment.get_template(NAME)?;
        let messages = messages.iter().map(|message| values::of_message(message, facts.thought, text)).collect();
        let given = self.given(facts, messages, tools, true, text)?;
        let own = kwargs.iter().flat_map(|own| own.iter()).filter(|(name, _)| !RESERVED.contains(&name.as_str()));
        let own = own.map(|(name, value)| (name.as_str(), values::of_json(value, text)));
        // The template's own name for the switch, unless the request sets it.
        let switch = facts.switch.and_then(|name| {
            let on = kwargs.and_then(|own| own.get("enable_thinking"))?.as_bool()?;
            let value = match (name, on) {
                (THINKING_BUDGET, true) => return None,
                (THINKING_BUDGET, false) => Value::from(0),
                _ => Value::from(on),
            };
            (!kwargs.is_some_and(|own| own.contains_key(name))).then_some((name, value))
        });
        render_with(&template, Value::from_iter(given.into_iter().chain(own).chain(switch)))
    }

    /// The variables that every rendering gets. `prompt`: whether it ends with the text that prompts the assistant.
    fn given<'a>(
        &'a self,
        facts: &'a TemplateFacts,
        messages: Vec<Value>,
        tools: &[serde_json::Value],
        prompt: bool,
        text: &OfText<'_>,
    ) -> Result<Vec<(&'a str, Value)>, minijinja::Error> {
        let mut given = vec![
            ("messages", values::list(messages)),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(prompt)),
            ("bos_token", Value::from(self.bos.as_str())),
            ("eos_token", Value::from(self.eos.as_str())),
        ];
        // Python's callers pass None if there are no tools, and some templates check for none.
        let made = || values::list(tools.iter().map(|tool| values::of_json(tool, text)).collect());
        match &facts.tools {
            Some(ToolsVariable::List(name)) if !tools.is_empty() => given.push((name, made())),
            Some(ToolsVariable::Text(name)) => {
                let functions = tools.iter().map(|tool| tool.get("function").unwrap_or(tool));
                let functions = values::list(functions.map(|tool| values::of_json(tool, text)).collect());
                let style = JsonStyle { indent: Some("    ".into()), ..JsonStyle::default() };
                given.push((name, Value::from(json(&functions, &style)?)));
            }
            _ => {}
        }
        if facts.wants_datetime {
            let now = self.environment.compile_expression("strftime_now('%Y-%m-%d %H:%M:%S')")?.eval(())?;
            given.push(("datetime", now));
        }
        Ok(given)
    }

    /// Renders messages in OpenAI's format, for the trials at start-up. `None`: the template refuses them.
    fn render_trial(
        &self,
        messages: &[serde_json::Value],
        tools: &[serde_json::Value],
        prompt: bool,
    ) -> Option<String> {
        let text = |text: &str| Value::from(text);
        let messages = messages.iter().map(|message| values::of_json(message, &text)).collect();
        let given = self.given(&self.facts, messages, tools, prompt, &text).ok()?;
        render_with(&self.environment.get_template(NAME).ok()?, Value::from_iter(given)).ok()
    }
}

/// Renders `template` with `values`. minijinja 2.24 panics where a slice with a negative step is of an empty list or text (`[][::-1]`,
/// which is empty in Python). Here a panic is an error, as if the template had raised it: one request is refused, and the server goes on.
fn render_with(template: &minijinja::Template<'_, '_>, values: Value) -> Result<String, minijinja::Error> {
    // Nothing that a panic leaves half done is used again: the values end with it.
    catch_unwind(AssertUnwindSafe(|| template.render(values))).unwrap_or_else(|_| {
        let message = "it failed inside the template library, perhaps at an empty list's slice such as [::-1]";
        Err(minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, message))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Message;
    use crate::types::RequestError;

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
    fn a_slice_at_which_the_library_panics_is_an_error() {
        let template = compiled("{% for m in messages[1:][::-1] %}{{ m.content }}{% endfor %}");
        assert!(rendered(&template, &[("user", "Hi")]).is_err());
        assert_eq!(rendered(&template, &[("user", "Hi"), ("assistant", "a"), ("user", "b")]).unwrap(), "ba");
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
