//! Changes conversations that a template refuses, or of which it loses a part, into a shape that it supports. Small
//! changes are tried first.

use super::described;
use super::form::CallForm;
use super::message::Message;
use super::written::{WrittenForm, calls_in_text, joined, object_arguments};
use serde_json::Value;

/// A change to a conversation, smaller changes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Repair {
    /// Null content becomes an empty text.
    EmptyForNull,
    /// The arguments of calls become JSON objects.
    ObjectArguments,
    /// The arguments of calls become JSON text.
    TextArguments,
    /// The ids of calls become nine letters and digits.
    ShortIds,
    /// Turns of the assistant without content and calls are removed.
    NoEmptyTurns,
    /// Neighbouring turns of one role become one turn.
    MergedNeighbours,
    /// Several calls of one turn become several turns.
    OneCallATurn,
    /// All system turns become one turn at the front.
    SystemFirst,
    /// An assistant's turn is inserted between a tool's result and a user's turn.
    AnswerBetween,
    /// The text of a turn with calls becomes a turn of its own.
    TextBeforeCalls,
    /// The system text moves into the first user turn.
    SystemInUser,
    /// Calls become part of the content, in the model's form.
    CallsInText,
    /// The system text describes the tools.
    ToolsDescribed,
    /// The system text describes the tools, and calls and results become text.
    ToolsInText,
}

/// All changes, from the smallest to the largest.
pub const REPAIRS: [Repair; 14] = [
    Repair::EmptyForNull,
    Repair::ObjectArguments,
    Repair::TextArguments,
    Repair::ShortIds,
    Repair::NoEmptyTurns,
    Repair::MergedNeighbours,
    Repair::OneCallATurn,
    Repair::SystemFirst,
    Repair::AnswerBetween,
    Repair::TextBeforeCalls,
    Repair::SystemInUser,
    Repair::CallsInText,
    Repair::ToolsDescribed,
    Repair::ToolsInText,
];

/// The text of the assistant's turn that `AnswerBetween` inserts. Some templates refuse an empty one.
const ANSWER: &str = "OK.";

impl Repair {
    /// The text for `X-Cllm-Warning`.
    pub fn warning(self) -> &'static str {
        match self {
            Repair::EmptyForNull => "messages: content null was rendered as an empty text",
            Repair::ObjectArguments => "messages: tool_calls' arguments were made JSON objects",
            Repair::TextArguments => "messages: tool_calls' arguments were rendered as text",
            Repair::ShortIds => "messages: tool call ids were shortened to nine letters",
            Repair::NoEmptyTurns => "messages: assistant turns without content and tool_calls were left out",
            Repair::MergedNeighbours => "messages: neighbouring turns of one role were merged",
            Repair::OneCallATurn => "messages: several tool calls of one turn were rendered as turns of their own",
            Repair::SystemFirst => "messages: system turns were moved to the front as one",
            Repair::AnswerBetween => "messages: an assistant's turn was put between a tool's result and the user",
            Repair::TextBeforeCalls => "messages: text beside tool_calls was rendered as a turn of its own",
            Repair::SystemInUser => "messages: the system text was moved into the first user turn",
            Repair::CallsInText => {
                "messages: tool_calls, which the chat template leaves out, were written into the content"
            }
            Repair::ToolsDescribed | Repair::ToolsInText => {
                "tools: the chat template has no place for them, they were described in the system text"
            }
        }
    }

    /// Changes the conversation. Returns `false` if there is nothing to change.
    pub fn apply(self, messages: &mut Vec<Message>, tools: &mut Vec<Value>, written: Option<WrittenForm<'_>>) -> bool {
        match self {
            Repair::EmptyForNull => empty_for_null(messages),
            Repair::ObjectArguments => each_argument(messages, object_arguments),
            Repair::TextArguments => each_argument(messages, text_arguments),
            Repair::ShortIds => short_ids(messages),
            Repair::NoEmptyTurns => leave_out_empty_turns(messages),
            Repair::MergedNeighbours => merge_neighbours(messages),
            Repair::OneCallATurn => one_call_a_turn(messages),
            Repair::SystemFirst => system_first(messages),
            Repair::AnswerBetween => answer_between(messages),
            Repair::TextBeforeCalls => text_before_calls(messages),
            Repair::SystemInUser => system_in_user(messages),
            Repair::CallsInText => written.is_some_and(|written| calls_in_text(messages, written)),
            Repair::ToolsDescribed => described::describe(messages, tools, written),
            Repair::ToolsInText => {
                let hermes = CallForm::hermes();
                let written = written.unwrap_or(WrittenForm { form: &hermes, around: None });
                described::tools_in_text(messages, tools, written)
            }
        }
    }
}

fn empty_for_null(messages: &mut [Message]) -> bool {
    let mut changed = false;
    for message in messages.iter_mut().filter(|message| message.content.is_none()) {
        message.content = Some(String::new());
        changed = true;
    }
    changed
}

