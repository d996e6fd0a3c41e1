//! Checks styles that are read from a template's marks, and answers that are taken apart in pieces of every size.

use serde_json::json;

use super::thought::Thought;
use super::*;

/// All parts of an answer, with parts of one kind joined.
#[derive(Debug, Default, PartialEq)]
struct Whole {
    content: String,
    reasoning: String,
    calls: Vec<(String, String)>,
}

/// Parses `text` in pieces of `size` characters.
fn parsed(mut parser: OutputParser, text: &str, size: usize) -> Whole {
    let mut whole = Whole::default();
    let mut tell = |said: Said<'_>| match said {
        Said::Content(text) => whole.content += text,
        Said::Reasoning(text) => whole.reasoning += text,
        Said::Call { name } => whole.calls.push((name.to_owned(), String::new())),
        Said::Arguments(text) => whole.calls.last_mut().expect("a call comes before its arguments").1 += text,
    };
    let chars: Vec<char> = text.chars().collect();
    for piece in chars.chunks(size) {
        parser.push(&piece.iter().collect::<String>(), &mut tell);
    }
    parser.finish(&mut tell);
    whole
}

fn style(calls: CallStyle) -> Style {
    Style { thought: Some(Thought::new("<think>", "</think>")), takes_tools: true, calls, ..Style::default() }
}

fn check(calls: CallStyle, text: &str, content: &str, reasoning: &str, expected: &[(&str, &str)]) {
    let expected = expected.iter().map(|(name, arguments)| ((*name).to_owned(), (*arguments).to_owned())).collect();
    let expected = Whole { content: content.to_owned(), reasoning: reasoning.to_owned(), calls: expected };
    for size in 1..=text.chars().count().max(1) {
        let whole = parsed(OutputParser::new(&style(calls), "user: hi", &[], 9), text, size);
        assert_eq!(whole, expected, "{text:?} in pieces of {size}");
    }
}

#[test]
fn hermes_calls_and_thoughts() {
    let f = ("f", r#"{"a": 1}"#);
    let one = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>";
    check(CallStyle::Hermes, one, "", "", &[f]);
    check(CallStyle::Hermes, &format!("{one}\n{one}"), "", "", &[f, f]);
    check(CallStyle::Hermes, &format!("<think>\nAh, so.\n\n</think>\n\nWait.\n{one}"), "Wait.", "Ah, so.", &[f]);
    check(CallStyle::Hermes, &format!("{one}\nDone."), "Done.", "", &[f]);
    check(CallStyle::Hermes, "<think></think>Yes", "Yes", "", &[]);
    check(CallStyle::Hermes, "Plain <b> text, a < b \n", "Plain <b> text, a < b \n", "", &[]);
    check(CallStyle::Hermes, "  <thin ice", "  <thin ice", "", &[]);
    check(CallStyle::Hermes, " \n", " \n", "", &[]);
    check(CallStyle::Hermes, "", "", "", &[]);
}

#[test]
fn what_is_no_call_is_shown_and_the_beginning_of_one_that_was_cut_off_is_not() {
    check(CallStyle::Hermes, "<think>so far </th", "", "so far </th", &[]);
    check(CallStyle::Hermes, "a <tool_call>\n{\"name\": \"f\", \"argum", "a", "", &[]);
    check(CallStyle::Hermes, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a", "", "", &[("f", "{\"a")]);
    check(CallStyle::Hermes, "<tool_call>no</tool_call>", "<tool_call>no</tool_call>", "", &[]);
    check(CallStyle::Hermes, "x <tool_call>", "x", "", &[]);
    check(CallStyle::Hermes, "a <tool", "a", "", &[]);
    check(CallStyle::Hermes, "a <", "a <", "", &[]);
    let whole = "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>";
    check(CallStyle::Hermes, &format!("{whole}\n<tool_call"), "", "", &[("f", "{}")]);
}

