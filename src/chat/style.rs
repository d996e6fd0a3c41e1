//! How a model's template has it think and call tools, told by the marks that stand in the template.

use std::sync::Arc;

use super::form::{self, CallForm};

/// What a template says of its model's habits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// It thinks between `<think>` and `</think>`.
    pub thinks: bool,
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
            thinks: has("<think>") || has("</think>"),
            takes_tools: has("tools"),
            knows_developer: has("developer"),
            calls,
            names_apart: has("[ARGS]"),
            form: None,
        }
    }

    /// Reads the form of calls from what the template renders, where none of the styles fits.
    pub fn learn(&mut self, render: form::Render<'_>) {
        let Some(form) = form::derive(render).filter(|_| self.calls != CallStyle::Harmony) else { return };
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
        if let Some(form) = &self.form {
            return form.marks().into_iter().chain(["<think>", "</think>"]).collect();
        }
        let marks: &[&str] = match self.calls {
            CallStyle::Hermes => &["<think>", "</think>", HERMES_OPEN, HERMES_CLOSE],
            CallStyle::Llama3 => &["<think>", "</think>", PYTHON_TAG],
            CallStyle::Mistral => &["<think>", "</think>", MISTRAL_OPEN, "[ARGS]", "[CALL_ID]"],
            CallStyle::Harmony => &[CHANNEL, "<|message|>", "<|start|>", "<|end|>", "<|constrain|>"],
        };
        marks.to_vec()
    }
}
