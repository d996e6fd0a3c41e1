//! Derives the form of calls from a template's renderings of the probes: the places where two renderings differ are a
//! name, a key or a value; the rest is marks.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::compare::{after_mark, before_mark, common_prefix, common_suffix};
use super::probe::{IDS, NAMES, Probe, RESULT, RenderProbe, TEXT};
use super::{Arguments, Bit, CallForm, FormReader, Notation, ObjectKeys, Tagged, marks_in};
use crate::chat::Said;

/// Tokens that end a turn. They don't belong to a form.
const ENDS: [&str; 9] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|call|>",
    "<|return|>",
    "<|endoftext|>",
    "</s>",
    "<|tool_response>",
];

/// The form in which a template writes calls. `None`: it writes none, or in a way that isn't supported here.
pub fn derive(render: RenderProbe<'_>) -> Option<CallForm> {
    let forms: Vec<CallForm> = Probe::ways(render).iter().filter_map(derive_by).collect();
    // An object or a list without a mark before it can't be told from text.
    let is_bare = |form: &&CallForm| form.trigger().is_empty() && (form.object.is_some() || form.is_bare_list());
    let bare = || forms.iter().find(is_bare);
    forms.iter().find(|form| reads_back(form)).or_else(bare).cloned()
}

/// The form that one kind of probe shows.
fn derive_by(probe: &Probe<'_>) -> Option<CallForm> {
    let text = probe.text()?;
    let strings = map(&[("qzkey", json!("qzvalue")), ("qzother", json!("qzmore"))]);
    let turn = Turn::new(probe, &text, probe.calls(&[(NAMES[0], &strings)])?);
    let call = read_json(&turn.text, &strings)
        .or_else(|| read_tagged(probe, &text, &turn.text))
        .or_else(|| read_literal(probe, &turn.text))?;
    let form = assemble(probe, &turn, call, &strings)?;
    // The end of the turn wasn't found.
    if format!("{}{}", form.tail(), form.close).contains(RESULT) {
        return None;
    }
    // A form that can't reproduce the rendering was not understood.
    let both = map(&[("qzflag", json!(7)), ("qzkey", json!("qz value")), ("qzlist", json!([1, "b"]))]);
    let seen = Turn::new(probe, &text, probe.calls(&[(NAMES[1], &both)])?);
    let ours = form.write(&[(NAMES[1], &both)], &IDS);
    same(&seen.text[seen.begins..], &ours).then_some(form)
}

/// Whether calls that are written in this form, between texts, are read back unchanged.
fn reads_back(form: &CallForm) -> bool {
    let arguments = map(&[("qzkey", json!("a < \"b\"\n{x}")), ("qzlist", json!([1, "b c"])), ("qzflag", json!(7))]);
    let names = if form.parallel { &NAMES[..] } else { &NAMES[..1] };
    let calls: Vec<(&str, &Map<String, Value>)> = names.iter().map(|name| (*name, &arguments)).collect();
    let text = format!("{TEXT}\n{}\n{TEXT}", form.write(&calls, &IDS));
    let shared = Arc::new(form.clone());
    let as_read = |pieces: &[&str]| {
        let mut reader = FormReader::new(Arc::clone(&shared), Vec::new(), names.len());
        let (mut content, mut read) = (String::new(), Vec::<(String, String)>::new());
        let mut tell = |said: Said<'_>| match said {
            Said::Call { name } => read.push((name.to_owned(), String::new())),
            Said::Arguments(text) => read.iter_mut().last().into_iter().for_each(|(_, all)| all.push_str(text)),
            Said::Content(text) | Said::Reasoning(text) => content.push_str(text),
        };
        pieces.iter().for_each(|piece| reader.push(piece, &mut tell));
        reader.finish(&mut tell);
        let is_call = |((name, text), wanted): (&(String, String), &&str)| {
            name == wanted && serde_json::from_str::<Map<String, Value>>(text).is_ok_and(|read| read == arguments)
        };
        read.len() == names.len() && read.iter().zip(names).all(is_call) && content == format!("{TEXT}{TEXT}")
    };
    let letters: Vec<&str> = text.split_inclusive(|_: char| true).collect();
    as_read(&[&text]) && as_read(&letters)
}

/// Whether two texts are equal apart from white space, with which templates indent JSON, and Python's quotes.
fn same(a: &str, b: &str) -> bool {
    let dense = |text: &str| text.replace('\'', "\"").split_whitespace().collect::<String>();
    dense(a) == dense(b)
}

fn map(pairs: &[(&str, Value)]) -> Map<String, Value> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

/// The text of an assistant's turn with calls, up to the token that ends the turn.
struct Turn {
    text: String,
    /// The byte at which this turn begins to differ from a turn of text.
    begins: usize,
}

