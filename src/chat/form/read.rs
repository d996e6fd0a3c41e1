//! Reads an answer with calls in a form: text and calls, as they are generated, however the answer is cut into pieces.
//!
//! Marks are matched without regard to white space, which models vary. A mark that no call follows is text. If the
//! answer ends within a call, the call is shown only if its name and the beginning of its arguments are known; its
//! marks are never shown.

use std::sync::Arc;

use serde_json::Value;

use super::super::call::{CallReader, CallState};
use super::super::said::{Said, Tell, certain};
use super::literal::LiteralUnread;
use super::typed::typed;
use super::{Arguments, Bit, CallForm, Tagged, first_mark};
use crate::types::limits::CALL_GAP_BYTES_MAX;

#[derive(Debug)]
enum State {
    Content,
    /// Before text: white space here only separates, and is dropped.
    Between,
    /// At the mark of a first call.
    Lead,
    /// After the text before a name.
    Name,
    Json {
        reader: Box<CallReader>,
        announced: bool,
    },
    /// In tagged arguments.
    Tagged {
        name: String,
        count: usize,
    },
    /// In arguments written as in a programming language.
    Literal {
        name: String,
        raw: String,
    },
    /// After the arguments of a call.
    Tail,
    /// After a call.
    Next,
}

/// How far a text matches a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Eaten {
    /// The literal is matched completely, by this many bytes.
    Whole(usize),
    /// The text ends before the literal does, and matches so far.
    SoFar,
    No,
}

/// Matches `text` with `literal`; white space in either is skipped.
fn eat(text: &str, literal: &str) -> Eaten {
    let mut chars = text.char_indices().filter(|(_, c)| !c.is_whitespace());
    let mut end = 0;
    for wanted in literal.chars().filter(|c| !c.is_whitespace()) {
        match chars.next() {
            None => return Eaten::SoFar,
            Some((at, c)) if c == wanted => end = at + c.len_utf8(),
            Some(_) => return Eaten::No,
        }
    }
    Eaten::Whole(end)
}

/// Matches one part of a call that isn't its name or its arguments: a literal, an id or a number.
fn eat_bit(text: &str, bit: &Bit) -> Eaten {
    match bit {
        Bit::Text(literal) => eat(text, literal),
        _ => text.find(|c: char| !is_name(c)).map_or(Eaten::SoFar, Eaten::Whole),
    }
}

/// Whether a name or an id may contain this character.
fn is_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// Reads one answer.
#[derive(Debug)]
pub struct FormReader {
    form: Arc<CallForm>,
    /// The tools in the request, whose schemas give the types of arguments.
    tools: Vec<Value>,
    state: State,
    held: String,
    n_calls: usize,
    calls_max: usize,
    /// For a list without a mark: the text before the first call, which is content if no call follows.
    before: String,
}

impl FormReader {
    /// A reader that reports at most `calls_max` calls.
    pub fn new(form: Arc<CallForm>, tools: Vec<Value>, calls_max: usize) -> FormReader {
        let (state, held, before) = (State::Between, String::new(), String::new());
        FormReader { form, tools, state, held, n_calls: 0, calls_max, before }
    }

    /// Like `new`, for an answer whose prompt already ends with the text before a call.
    pub fn begun(mut self) -> FormReader {
        (self.state, self.held) = (State::Lead, [&*self.form.open, self.form.lead()].concat());
        self
    }

    /// The number of calls reported so far.
    pub fn n_calls(&self) -> usize {
        self.n_calls
    }

    /// Takes more of the answer and reports to `tell` what is certain now.
    pub fn push(&mut self, text: &str, tell: Tell<'_>) {
        self.held.push_str(text);
        while self.step(false, tell) {}
    }

