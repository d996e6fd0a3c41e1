//! Forms read from templates: written back they are what the template writes, and read back they are the calls.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::read::FormReader;
use super::*;
use crate::chat::{ChatTemplate, Conversation, Message, Said, TemplateSource, ToolCall};

/// Templates of our own, one a kind.
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

/// Names and templates: ours, and the originals where the data is there.
fn templates() -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> =
        OWN.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    if let Ok(data) = std::env::var("CLLM_SHARED_DATA") {
        let folder = std::path::Path::new(&data).join("templates");
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for path in files.iter().filter(|path| path.extension().is_some_and(|end| end == "jinja")) {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            all.push((name, std::fs::read_to_string(path).unwrap()));
        }
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

/// Content and calls of a text handed over in pieces of `size` characters.
fn read(form: &Arc<CallForm>, text: &str, size: usize) -> (String, Vec<(String, String)>) {
    let mut reader = FormReader::new(Arc::clone(form), tools(), 9);
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

/// For each template with a form of its own: the form writes what the template writes, and what it writes is read back,
/// between texts, in pieces of any size. Prints the table of forms with `--no-capture`.
#[test]
fn forms_write_what_templates_write_and_read_it_back() {
    let mut n_own = 0;
    for (name, text) in templates() {
        let template = template(&text);
        let style = template.style();
        let Some(form) = &style.form else {
            println!("{name:45} | {:?} | by marks", style.calls);
            continue;
        };
        n_own += 1;
        let kind = match &form.arguments {
            Arguments::Json if form.object.is_some() => "a JSON object",
            Arguments::Json => "JSON behind the name",
            Arguments::Tagged(_) => "tagged",
            Arguments::Literal(_) => "as in a language",
        };
        println!(
            "{name:45} | {} ... {} | {kind} | parallel: {} | derived",
            form.trigger(),
            form.tail().trim(),
            form.parallel
        );
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
        let rendered = template.render(Conversation { messages: &said, tools: &tools(), kwargs: None });
        // What is known by the template's words, no rendering shows.
        let is_shown = known(&text).as_ref() != Some(&**form);
        if let Some(rendered) = rendered.ok().filter(|_| is_shown) {
            let dense = |text: &str| text.replace('\'', "\"").split_whitespace().collect::<String>();
            // Some templates write JSON's text without letters beyond ASCII.
            assert!(
                dense(&rendered).contains(&dense(&ours)) || rendered.contains("\\u00f6"),
                "{name}: {ours:?} in {rendered:?}"
            );
        }
        let expected: Vec<(String, Value)> =
            names.iter().map(|name| (name.clone(), Value::Object(arguments.clone()))).collect();
        let text = format!("I look.\n{ours}\nDone.");
        for size in 1..=text.chars().count() {
            let (content, calls) = read(form, &text, size);
            assert_eq!(values(&calls), expected, "{name} in pieces of {size}: {text:?}");
            assert_eq!(content, "I look.Done.", "{name} in pieces of {size}: {text:?}");
        }
        // Cut off anywhere: no mark in the content, and a whole call stays.
        let chars: Vec<char> = text.chars().collect();
        for end in 0..chars.len() {
            let cut: String = chars[..end].iter().collect();
            let whole = read(form, &cut, usize::MAX);
            assert_eq!(read(form, &cut, 1), whole, "{name}: {cut:?}");
            let marks = form.marks();
            assert!(marks.iter().all(|mark| !whole.0.contains(mark)), "{name}: {:?} of {cut:?}", whole.0);
        }
    }
    assert!(n_own >= if std::env::var_os("CLLM_SHARED_DATA").is_some() { OWN.len() + 5 } else { OWN.len() }, "{n_own}");
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
