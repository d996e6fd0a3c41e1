//! Checks forms read from templates: calls written in them equal what the template writes, and are read back unchanged.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::read::FormReader;
use super::*;
use crate::chat::{
    CallStyle, ChatTemplate, Conversation, FormOrigin, Message, OutputParser, Said, Style, TemplateSource, ToolCall,
};

/// Templates of our own, one for each kind of form.
const OWN: [(&str, &str); 5] = [
    ("tagged", include_str!("../../../tests/templates/forms/tagged.jinja")),
    ("keyed", include_str!("../../../tests/templates/forms/keyed.jinja")),
    ("list", include_str!("../../../tests/templates/forms/list.jinja")),
    ("section", include_str!("../../../tests/templates/forms/section.jinja")),
    ("language", include_str!("../../../tests/templates/forms/language.jinja")),
];

fn template(text: &str) -> ChatTemplate {
    let source = Some((text.to_owned(), TemplateSource::Model));
    ChatTemplate::new(source, "<BOS>".to_owned(), "<EOS>".to_owned()).unwrap()
}

/// Names and texts of templates: ours, and published ones if their data is there.
fn templates() -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> =
        OWN.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let beside = || concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data").into();
    let data = std::env::var_os("CLLM_SHARED_DATA").unwrap_or_else(beside);
    let kinds = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/templates/kinds").into();
    let folders: [std::path::PathBuf; 2] = [kinds, std::path::Path::new(&data).join("templates")];
    let entries = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for path in files.iter().filter(|path| path.extension().is_some_and(|end| end == "jinja")) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        all.push((name, std::fs::read_to_string(path).unwrap()));
    }
    all
}

fn tools() -> Vec<Value> {
    let parameters = json!({"type": "object", "properties": {
        "city": {"type": "string", "description": "A city"}, "days": {"type": "integer", "description": "How many"},
        "exact": {"type": "boolean", "description": "Or not"}, "parts": {"type": "array", "items": {"type": "string"}, "description": "Which"},
        "zip": {"type": "string", "description": "A code"}}, "required": ["city"]});
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "description": "A tool", "parameters": parameters}});
    vec![tool("get_weather"), tool("now.2")]
}

fn arguments() -> Map<String, Value> {
    let value = json!({"city": "Köln < \"Bonn\"\n{x}", "days": 3, "parts": ["a", "b c"], "zip": "50667"});
    value.as_object().unwrap().clone()
}

/// Content and calls of a text that is read in pieces of `size` characters.
fn read(form: &Arc<CallForm>, text: &str, size: usize) -> (String, Vec<(String, String)>) {
    read_at_most(9, form, text, size)
}

/// Likewise, with at most `calls_max` calls.
fn read_at_most(calls_max: usize, form: &Arc<CallForm>, text: &str, size: usize) -> (String, Vec<(String, String)>) {
    let mut reader = FormReader::new(Arc::clone(form), tools(), calls_max);
    let (mut content, mut calls) = (String::new(), Vec::<(String, String)>::new());
    let mut tell = |said: Said<'_>| match said {
        Said::Content(text) => content += text,
        Said::Call { name } => calls.push((name.to_owned(), String::new())),
        Said::Arguments(text) => calls.last_mut().unwrap().1 += text,
        Said::Reasoning(_) => panic!("no thought"),
    };
    let chars: Vec<char> = text.chars().collect();
    for piece in chars.chunks(size) {
        reader.push(&piece.iter().collect::<String>(), &mut tell);
    }
    reader.finish(&mut tell);
    (content, calls)
}

/// The calls as values.
fn values(calls: &[(String, String)]) -> Vec<(String, Value)> {
    let value = |text: &str| serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    calls.iter().map(|(name, text)| (name.clone(), value(text))).collect()
}