    /// Ends the answer and reports to `tell` what was held back, as text or not at all.
    pub fn finish(&mut self, tell: Tell<'_>) {
        while self.step(true, tell) {}
        let text = match &self.state {
            State::Content | State::Between => std::mem::take(&mut self.held),
            // In a form that names plain answers, too, a word that is the name of neither a tool nor an answer is text.
            State::Name if self.form.has_begun && !self.may_be_name(self.held.trim()) => std::mem::take(&mut self.held),
            State::Json { reader, announced: false } if self.form.has_begun => {
                let raw = reader.raw.trim_start();
                let name = reader.name.as_deref().filter(|_| !reader.raw.starts_with('\n')).unwrap_or_default();
                if raw.is_empty() || raw.starts_with('{') { String::new() } else { [name, &*reader.raw].concat() }
            }
            // The answer so far is a list that may be no call, so it is text.
            State::Name if !self.before.is_empty() && (self.held.is_empty() || !self.may_be_name(self.held.trim())) => {
                [&*self.before, &*self.held].concat()
            }
            State::Json { reader, announced: false } if !self.before.is_empty() => {
                [&*self.before, &*reader.raw].concat()
            }
            _ => String::new(),
        };
        if !text.is_empty() {
            tell(Said::Content(if self.form.has_begun { text.trim_start() } else { &text }));
        }
        self.held.clear();
    }

    /// Whether `name` makes this a call. In a list without a mark, only the name of a tool does.
    fn is_tool(&self, name: &str) -> bool {
        names_tool(&self.before, &self.tools, name)
    }

    /// Whether `text` is the beginning of a tool's name, or of the name of a plain answer.
    fn may_be_name(&self, text: &str) -> bool {
        let names = self.tools.iter().filter_map(|tool| tool["function"]["name"].as_str());
        names.chain([self.form.before_text.trim()]).any(|name| name.starts_with(text))
    }

    /// Makes one step from the present state. `false`: more text is needed.
    fn step(&mut self, at_end: bool, tell: Tell<'_>) -> bool {
        match &mut self.state {
            State::Content => self.content(at_end, tell),
            State::Between => {
                if self.held.trim_start().is_empty() {
                    return false;
                }
                self.skip_white();
                self.state = State::Content;
                if self.form.is_bare_list() && self.n_calls == 0 && self.held.starts_with('[') {
                    self.before = "[".to_owned();
                    return self.begin(1);
                }
                true
            }
            State::Lead => self.lead(tell),
            State::Name => self.name(tell),
            State::Json { .. } => self.json(tell),
            State::Tagged { .. } => self.tagged(at_end, tell),
            State::Literal { .. } => self.literal(tell),
            State::Tail => self.tail(at_end),
            State::Next => self.next(at_end),
        }
    }

    fn skip_white(&mut self) {
        let white = self.held.len() - self.held.trim_start().len();
        self.held.drain(..white);
    }

    fn content(&mut self, at_end: bool, tell: Tell<'_>) -> bool {
        let form = Arc::clone(&self.form);
        // Models sometimes leave out the text around all calls, so the mark of a single call also counts.
        let triggers = [form.trigger(), first_mark(form.lead().trim_start())];
        let triggers = triggers.iter().filter(|mark| !mark.is_empty());
        let found = triggers.clone().filter_map(|mark| self.held.find(mark)).min();
        let shown = match found {
            Some(at) => self.held[..at].trim_end().len(),
            None if at_end => self.held.len(),
            None => triggers.map(|mark| certain(&self.held, mark, true)).min().unwrap_or(self.held.len()),
        };
        if shown > 0 {
            tell(Said::Content(&self.held[..shown]));
        }
        self.held.drain(..found.unwrap_or(shown));
        if found.is_some() {
            self.state = State::Lead;
        }
        found.is_some()
    }