fn each_argument(messages: &mut [Message], change: fn(&Value) -> Option<Value>) -> bool {
    let mut changed = false;
    for call in messages.iter_mut().flat_map(|message| &mut message.tool_calls) {
        if let Some(arguments) = change(&call.function.arguments) {
            call.function.arguments = arguments;
            changed = true;
        }
    }
    changed
}

fn text_arguments(arguments: &Value) -> Option<Value> {
    (!arguments.is_string()).then(|| {
        let value = super::values::of_json(arguments, &|text| text.into());
        let json = super::python_print::json(&value, &super::python_print::JsonStyle::default());
        Value::String(json.unwrap_or_else(|_| arguments.to_string()))
    })
}

/// Replaces each id by nine letters and digits that are made from it; equal ids get equal replacements.
fn short_ids(messages: &mut [Message]) -> bool {
    let is_short = |id: &str| id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let ids = messages.iter_mut().flat_map(|message| {
        message.tool_calls.iter_mut().map(|call| &mut call.id).chain(message.tool_call_id.as_mut())
    });
    let mut changed = false;
    for id in ids.filter(|id| !is_short(id)) {
        *id = short_id(id);
        changed = true;
    }
    changed
}

/// FNV-1a, written in base 36.
fn short_id(id: &str) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in id.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    let digit = |i: u32| char::from_digit((hash / 36_u64.pow(i) % 36) as u32, 36).unwrap_or('0');
    (0..9).map(digit).collect()
}

fn leave_out_empty_turns(messages: &mut Vec<Message>) -> bool {
    let before = messages.len();
    let says_something = |message: &Message| {
        message.role != "assistant"
            || !message.tool_calls.is_empty()
            || message.content.as_deref().is_some_and(|text| !text.trim().is_empty())
    };
    messages.retain(says_something);
    messages.len() < before
}

fn merge_neighbours(messages: &mut Vec<Message>) -> bool {
    let before = messages.len();
    let mut merged: Vec<Message> = Vec::with_capacity(before);
    for message in messages.drain(..) {
        match merged.last_mut().filter(|last| last.role == message.role && message.role != "tool") {
            Some(last) => absorb(last, message),
            None => merged.push(message),
        }
    }
    *messages = merged;
    messages.len() < before
}

fn absorb(into: &mut Message, message: Message) {
    let join = |a: &mut Option<String>, b: Option<String>| {
        *a = match (a.take(), b) {
            (Some(a), Some(b)) => Some(joined(&a, &b)),
            (a, b) => a.or(b),
        };
    };
    join(&mut into.content, message.content);
    join(&mut into.reasoning_content, message.reasoning_content);
    into.tool_calls.extend(message.tool_calls);
}

/// Splits a turn with several calls into turns with one call each, each followed by its result.
fn one_call_a_turn(messages: &mut Vec<Message>) -> bool {
    if messages.iter().all(|message| message.tool_calls.len() < 2) {
        return false;
    }
    let mut out: Vec<Message> = Vec::with_capacity(messages.len() + 4);
    let mut rest = std::mem::take(messages).into_iter().peekable();
    while let Some(mut message) = rest.next() {
        if message.tool_calls.len() < 2 {
            out.push(message);
            continue;
        }
        let calls = std::mem::take(&mut message.tool_calls);
        let mut results = Vec::new();
        while let Some(result) = rest.next_if(|next| next.role == "tool") {
            results.push(result);
        }
        for (i, call) in calls.into_iter().enumerate() {
            let id = call.id.clone();
            let mut turn = Message { role: message.role.clone(), tool_calls: vec![call], ..Message::default() };
            if i == 0 {
                (turn.content, turn.reasoning_content) = (message.content.take(), message.reasoning_content.take());
            }
            out.push(turn);
            let of_call = |result: &Message| result.tool_call_id.as_deref() == Some(id.as_str());
            let at = results.iter().position(of_call).or((!results.is_empty()).then_some(0));
            out.extend(at.map(|at| results.remove(at)));
        }
        out.append(&mut results);
    }
    *messages = out;
    true
}

fn is_system(message: &Message) -> bool {
    message.role == "system" || message.role == "developer"
}

fn system_first(messages: &mut Vec<Message>) -> bool {
    let n = messages.iter().filter(|message| is_system(message)).count();
    if n == 0 || (n == 1 && is_system(&messages[0])) {
        return false;
    }
    let (systems, mut rest): (Vec<Message>, Vec<Message>) = std::mem::take(messages).into_iter().partition(is_system);
    let mut systems = systems.into_iter();
    if let Some(mut first) = systems.next() {
        systems.for_each(|more| absorb(&mut first, more));
        messages.push(first);
    }
    messages.append(&mut rest);
    true
}

fn answer_between(messages: &mut Vec<Message>) -> bool {
    let at = |messages: &[Message]| messages.windows(2).position(|two| two[0].role == "tool" && two[1].role == "user");
    let mut changed = false;
    while let Some(i) = at(messages) {
        messages.insert(i + 1, Message::new("assistant", ANSWER));
        changed = true;
    }
    changed
}

