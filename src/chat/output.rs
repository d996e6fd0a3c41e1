//! Takes an answer's text apart while it is generated: content, reasoning, tool calls. The result doesn't depend on how
//! the text is cut into pieces.
//!
//! Text that may be the beginning of a mark is held back until this is certain. Without reasoning and tools everything
//! is content and passes through.

use std::sync::Arc;

use super::call::{CallReader, CallState};
use super::form::{CallForm, FormReader};
use super::harmony::{ENDS, Head};
use super::said::{Said, Tell, certain};
use super::style::{
    CHANNEL, CallStyle, HERMES_CLOSE, HERMES_OPEN, MESSAGE, MISTRAL_OPEN, PYTHON_TAG, START, Style, THINK, THINK_END,
};
use super::thought::Thought;
use crate::types::limits::{HARMONY_HEAD_BYTES_MAX, TOOL_NAME_BYTES_MAX};

/// Where in the answer the parser is.
#[derive(Debug)]
enum State {
    /// Everything is content.
    Plain,
    /// At the beginning, with only white space so far: here a thought may begin, or a call in a style without marks.
    Start,
    Thinking {
        has_begun: bool,
    },
    /// After a thought or a call: white space that only separates isn't content.
    Between,
    Content,
    /// After the mark of a call, before its JSON.
    Opened,
    /// In a call's JSON; `open` is the mark before it.
    Call {
        reader: Box<CallReader>,
        open: &'static str,
        announced: bool,
    },
    /// After a call's JSON.
    CallEnd,
    /// In a channel's head.
    Head,
    /// In a channel's body.
    Body(Channel),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channel {
    Thought,
    Answer,
    Arguments,
    /// A call beyond `calls_max`, which is dropped.
    Dropped,
}

/// Takes one answer apart.
#[derive(Debug)]
pub struct OutputParser {
    state: State,
    calls: CallStyle,
    with_tools: bool,
    /// Text that may still turn out to be the beginning of a mark.
    held: String,
    /// Calls announced so far.
    n_calls: usize,
    /// Calls after this many are dropped.
    calls_max: usize,
    /// The marks around a thought.
    thought: Thought,
    /// Tool names that a call without a mark before it may have. Empty: any.
    names: Vec<String>,
    /// Reads everything but thoughts, if calls have the template's own form.
    form: Option<Box<FormReader>>,
}

impl OutputParser {
    /// A parser for which everything is content.
    pub fn plain() -> OutputParser {
        let (calls, held) = (CallStyle::Hermes, String::new());
        let thought = Thought::new(THINK, THINK_END);
        OutputParser {
            state: State::Plain,
            calls,
            with_tools: false,
            held,
            n_calls: 0,
            calls_max: 0,
            thought,
            names: Vec::new(),
            form: None,
        }
    }

    /// A parser for the answer of a model with this style to `prompt`. `calls_max` is 0 for a request without tools.
    /// The schemas of `tools` give the types of arguments.
    pub fn new(style: &Style, prompt: &str, tools: &[serde_json::Value], calls_max: usize) -> OutputParser {
        // Also for templates that don't support tools: the system text then describes Hermes' form, which is read here.
        let with_tools = calls_max > 0;
        let thinks = style.thought.is_some();
        let thought = style.thought.clone().unwrap_or_else(|| Thought::new(THINK, THINK_END));
        let state = match prompt.trim_end().ends_with(&thought.open) {
            true if thinks => State::Thinking { has_begun: false },
            _ if style.calls == CallStyle::Harmony || thinks || with_tools => State::Start,
            _ => State::Plain,
        };
        let form = style.form.as_ref().filter(|_| with_tools);
        let reader = |form: &Arc<CallForm>| {
            let reader = FormReader::new(Arc::clone(form), tools.to_vec(), calls_max);
            Box::new(if form.has_begun { reader.begun() } else { reader })
        };
        let form = form.map(reader);
        let names = tools.iter().filter_map(|tool| Some(tool["function"]["name"].as_str()?.to_owned())).collect();
        OutputParser { state, calls: style.calls, with_tools, calls_max, thought, names, form, ..OutputParser::plain() }
    }

    /// Calls so far.
    pub fn n_calls(&self) -> usize {
        self.form.as_ref().map_or(self.n_calls, |form| form.n_calls().min(self.calls_max))
    }