#[test]
fn forms_of_our_own_templates() {
    let form = |at: usize| template(OWN[at].1).style().form.clone().expect(OWN[at].0);
    let text = |text: &str| Bit::Text(text.to_owned());
    let tagged = form(0);
    assert_eq!(
        tagged.call,
        [text("<run>\n<function="), Bit::Name, text(">\n"), Bit::Arguments, text("</function>\n</run>")]
    );
    assert_eq!((&*tagged.open, &*tagged.close), ("", ""));
    let Arguments::Tagged(marks) = &tagged.arguments else { panic!("{tagged:?}") };
    assert_eq!((&*marks.key_open, &*marks.text_open, &*marks.close), ("<parameter=", ">\n", "\n</parameter>\n"));
    let keyed = form(1);
    let Arguments::Tagged(marks) = &keyed.arguments else { panic!("{keyed:?}") };
    assert_eq!((&*marks.text_open, &*marks.other_open), ("</key><value text=\"yes\">", "</key><value text=\"no\">"));
    let list = form(2);
    assert_eq!((&*list.open, &*list.between, &*list.close), ("<|ACTION|>[", ",", "]<|/ACTION|>"));
    assert_eq!(list.object, Some(ObjectKeys { name: "tool".to_owned(), arguments: "input".to_owned() }));
    assert!(list.call.contains(&Bit::Index));
    let section = form(3);
    assert_eq!(
        (&*section.open, section.trigger(), &*section.close),
        ("<|calls_begin|>", "<|calls_begin|>", "<|calls_end|>")
    );
    assert_eq!(section.lead(), "<|call_begin|>functions.");
}

/// Content and calls of a text that is read in these pieces of bytes, joined to whole characters first.
fn parsed(style: &Style, prompt: &str, pieces: &[&[u8]]) -> (String, Vec<(String, String)>) {
    let mut parser = OutputParser::new(style, prompt, &tools(), 9);
    let (mut content, mut calls) = (String::new(), Vec::<(String, String)>::new());
    let mut tell = |said: Said<'_>| match said {
        Said::Content(text) => content += text,
        Said::Call { name } => calls.push((name.to_owned(), String::new())),
        Said::Arguments(text) => calls.last_mut().unwrap().1 += text,
        Said::Reasoning(text) => panic!("no thought: {text}"),
    };
    let mut held = Vec::new();
    for piece in pieces {
        held.extend_from_slice(piece);
        let whole = match std::str::from_utf8(&held) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let text: Vec<u8> = held.drain(..whole).collect();
        parser.push(std::str::from_utf8(&text).unwrap(), &mut tell);
    }
    parser.finish(&mut tell);
    (content, calls)
}

/// The name of a form's arguments in the table.
fn kind_of(form: &CallForm) -> &'static str {
    match &form.arguments {
        Arguments::Json if form.object.is_some() => "a JSON object",
        Arguments::Json => "JSON behind the name",
        Arguments::Tagged(_) => "tagged",
        Arguments::Literal(_) => "as in a language",
    }
}