fn text_before_calls(messages: &mut Vec<Message>) -> bool {
    let before = messages.len();
    let has_both = |message: &Message| {
        !message.tool_calls.is_empty() && message.content.as_deref().is_some_and(|text| !text.trim().is_empty())
    };
    let mut out = Vec::with_capacity(before + 4);
    for mut message in messages.drain(..) {
        if has_both(&message) {
            let content = message.content.replace(String::new());
            out.push(Message { role: message.role.clone(), content, ..Message::default() });
        }
        out.push(message);
    }
    *messages = out;
    messages.len() > before
}

fn system_in_user(messages: &mut Vec<Message>) -> bool {
    if !messages.iter().any(is_system) {
        return false;
    }
    let (systems, mut rest): (Vec<Message>, Vec<Message>) = std::mem::take(messages).into_iter().partition(is_system);
    let text =
        systems.iter().fold(String::new(), |text, more| joined(&text, more.content.as_deref().unwrap_or_default()));
    match rest.iter_mut().find(|message| message.role == "user") {
        Some(user) => user.content = Some(joined(&text, user.content.as_deref().unwrap_or_default())),
        None => rest.insert(0, Message::new("user", text)),
    }
    *messages = rest;
    true
}

#[cfg(test)]
mod tests {
    use super::super::message::ToolCall;
    use super::*;

    fn roles(messages: &[Message]) -> Vec<(&str, &str)> {
        messages.iter().map(|message| (message.role.as_str(), message.content.as_deref().unwrap_or("-"))).collect()
    }

    fn after(repair: Repair, mut messages: Vec<Message>) -> Vec<Message> {
        assert!(repair.apply(&mut messages, &mut Vec::new(), None), "{repair:?}");
        let mut again = messages.clone();
        assert!(
            repair == Repair::TextArguments || !repair.apply(&mut again, &mut Vec::new(), None),
            "{repair:?} is done"
        );
        messages
    }

    fn call(id: &str, arguments: &str) -> ToolCall {
        ToolCall::new(id.into(), "f".into(), arguments.into())
    }

    #[test]
    fn turns_are_merged_and_moved() {
        let turns = || {
            vec![
                Message::new("user", "a"),
                Message::new("user", "b"),
                Message::new("system", "s"),
                Message::new("user", "c"),
                Message::new("system", "t"),
            ]
        };
        assert_eq!(
            roles(&after(Repair::MergedNeighbours, turns())),
            [("user", "a\n\nb"), ("system", "s"), ("user", "c"), ("system", "t")]
        );
        assert_eq!(
            roles(&after(Repair::SystemFirst, turns())),
            [("system", "s\n\nt"), ("user", "a"), ("user", "b"), ("user", "c")]
        );
        assert_eq!(
            roles(&after(Repair::SystemInUser, turns())),
            [("user", "s\n\nt\n\na"), ("user", "b"), ("user", "c")]
        );
        let tool = vec![Message::new("tool", "18"), Message::new("user", "and?")];
        assert_eq!(
            roles(&after(Repair::AnswerBetween, tool)),
            [("tool", "18"), ("assistant", "OK."), ("user", "and?")]
        );
    }

    #[test]
    fn calls_are_taken_apart_and_ids_renamed_alike() {
        let calls = vec![call("call_1", "{}"), call("call_2", "{}")];
        let result = |id: &str| Message { tool_call_id: Some(id.into()), ..Message::new("tool", id) };
        let turns = vec![
            Message { role: "assistant".into(), tool_calls: calls, ..Message::default() },
            result("call_2"),
            result("call_1"),
        ];
        let apart = after(Repair::OneCallATurn, turns.clone());
        assert_eq!(roles(&apart), [("assistant", "-"), ("tool", "call_1"), ("assistant", "-"), ("tool", "call_2")]);
        let short = after(Repair::ShortIds, turns);
        let ids: Vec<&str> = short[0].tool_calls.iter().map(|call| call.id.as_str()).collect();
        assert!(ids.iter().all(|id| id.len() == 9) && ids[0] != ids[1], "{ids:?}");
        assert_eq!((short[1].tool_call_id.as_deref(), short[2].tool_call_id.as_deref()), (Some(ids[1]), Some(ids[0])));
    }

    #[test]
    fn arguments_become_objects_or_text() {
        for (broken, whole) in [
            ("", "{}"),
            ("{\"a\": [1, {\"b\": \"x", r#"{"a":[1,{"b":"x"}]}"#),
            ("{\"a\": 1,", r#"{"a":1}"#),
            ("{\"a\":", r#"{"a":null}"#),
            ("[1]", r#"{"arguments":[1]}"#),
            ("so", r#"{"arguments":"so"}"#),
        ] {
            let turn = Message { role: "assistant".into(), tool_calls: vec![call("1", broken)], ..Message::default() };
            let made = after(Repair::ObjectArguments, vec![turn]);
            assert_eq!(made[0].tool_calls[0].function.arguments.to_string(), whole);
        }
        let turn = Message { role: "assistant".into(), tool_calls: vec![call("1", "{\"a\":1}")], ..Message::default() };
        let made = after(Repair::TextArguments, vec![turn]);
        assert_eq!(made[0].tool_calls[0].function.arguments, Value::String("{\"a\": 1}".into()));
    }
}
