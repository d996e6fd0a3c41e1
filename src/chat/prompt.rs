//! The prompt of a conversation: rendered unchanged, and changed only if the template refuses it or loses a part of it.

use std::cell::OnceCell;

use minijinja::{ErrorKind, Value};

use super::guard::{self, Guard};
use super::message::{Conversation, Message};
use super::repair::{REPAIRS, Repair};
use super::style::FormOrigin;
use super::template::ChatTemplate;
use super::written::WrittenForm;
use crate::types::RequestError;

/// The prompt of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChatPrompt {
    /// The prompt's text.
    pub text: String,
    /// Byte offsets in `text`, ascending, at which a client's text spells a control token. No control token may begin
    /// at or before one and end after it.
    pub barriers: Vec<usize>,
    /// Each change to the conversation, in words for `X-Cllm-Warning`.
    pub warnings: Vec<&'static str>,
}

/// A copy of a conversation, with changes.
#[derive(Clone)]
struct ConversationDraft {
    messages: Vec<Message>,
    tools: Vec<serde_json::Value>,
}

/// The result of rendering a conversation.
enum Tried {
    Whole(String),
    /// Some text is missing or misprinted.
    Lossy(String),
    Refused(minijinja::Error),
}

impl ChatTemplate {
    /// The text of a conversation's prompt, up to where the assistant begins to speak.
    ///
    /// # Errors
    /// As for `prompt`.
    pub fn render(&self, conversation: Conversation<'_>) -> Result<String, RequestError> {
        Ok(self.prompt(conversation, &Guard::default())?.text)
    }

    /// A conversation's prompt, up to where the assistant begins to speak.
    ///
    /// # Errors
    /// `RequestError::Field` on `messages` if the template refuses them and no change helps.
    pub fn prompt(&self, conversation: Conversation<'_>, guard: &Guard) -> Result<ChatPrompt, RequestError> {
        let template = self.for_conversation(&conversation);
        let (mark, own) = marks_for(guard, &conversation).unzip();
        let text = |text: &str| match mark.zip(own) {
            Some((mark, own)) if text.contains(own) => Value::from(guarded(guard, text, mark, own)),
            Some((mark, _)) => Value::from(guard.marked(text, mark).as_ref()),
            None => Value::from(text),
        };
        let form = template.style().shown.as_deref();
        let written = form.map(|form| WrittenForm { form, around: own });
        let changed = |conversation: &Conversation<'_>, repairs: &[Repair]| changed(conversation, repairs, written);
        let kwargs = conversation.kwargs;
        let render = |messages: &[Message], tools: &[serde_json::Value]| {
            template.render_as(template.facts(), &Conversation { messages, tools, kwargs }, &text)
        };
        let unmark = |text: String| match mark {
            Some(mark) => guard::unmarked(text, mark),
            None => guard::Unmarked { text, barriers: Vec::new() },
        };
        let try_out = |messages: &[Message], tools: &[serde_json::Value]| match render(messages, tools) {
            Err(error) => Tried::Refused(error),
            Ok(text) => {
                let plain = mark.map(|mark| guard::unmarked(text.clone(), mark).text);
                let plain = plain.as_deref().unwrap_or(&text);
                let render = |messages: &[Message]| match render(messages, tools) {
                    Ok(text) => Some(match mark {
                        Some(mark) => guard::unmarked(text, mark).text,
                        None => text,
                    }),
                    Err(_) => None,
                };
                match is_whole(plain, conversation.messages, messages, template.facts().shows_calls, &render) {
                    true => Tried::Whole(text),
                    false => Tried::Lossy(text),
                }
            }
        };
        let finish = |text: String, repairs: &[Repair]| {
            let guard::Unmarked { text, barriers } = unmark(text);
            ChatPrompt { text, barriers, warnings: repairs.iter().map(|repair| repair.warning()).collect() }
        };
        let has_place = conversation.tools.is_empty() || template.facts().tools.is_some();
        let must: &[Repair] = match (has_place, template.style().origin) {
            (true, _) => &[],
            // The template writes calls; only tools must be described.
            (false, FormOrigin::Rendered) => &[Repair::ToolsDescribed],
            (false, _) => &[Repair::ToolsInText],
        };
        let as_it_came = match must.is_empty() {
            true => try_out(conversation.messages, conversation.tools),
            false => {
                let draft = changed(&conversation, must);
                try_out(&draft.messages, &draft.tools)
            }
        };
        if let Tried::Whole(text) = as_it_came {
            return Ok(finish(text, must));
        }
        let is_endless = matches!(&as_it_came, Tried::Refused(error) if error.kind() == ErrorKind::OutOfFuel);
        let plans = if is_endless { Vec::new() } else { plans(&conversation, must, written) };
        let mut lossy = None;
        let mut best = None;
        for repairs in plans {
            let draft = changed(&conversation, &repairs);
            match try_out(&draft.messages, &draft.tools) {
                Tried::Whole(text) => {
                    best = Some((text, repairs));
                    break;
                }
                Tried::Lossy(text) if lossy.is_none() => lossy = Some((text, repairs)),
                _ => {}
            }
        }
        if let Some((text, repairs)) = best {
            let (text, repairs) = fewer(text, repairs, must, |repairs| {
                let draft = changed(&conversation, repairs);
                match try_out(&draft.messages, &draft.tools) {
                    Tried::Whole(text) => Some(text),
                    _ => None,
                }
            });
            return Ok(finish(text, &repairs));
        }
        match (as_it_came, lossy) {
            (Tried::Lossy(text) | Tried::Whole(text), _) => Ok(finish(text, must)),
            (Tried::Refused(_), Some((text, repairs))) => {
                let mut prompt = finish(text, &repairs);
                prompt.warnings.push("messages: the chat template leaves out a part of them");
                Ok(prompt)
            }
            (Tried::Refused(error), None) => {
                let reason = error.detail().unwrap_or("it doesn't fit the model's template").to_owned();
                Err(RequestError::field("messages", format!("the chat template refuses them: {reason}")))
            }
        }
    }
}

