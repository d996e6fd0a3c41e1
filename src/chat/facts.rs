//! Which features a template supports, found out once at start-up: small conversations with marked texts are rendered,
//! and the marks are searched in the result.

use serde_json::json;

use super::message::{Conversation, Message, ToolCall};

/// How a template is given tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolsVariable {
    /// As a list, in a variable of this name.
    List(String),
    /// The functions as JSON text, in a variable of this name.
    Text(String),
}

/// The features of one template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateFacts {
    /// How it is given tools; `None`: it doesn't support them.
    pub tools: Option<ToolsVariable>,
    /// The key under which it reads a turn's thought; `reasoning_content` also if it reads none.
    pub thought: &'static str,
    /// The variable that switches thoughts on and off, if it isn't `enable_thinking`.
    pub switch: Option<&'static str>,
    /// Whether it writes the calls of a turn whatever the turn's content is: null, empty or a text.
    pub shows_calls: bool,
    /// Whether it prints `datetime`, a variable that callers don't usually set.
    pub wants_datetime: bool,
}

impl Default for TemplateFacts {
    fn default() -> TemplateFacts {
        TemplateFacts {
            tools: Some(ToolsVariable::List("tools".into())),
            thought: THOUGHTS[0],
            switch: None,
            shows_calls: false,
            wants_datetime: false,
        }
    }
}

/// Keys under which published templates read a thought.
const THOUGHTS: [&str; 5] = ["reasoning_content", "reasoning", "thinking", "thought", "thoughts"];

/// Variables by which published templates switch thoughts on and off.
const SWITCHES: [&str; 4] = ["enable_thinking", "thinking", "think", THINKING_BUDGET];

/// A variable that holds a number of tokens; 0 switches thoughts off.
pub const THINKING_BUDGET: &str = "thinking_budget";

/// The text that is searched in renderings. Only letters, so that nothing escapes or splits it.
const MARK: &str = "cllmqzjx";