    /// Reads the text before a call, or finds that it is none.
    fn lead(&mut self, tell: Tell<'_>) -> bool {
        let whole = eat(&self.held, &format!("{}{}", self.form.open, self.form.lead()));
        let bare = eat(&self.held, self.form.lead());
        match (whole, bare) {
            (Eaten::Whole(n), _) => self.begin(n),
            (Eaten::SoFar, _) => false,
            (Eaten::No, Eaten::Whole(n)) if !self.form.lead().trim().is_empty() => self.begin(n),
            (Eaten::No, Eaten::SoFar) => false,
            (Eaten::No, _) => {
                let first = self.held.chars().next().map_or(0, char::len_utf8);
                tell(Said::Content(&self.held[..first]));
                self.held.drain(..first);
                self.state = State::Content;
                true
            }
        }
    }

    fn begin(&mut self, n: usize) -> bool {
        self.held.drain(..n);
        self.state = match &self.form.object {
            Some(keys) => State::Json { reader: Box::new(CallReader::of_object(Some(keys.clone()))), announced: false },
            None => State::Name,
        };
        true
    }

    fn name(&mut self, tell: Tell<'_>) -> bool {
        let before_text = self.form.before_text.trim_end();
        if !before_text.is_empty() {
            let rest = self.held.trim_start().strip_prefix(before_text);
            match rest.map(|rest| rest.trim_start().len()) {
                Some(0) => return false,
                Some(len) if self.held.trim_start()[before_text.len()..].starts_with(char::is_whitespace) => {
                    self.held.drain(..self.held.len() - len);
                    self.state = State::Content;
                    return true;
                }
                _ => {}
            }
        }
        self.skip_white();
        let form = Arc::clone(&self.form);
        let mut begin = 0;
        // An id and its marks, which models may leave out.
        for bit in form.call.iter().skip(1).take_while(|bit| **bit != Bit::Name) {
            match eat_bit(&self.held[begin..], bit) {
                Eaten::Whole(n) => begin += n,
                Eaten::SoFar => return false,
                Eaten::No => {
                    begin = 0;
                    break;
                }
            }
        }
        begin += self.held[begin..].len() - self.held[begin..].trim_start().len();
        let Some(end) = self.held[begin..].find(|c: char| !is_name(c)).map(|len| begin + len) else { return false };
        let name = self.held[begin..end].to_owned();
        let mut at = end;
        let middle = form.call.iter().skip_while(|bit| **bit != Bit::Name).skip(1);
        for bit in middle.take_while(|bit| **bit != Bit::Arguments) {
            let rest = &self.held[at..];
            match eat_bit(rest, bit) {
                Eaten::Whole(n) => at += n,
                Eaten::SoFar => return false,
                // Other text is skipped up to the brace that begins the JSON.
                Eaten::No => match (&form.arguments, rest.find('{')) {
                    (Arguments::Json, Some(brace)) if brace <= CALL_GAP_BYTES_MAX => at += brace,
                    (Arguments::Json, None) if rest.len() <= CALL_GAP_BYTES_MAX => return false,
                    _ => break,
                },
            }
        }
        if !self.is_tool(&name) {
            tell(Said::Content(&std::mem::take(&mut self.before)));
            self.state = State::Content;
            return true;
        }
        let raw: String = self.held.drain(..at).collect();
        self.state = match &form.arguments {
            Arguments::Json => State::Json { reader: Box::new(CallReader::of_arguments(name)), announced: false },
            Arguments::Literal(_) => State::Literal { name, raw },
            Arguments::Tagged(_) => {
                self.n_calls += 1;
                if self.n_calls <= self.calls_max {
                    tell(Said::Call { name: &name });
                }
                State::Tagged { name, count: 0 }
            }
        };
        true
    }