/// Marks the places of a text where a client spells a control token. The text between two `own` characters was written
/// by us and gets no marks; `own` is removed.
fn guarded(guard: &Guard, text: &str, mark: char, own: char) -> String {
    let parts = text.split(own).enumerate();
    parts.map(|(i, part)| if i % 2 == 0 { guard.marked(part, mark) } else { part.into() }).collect()
}

/// The mark for this conversation's texts and a second character that none of the texts contains. `None` if no text
/// spells a control token.
fn marks_for(guard: &Guard, conversation: &Conversation<'_>) -> Option<(char, char)> {
    if guard.is_empty() {
        return None;
    }
    let mut texts: Vec<&str> = Vec::with_capacity(conversation.messages.len() * 2);
    for message in conversation.messages {
        texts.extend(message.content.as_deref());
        texts.extend(message.reasoning_content.as_deref());
        texts.extend(message.tool_call_id.as_deref());
        texts.extend(message.name.as_deref());
        for call in &message.tool_calls {
            texts.extend([call.id.as_str(), call.function.name.as_str()]);
            strings_of(&call.function.arguments, &mut texts);
        }
    }
    conversation.tools.iter().for_each(|tool| strings_of(tool, &mut texts));
    conversation.kwargs.iter().flat_map(|own| own.iter()).for_each(|(_, value)| strings_of(value, &mut texts));
    match texts.iter().any(|text| guard.touches(text)) {
        true => guard::free_marks(texts.iter().copied()),
        false => None,
    }
}

fn strings_of<'a>(value: &'a serde_json::Value, out: &mut Vec<&'a str>) {
    match value {
        serde_json::Value::String(text) => out.push(text),
        serde_json::Value::Array(items) => items.iter().for_each(|item| strings_of(item, out)),
        serde_json::Value::Object(map) => map.iter().for_each(|(key, item)| {
            out.push(key);
            strings_of(item, out);
        }),
        _ => {}
    }
}