/// Renders a conversation with a template of these facts; `None`: the template refuses it.
pub type RenderWithFacts<'a> = &'a dyn Fn(&TemplateFacts, &Conversation<'_>) -> Option<String>;

impl TemplateFacts {
    /// Tries out a template. `variables`: the names that it reads; `render`: renders a conversation with a template of
    /// these facts.
    pub fn of(variables: &[String], render: RenderWithFacts<'_>) -> TemplateFacts {
        let wants_datetime = variables.iter().any(|name| name == "datetime");
        let reads = |wanted: &&'static str| variables.iter().any(|name| name == wanted);
        let switch = SWITCHES.into_iter().find(reads).filter(|name| *name != SWITCHES[0]);
        let plain = TemplateFacts { wants_datetime, switch, ..TemplateFacts::default() };
        let facts = TemplateFacts { tools: tools_of(render, variables, &plain), ..plain };
        TemplateFacts { thought: thought_of(render, &facts), shows_calls: shows_calls(render, &facts), ..facts }
    }
}

fn user() -> Message {
    Message::new("user", "Hi")
}

fn shows_mark(
    render: RenderWithFacts<'_>,
    facts: &TemplateFacts,
    messages: &[Message],
    tools: &[serde_json::Value],
) -> bool {
    let conversation = Conversation { messages, tools, kwargs: None };
    render(facts, &conversation).is_some_and(|prompt| prompt.contains(MARK))
}

/// How the template is given tools. Tries `tools` first, then variables with similar names that it reads.
fn tools_of(render: RenderWithFacts<'_>, variables: &[String], facts: &TemplateFacts) -> Option<ToolsVariable> {
    let tool = json!({"type": "function", "function": {"name": MARK, "description": "It tries.", "parameters": {
        "type": "object", "properties": {"a": {"type": "string", "description": "One."}}, "required": ["a"]}}});
    let rank = |name: &str| match name {
        "tools" => 0,
        name if name.contains("xml") => 1,
        name if name.contains("tool") => 2,
        name if name.contains("function") => 3,
        _ => 4,
    };
    // `tools` is tried in any case: a template that sets a default for it isn't listed as reading it.
    let names = ["tools"].into_iter().chain(variables.iter().map(String::as_str));
    let mut names: Vec<&str> = names.filter(|name| rank(name) < 4).collect();
    names.sort_by_key(|name| rank(name));
    names.dedup();
    let turns = [
        vec![user()],
        vec![Message::new("system", "Be brief."), user()],
        vec![user(), Message::new("assistant", "Hello."), user()],
    ];
    let candidates = names.iter().map(|name| ToolsVariable::List((*name).to_owned()));
    let mut candidates = candidates.chain(names.iter().map(|name| ToolsVariable::Text((*name).to_owned())));
    candidates.find(|tools| {
        let facts = TemplateFacts { tools: Some(tools.clone()), ..facts.clone() };
        turns.iter().any(|messages| shows_mark(render, &facts, messages, std::slice::from_ref(&tool)))
    })
}

/// Whether calls are shown, in turns with one call and with two. A template that refuses two calls in a turn counts as
/// showing them.
fn shows_calls(render: RenderWithFacts<'_>, facts: &TemplateFacts) -> bool {
    const IDS: [&str; 2] = ["abcDEF120", "abcDEF121"];
    let name = |i: usize| format!("{MARK}{i}");
    let call = |i: usize| ToolCall::new(IDS[i].into(), name(i), "{\"a\": \"b\"}".into());
    let result = |i: usize| Message { tool_call_id: Some(IDS[i].into()), ..Message::new("tool", "18") };
    let all_shown = |content: Option<&str>, n: usize| {
        let turn = Message {
            role: "assistant".into(),
            content: content.map(str::to_owned),
            tool_calls: (0..n).map(call).collect(),
            ..Message::default()
        };
        let messages: Vec<Message> = [user(), turn].into_iter().chain((0..n).map(result)).collect();
        let conversation = Conversation { messages: &messages, ..Conversation::default() };
        let text = render(facts, &conversation)?;
        Some((0..n).all(|i| text.contains(&name(i))))
    };
    [None, Some(""), Some("So.")]
        .into_iter()
        .all(|content| all_shown(content, 1) == Some(true) && all_shown(content, 2).unwrap_or(true))
}

fn thought_of(render: RenderWithFacts<'_>, facts: &TemplateFacts) -> &'static str {
    let call = || ToolCall::new("abcDEF120".into(), "f".into(), "{}".into());
    let answer = |content: &str, tool_calls| Message {
        reasoning_content: Some(MARK.into()),
        tool_calls,
        ..Message::new("assistant", content)
    };
    let result = Message { tool_call_id: Some("abcDEF120".into()), ..Message::new("tool", "18") };
    let turns = [
        vec![user(), answer("", vec![call()]), result.clone()],
        vec![user(), answer("So.", Vec::new())],
        vec![user(), answer("So.", Vec::new()), user()],
    ];
    let reads = |thought: &&'static str| {
        let facts = TemplateFacts { thought, ..facts.clone() };
        turns.iter().any(|messages| shows_mark(render, &facts, messages, &[]))
    };
    THOUGHTS.into_iter().find(|thought| reads(thought)).unwrap_or(THOUGHTS[0])
}

#[cfg(test)]
mod tests {
    use super::super::template::{ChatTemplate, TemplateSource};
    use super::*;

    fn facts(text: &str) -> TemplateFacts {
        let template = ChatTemplate::new(Some((text.into(), TemplateSource::Model)), "<s>".into(), String::new());
        template.unwrap().facts().clone()
    }

    #[test]
    fn tools_are_found_under_any_name() {
        let list = |name: &str| Some(ToolsVariable::List(name.into()));
        assert_eq!(facts("{{ messages }}").tools, None);
        assert_eq!(facts("no tools here {{ messages }}").tools, None);
        assert_eq!(facts("{{ tools }}").tools, list("tools"));
        let two = "{% if xml_tools or python_tools %}{% for t in xml_tools[:] %}{{ t | string }}{% endfor %}{{ python_tools }}{% endif %}";
        assert_eq!(facts(two).tools, list("xml_tools"));
        let text = "{{ 'functions: ' + functions + ' on ' + datetime }}";
        assert_eq!(facts(text).tools, Some(ToolsVariable::Text("functions".into())));
        assert!(facts(text).wants_datetime);
        let only_behind_a_system_turn = "{% if messages[0].role == 'system' %}{% for t in tools or [] %}{{ t.function.name }}{% endfor %}{% endif %}";
        assert_eq!(facts(only_behind_a_system_turn).tools, list("tools"));
    }

    #[test]
    fn the_name_of_thoughts_is_found() {
        let reading =
            |name: &str| format!("{{% for m in messages %}}{{{{ m.{name} if m.{name} is defined }}}}{{% endfor %}}");
        assert_eq!(facts(&reading("reasoning_content")).thought, "reasoning_content");
        assert_eq!(facts(&reading("thinking")).thought, "thinking");
        assert_eq!(facts("{{ bos_token }}").thought, "reasoning_content");
    }
}
