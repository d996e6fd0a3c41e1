//! Small conversations that a template is asked to render at start-up, to learn how it writes a call.

use serde_json::{Map, Value, json};

/// Renders `(messages, tools, up to where the assistant begins to speak)`. `None`: the template refuses them.
pub type RenderProbe<'a> = &'a dyn Fn(&[Value], &[Value], bool) -> Option<String>;

/// The user's words in the probes. No template contains this text, nor the others below. Names are letters only; ids
/// have nine characters, as Mistral's templates require.
pub const USER: &str = "qzuser";
/// The assistant's text.
pub const TEXT: &str = "qztext";
/// A tool's result.
pub const RESULT: &str = "qzresult";
/// Names of the two tools.
pub const NAMES: [&str; 2] = ["qzalpha", "qzbeta"];
/// Ids of the two calls.
pub const IDS: [&str; 2] = ["qzidaaaaa", "qzidbbbbb"];

/// One way of asking the template, which decides whether it writes calls.
#[derive(Clone, Copy)]
pub struct Probe<'a> {
    render: RenderProbe<'a>,
    /// Whether arguments are given as an object, rather than as JSON text.
    as_object: bool,
    /// The content of a turn with calls.
    content: Option<&'static str>,
    /// Whether the tools' results follow the calls.
    with_results: bool,
}

impl<'a> Probe<'a> {
    /// The ways in which the template shows a call, those that resemble a continued conversation first. Arguments are
    /// given as text only if the template refuses an object: other templates would print the text within what they
    /// write around an object.
    pub fn ways(render: RenderProbe<'a>) -> Vec<Probe<'a>> {
        let arguments: Map<String, Value> = [("qzkey".to_owned(), json!("qzvalue"))].into_iter().collect();
        let shows = |probe: &Probe<'_>| {
            let turn = probe.calls(&[(NAMES[0], &arguments)]).unwrap_or_default();
            let is_clean = !turn.contains("None") && !turn.contains("null");
            turn.contains(NAMES[0]) && turn.contains("qzvalue") && is_clean
        };
        let ways = |as_object| {
            let contents = [Some(""), None, Some(TEXT)].into_iter();
            let each = contents.flat_map(|content| [true, false].map(|with_results| (content, with_results)));
            let each = each.map(|(content, with_results)| Probe { render, as_object, content, with_results });
            each.filter(shows).collect::<Vec<_>>()
        };
        let of_objects = ways(true);
        if of_objects.is_empty() { ways(false) } else { of_objects }
    }

    /// The rendering after the user's words, if the assistant has made these calls.
    pub fn calls(&self, calls: &[(&str, &Map<String, Value>)]) -> Option<String> {
        let call = |(index, (name, arguments)): (usize, &(&str, &Map<String, Value>))| {
            let arguments = match self.as_object {
                true => Value::Object((*arguments).clone()),
                false => json!(super::write::spaced(&Value::Object((*arguments).clone()))),
            };
            json!({"id": IDS[index % 2], "type": "function", "function": {"name": name, "arguments": arguments}})
        };
        let list: Vec<Value> = calls.iter().enumerate().map(call).collect();
        let mut turns = vec![json!({"role": "user", "content": USER})];
        turns.push(json!({"role": "assistant", "content": self.content, "tool_calls": list}));
        if self.with_results {
            let results = (0..calls.len()).map(|index| {
                json!({"role": "tool", "tool_call_id": IDS[index % 2], "name": calls[index].0, "content": RESULT})
            });
            turns.extend(results);
        }
        self.behind_user(&turns, false)
    }

    /// The rendering of the conversation in which the assistant has answered `TEXT` without a call.
    pub fn text(&self) -> Option<String> {
        let turns = [json!({"role": "user", "content": USER}), json!({"role": "assistant", "content": TEXT})];
        self.behind_user(&turns, false)
    }

    /// The text that prompts the assistant.
    pub fn prompt(&self) -> Option<String> {
        self.behind_user(&[json!({"role": "user", "content": USER})], true)
    }

    fn behind_user(&self, turns: &[Value], prompt: bool) -> Option<String> {
        let text = (self.render)(turns, &tools(), prompt)?;
        let at = text.rfind(USER)?;
        Some(text[at + USER.len()..].to_owned())
    }
}

/// Whether the template shows a call in any of the ways.
pub fn shows_calls(render: RenderProbe<'_>) -> bool {
    !Probe::ways(render).is_empty()
}

/// The tools of the conversations, in OpenAI's format.
pub fn tools() -> Vec<Value> {
    let tool = |name: &str| {
        let parameters = json!({"type": "object", "properties": {"qzkey": {"type": "string", "description": "A key"}}, "required": []});
        json!({"type": "function", "function": {"name": name, "description": "A tool", "parameters": parameters}})
    };
    NAMES.iter().map(|name| tool(name)).collect()
}
