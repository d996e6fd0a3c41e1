//! Calls as each template writes them, through a server whose decoder plays them. They are read back with name, typed
//! arguments and the text around them, whole and streamed, once with marks as control tokens and once with each byte as
//! a token.

use std::path::Path;
use std::sync::Arc;

use cllm::chat::{CallForm, CallStyle, ChatTemplate, Conversation, FormOrigin, Guard, Message, ToolCall};
use cllm::tokenizer::Tokenizer;
use cllm::types::Token;
use serde_json::{Map, Value, json};

use super::data::{compiled, folder, read};
use super::http::{Answer, Client};
use super::in_process::{capacity, serve};
use super::player::{Player, Score};
use super::vocabulary::{spelled_tokens, tokenizer};

/// Nine letters, as Mistral's templates require.
const IDS: [&str; 2] = ["idaaaaaaa", "idbbbbbbb"];

const THOUGHT: &str = "I think, so I look.";

/// Names and texts of templates: our own, and the originals if their folder exists.
fn all_templates() -> Vec<(String, String)> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/templates");
    let folders = [own.join("forms"), own.join("kinds")].into_iter().chain(folder());
    let files = folders
        .flat_map(|folder| std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())));
    let paths = files.map(|entry| entry.expect("an entry").path());
    let jinja = paths.filter(|path| path.extension().is_some_and(|end| end == "jinja"));
    let named = jinja.map(|path| (path.file_stem().expect("a name").to_string_lossy().into_owned(), read(&path)));
    let mut all: Vec<(String, String)> = named.collect();
    all.sort();
    all
}

fn tools() -> Vec<Value> {
    let parameters = json!({"type": "object", "properties": {
        "city": {"type": "string", "description": "A city"}, "days": {"type": "integer", "description": "How many"},
        "exact": {"type": "boolean", "description": "Or not"},
        "parts": {"type": "array", "items": {"type": "string"}, "description": "Which"},
        "zip": {"type": "string", "description": "A code"}}, "required": ["city"]});
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "description": "A tool", "parameters": parameters}});
    vec![tool("get_weather"), tool("now.2")]
}

fn arguments() -> Map<String, Value> {
    let value = json!({"city": "Köln < \"Bonn\"\n{x}", "days": 3, "parts": ["a", "b c"], "zip": "50667"});
    value.as_object().expect("an object").clone()
}

/// The parts of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
struct Said {
    thought: String,
    content: String,
    calls: Vec<(String, Value)>,
    reason: String,
}

/// The text to play, and the answer that it must give.
struct Scene {
    text: String,
    said: Said,
}

/// The turn with calls as the template renders it, or, if the template renders none, as its form writes it.
fn as_rendered(template: &ChatTemplate, form: &CallForm, names: &[&str]) -> String {
    let arguments = arguments();
    let pairs: Vec<(&str, &Map<String, Value>)> = names.iter().map(|name| (*name, &arguments)).collect();
    let written = form.write(&pairs, &IDS);
    let call = |(index, name): (usize, &&str)| {
        ToolCall::new(IDS[index].to_owned(), (*name).to_owned(), Value::Object(arguments.clone()).to_string())
    };
    let mut messages = vec![Message::new("user", "Hi")];
    messages
        .push(Message { tool_calls: names.iter().enumerate().map(call).collect(), ..Message::new("assistant", "") });
    messages.extend(names.iter().enumerate().map(|(index, name)| Message {
        tool_call_id: Some(IDS[index].to_owned()),
        name: Some((*name).to_owned()),
        ..Message::new("tool", "18")
    }));
    let conversation = Conversation { messages: &messages, tools: &tools(), kwargs: None };
    let rendered = template.render(conversation).unwrap_or_default();
    let white = &written[..written.len() - written.trim_start().len()];
    span(&rendered, &written).map_or(written.clone(), |span| format!("{white}{span}"))
}

/// The part of `text` that equals `wanted`, apart from white space.
fn span<'a>(text: &'a str, wanted: &str) -> Option<&'a str> {
    let dense: Vec<(usize, char)> = text.char_indices().filter(|(_, c)| !c.is_whitespace()).collect();
    let wanted: Vec<char> = wanted.chars().filter(|c| !c.is_whitespace()).collect();
    let found = dense.windows(wanted.len()).find(|window| window.iter().map(|(_, c)| *c).eq(wanted.iter().copied()))?;
    let ((from, _), (last, c)) = (found.first()?, found.last()?);
    Some(&text[*from..last + c.len_utf8()])
}

fn scene(template: &ChatTemplate) -> Scene {
    let style = template.style();
    let form = style.shown.as_deref().expect("a form");
    let names: &[&str] = if form.parallel { &["get_weather", "now.2"] } else { &["get_weather"] };
    let calls = as_rendered(template, form, names);
    let messages = [Message::new("user", "Hi")];
    let conversation = Conversation { messages: &messages, tools: &tools(), kwargs: None };
    let prompt = template.prompt(conversation, &Guard::default()).expect("a prompt").text;
    let harmony = style.calls == CallStyle::Harmony;
    let thought = match style.thought_behind(&prompt) {
        _ if harmony => format!("<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant"),
        Some((thought, true)) => format!("{THOUGHT}{}\n", thought.close),
        Some((thought, false)) => format!("{}{THOUGHT}{}\n", thought.open, thought.close),
        None => String::new(),
    };
    let (text, content) = match form.trigger() {
        _ if harmony => (
            format!("<|channel|>commentary<|message|>I look.<|end|><|start|>assistant {}", calls.trim_start()),
            "I look.",
        ),
        // The call must be the whole answer.
        "" => (calls, ""),
        // The prompt ends with the first mark, and plain answers have a name.
        mark if form.has_begun => {
            let name = &form.before_text;
            (format!("{name}I look.\n{calls}\n{mark}{name}Done."), "I look.Done.")
        }
        // If the form ends its list of calls with a mark, no text may follow.
        _ if !form.parallel || !form.close.trim().is_empty() => (format!("I look.\n{calls}"), "I look."),
        _ => (format!("I look.\n{calls}\nDone."), "I look.Done."),
    };
    let said = Said {
        thought: if thought.is_empty() { String::new() } else { THOUGHT.to_owned() },
        content: content.to_owned(),
        calls: names.iter().map(|name| ((*name).to_owned(), Value::Object(arguments()))).collect(),
        reason: "tool_calls".to_owned(),
    };
    Scene { text: thought + &text, said }
}

