//! The input is a chat template and, behind a NUL, the answer of a model that has it. The template is compiled as at the start of a
//! server and renders conversations; the answer is taken apart into thoughts, calls and content.
#![no_main]

use std::panic::PanicHookInfo;
use std::sync::{LazyLock, Once};

use fuzzing::chat::{ChatTemplate, Conversation, Guard, Message, OutputParser, Said, TemplateSource, ToolCall};
use fuzzing::last;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

/// Most calls of one answer.
const CALLS_MAX: usize = 4;

static GUARD: LazyLock<Guard> = LazyLock::new(|| {
    Guard::new(["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<tool_call>", "[INST]"].map(str::to_owned))
});

static TOOLS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let weather = json!({"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}});
    vec![json!({"type": "function", "function": {"name": "weather", "description": "Now", "parameters": weather}})]
});

static CHATS: LazyLock<Vec<Vec<Message>>> = LazyLock::new(|| {
    let call = ToolCall::new("c1".to_owned(), "weather".to_owned(), r#"{"city": "Bern", "days": 2}"#.to_owned());
    let answer = Message { tool_call_id: Some("c1".to_owned()), ..Message::new("tool", "Sun") };
    let thought = Message { reasoning_content: Some("Hm".to_owned()), ..Message::new("assistant", "So") };
    let calls = Message { tool_calls: vec![call], content: None, ..Message::new("assistant", "") };
    vec![
        vec![Message::new("user", "Hi")],
        vec![
            Message::new("system", "Be brief."),
            Message::new("user", "</s> <|im_end|> <|im_"),
            thought,
            Message::new("user", "start|>\u{f4a0}"),
        ],
        vec![Message::new("user", "How is it?"), calls, answer],
    ]
});

static HOOK: Once = Once::new();

/// A panic of the template library is caught where it is called and becomes an error of the template, so it is no finding. libFuzzer's
/// own hook, which ends the process, gets all others.
fn spare_the_library() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        if !info.location().is_some_and(|place| place.file().contains("/minijinja-")) {
            others(info);
        }
    }));
}

fuzz_target!(|input: &[u8]| {
    HOOK.call_once(spare_the_library);
    last::keep(input);
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (source, answer) = text.split_once('\0').unwrap_or((text, ""));
    let source = (source.to_owned(), TemplateSource::Model);
    let Ok(template) = ChatTemplate::at(|| 1_700_000_000, Some(source), "<s>".to_owned(), "</s>".to_owned()) else {
        return;
    };
    for (i, messages) in CHATS.iter().enumerate() {
        let tools = if i == 2 { TOOLS.as_slice() } else { &[] };
        let conversation = Conversation { messages, tools, kwargs: None };
        let Ok(prompt) = template.prompt(conversation, &GUARD) else { continue };
        let prompt = template.continued(prompt, "So <|im_end|>", &GUARD);
        assert!(prompt.barriers.iter().all(|at| prompt.text.is_char_boundary(*at)), "{:?}", prompt.barriers);
        read(&template, &prompt.text, tools, answer);
    }
});

/// Takes `answer` apart, at once and in pieces. What is said is the same if there is no call: of a broken call, a stream has said
/// the beginning already, and a whole answer shows it as content.
fn read(template: &ChatTemplate, prompt: &str, tools: &[Value], answer: &str) {
    let calls_max = if tools.is_empty() { 0 } else { CALLS_MAX };
    let parser = || OutputParser::new(template.style(), prompt, tools, calls_max);
    let whole = said(parser(), [answer]);
    let parts = said(parser(), answer.char_indices().map(|(at, c)| &answer[at..at + c.len_utf8()]));
    assert!(whole == parts || !whole.2.is_empty() || !parts.2.is_empty(), "{answer:?}: {whole:?}, in pieces {parts:?}");
}

/// Content, thought, and each call's name and arguments.
fn said<'a>(
    mut parser: OutputParser,
    pieces: impl IntoIterator<Item = &'a str>,
) -> (String, String, Vec<(String, String)>) {
    let (mut content, mut thought, mut calls) = (String::new(), String::new(), Vec::<(String, String)>::new());
    let mut tell = |said: Said<'_>| match said {
        Said::Content(text) => content.push_str(text),
        Said::Reasoning(text) => thought.push_str(text),
        Said::Call { name } => calls.push((name.to_owned(), String::new())),
        Said::Arguments(text) => calls.last_mut().expect("arguments belong to a call").1.push_str(text),
    };
    pieces.into_iter().for_each(|piece| parser.push(piece, &mut tell));
    parser.finish(&mut tell);
    assert!(parser.n_calls() <= CALLS_MAX);
    (content, thought, calls)
}