    fn json(&mut self, tell: Tell<'_>) -> bool {
        let State::Json { reader, announced } = &mut self.state else { return false };
        let (mut step, mut read) = (CallState::More, 0);
        for (at, c) in self.held.char_indices() {
            read = at + c.len_utf8();
            step = reader.push(c);
            if step != CallState::More {
                break;
            }
        }
        self.held.drain(..read);
        let names_no_tool = |name: &String| !names_tool(&self.before, &self.tools, name);
        if !*announced && reader.name.as_ref().is_some_and(names_no_tool) {
            step = CallState::Broken;
        }
        if step != CallState::Broken && reader.can_begin() {
            if !std::mem::replace(announced, true) {
                self.before.clear();
                self.n_calls += 1;
                if self.n_calls <= self.calls_max {
                    tell(Said::Call { name: reader.name.as_deref().unwrap_or_default() });
                }
            }
            if self.n_calls <= self.calls_max && !reader.arguments.is_empty() {
                tell(Said::Arguments(&reader.arguments));
            }
            reader.arguments.clear();
        }
        if step == CallState::Broken && !*announced {
            // The text is no call. If the form names plain answers, the name's line is dropped.
            match &reader.name {
                Some(_) if self.form.has_begun && reader.raw.starts_with('\n') => {
                    tell(Said::Content(reader.raw.trim_start()))
                }
                Some(name) if self.form.object.is_none() => tell(Said::Content(&[name, &*reader.raw].concat())),
                _ => tell(Said::Content(&[&*std::mem::take(&mut self.before), &*reader.raw].concat())),
            }
            self.state = State::Content;
            return true;
        }
        if step != CallState::More {
            self.state = State::Tail;
        }
        step != CallState::More
    }

    fn tagged(&mut self, at_end: bool, tell: Tell<'_>) -> bool {
        let form = Arc::clone(&self.form);
        let (State::Tagged { name, count }, Arguments::Tagged(marks)) = (&mut self.state, &form.arguments) else {
            return false;
        };
        let is_wanted = self.n_calls <= self.calls_max;
        let key_at =
            [eat(&self.held, &marks.key_open), eat(&self.held, &format!("{}{}", marks.between, marks.key_open))];
        let found = key_at.iter().find_map(|eaten| if let Eaten::Whole(n) = eaten { Some(*n) } else { None });
        let Some(key_at) = found else {
            if !at_end && (self.held.trim().is_empty() || key_at.contains(&Eaten::SoFar)) {
                return false;
            }
            if is_wanted && !self.held.trim().is_empty() {
                tell(Said::Arguments(if *count == 0 { "{}" } else { "}" }));
            }
            self.state = State::Tail;
            return !self.held.trim().is_empty();
        };
        let Some(pair) = Pair::read(&self.held[key_at..], marks) else { return false };
        let value = typed(pair.value, pair.is_text, schema_of(&self.tools, name, pair.key));
        if is_wanted {
            let open = if *count == 0 { "{" } else { ", " };
            tell(Said::Arguments(&format!("{open}{}: {value}", Value::from(pair.key))));
        }
        *count += 1;
        let end = key_at + pair.len;
        self.held.drain(..end);
        true
    }

    /// Reads arguments that can only be read when complete.
    fn literal(&mut self, tell: Tell<'_>) -> bool {
        let form = Arc::clone(&self.form);
        let (State::Literal { name, raw }, Arguments::Literal(notation)) = (&self.state, &form.arguments) else {
            return false;
        };
        let end = form.tail().trim_start().get(..1).unwrap_or_default();
        match notation.read(&self.held, end) {
            Err(LiteralUnread::More) => return false,
            Err(LiteralUnread::Broken) => {
                // The text is no call.
                tell(Said::Content(&[&*std::mem::take(&mut self.before), raw].concat()));
                self.state = State::Content;
            }
            Ok((arguments, len)) => {
                self.n_calls += 1;
                self.before.clear();
                if self.n_calls <= self.calls_max {
                    tell(Said::Call { name });
                    tell(Said::Arguments(&Value::Object(arguments).to_string()));
                }
                self.held.drain(..len);
                self.state = State::Tail;
            }
        }
        true
    }

    fn tail(&mut self, at_end: bool) -> bool {
        match eat(&self.held, self.form.tail()) {
            Eaten::SoFar if !at_end => return false,
            Eaten::Whole(n) => drop(self.held.drain(..n)),
            Eaten::SoFar => self.held.clear(),
            Eaten::No => {}
        }
        self.state = State::Next;
        true
    }