fn changed(conversation: &Conversation<'_>, repairs: &[Repair], written: Option<WrittenForm<'_>>) -> ConversationDraft {
    let mut draft = ConversationDraft { messages: conversation.messages.to_vec(), tools: conversation.tools.to_vec() };
    for repair in repairs {
        repair.apply(&mut draft.messages, &mut draft.tools, written);
    }
    // A later change may have put turns of one role next to each other.
    if repairs.contains(&Repair::MergedNeighbours) {
        Repair::MergedNeighbours.apply(&mut draft.messages, &mut draft.tools, written);
    }
    draft
}

/// Sets of changes to try: each change alone, then the smallest ones together, more and more of them.
fn plans(conversation: &Conversation<'_>, must: &[Repair], written: Option<WrittenForm<'_>>) -> Vec<Vec<Repair>> {
    let optional: Vec<Repair> = REPAIRS.into_iter().filter(|repair| !must.contains(repair)).collect();
    let with = |more: &[Repair]| must.iter().chain(more).copied().collect::<Vec<_>>();
    let does_something = |repair: &Repair| {
        let mut draft = changed(conversation, must, written);
        repair.apply(&mut draft.messages, &mut draft.tools, written)
    };
    let mut plans: Vec<Vec<Repair>> =
        optional.iter().filter(|repair| does_something(repair)).map(|repair| with(&[*repair])).collect();
    plans.extend((2..=optional.len()).map(|n| with(&optional[..n])));
    // The largest change, with the small ones that it may need.
    plans.push(with(&[Repair::EmptyForNull, Repair::ToolsInText, Repair::MergedNeighbours, Repair::SystemInUser]));
    plans
}

/// Removes each change without which the result is still complete.
fn fewer(
    mut text: String,
    mut repairs: Vec<Repair>,
    must: &[Repair],
    try_out: impl Fn(&[Repair]) -> Option<String>,
) -> (String, Vec<Repair>) {
    let mut i = repairs.len();
    while i > 0 && repairs.len() > 1 {
        i -= 1;
        if must.contains(&repairs[i]) {
            continue;
        }
        let mut without = repairs.clone();
        without.remove(i);
        if let Some(other) = try_out(&without) {
            (text, repairs) = (other, without);
        }
    }
    (text, repairs)
}

/// Distance, in bytes, within which the next text is usually found: about what templates write between two texts.
const NEAR_BYTES: usize = 96;

/// Replaces a text that wasn't found, to check whether the template prints its place at all.
const PROBE: &str = "cllmqzjxw";

/// Whether `text` contains everything in the conversation, and no Python `None` for missing texts. `original` is what
/// the client sent, `sent` what was rendered. `shows_calls`: the template is known to write all calls.
fn is_whole(
    text: &str,
    original: &[Message],
    sent: &[Message],
    shows_calls: bool,
    render: &dyn Fn(&[Message]) -> Option<String>,
) -> bool {
    let mut from = 0;
    let (mut n_calls, has_calls) = (0, sent.iter().any(|message| !message.tool_calls.is_empty()));
    let tried = OnceCell::new();
    for message in original {
        let content = message.content.as_deref().unwrap_or_default();
        // Templates remove a thought from an answer, which may be nothing but a thought.
        let said =
            if message.role == "assistant" { content.rsplit("</think>").next().unwrap_or(content) } else { content };
        let said = said.trim();
        match find_near(&text[from..], said) {
            Some(at) => from += at + said.len(),
            None if text.contains(said) || has_a_place(said, sent, render) => {}
            None => return false,
        }
        for name in message.tool_calls.iter().map(|call| call.function.name.as_str()) {
            let found = find_near(&text[from..], name);
            // The name of a call may also appear in a tool's description or in a result.
            let is_there = match (has_calls, found) {
                (false, _) => found.is_some(),
                (true, Some(_)) if shows_calls => true,
                (true, _) => match tried.get_or_init(|| with_numbered_calls(sent, render)) {
                    Some(tried) => tried.contains(&numbered(n_calls)),
                    None => text.contains(name),
                },
            };
            if !is_there {
                return false;
            }
            from += found.map_or(0, |at| at + name.len());
            n_calls += 1;
        }
    }
    let has_null = sent.iter().any(|message| message.content.is_none());
    // How Python and JSON print a missing value.
    let nothings = ["None", "null"];
    if !(has_null && nothings.iter().any(|nothing| text.contains(nothing))) {
        return true;
    }
    let mut empty = sent.to_vec();
    empty
        .iter_mut()
        .filter(|message| message.content.is_none())
        .for_each(|message| message.content = Some(String::new()));
    let n = |text: &str| nothings.map(|nothing| text.matches(nothing).count());
    let is_less = |other: &str| n(other).iter().zip(n(text)).any(|(other, own)| *other < own);
    render(&empty).is_none_or(|other| !is_less(&other))
}