/// The text as one token for each byte.
fn byte_tokens(tokenizer: &Tokenizer, text: &str) -> Vec<Token> {
    let mut of_bytes = vec![None; 256];
    for id in (0..tokenizer.n_vocab() as u32).map(Token) {
        if let [byte] = tokenizer.table().bytes(id) {
            of_bytes[usize::from(*byte)].get_or_insert(id);
        }
    }
    text.bytes().map(|byte| of_bytes[usize::from(byte)].expect("each byte is a token")).collect()
}

fn parsed(arguments: &Value) -> Value {
    let text = arguments.as_str().unwrap_or_default();
    serde_json::from_str(text).unwrap_or_else(|error| Value::String(format!("{error}: {text}")))
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn whole(answer: &Answer) -> Said {
    let answer = answer.json();
    let choice = &answer["choices"][0];
    let message = &choice["message"];
    let calls = message["tool_calls"].as_array().into_iter().flatten();
    Said {
        thought: text_of(&message["reasoning_content"]).to_owned(),
        content: text_of(&message["content"]).to_owned(),
        calls: calls
            .map(|call| (text_of(&call["function"]["name"]).to_owned(), parsed(&call["function"]["arguments"])))
            .collect(),
        reason: text_of(&choice["finish_reason"]).to_owned(),
    }
}

fn streamed(answer: &Answer) -> Said {
    let (mut said, mut calls) = (Said::default(), Vec::<(String, String)>::new());
    let text = answer.text();
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
    for event in events {
        let choice = &event["choices"][0];
        let delta = &choice["delta"];
        said.thought += text_of(&delta["reasoning_content"]);
        said.content += text_of(&delta["content"]);
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            if call["index"] == calls.len() {
                calls.push((text_of(&call["function"]["name"]).to_owned(), String::new()));
            }
            calls.last_mut().expect("a call").1 += text_of(&call["function"]["arguments"]);
        }
        said.reason += text_of(&choice["finish_reason"]);
    }
    said.calls = calls.into_iter().map(|(name, arguments)| (name, parsed(&json!(arguments)))).collect();
    said
}

/// The answers of a server with this template when these tokens are generated, whole and streamed.
fn played(tokenizer: &Arc<Tokenizer>, template: ChatTemplate, tokens: &[Token]) -> [(Said, String); 2] {
    let score = Score::default();
    let decoder = Player::new(capacity(tokenizer), tokenizer, score.clone());
    serve(tokenizer, template, decoder, |addr| {
        [false, true].map(|stream| {
            score.set(tokens.to_vec());
            let body = json!({"messages": [{"role": "user", "content": "Hi"}], "tools": tools(), "temperature": 0,
                "max_tokens": 4_000, "stream": stream});
            let answer = Client::connect(addr).post("/v1/chat/completions", &body);
            let said = if stream && answer.status == 200 { streamed(&answer) } else { whole(&answer) };
            (said, answer.text())
        })
    })
}

#[test]
fn a_call_as_the_template_writes_it_is_read_back_by_a_server() {
    let plain = Arc::new(tokenizer("played", &[]));
    let (mut n_templates, mut n_rendered, mut complaints) = (0, 0, Vec::new());
    for (name, text) in all_templates() {
        let template = || compiled(&name, text.clone());
        let scene = scene(&template());
        n_templates += 1;
        n_rendered += usize::from(template().style().origin == FormOrigin::Rendered);
        // Solar's vocabulary has these, by which cllm recognises that its `<|end|>` doesn't end the text.
        let more = ["<|calls|>", "<|flush|>"].map(str::to_owned).into_iter().filter(|_| text.contains("<|think|>"));
        let controls: Vec<String> = spelled_tokens(&text).into_iter().chain(more).collect();
        let with_marks = Arc::new(tokenizer("played", &controls));
        let end = |tokenizer: &Tokenizer| tokenizer.eos().expect("a token that ends a text");
        let mut of_marks = with_marks.encode(&scene.text, false, true).expect("tokens");
        of_marks.push(end(&with_marks));
        let mut of_bytes = byte_tokens(&plain, &scene.text);
        of_bytes.push(end(&plain));
        for (tokenizer, tokens, kind) in [(&with_marks, of_marks, "marks"), (&plain, of_bytes, "bytes")] {
            for ((said, answer), how) in played(tokenizer, template(), &tokens).into_iter().zip(["whole", "streamed"]) {
                if said != scene.said {
                    complaints.push(format!(
                        "{name} in {kind}, {how}: {:?}\n{said:?}\n{:?}\n{answer}",
                        scene.text, scene.said
                    ));
                }
            }
        }
    }
    println!("{n_templates} templates, {n_rendered} of which render calls: each call is read back");
    assert!(complaints.is_empty(), "{} are not:\n{}", complaints.len(), complaints.join("\n\n"));
    assert!(n_templates >= if folder().is_some() { 65 } else { 15 }, "{n_templates}");
}