#[test]
fn llama_calls() {
    let f = ("f", r#"{"a": "b"}"#);
    let one = r#"{"name": "f", "parameters": {"a": "b"}}"#;
    check(CallStyle::Llama3, one, "", "", &[f]);
    check(CallStyle::Llama3, &format!("<|python_tag|>{one}; {one}"), "", "", &[f, f]);
    // White space of any kind between a call and text is neither.
    check(CallStyle::Llama3, &format!("{one};\u{a0}Done."), "Done.", "", &[f]);
    check(CallStyle::Llama3, "{\"city\": \"Rome\"} is JSON", "{\"city\": \"Rome\"} is JSON", "", &[]);
    check(CallStyle::Llama3, "No call.", "No call.", "", &[]);
    // The end comes before it is known whether this is a call.
    check(CallStyle::Llama3, "{\"city\": \"Ro", "{\"city\": \"Ro", "", &[]);
}

#[test]
fn mistral_calls() {
    let f = ("f", r#"{"a": [1]}"#);
    let one = r#"{"name": "f", "arguments": {"a": [1]}}"#;
    check(CallStyle::MistralList, &format!("[TOOL_CALLS][{one}]"), "", "", &[f]);
    check(CallStyle::MistralList, &format!("[TOOL_CALLS] [{one}, {one}]"), "", "", &[f, f]);
    check(CallStyle::MistralArgs, "[TOOL_CALLS]f[ARGS]{\"a\": [1]}[TOOL_CALLS]f{\"a\": [1]}", "", "", &[f, f]);
    check(CallStyle::MistralList, "See [1] and [TOOL", "See [1] and", "", &[]);
    check(CallStyle::MistralList, "[TOOL_CALLS]what", "[TOOL_CALLS]what", "", &[]);
}

#[test]
fn channels() {
    let thought = "<|channel|>analysis<|message|>Let me see.<|end|>";
    let answer = "<|start|>assistant<|channel|>final<|message|>It rains.<|return|>";
    let call = "<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{\"a\":1}<|call|>";
    check(CallStyle::Harmony, &format!("{thought}{answer}"), "It rains.", "Let me see.", &[]);
    check(CallStyle::Harmony, &format!("{thought}{call}"), "", "Let me see.", &[("f", "{\"a\":1}")]);
    check(CallStyle::Harmony, "No channel.", "No channel.", "", &[]);
}

/// If parts of heads are missing, the text after them is shown, and no mark is.
#[test]
fn channels_with_broken_heads() {
    let thought = "<|channel|>analysis<|message|>Let me see.<|end|>";
    let answer = "<|start|>assistant<|channel|>final<|message|>It rains.<|return|>";
    let check = |text: &str, content: &str, reasoning: &str| check(CallStyle::Harmony, text, content, reasoning, &[]);
    check("<|channel|>final It rains.", "It rains.", "");
    check("<|channel|>It rains.<|return|>", "It rains.", "");
    check("<|message|>It rains.<|return|>", "It rains.", "");
    check("<|start|>assistant<|message|>It rains.", "It rains.", "");
    check(&format!("{thought}It rains."), "It rains.", "Let me see.");
    check(&format!("<|channel|>analysis Let me see.<|end|>{answer}"), "It rains.", "Let me see.");
    check(&format!("It rains. {answer}"), "It rains. It rains.", "");
    // The answer ends within a head.
    for end in ["<|start|>", "<|start|>assistant", "<|start|>assistant<|channel|>fin", "<|channel|>commentary to=funct"]
    {
        check(&format!("{thought}{end}"), "", "Let me see.");
    }
    // The tool's name stands without the word before it.
    let tools = [json!({"type": "function", "function": {"name": "f"}})];
    let call = "<|channel|>commentary to=f<|constrain|>json<|message|>{\"a\":1}<|call|>";
    for size in 1..9 {
        let whole = parsed(OutputParser::new(&style(CallStyle::Harmony), "", &tools, 9), call, size);
        assert_eq!(whole.calls, [("f".to_owned(), "{\"a\":1}".to_owned())]);
        // Only one call is wanted: a second one must not become text.
        let both = format!("{call}<|start|>assistant{call}");
        let whole = parsed(OutputParser::new(&style(CallStyle::Harmony), "", &tools, 1), &both, size);
        assert_eq!((whole.calls.len(), whole.content.as_str()), (1, ""));
    }
}

#[test]
fn a_request_without_tools_gets_text_and_one_call_is_one() {
    let one = "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>";
    let text = format!("{one}{one}");
    assert_eq!(parsed(OutputParser::new(&style(CallStyle::Hermes), "", &[], 0), &text, 3).content, text);
    let first = parsed(OutputParser::new(&style(CallStyle::Hermes), "", &[], 1), &text, 3);
    assert_eq!((first.calls.len(), first.content.as_str()), (1, ""));
    // The template doesn't support tools: Hermes' form is described in the system text, and read.
    let without = Style { takes_tools: false, ..style(CallStyle::Hermes) };
    let first = parsed(OutputParser::new(&without, "", &[], 1), &text, 3);
    assert_eq!((first.calls.len(), first.content.as_str()), (1, ""));
}

#[test]
fn a_prompt_that_ends_in_a_thought_goes_on_in_it() {
    let style = style(CallStyle::Hermes);
    let whole = parsed(OutputParser::new(&style, "assistant\n<think>\n", &[], 0), "Hm.\n</think>\nYes.", 2);
    assert_eq!((whole.reasoning.as_str(), whole.content.as_str()), ("Hm.", "Yes."));
    let whole = parsed(OutputParser::new(&style, "assistant\n<think>\n\n</think>\n\n", &[], 0), "Yes.", 2);
    assert_eq!((whole.reasoning.as_str(), whole.content.as_str()), ("", "Yes."));
}

/// Random answers made of marks and scraps, cut at random: the result doesn't depend on the cuts.
#[test]
fn cuts_change_nothing() {
    let scraps = [
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
        "[TOOL_CALLS]",
        "[ARGS]",
        "<|python_tag|>",
        "<|channel|>",
        "analysis",
        "final",
        "<|message|>",
        "<|end|>",
        "{\"name\": \"f\"",
        ", \"arguments\": ",
        "{\"a\": \"é<\"}",
        "}",
        "]",
        "[",
        ";",
        " ",
        "\n",
        "Hi",
        "<",
        "{",
    ];
    let mut dice = crate::dice::Dice::new(7);
    let mut next = |n: usize| dice.below(n);
    for _ in 0..4_000 {
        let text: String = (0..1 + next(9)).map(|_| scraps[next(scraps.len())]).collect();
        let calls = [CallStyle::Hermes, CallStyle::Llama3, CallStyle::MistralList, CallStyle::Harmony][next(4)];
        let calls_max = next(3);
        let parse = |size| parsed(OutputParser::new(&style(calls), "", &[], calls_max), &text, size);
        let whole = parse(usize::MAX);
        for size in [1, 2, 3, 5, 8] {
            assert_eq!(parse(size), whole, "{calls:?} {text:?} in pieces of {size}");
        }
    }
}

#[test]
fn styles_are_told_by_their_marks() {
    let of = |text: &str| Style::of(text);
    assert!(of("role == 'developer'").knows_developer);
    for (text, calls) in [
        ("<tool_call>", CallStyle::Hermes),
        ("Environment: ipython", CallStyle::Llama3),
        ("[TOOL_CALLS]", CallStyle::MistralList),
        ("[TOOL_CALLS][ARGS]", CallStyle::MistralArgs),
        ("<|channel|>", CallStyle::Harmony),
        ("none", CallStyle::Hermes),
    ] {
        assert_eq!(of(text).calls, calls, "{text}");
    }
}

#[test]
fn arguments_are_parsed_for_templates_where_they_are_json() {
    let call = ToolCall::new("1".into(), "f".into(), r#"{"b": 1, "a": 2}"#.into());
    assert_eq!(call.function.arguments, json!({"b": 1, "a": 2}));
    assert_eq!(ToolCall::new("1".into(), "f".into(), "{oops".into()).function.arguments, json!("{oops"));
}