/// A unique name for call number `n` of the conversation, to search for.
fn numbered(n: usize) -> String {
    format!("{PROBE}{n}z")
}

/// Renders the conversation with a unique name for each call.
fn with_numbered_calls(sent: &[Message], render: &dyn Fn(&[Message]) -> Option<String>) -> Option<String> {
    let mut other = sent.to_vec();
    let calls = other.iter_mut().flat_map(|message| &mut message.tool_calls);
    calls.enumerate().for_each(|(n, call)| call.function.name = numbered(n));
    render(&other)
}

/// Like `str::find`; fast if `part` is near the beginning, as in a rendered conversation.
fn find_near(text: &str, part: &str) -> Option<usize> {
    let (bytes, part_bytes) = (text.as_bytes(), part.as_bytes());
    let near = (0..bytes.len().min(NEAR_BYTES)).find(|at| bytes[*at..].starts_with(part_bytes));
    near.or_else(|| text.find(part))
}

/// Whether the rendering shows another text in the place of `part`. If it does, the template prints `part` in another
/// way and doesn't lose it.
fn has_a_place(part: &str, sent: &[Message], render: &dyn Fn(&[Message]) -> Option<String>) -> bool {
    let mut other = sent.to_vec();
    let holders = other.iter_mut().filter_map(|message| message.content.as_mut());
    holders.filter(|content| content.contains(part)).for_each(|content| *content = content.replace(part, PROBE));
    render(&other).is_some_and(|text| text.contains(PROBE))
}

#[cfg(test)]
mod tests {
    use super::super::message::ToolCall;
    use super::super::template::TemplateSource;
    use super::*;
    use serde_json::json;

    fn compiled(text: &str) -> ChatTemplate {
        ChatTemplate::new(Some((text.into(), TemplateSource::Model)), "<s>".into(), "</s>".into()).unwrap()
    }

    /// The prompt that a template makes of turns, and the warnings.
    fn made(text: &str, messages: &[Message]) -> (String, Vec<&'static str>) {
        let prompt = compiled(text).prompt(Conversation { messages, ..Conversation::default() }, &Guard::default());
        let prompt = prompt.unwrap_or_else(|error| panic!("{error}"));
        (prompt.text, prompt.warnings)
    }

    fn turns(turns: &[(&str, &str)]) -> Vec<Message> {
        turns.iter().map(|(role, content)| Message::new(*role, *content)).collect()
    }

    fn call(id: &str, arguments: &str) -> Message {
        let call = ToolCall::new(id.into(), "f".into(), arguments.into());
        Message { role: "assistant".into(), tool_calls: vec![call], ..Message::default() }
    }

    const PLAIN: &str = "{% for m in messages %}[{{ m.role }}:{{ m.content }}]{% endfor %}";