    /// Takes more of the answer and reports to `tell` what is certain now.
    pub fn push(&mut self, text: &str, tell: Tell<'_>) {
        if let State::Plain = self.state {
            if !text.is_empty() {
                tell(Said::Content(text));
            }
            return;
        }
        self.held.push_str(text);
        while self.step(false, tell) {}
    }

    /// Ends the answer. Text held back is reported as it is; the beginning of an incomplete call is dropped.
    pub fn finish(&mut self, tell: Tell<'_>) {
        while self.step(true, tell) {}
        if let (State::Between | State::Content | State::Start, Some(form)) = (&self.state, &mut self.form) {
            form.push(&std::mem::take(&mut self.held), tell);
            return form.finish(tell);
        }
        let rest = std::mem::take(&mut self.held);
        match &mut self.state {
            // Without a mark before it, this may be JSON that is no call.
            State::Call { reader, open: "", announced: false } if self.n_calls < self.calls_max => {
                tell(Said::Content(&reader.raw));
            }
            State::Opened => {}
            _ if rest.is_empty() => {}
            // The beginning of an incomplete mark is dropped; a single character, such as "<", is text.
            State::Body(Channel::Answer) if rest.len() > 1 => {}
            State::Thinking { .. } | State::Body(Channel::Thought) => tell(Said::Reasoning(&rest)),
            State::Body(Channel::Arguments) => tell(Said::Arguments(&rest)),
            State::Content | State::Body(Channel::Answer) => tell(Said::Content(&rest)),
            State::Start => tell(Said::Content(&rest)),
            _ => {}
        }
    }

    /// The mark before a call.
    fn mark(&self) -> &'static str {
        match self.calls {
            CallStyle::Hermes => HERMES_OPEN,
            CallStyle::Llama3 => PYTHON_TAG,
            CallStyle::MistralList | CallStyle::MistralArgs => MISTRAL_OPEN,
            CallStyle::Harmony => CHANNEL,
        }
    }

    /// Makes one step from the present state. `false`: more text is needed.
    fn step(&mut self, at_end: bool, tell: Tell<'_>) -> bool {
        if let (State::Between | State::Content, Some(form)) = (&self.state, &mut self.form) {
            form.push(&std::mem::take(&mut self.held), tell);
            return false;
        }
        match &mut self.state {
            State::Plain => false,
            State::Start => self.start(at_end),
            State::Thinking { .. } => self.think(tell),
            State::Between => {
                self.skip_white();
                if self.held.is_empty() {
                    return false;
                }
                self.state = State::Content;
                true
            }
            State::Content => self.content(at_end, tell),
            State::Opened => self.opened(at_end),
            State::Call { .. } => self.call(tell),
            State::CallEnd => self.call_end(at_end),
            State::Head => self.head(at_end, tell),
            State::Body(channel) => {
                let channel = *channel;
                self.body(channel, tell)
            }
        }
    }

    fn skip_white(&mut self) {
        let white = self.held.len() - self.held.trim_start().len();
        self.held.drain(..white);
    }

    /// Whether `held` begins with `mark`; `None`: undecided until more text comes.
    fn begins(&self, mark: &str, at_end: bool) -> Option<bool> {
        let text = self.held.trim_start();
        if text.len() < mark.len() && mark.starts_with(text) && !at_end {
            return None;
        }
        Some(text.starts_with(mark))
    }

    fn start(&mut self, at_end: bool) -> bool {
        if self.held.trim_start().is_empty() {
            return false;
        }
        let llama = self.with_tools && self.form.is_none() && self.calls == CallStyle::Llama3;
        let harmony = self.calls == CallStyle::Harmony;
        let open = self.thought.open.clone();
        let marks = [(&*open, true, State::Thinking { has_begun: false }), (PYTHON_TAG, llama, State::Opened)];
        if harmony {
            // The recipient may come before the channel.
            let marks = [CHANNEL, MESSAGE, START, "to="].into_iter().chain(ENDS);
            let begins: Vec<Option<bool>> = marks.map(|mark| self.begins(mark, at_end)).collect();
            if !begins.contains(&Some(true)) && begins.contains(&None) {
                return false;
            }
            // A message without a head is an answer.
            self.state = if begins.contains(&Some(true)) { State::Head } else { State::Body(Channel::Answer) };
            return true;
        }
        for (mark, is_used, next) in marks {
            match self.begins(mark, at_end) {
                _ if !is_used => {}
                None => return false,
                Some(false) => {}
                Some(true) => {
                    self.skip_white();
                    self.held.drain(..mark.len());
                    self.state = next;
                    return true;
                }
            }
        }
        self.state = match self.held.trim_start().starts_with('{') && llama {
            true => State::Call { reader: Box::new(CallReader::new()), open: "", announced: false },
            false => State::Content,
        };
        true
    }