    /// Reads what follows a call: another call, the end of all calls, or text.
    fn next(&mut self, at_end: bool) -> bool {
        let form = Arc::clone(&self.form);
        if self.held.trim().is_empty() {
            self.held.clear();
            return false;
        }
        let lead = format!("{}{}", form.between, form.lead());
        let next = match lead.trim().is_empty() {
            // Objects that only white space separates.
            true if form.object.is_some() && self.held.trim_start().starts_with('{') => Eaten::Whole(0),
            // Calls written as in a programming language may each be on a line of their own, up to a mark.
            true if matches!(form.arguments, Arguments::Literal(_))
                && !form.close.trim().is_empty()
                && self.held.trim_start().starts_with(|c: char| c.is_alphabetic() || c == '_') =>
            {
                Eaten::Whole(0)
            }
            true => Eaten::No,
            false => eat(&self.held, &lead),
        };
        let close = if form.close.trim().is_empty() { Eaten::No } else { eat(&self.held, &form.close) };
        match (close, next) {
            (Eaten::Whole(n), _) => {
                self.held.drain(..n);
                self.state = State::Between;
            }
            (_, Eaten::Whole(n)) => return self.begin(n),
            (Eaten::SoFar, _) | (_, Eaten::SoFar) => {
                if at_end {
                    self.held.clear();
                }
                return false;
            }
            (Eaten::No, Eaten::No) => self.state = State::Between,
        }
        true
    }
}

/// One tagged argument.
struct Pair<'a> {
    key: &'a str,
    value: &'a str,
    /// Whether the mark says that the value is a string; `None`: the marks of both kinds are equal.
    is_text: Option<bool>,
    len: usize,
}

impl<'a> Pair<'a> {
    /// Reads an argument after the mark of its key. `None`: more text is needed.
    fn read(text: &'a str, marks: &Tagged) -> Option<Pair<'a>> {
        let (as_text, as_other) = (marks.text_open.trim_start(), marks.other_open.trim_start());
        let key_end = text.find(first_mark(as_text))?;
        let rest = &text[key_end..];
        let (is_text, open) = match (eat(rest, as_text), eat(rest, as_other)) {
            (Eaten::Whole(n), Eaten::Whole(_)) => (None, n),
            (Eaten::Whole(n), _) => (Some(true), n),
            (_, Eaten::Whole(n)) => (Some(false), n),
            (Eaten::SoFar, _) | (_, Eaten::SoFar) => return None,
            (Eaten::No, Eaten::No) => (None, first_mark(as_text).len()),
        };
        let begins = key_end + open;
        let ends = begins + text[begins..].find(first_mark(marks.close.trim_start()))?;
        let Eaten::Whole(close) = eat(&text[ends..], &marks.close) else { return None };
        let mut value = &text[begins..ends];
        if marks.text_open.ends_with('\n') {
            value = value.strip_prefix('\n').unwrap_or(value);
        }
        if marks.close.starts_with('\n') {
            value = value.strip_suffix('\n').unwrap_or(value);
        }
        Some(Pair { key: text[..key_end].trim(), value, is_text, len: ends + close })
    }
}

/// Whether `name` makes this a call; see `FormReader::is_tool`.
fn names_tool(before: &str, tools: &[Value], name: &str) -> bool {
    before.is_empty() || tools.is_empty() || tools.iter().any(|tool| tool["function"]["name"] == name)
}

/// The schema of a tool's argument, and the schema of all arguments that contains it.
fn schema_of<'a>(tools: &'a [Value], name: &str, key: &str) -> Option<(&'a Value, &'a Value)> {
    let tool = tools.iter().map(|tool| &tool["function"]).find(|function| function["name"] == name)?;
    let parameters = &tool["parameters"];
    parameters["properties"].get(key).map(|schema| (schema, parameters))
}