    #[test]
    fn what_a_template_takes_stays_as_it_is() {
        let (text, warnings) = made(PLAIN, &turns(&[("system", "a"), ("system", "b"), ("user", "None")]));
        assert_eq!((text.as_str(), warnings.len()), ("[system:a][system:b][user:None]", 0));
        // A text that is printed in another way is not lost.
        let (text, warnings) =
            made("{% for m in messages %}{{ m.content | upper }}{% endfor %}", &turns(&[("user", "hi")]));
        assert_eq!((text.as_str(), warnings.len()), ("HI", 0));
    }

    #[test]
    fn nothing_is_not_printed_as_none() {
        let thought = Message { role: "assistant".into(), reasoning_content: Some("Hm.".into()), ..Message::default() };
        let (text, warnings) = made(PLAIN, &[Message::new("user", "hi"), thought]);
        assert_eq!((text.as_str(), warnings), ("[user:hi][assistant:]", vec![Repair::EmptyForNull.warning()]));
    }

    #[test]
    fn a_template_that_refuses_gets_what_it_takes() {
        let alternating = "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}\
            {{ raise_exception('roles must alternate') }}{% endif %}[{{ m.content }}]{% endfor %}";
        let (text, warnings) = made(alternating, &turns(&[("user", "a"), ("user", "b")]));
        assert_eq!((text.as_str(), warnings), ("[a\n\nb]", vec![Repair::MergedNeighbours.warning()]));
        let later = turns(&[("system", "s"), ("user", "a"), ("system", "t"), ("user", "b")]);
        let (text, warnings) = made(alternating, &later);
        assert_eq!(text, "[s\n\nt\n\na\n\nb]");
        assert_eq!(warnings, [Repair::MergedNeighbours.warning(), Repair::SystemInUser.warning()]);
        let nine = "{% for m in messages %}{% for c in m.tool_calls or [] %}{% if c.id | length != 9 %}\
            {{ raise_exception('nine letters') }}{% endif %}{{ c.function.name }}{{ c.id }}{% endfor %}\
            {% if m.tool_call_id %}={{ m.tool_call_id }}:{{ m.content }}{% endif %}{% endfor %}";
        let result = Message { tool_call_id: Some("call_1".into()), ..Message::new("tool", "18") };
        let (text, warnings) = made(nine, &[call("call_1", "{}"), result]);
        assert_eq!(warnings, [Repair::ShortIds.warning()]);
        let id = text.strip_prefix('f').and_then(|text| text.split_once('=')).unwrap();
        assert_eq!(id.1, format!("{}:18", id.0));
        let mapping = "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.name }}\
            {% for k, v in c.function.arguments.items() %}{{ k }}={{ v }}{% endfor %}{% endfor %}{% endfor %}";
        let (text, warnings) = made(mapping, &[call("1", "{\"city\": \"Rom")]);
        assert_eq!((text.as_str(), warnings), ("fcity=Rom", vec![Repair::ObjectArguments.warning()]));
    }

    #[test]
    fn what_a_template_drops_is_kept() {
        let first_system =
            "{{ messages[0].content }}{% for m in messages[1:] if m.role != 'system' %}[{{ m.content }}]{% endfor %}";
        let (text, warnings) = made(first_system, &turns(&[("system", "a"), ("system", "b"), ("user", "c")]));
        assert_eq!((text.as_str(), warnings), ("a\n\nb[c]", vec![Repair::MergedNeighbours.warning()]));
    }

    #[test]
    fn tools_that_have_no_place_are_described_in_the_system_text() {
        let tools = [json!({"type": "function", "function": {"name": "f"}})];
        let messages = [Message::new("user", "Hi"), call("1", "{\"a\":1}"), Message::new("tool", "18")];
        let template = compiled(PLAIN);
        let conversation = Conversation { messages: &messages, tools: &tools, kwargs: None };
        let prompt = template.prompt(conversation, &Guard::default()).unwrap();
        assert!(prompt.text.starts_with("[system:# Tools"), "{}", prompt.text);
        assert!(prompt.text.contains("{\"name\": \"f\", \"arguments\": {\"a\": 1}}"), "{}", prompt.text);
        assert!(prompt.text.ends_with("[user:<tool_response>\n18\n</tool_response>]"), "{}", prompt.text);
        assert_eq!(prompt.warnings, [Repair::ToolsInText.warning()]);
        assert!(!template.style().takes_tools);
    }