    fn think(&mut self, tell: Tell<'_>) -> bool {
        let State::Thinking { has_begun } = &mut self.state else { return false };
        if !*has_begun {
            let white = self.held.len() - self.held.trim_start().len();
            self.held.drain(..white);
            *has_begun = !self.held.is_empty();
        }
        match self.held.find(&self.thought.close) {
            Some(at) => {
                let thought = self.held[..at].trim_end();
                if !thought.is_empty() {
                    tell(Said::Reasoning(thought));
                }
                self.held.drain(..at + self.thought.close.len());
                self.state = State::Between;
                true
            }
            None => {
                let shown = certain(&self.held, &self.thought.close, true);
                if shown > 0 {
                    tell(Said::Reasoning(&self.held[..shown]));
                    self.held.drain(..shown);
                }
                false
            }
        }
    }

    fn content(&mut self, at_end: bool, tell: Tell<'_>) -> bool {
        let mark = self.mark();
        let has_marks = self.with_tools && (self.calls == CallStyle::Hermes || self.calls.is_mistral());
        let found = if has_marks { self.held.find(mark) } else { None };
        let shown = match found {
            Some(at) => self.held[..at].trim_end().len(),
            None if has_marks && !at_end => certain(&self.held, mark, true),
            None if has_marks => {
                let before = certain(&self.held, mark, false);
                // A single character, such as "<", is text and not the beginning of a mark.
                if self.held.len() - before > 1 { self.held[..before].trim_end().len() } else { self.held.len() }
            }
            None => self.held.len(),
        };
        if shown > 0 {
            tell(Said::Content(&self.held[..shown]));
        }
        match found {
            Some(at) => {
                self.held.drain(..at + mark.len());
                self.state = State::Opened;
                true
            }
            None if at_end => {
                self.held.clear();
                false
            }
            None => {
                self.held.drain(..shown);
                false
            }
        }
    }

    /// After the mark: finds where the call's JSON begins, or the name before it.
    fn opened(&mut self, at_end: bool) -> bool {
        let open = self.mark();
        let Some(first) = self.held.trim_start().chars().next() else { return false };
        let reader = match (self.calls, first) {
            (CallStyle::MistralList | CallStyle::MistralArgs, '[') => {
                self.skip_white();
                self.held.drain(..1);
                CallReader::new()
            }
            (CallStyle::MistralList | CallStyle::MistralArgs, c) if c != '{' => {
                let Some(brace) = self.held.find('{').filter(|at| *at <= TOOL_NAME_BYTES_MAX) else {
                    // The answer ended within a tool's name.
                    let name = self.held.split('[').next().unwrap_or_default().trim();
                    if at_end && self.names.iter().any(|known| known.starts_with(name)) {
                        self.held.clear();
                        return false;
                    }
                    if at_end || self.held.len() > TOOL_NAME_BYTES_MAX {
                        self.held.insert_str(0, open);
                        self.state = State::Content;
                        self.with_tools = false;
                        return true;
                    }
                    return false;
                };
                let name = self.held[..brace].split(['[', '{']).next().unwrap_or_default().trim().to_owned();
                self.held.drain(..brace);
                CallReader::of_arguments(name)
            }
            _ => CallReader::new(),
        };
        self.state = State::Call { reader: Box::new(reader), open, announced: false };
        true
    }