impl Turn {
    fn new(probe: &Probe<'_>, said: &str, mut text: String) -> Turn {
        let prompt = probe.prompt().unwrap_or_default();
        let mut begins = before_mark(&text, common_prefix(&text, said));
        if text.starts_with(&prompt) {
            begins = begins.max(prompt.len());
        }
        let end = said.find(TEXT).map_or("", |at| &said[at + TEXT.len()..]);
        let common = text.len() - common_suffix(&text, end);
        text.truncate(after_mark(&text, common).max(begins));
        // The marks that end a turn of text in this template, and other marks known to end turns.
        let ends = ENDS.into_iter().chain(marks_in(end));
        // The end comes after the last name, so marks before it are skipped.
        let from = NAMES.iter().filter_map(|name| text.rfind(name)).max().unwrap_or(0).max(begins);
        if let Some(at) = ends.filter_map(|end| text[from..].find(end)).min() {
            text.truncate(from + at);
        }
        Turn { begins, text }
    }
}

/// The position of a call in a turn's text.
struct Call {
    /// The latest byte at which the call's own text begins: at its name, or at the object that it is.
    anchor: usize,
    arguments: std::ops::Range<usize>,
    object: Option<ObjectKeys>,
    kind: Arguments,
}

/// The JSON value at the beginning of `text`, and its length in bytes.
fn json_at(text: &str) -> Option<(Value, usize)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let value = values.next()?.ok()?;
    Some((value, values.byte_offset()))
}

/// Finds a call whose arguments are one JSON object; the call may itself be an object around them.
fn read_json(text: &str, arguments: &Map<String, Value>) -> Option<Call> {
    let name = text.find(NAMES[0])?;
    let braces = text[name..].match_indices('{').map(|(at, _)| name + at);
    let whole = Value::Object(arguments.clone());
    let found = braces
        .into_iter()
        .find_map(|at| json_at(&text[at..]).filter(|(value, _)| *value == whole).map(|(_, len)| at..at + len))?;
    let object = text[..name].rfind('{').and_then(|at| {
        let (value, _) = json_at(&text[at..])?;
        let key = |wanted: &Value| value.as_object()?.iter().find(|(_, v)| *v == wanted).map(|(key, _)| key.clone());
        Some((at, ObjectKeys { name: key(&json!(NAMES[0]))?, arguments: key(&whole)? }))
    });
    let (anchor, object) = object.map_or((name, None), |(at, keys)| (at, Some(keys)));
    Some(Call { anchor, arguments: found, object, kind: Arguments::Json })
}

/// Finds a call whose arguments each have marks.
fn read_tagged(probe: &Probe<'_>, said: &str, text: &str) -> Option<Call> {
    let name = text.find(NAMES[0])?;
    let behind_name = name + NAMES[0].len();
    let find = |text: &str, from: usize, word: &str| text[from..].find(word).map(|at| from + at);
    let first = find(text, behind_name, "qzkey")?;
    let value = find(text, first, "qzvalue")?;
    let second = find(text, value, "qzother")?;
    let more = find(text, second, "qzmore")?;
    let text_open = &text[first + 5..value];
    let (to_second, tail) = (&text[value + 7..second], &text[more + 6..]);
    let empty = Turn::new(probe, said, probe.calls(&[(NAMES[0], &Map::new())])?).text;
    let behind_empty = &empty[find(&empty, 0, NAMES[0])? + NAMES[0].len()..];
    let lead = &text[behind_name..first];
    let name_close = before_mark(lead, common_prefix(lead, behind_empty));
    let (key_open, call_close) = (&lead[name_close..], &behind_empty[name_close..]);
    let close = tail.strip_suffix(call_close)?;
    let between = to_second.strip_suffix(key_open)?.strip_prefix(close)?;
    let numbers = map(&[("qzkey", json!(47_110_815))]);
    let numbers = probe.calls(&[(NAMES[0], &numbers)])?;
    let key = find(&numbers, find(&numbers, 0, NAMES[0])?, "qzkey")?;
    let other_open = &numbers[key + 5..find(&numbers, key, "47110815")?];
    // Without marks around keys and values their ends can't be found.
    if key_open.trim().is_empty() || close.trim().is_empty() || text_open.trim().is_empty() {
        return None;
    }
    let tagged = Tagged {
        key_open: key_open.to_owned(),
        text_open: text_open.to_owned(),
        other_open: other_open.to_owned(),
        close: close.to_owned(),
        between: between.to_owned(),
    };
    let arguments = behind_name + name_close..text.len() - call_close.len();
    Some(Call { anchor: name, arguments, object: None, kind: Arguments::Tagged(tagged) })
}

