//! Tools for models whose template doesn't support tools: the system text describes them, and says how to call them, in
//! the form in which the template writes calls, or else in the common form of Hermes models.

use serde_json::{Map, Value, json};

use super::message::Message;
use super::python_print::{JsonStyle, json as json_text};
use super::values::of_json;
use super::written::{WrittenForm, calls_in_text, joined};

const BEFORE: &str = "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided \
                      with function signatures within <tools></tools> XML tags:\n<tools>\n";
const BEHIND: &str = "</tools>\n\nFor each function call, return a json object with function name and arguments within \
                      <tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": \
                      <args-json-object>}\n</tool_call>";
const BEHIND_OF_FORM: &str = "</tools>\n\nCall a function in exactly this form, here with one argument:\n";

fn json_line(value: &Value) -> String {
    json_text(&of_json(value, &|text| text.into()), &JsonStyle::default()).unwrap_or_else(|_| value.to_string())
}

/// Describes the tools in the system turn. `written`: the form of calls; `None`: that of Hermes models. Returns `false`
/// if there are no tools.
pub fn describe(messages: &mut Vec<Message>, tools: &mut Vec<Value>, written: Option<WrittenForm<'_>>) -> bool {
    if tools.is_empty() {
        return false;
    }
    let lines: String = tools.drain(..).map(|tool| json_line(&tool) + "\n").collect();
    let behind = match written.filter(|written| !written.form.is_hermes()) {
        Some(WrittenForm { form, around }) => {
            let arguments = Map::from_iter([("argument_name".to_owned(), json!("value"))]);
            BEHIND_OF_FORM.to_owned() + &form.write_in(&[("function_name", &arguments)], &[], around)
        }
        None => BEHIND.to_owned(),
    };
    let text = [BEFORE, &lines, &behind].concat();
    match messages.first_mut().filter(|first| first.role == "system" || first.role == "developer") {
        Some(first) => first.content = Some(joined(first.content.as_deref().unwrap_or_default(), &text)),
        None => messages.insert(0, Message::new("system", text)),
    }
    true
}

/// Describes the tools in the system turn and writes calls and results as text. Returns `false` if the conversation has
/// none of these.
pub fn tools_in_text(messages: &mut Vec<Message>, tools: &mut Vec<Value>, written: WrittenForm<'_>) -> bool {
    let mut changed = describe(messages, tools, Some(written));
    changed |= calls_in_text(messages, written);
    let mut out: Vec<Message> = Vec::with_capacity(messages.len());
    let mut in_results = false;
    for message in messages.drain(..) {
        let is_result = message.role == "tool";
        if is_result {
            changed = true;
            let text = format!("<tool_response>\n{}\n</tool_response>", message.content.as_deref().unwrap_or_default());
            match out.last_mut().filter(|_| in_results) {
                Some(last) => last.content = Some([last.content.as_deref().unwrap_or_default(), "\n", &text].concat()),
                None => out.push(Message::new("user", text)),
            }
        } else {
            out.push(message);
        }
        in_results = is_result;
    }
    *messages = out;
    changed
}

#[cfg(test)]
mod tests {
    use super::super::form::CallForm;
    use super::super::message::ToolCall;
    use super::*;

    #[test]
    fn tools_calls_and_results_are_text() {
        let call = |city: &str| ToolCall::new("1".into(), "f".into(), format!("{{\"city\":\"{city}\"}}"));
        let mut messages = vec![
            Message::new("user", "Weather?"),
            Message {
                role: "assistant".into(),
                content: Some("I look.".into()),
                tool_calls: vec![call("Köln"), call("Bonn")],
                ..Message::default()
            },
            Message::new("tool", "18"),
            Message::new("tool", "19"),
        ];
        let mut tools = vec![serde_json::json!({"type": "function", "function": {"name": "f"}})];
        let form = CallForm::hermes();
        let written = WrittenForm { form: &form, around: None };
        assert!(tools_in_text(&mut messages, &mut tools, written));
        assert!(tools.is_empty());
        let texts: Vec<&str> = messages.iter().map(|message| message.content.as_deref().unwrap()).collect();
        assert!(texts[0].contains("<tools>\n{\"type\": \"function\", \"function\": {\"name\": \"f\"}}\n</tools>"));
        assert_eq!(
            texts[2],
            "I look.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"city\": \"Köln\"}}\n</tool_call>\n<tool_call>\n\
             {\"name\": \"f\", \"arguments\": {\"city\": \"Bonn\"}}\n</tool_call>"
        );
        assert_eq!(texts[3], "<tool_response>\n18\n</tool_response>\n<tool_response>\n19\n</tool_response>");
        assert!(messages.iter().all(|message| message.tool_calls.is_empty() && message.role != "tool"));
        assert!(!tools_in_text(&mut messages, &mut tools, written));
    }

    #[test]
    fn a_form_is_shown_by_an_example() {
        let form = CallForm { open: "<calls>".to_owned(), close: "</calls>".to_owned(), ..CallForm::hermes() };
        let written = WrittenForm { form: &form, around: Some('#') };
        let (mut messages, mut tools) = (vec![Message::new("user", "Hi")], vec![json!({"name": "f"})]);
        assert!(describe(&mut messages, &mut tools, Some(written)));
        let text = messages[0].content.as_deref().unwrap();
        assert!(text.ends_with(
            "#<calls>##<tool_call>\n{\"name\": \"#function_name#\", \"arguments\": #{\"argument_name\": \"value\"}#}\n</tool_call>##</calls>#"
        ), "{text}");
        assert!(!describe(&mut messages, &mut tools, Some(written)));
    }
}