    fn call(&mut self, tell: Tell<'_>) -> bool {
        let State::Call { reader, open, announced } = &mut self.state else { return false };
        let (mut step, mut read) = (CallState::More, 0);
        for (at, c) in self.held.char_indices() {
            read = at + c.len_utf8();
            step = reader.push(c);
            if step != CallState::More {
                break;
            }
        }
        self.held.drain(..read);
        // An object without a mark before it is a call only if it names a tool, because an answer may be JSON, too.
        let is_answer = |name: &String| open.is_empty() && !self.names.is_empty() && !self.names.contains(name);
        if !*announced && reader.name.as_ref().is_some_and(is_answer) {
            step = CallState::Broken;
        }
        let is_wanted = self.n_calls < self.calls_max || *announced;
        if step != CallState::Broken && reader.can_begin() && is_wanted {
            if !*announced {
                *announced = true;
                self.n_calls += 1;
                tell(Said::Call { name: reader.name.as_deref().unwrap_or_default() });
            }
            if !reader.arguments.is_empty() {
                tell(Said::Arguments(&reader.arguments));
                reader.arguments.clear();
            }
        }
        match step {
            CallState::More => false,
            CallState::Done => {
                self.state = State::CallEnd;
                true
            }
            CallState::Broken => {
                // The object is no call, so it is text. If the call was already announced, the text is dropped.
                if !*announced {
                    let raw = format!("{open}{}", reader.raw);
                    tell(Said::Content(&raw));
                }
                self.state = if *announced { State::CallEnd } else { State::Content };
                true
            }
        }
    }

    /// Skips what may stand between calls: closing marks, separators.
    fn call_end(&mut self, at_end: bool) -> bool {
        match self.calls {
            CallStyle::Hermes => match self.held.find(HERMES_CLOSE) {
                Some(at) => {
                    self.held.drain(..at + HERMES_CLOSE.len());
                    self.state = State::Between;
                    true
                }
                None => {
                    let certain = certain(&self.held, HERMES_CLOSE, false);
                    self.held.drain(..certain);
                    false
                }
            },
            CallStyle::Llama3 | CallStyle::MistralList | CallStyle::MistralArgs => {
                let text = self.held.trim_start_matches([' ', '\n', '\t', '\r', ';', ',', ']']);
                if text.is_empty() && !at_end {
                    return false;
                }
                let separators = self.held.len() - text.len();
                self.held.drain(..separators);
                let mark = self.mark();
                match self.begins(mark, at_end) {
                    None => return false,
                    Some(true) => {
                        self.held.drain(..mark.len());
                        self.state = State::Opened;
                    }
                    Some(false) if self.held.starts_with('{') => {
                        self.state = State::Call { reader: Box::new(CallReader::new()), open: "", announced: false };
                    }
                    Some(false) => self.state = State::Between,
                }
                true
            }
            CallStyle::Harmony => {
                self.state = State::Between;
                true
            }
        }
    }

    /// Reads a head: `<|channel|>analysis<|message|>`, `<|channel|>commentary to=functions.NAME
    /// <|constrain|>json<|message|>`. If parts are missing, the text after them is shown.
    fn head(&mut self, at_end: bool, tell: Tell<'_>) -> bool {
        let head = Head::read(&self.held);
        let is_open = self.held.len() - head.len < HARMONY_HEAD_BYTES_MAX && !at_end;
        if !head.is_whole && (is_open || head.len == self.held.len()) {
            return false;
        }
        let called = head.recipient.and_then(|to| match to.strip_prefix("functions.") {
            Some(name) => Some(name),
            None => self.names.iter().any(|name| name == to).then_some(to),
        });
        let channel = match called.filter(|_| self.with_tools) {
            Some(_) if self.n_calls >= self.calls_max => Channel::Dropped,
            Some(name) => {
                self.n_calls += 1;
                tell(Said::Call { name });
                Channel::Arguments
            }
            None if head.channel == "analysis" => Channel::Thought,
            None => Channel::Answer,
        };
        let len = head.len;
        self.held.drain(..len);
        self.state = State::Body(channel);
        true
    }

    fn body(&mut self, channel: Channel, tell: Tell<'_>) -> bool {
        let end = [ENDS[0], ENDS[1], ENDS[2], START, CHANNEL];
        let found = end.iter().filter_map(|mark| self.held.find(mark)).min();
        let shown = found.unwrap_or_else(|| end.iter().map(|mark| certain(&self.held, mark, false)).min().unwrap_or(0));
        if shown > 0 {
            let text = &self.held[..shown];
            match channel {
                Channel::Thought => tell(Said::Reasoning(text)),
                Channel::Answer => tell(Said::Content(text)),
                Channel::Arguments => tell(Said::Arguments(text)),
                Channel::Dropped => {}
            }
            self.held.drain(..shown);
        }
        if found.is_some() {
            self.state = State::Head;
        }
        found.is_some()
    }
}