/// Finds a call written as in a programming language, with its arguments in parentheses.
fn read_literal(probe: &Probe<'_>, text: &str) -> Option<Call> {
    let find = |text: &str, from: usize, word: &str| text[from..].find(word).map(|at| from + at);
    let name = find(text, 0, NAMES[0])?;
    let first = find(text, name, "qzkey")?;
    let value = find(text, first, "qzvalue")?;
    let second = find(text, value, "qzother")?;
    let more = find(text, second, "qzmore")?;
    let numbers = probe.calls(&[(NAMES[0], &map(&[("qzkey", json!(47_110_815))]))])?;
    let key = find(&numbers, find(&numbers, 0, NAMES[0])?, "qzkey")?;
    let assign = &numbers[key + 5..find(&numbers, key, "47110815")?];
    let quote = text[first + 5..value].strip_prefix(assign).filter(|quote| !quote.is_empty())?;
    let between = text[value + 7..second].strip_prefix(quote)?;
    let tail = text[more + 6..].strip_prefix(quote)?;
    let is_bracketed = tail.trim_start().starts_with([')', '}', ']'])
        && text[name + NAMES[0].len()..first].trim_end().ends_with(['(', '{', '[']);
    if assign.trim().is_empty() || between.trim().is_empty() || !is_bracketed {
        return None;
    }
    let notation = Notation {
        assign: assign.to_owned(),
        between: between.to_owned(),
        quote: (!matches!(quote, "\"" | "'")).then(|| quote.to_owned()),
    };
    let arguments = first..more + 6 + quote.len();
    Some(Call { anchor: name, arguments, object: None, kind: Arguments::Literal(notation) })
}

/// Builds a form from a turn with one call, and from a turn with two calls if the template supports that.
fn assemble(probe: &Probe<'_>, turn: &Turn, call: Call, arguments: &Map<String, Value>) -> Option<CallForm> {
    let text = &turn.text;
    let tail = &text[call.arguments.end..];
    let lead = text.get(turn.begins..call.anchor)?;
    let two = probe.calls(&[(NAMES[0], arguments), (NAMES[1], arguments)]);
    let middle = two.as_deref().and_then(|two| {
        // The arguments have the same length as in the turn with one call.
        let end = two.find(NAMES[0])? + (call.arguments.end - text.find(NAMES[0])?);
        let next = end + two.get(end..)?.find(NAMES[1])?;
        Some(&two[end..next])
    });
    let (own, rest, between, parallel) = match middle {
        None => (lead.len(), tail.len(), String::new(), false),
        Some(middle) => {
            let before_name = text.find(NAMES[0])? - call.anchor;
            let middle = middle.get(..middle.len().checked_sub(before_name)?)?;
            // A call may have its id before its name.
            let middle = &*middle.replace(IDS[1], IDS[0]);
            let rest = before_mark(tail, common_prefix(tail, middle));
            let middle = &middle[rest..];
            let own = common_suffix(middle, lead);
            let own = lead.len() - after_mark(lead, lead.len() - own);
            (own, rest, middle[..middle.len() - own].to_owned(), true)
        }
    };
    let (open, close) = (&lead[..lead.len() - own], &tail[rest..]);
    let begins = call.anchor - own;
    let bits =
        bits(&text[begins..call.arguments.end + rest], call.arguments.start - begins..call.arguments.end - begins)?;
    let mut form = CallForm {
        open: open.trim_start().to_owned(),
        call: bits,
        between,
        close: close.trim_end().to_owned(),
        object: call.object,
        arguments: call.kind,
        parallel,
        has_begun: false,
        before_text: String::new(),
    };
    let prompt = probe.prompt().unwrap_or_default();
    form.has_begun = !form.trigger().is_empty() && prompt.trim_end().ends_with(form.trigger());
    if form.has_begun {
        let text = probe.text().unwrap_or_default();
        let said = text.strip_prefix(&prompt).and_then(|said| said.split_once(TEXT));
        form.before_text = said.map_or("", |(before, _)| before).to_owned();
    }
    // White space that only separates a call from the text before it is dropped.
    if let (true, Some(Bit::Text(first))) = (form.open.is_empty(), form.call.first_mut()) {
        let white = first.len() - first.trim_start().len();
        form.between.push_str(&first[..white]);
        first.drain(..white);
    }
    Some(form)
}

/// The parts of a call's text: name, arguments and id, and the literal text between them.
fn bits(text: &str, arguments: std::ops::Range<usize>) -> Option<Vec<Bit>> {
    let name = text.find(NAMES[0])?;
    let mut bits = literal(&text[..name]);
    bits.push(Bit::Name);
    bits.extend(literal(&text[name + NAMES[0].len()..arguments.start]));
    bits.push(Bit::Arguments);
    bits.extend(literal(&text[arguments.end..]));
    Some(bits)
}

/// Splits literal text at an id or at the call's number.
fn literal(mut text: &str) -> Vec<Bit> {
    let mut bits = Vec::new();
    if let Some((before, behind)) = text.split_once(IDS[0]) {
        bits.extend([Bit::Text(before.to_owned()), Bit::Id]);
        text = behind;
    }
    // Calls are numbered from 0, so a single digit is the number of the first call.
    let has_number = text.matches(|c: char| c.is_ascii_digit()).count() == 1;
    if let Some((before, behind)) = text.split_once('0').filter(|_| has_number) {
        bits.extend([Bit::Text(before.to_owned()), Bit::Index]);
        text = behind;
    }
    bits.push(Bit::Text(text.to_owned()));
    bits
}
