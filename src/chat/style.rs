//! How a model thinks and calls tools, derived from the marks in its template.

use std::sync::Arc;

use super::form::{self, CallForm, marks_in};
use super::thought::Thought;

/// How a model with a certain template thinks and calls tools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// The marks around its thoughts. `None`: it has none, or channels as GPT-OSS has.
    pub thought: Option<Thought>,
    /// Whether the template reads `tools`.
    pub takes_tools: bool,
    /// Whether the template distinguishes the roles `developer` and `system`.
    pub knows_developer: bool,
    /// In which style it calls tools.
    pub calls: CallStyle,
    /// The form of calls, if it is none of the styles: read from what the template renders.
    pub form: Option<Arc<CallForm>>,
    /// The form that the template shows, also if a style reads it.
    pub shown: Option<Arc<CallForm>>,
    /// How the style or form of calls is known.
    pub origin: FormOrigin,
}

/// How the style or form of a model's calls is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FormOrigin {
    /// The template writes a call when it is rendered.
    Rendered,
    /// Words in the template's text stand for a form in a small table.
    Words,
    /// Marks of a published style are in the template's text.
    #[default]
    Marks,
    /// It is unknown, for this reason.
    Unknown(&'static str),
}

/// The call forms that models are published with. Each has a parser and a grammar of its own; other forms are read from the
/// template (`CallForm`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallStyle {
    /// `<tool_call>\n{"name": NAME, "arguments": {...}}\n</tool_call>`, any number of them.
    #[default]
    Hermes,
    /// The whole answer is `{"name": NAME, "parameters": {...}}`, perhaps after `<|python_tag|>`; `;` separates several. Its
    /// templates support one call a turn.
    Llama3,
    /// `[TOOL_CALLS][{"name": NAME, "arguments": {...}}, ...]`, at the end of the answer.
    MistralList,
    /// `[TOOL_CALLS]NAME[ARGS]{...}`, any number of them.
    MistralArgs,
    /// Channels: `<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>{...}` or `
    /// to=functions.NAME<|channel|>commentary json<|message|>{...}`, after thoughts and at the end of the answer. Thoughts
    /// also have a channel.
    Harmony,
}

impl CallStyle {
    /// Whether it is one of Mistral's two. The parser takes both.
    pub fn is_mistral(self) -> bool {
        matches!(self, CallStyle::MistralList | CallStyle::MistralArgs)
    }
}

/// The mark before a Hermes call.
pub const HERMES_OPEN: &str = "<tool_call>";
/// The mark after a Hermes call.
pub const HERMES_CLOSE: &str = "</tool_call>";
/// The mark before a Llama 3 call, which is optional.
pub const PYTHON_TAG: &str = "<|python_tag|>";
/// The mark before Mistral's calls.
pub const MISTRAL_OPEN: &str = "[TOOL_CALLS]";
/// The mark before the name of a GPT-OSS channel.
pub const CHANNEL: &str = "<|channel|>";
/// The mark at the beginning of a GPT-OSS message.
pub const START: &str = "<|start|>";
/// The mark between the head and the text of a GPT-OSS message.
pub const MESSAGE: &str = "<|message|>";
/// The mark before a GPT-OSS model's answer to its user.
const HARMONY_ANSWER: &str = "<|channel|>final<|message|>";
/// The text in the head of a GPT-OSS model's call, before the tool's name.
pub const HARMONY_CALL: &str = "to=functions.";
/// The marks around a GPT-OSS model's thought.
pub const HARMONY_THOUGHT: [&str; 2] = ["<|channel|>analysis<|message|>", "<|end|>"];
/// The mark before a thought, for most models.
pub const THINK: &str = "<think>";
/// The mark after a thought, for most models.
pub const THINK_END: &str = "</think>";

impl Style {
    /// Reads the style from the marks in a template's text.
    pub fn of(template: &str) -> Style {
        let has = |mark: &str| template.contains(mark);
        let calls = if has(CHANNEL) {
            CallStyle::Harmony
        } else if has(HERMES_OPEN) {
            CallStyle::Hermes
        } else if has(MISTRAL_OPEN) && has("[ARGS]") {
            CallStyle::MistralArgs
        } else if has(MISTRAL_OPEN) {
            CallStyle::MistralList
        } else if has(PYTHON_TAG) || has("ipython") {
            CallStyle::Llama3
        } else {
            CallStyle::Hermes
        };
        Style {
            thought: None,
            takes_tools: has("tools"),
            knows_developer: has("developer"),
            calls,
            form: None,
            shown: None,
            origin: FormOrigin::Marks,
        }
    }