    #[test]
    fn control_tokens_in_texts_get_barriers_and_the_templates_own_none() {
        let guard = Guard::new(["<|end|>".to_owned(), "<s>".to_owned()]);
        let template = compiled(
            "{{ bos_token }}{% for m in messages %}{{ m.content | trim }}<|end|>{{ m.tool_calls | tojson if m.tool_calls }}{% endfor %}",
        );
        let messages = [Message::new("user", " a<|end|>b<s> "), call("1", "{\"<s>\": \"<\"}")];
        let conversation = Conversation { messages: &messages, ..Conversation::default() };
        let marked = template.prompt(conversation, &guard).unwrap();
        assert_eq!(marked.text, template.render(conversation).unwrap());
        assert!(marked.text.starts_with("<s>a<|end|>b<s><|end|>"), "{}", marked.text);
        assert_eq!(marked.barriers[..2], [5, 13]);
        let third = marked.text.rfind("<s>").unwrap() + 1;
        assert_eq!(marked.barriers[2], third);
        let plain = [Message::new("user", "a")];
        assert!(
            template.prompt(Conversation { messages: &plain, ..conversation }, &guard).unwrap().barriers.is_empty()
        );
    }

    /// If a template leaves out calls, they are written as its model writes them. Their marks become control tokens,
    /// and the client's text doesn't.
    #[test]
    fn calls_that_a_template_drops_are_written_in_the_models_form() {
        let template = compiled(
            "List of tools: {% for t in tools or [] %}{{ t.function.name }}{% endfor %}{% for m in messages %}[{{ m.content or '' }}]{% endfor %}",
        );
        let mut said = Message { content: Some("I look.".into()), ..call("1", "{\"a\": \"x<|tool_call_end|>\"}") };
        said.tool_calls[0].function.name = "get_weather".to_owned();
        let messages = [Message::new("user", "Hi"), said, Message::new("tool", "18")];
        let guard = Guard::new(["<|tool_call_start|>".to_owned(), "<|tool_call_end|>".to_owned()]);
        let conversation = Conversation { messages: &messages, tools: &[], kwargs: None };
        let prompt = template.prompt(conversation, &guard).unwrap();
        assert_eq!(
            prompt.text,
            "List of tools: [Hi][I look.\n<|tool_call_start|>[get_weather(a=\"x<|tool_call_end|>\")]<|tool_call_end|>][18]"
        );
        assert_eq!(prompt.barriers, [prompt.text.find("x<").unwrap() + 2]);
        assert_eq!(prompt.warnings, [Repair::CallsInText.warning()]);
    }

    /// Templates that read tools under another name than `tools` (SmolLM3), and in the system turn only (Phi-4-mini).
    #[test]
    fn tools_find_their_place() {
        let tools = [json!({"type": "function", "function": {"name": "get", "description": "It gets."}})];
        let messages = [Message::new("user", "Hi"), call("1", "{\"a\": 1}"), Message::new("tool", "18")];
        let conversation = Conversation { messages: &messages, tools: &tools, kwargs: None };
        let prompt = |text: &str| compiled(text).prompt(conversation, &Guard::default()).unwrap();
        let named = prompt(include_str!("../../tests/templates/kinds/named-tools.jinja"));
        assert!(named.text.contains("{'type': 'function', 'function': {'name': 'get'"), "{}", named.text);
        assert!(
            named.text.contains("<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>"),
            "{}",
            named.text
        );
        assert_eq!(named.warnings, [Repair::CallsInText.warning()]);
        let in_system = prompt(include_str!("../../tests/templates/kinds/tools-in-system.jinja"));
        assert!(in_system.text.starts_with("<|system|># Tools"), "{}", in_system.text);
        assert_eq!(in_system.warnings, [Repair::ToolsInText.warning()]);
    }
}
