//! How a model's template has it think and call tools, told by the marks that stand in the template.

use std::sync::Arc;

use super::form::{self, CallForm, marks_in};
use super::thought::Thought;

/// What a template says of its model's habits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// The marks around its thoughts. `None`: it has none, or channels as GPT-OSS has.
    pub thought: Option<Thought>,
    /// The template reads `tools`.
    pub takes_tools: bool,
    /// It tells a developer's words from the system's.
    pub knows_developer: bool,
    pub calls: CallStyle,
    /// In Mistral's style: a name and `[ARGS]` before the arguments, rather than a list of objects.
    pub names_apart: bool,
    /// The form of calls where it is none of the styles above: read from what the template renders.
    pub form: Option<Arc<CallForm>>,
}

/// How calls are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallStyle {
    /// `<tool_call>`, a line of JSON with `name` and `arguments`, `</tool_call>`; any number of them.
    #[default]
    Hermes,
    /// The whole answer is JSON with `name` and `parameters`, perhaps behind `<|python_tag|>`; `;` between several.
    Llama3,
    /// `[TOOL_CALLS]`, then an array of JSON objects, or a name and its arguments.
    Mistral,
    /// Channels: `<|channel|>commentary to=functions.NAME ...<|message|>` and the arguments; thoughts have one, too.
    Harmony,
}

/// The mark before a call of each style.
pub const HERMES_OPEN: &str = "<tool_call>";
pub const HERMES_CLOSE: &str = "</tool_call>";
pub const PYTHON_TAG: &str = "<|python_tag|>";
pub const MISTRAL_OPEN: &str = "[TOOL_CALLS]";
pub const CHANNEL: &str = "<|channel|>";
/// Behind it stands what a GPT-OSS model says to its user.
const HARMONY_ANSWER: &str = "<|channel|>final<|message|>";
/// It stands in the head of a GPT-OSS model's calls.
pub const HARMONY_CALL: &str = "to=functions.";
/// Around a GPT-OSS model's thought, where it is told from calls and answers by its channel.
pub const HARMONY_THOUGHT: [&str; 2] = ["<|channel|>analysis<|message|>", "<|end|>"];
/// The marks of most thoughts.
pub const THINK: &str = "<think>";
pub const THINK_END: &str = "</think>";

impl Style {
    /// Reads the marks in a template's text.
    pub fn of(template: &str) -> Style {
        let has = |mark: &str| template.contains(mark);
        let calls = if has(CHANNEL) {
            CallStyle::Harmony
        } else if has(HERMES_OPEN) {
            CallStyle::Hermes
        } else if has(MISTRAL_OPEN) {
            CallStyle::Mistral
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
            names_apart: has("[ARGS]"),
            form: None,
        }
    }

    /// Reads the form of calls from what the template renders, or else from its words, where none of the styles fits.
    pub fn learn(&mut self, template: &str, render: form::Render<'_>) {
        let Some(form) =
            form::derive(render).or_else(|| form::known(template)).filter(|_| self.calls != CallStyle::Harmony)
        else {
            return;
        };
        let is_json = form.object.as_ref().is_some_and(|keys| keys.name == "name");
        let fits = match form.trigger() {
            HERMES_OPEN => is_json && form.lead().trim() == HERMES_OPEN && form.open.is_empty(),
            // Bare JSON.
            "" => is_json && self.calls == CallStyle::Llama3,
            MISTRAL_OPEN => true,
            _ => false,
        };
        if !fits && !form.trigger().is_empty() {
            self.form = Some(Arc::new(form));
        }
    }

    /// Marks that some vocabularies have as control tokens, whose text isn't shown: whoever reads the answer must show
    /// these.
    pub fn marks(&self) -> Vec<&str> {
        let mut marks = match (&self.form, self.calls) {
            (Some(form), _) => form.marks(),
            (None, CallStyle::Hermes) => vec![HERMES_OPEN, HERMES_CLOSE],
            (None, CallStyle::Llama3) => vec![PYTHON_TAG],
            (None, CallStyle::Mistral) => vec![MISTRAL_OPEN, "[ARGS]", "[CALL_ID]"],
            (None, CallStyle::Harmony) => vec![CHANNEL, "<|message|>", "<|start|>", "<|end|>", "<|constrain|>"],
        };
        if self.calls != CallStyle::Harmony {
            marks.extend([THINK, THINK_END]);
        }
        let of_thought = self.thought.iter().flat_map(|thought| [&thought.open, &thought.close]);
        marks.extend(of_thought.flat_map(|mark| marks_in(mark)));
        marks
    }

    /// Whether its answers may have a thought.
    pub fn thinks(&self) -> bool {
        self.thought.is_some() || self.calls == CallStyle::Harmony
    }

    /// How a thought shows in an answer to `prompt`: the marks, and whether the prompt ends within a thought. `None`: the answer has
    /// none.
    pub fn thought_behind(&self, prompt: &str) -> Option<(Thought, bool)> {
        if self.calls == CallStyle::Harmony {
            // All is thought until the final channel's message.
            return Some((Thought::new("", HARMONY_ANSWER), true));
        }
        let thought = self.thought.clone()?;
        let prompt = prompt.trim_end();
        let has_begun = prompt.ends_with(&thought.open);
        (!prompt.ends_with(&thought.close)).then_some((thought, has_begun))
    }
}