    /// Reads the form of calls from what the template renders, or else from its words, if none of the styles applies. A
    /// template that doesn't support tools may still show the form; then the tools are described in it, otherwise in
    /// Hermes' form.
    pub fn learn(&mut self, template: &str, render: form::RenderProbe<'_>) {
        let rendered = form::derive(render).map(|form| (form, FormOrigin::Rendered));
        let rendered = rendered.filter(|(form, _)| self.takes_tools || !form.trigger().is_empty());
        let found = rendered.or_else(|| Some((form::known(template).filter(|_| self.takes_tools)?, FormOrigin::Words)));
        let Some((form, origin)) = found else {
            if !self.takes_tools && self.calls != CallStyle::Harmony {
                self.calls = CallStyle::Hermes;
            }
            self.origin = match self.has_mark(template) || !self.takes_tools {
                true => FormOrigin::Marks,
                false if form::shows_calls(render) => {
                    FormOrigin::Unknown("it renders calls in a form of no known kind")
                }
                false => {
                    FormOrigin::Unknown("it renders no call of an earlier turn, and describes none by a known mark")
                }
            };
            if self.calls == CallStyle::Hermes && self.origin == FormOrigin::Marks {
                self.shown = Some(Arc::new(CallForm::hermes()));
            }
            return;
        };
        let is_json = form.object.as_ref().is_some_and(|keys| keys.name == "name");
        let fits = match form.trigger() {
            _ if self.calls == CallStyle::Harmony => true,
            HERMES_OPEN => form.is_hermes(),
            // Calls are bare JSON.
            "" => is_json && self.calls == CallStyle::Llama3,
            MISTRAL_OPEN => true,
            _ => false,
        };
        let form = Arc::new(form);
        self.origin = origin;
        match (fits, form.trigger().is_empty()) {
            (true, _) => {}
            (false, false) => self.form = Some(Arc::clone(&form)),
            // The instructions in the template's text count for more than how it prints calls.
            (false, true) if self.has_mark(template) => return self.origin = FormOrigin::Marks,
            (false, true) if form.is_bare_list() => self.form = Some(Arc::clone(&form)),
            (false, true) => {
                self.origin = FormOrigin::Unknown("its calls have no mark before them that tells them from text")
            }
        }
        self.shown = Some(form);
    }

    /// Whether the mark before calls of this style is in the template's text.
    fn has_mark(&self, template: &str) -> bool {
        match self.calls {
            CallStyle::Hermes => template.contains(HERMES_OPEN),
            CallStyle::Llama3 => template.contains(PYTHON_TAG) || template.contains("ipython"),
            CallStyle::MistralList | CallStyle::MistralArgs => template.contains(MISTRAL_OPEN),
            CallStyle::Harmony => template.contains(CHANNEL),
        }
    }

    /// The form that a grammar holds calls to. `None`: that of the style.
    pub fn held_to(&self) -> Option<&CallForm> {
        let shown = self.shown.as_ref().filter(|_| self.calls.is_mistral());
        self.form.as_ref().or(shown).map(|form| &**form)
    }

    /// The warning to log at start-up if the template supports tools but its calls can't be read. `None`: they can.
    pub fn warning(&self) -> Option<String> {
        let FormOrigin::Unknown(why) = self.origin else { return None };
        let text = "tools will not work with this chat template: it takes tools, but how its model writes a call can't be told";
        self.takes_tools.then(|| format!("{text}: {why}"))
    }

    /// Marks that may be control tokens of the vocabulary. The text of control tokens isn't part of an answer, but the
    /// reader of an answer needs these.
    pub fn marks(&self) -> Vec<&str> {
        let mut marks = match (&self.form, self.calls) {
            (Some(form), _) => form.marks(),
            (None, CallStyle::Hermes) => vec![HERMES_OPEN, HERMES_CLOSE],
            (None, CallStyle::Llama3) => vec![PYTHON_TAG],
            (None, CallStyle::MistralList | CallStyle::MistralArgs) => vec![MISTRAL_OPEN, "[ARGS]", "[CALL_ID]"],
            (None, CallStyle::Harmony) => vec![CHANNEL, "<|message|>", "<|start|>", "<|end|>", "<|constrain|>"],
        };
        if self.calls != CallStyle::Harmony {
            marks.extend([THINK, THINK_END]);
        }
        let of_thought = self.thought.iter().flat_map(|thought| [&thought.open, &thought.close]);
        marks.extend(of_thought.flat_map(|mark| marks_in(mark)));
        marks
    }

    /// Whether answers may contain a thought.
    pub fn thinks(&self) -> bool {
        self.thought.is_some() || self.calls == CallStyle::Harmony
    }

    /// How a thought appears in an answer to `prompt`: its marks, and whether the prompt ends within a thought. `None`:
    /// the answer has no thought.
    pub fn thought_behind(&self, prompt: &str) -> Option<(Thought, bool)> {
        if self.calls == CallStyle::Harmony {
            // Everything before the final channel's message is thought.
            return Some((Thought::new("", HARMONY_ANSWER), true));
        }
        let thought = self.thought.clone()?;
        let prompt = prompt.trim_end();
        let has_begun = prompt.ends_with(&thought.open);
        (!prompt.ends_with(&thought.close)).then_some((thought, has_begun))
    }
}