/// Makes a table of all templates that support tools: how calls are written, and how that is known. For each of them,
/// the form writes what the template writes, and its text is read back, between texts, whole and cut at every byte.
/// `--no-capture` shows the table.
#[test]
fn forms_write_what_templates_write_and_read_it_back() {
    let mut n_forms = 0;
    println!("| template | marks | arguments | parallel | read by | how found |\n|---|---|---|---|---|---|");
    for (name, text) in templates() {
        let template = template(&text);
        let style = template.style();
        assert_eq!(style.warning(), None, "{name}");
        let place = if style.takes_tools { "" } else { ", tools described in the system text" };
        let reader = if style.form.is_some() { "its form".to_owned() } else { format!("{:?}", style.calls) };
        let Some(form) = &style.shown else { panic!("{name}: {style:?}") };
        n_forms += 1;
        let code = |text: &str| format!("`{}`", text.trim().replace('\n', "\\n").replace('|', "\\|"));
        let marks = match (form.trigger(), &*[form.tail(), &form.close].concat()) {
            ("", _) => "none, the call is all of the answer".to_owned(),
            (open, close) if close.trim().is_empty() => code(open),
            (open, close) => [code(open), code(close)].join(" ... "),
        };
        println!("| {name} | {marks} | {} | {} | {reader} | {:?}{place} |", kind_of(form), form.parallel, style.origin);
        let call = |index: usize, name: &str| {
            ToolCall::new(super::probe::IDS[index].to_owned(), name.to_owned(), Value::Object(arguments()).to_string())
        };
        let (mut said, mut calls) = (vec![Message::new("user", "Hi")], vec![call(0, "get_weather")]);
        if form.parallel {
            calls.push(call(1, "now.2"));
        }
        let names: Vec<String> = calls.iter().map(|call| call.function.name.clone()).collect();
        said.push(Message {
            role: "assistant".into(),
            content: Some(String::new()),
            tool_calls: calls,
            ..Message::default()
        });
        for (index, name) in names.iter().enumerate() {
            let id = Some(super::probe::IDS[index].to_owned());
            said.push(Message { tool_call_id: id, name: Some(name.clone()), ..Message::new("tool", "18") });
        }
        let arguments = arguments();
        let pairs: Vec<(&str, &Map<String, Value>)> = names.iter().map(|name| (name.as_str(), &arguments)).collect();
        let ours = form.write(&pairs, &super::probe::IDS);
        let conversation = Conversation { messages: &said, tools: &tools(), kwargs: None };
        // Forms known by a template's words or marks can't be compared with a rendering.
        let rendered = template.render(conversation).ok().filter(|_| style.origin == FormOrigin::Rendered);
        if let Some(rendered) = rendered {
            let dense = |text: &str| text.replace('\'', "\"").split_whitespace().collect::<String>();
            // Some templates escape letters beyond ASCII in JSON.
            assert!(
                dense(&rendered).contains(&dense(&ours)) || rendered.contains("\\u00f6"),
                "{name}: {ours:?} in {rendered:?}"
            );
        }
        let expected: Vec<(String, Value)> =
            names.iter().map(|name| (name.clone(), Value::Object(arguments.clone()))).collect();
        // Bare JSON must be the whole answer; texts and calls in channels have heads.
        let (text, content) = match (style.calls, form.trigger()) {
            (CallStyle::Harmony, _) => {
                let before = "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant ";
                let behind = "<|call|><|start|>assistant<|channel|>final<|message|>Done.";
                ([before, &ours, behind].concat(), "I look.Done.")
            }
            (_, "") => (ours.clone(), ""),
            // The prompt ends with the first mark, and plain answers have a name.
            (_, mark) if form.has_begun => {
                let name = &form.before_text;
                (format!("{name}I look.\n{ours}\n{mark}{name}Done."), "I look.Done.")
            }
            _ => (format!("I look.\n{ours}\nDone."), "I look.Done."),
        };
        let bytes = text.as_bytes();
        let each: Vec<&[u8]> = bytes.chunks(1).collect();
        let halves = (0..bytes.len()).map(|at| vec![&bytes[..at], &bytes[at..]]);
        for pieces in halves.chain([each]) {
            let (said, calls) = parsed(style, "", &pieces);
            assert_eq!(values(&calls), expected, "{name} in {} pieces: {text:?}", pieces.len());
            assert_eq!(said, content, "{name} in {} pieces, the first of {}: {text:?}", pieces.len(), pieces[0].len());
        }
        // Cut off at any byte: the content has no mark, and doesn't depend on the pieces.
        let marks = style.marks();
        for end in 0..bytes.len() {
            let cut = &bytes[..end];
            let whole = parsed(style, "", &[cut]);
            assert_eq!(parsed(style, "", &cut.chunks(1).collect::<Vec<_>>()), whole, "{name}: {end} of {text:?}");
            assert!(marks.iter().all(|mark| !whole.0.contains(mark)), "{name}: {:?} of {end} of {text:?}", whole.0);
        }
    }
    let has_originals = templates().len() > 40;
    assert!(n_forms >= if has_originals { OWN.len() + 30 } else { OWN.len() }, "{n_forms}");
}

#[test]
fn a_mark_that_no_call_follows_is_text() {
    let form = template(OWN[3].1).style().form.clone().unwrap();
    for text in ["a <|calls_begin|>b", "a <|calls", "1 < 2 <"] {
        for size in 1..9 {
            assert_eq!(read(&form, text, size).0.replace(' ', ""), text.replace(' ', ""), "{text} in pieces of {size}");
        }
    }
}

#[test]
fn marks_are_found_in_literals() {
    assert_eq!(marks_in("<a>\n<function=[ARGS][x]{<|\"|>"), ["<a>", "[ARGS]", "<|\"|>"]);
    for (literal, mark) in [
        ("<tool_call>\n{", "<tool_call>"),
        ("<function=", "<function="),
        ("[TOOL_CALLS][", "[TOOL_CALLS]"),
        ("functools[", "functools"),
        ("Action:\n```", "Action:"),
        ("[{\"name", ""),
        ("{\"name", ""),
        ("", ""),
    ] {
        assert_eq!(first_mark(literal), mark, "{literal}");
    }
}

#[test]
fn arguments_of_an_unknown_tool_are_of_the_kind_that_they_look_like() {
    let form = template(OWN[0].1).style().form.clone().unwrap();
    let given = json!({"a": "x y", "n": 3});
    let text = form.write(&[("unknown", given.as_object().unwrap())], &[]);
    assert_eq!(values(&read(&form, &text, 3).1), [("unknown".to_owned(), given)]);
}

/// A request that wants one call gets one, in every kind of form. What follows it is neither a call nor text.
#[test]
fn no_more_calls_are_told_than_are_wanted() {
    for (name, text) in OWN {
        let form = template(text).style().form.clone().unwrap();
        let given = arguments();
        let call = ("get_weather", &given);
        for (wanted, told) in [(1, 1), (2, 2), (9, 3)] {
            let (content, calls) = read_at_most(wanted, &form, &form.write(&[call; 3], &[]), 3);
            assert_eq!((content.as_str(), calls.len()), ("", told), "{name}, {wanted} wanted");
        }
    }
}

/// Functionary 3.2: the prompt ends with the mark, and text has the name `all`.
#[test]
fn a_prompt_may_end_with_the_mark_of_a_call() {
    let text = "{% for t in tools or [] %}{{ t.function.name }}{% endfor %}{% for m in messages %}\
        {{ '<|start|>' + m.role + '\\n' }}{% if m.role == 'assistant' and m.content %}{{ '>>>all\\n' + m.content }}{% elif m.role != 'assistant' %}{{ m.content }}{% endif %}\
        {% for c in m.tool_calls or [] %}{{ '>>>' + c.function.name + '\\n' + c.function.arguments | tojson }}{% endfor %}<|eot_id|>{% endfor %}\
        {{ '<|start|>assistant\\n>>>' if add_generation_prompt }}";
    let style = template(text).style().clone();
    assert!(style.form.as_ref().is_some_and(|form| form.has_begun), "{style:?}");
    for (text, content, n_calls) in [
        ("all\nHello {you}", "Hello {you}", 0),
        ("f\n{\"a\": 1}", "", 1),
        ("all\nI look.\n>>>f\n{\"a\": 1}>>>g\n{}", "I look.", 2),
        ("f\n{\"a\": 1}\n>>>all\nDone.", "Done.", 1),
        // Without a name, or with the name of no tool.
        ("I look.", "I look.", 0),
        ("other\nI look.", "I look.", 0),
        ("Yes", "Yes", 0),
        ("al", "", 0),
    ] {
        let mut parser = crate::chat::OutputParser::new(&style, "<|start|>assistant\n>>>", &tools(), 9);
        let (mut said, mut calls) = (String::new(), 0);
        let mut tell = |part: Said<'_>| match part {
            Said::Content(text) => said += text,
            Said::Call { .. } => calls += 1,
            _ => {}
        };
        text.chars().for_each(|c| parser.push(&c.to_string(), &mut tell));
        parser.finish(&mut tell);
        assert_eq!((said.as_str(), calls), (content, n_calls), "{text}");
    }
}

/// A list without a mark before it is calls only if it names a tool and is the whole answer.
#[test]
fn a_list_that_is_no_call_is_text() {
    let bare = |text: &str| template(text).style().form.clone().expect("a form");
    let json = bare(include_str!("../../../tests/templates/kinds/bare-list.jinja"));
    let python = bare(include_str!("../../../tests/templates/kinds/bare-python.jinja"));
    assert!(json.is_bare_list() && python.is_bare_list());
    let call = json!({"city": "x"});
    for form in [&json, &python] {
        let written = form.write(&[("get_weather", call.as_object().unwrap())], &[]);
        let in_text = format!("Look: {written}");
        let texts = [
            "[1, 2]",
            "[",
            "[]",
            "[get_weather] is a name",
            "[get_weather(x)]",
            "[other(x=1)]",
            "[{\"city\": \"Rome\"}]",
            "[{\"name\": \"Rome\", \"arguments\": {}}]",
            "[{\"name\"",
            &in_text,
        ];
        for text in texts {
            for size in 1..9 {
                assert_eq!(read(form, text, size), (text.to_owned(), Vec::new()), "in pieces of {size}");
            }
        }
        for size in 1..9 {
            let (content, calls) = read(form, &format!(" {written}\nDone [1]."), size);
            assert_eq!(
                (content.as_str(), values(&calls)),
                ("Done [1].", vec![("get_weather".to_owned(), call.clone())])
            );
        }
    }
}
