//! How a model writes its tool calls: one value, from which the grammar that constrains a call and the reader of calls both
//! come.
//!
//! `derive` reads the form from what a template makes of small conversations (`probe`). The idea of comparing renderings is llama.cpp's (its "autoparser" of 2026).

mod compare;
mod derive;
mod known;
mod literal;
mod probe;
mod read;
#[cfg(test)]
mod tests;
mod typed;
mod write;

pub use derive::derive;
pub use known::known;
pub use literal::Notation;
pub use probe::{Render, shows_calls};
pub use read::FormReader;

/// How calls are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallForm {
    /// Before the first call of a turn.
    pub open: String,
    /// One call, from its beginning to its end.
    pub call: Vec<Bit>,
    /// Between two calls of a turn.
    pub between: String,
    /// Behind the last call of a turn; the token that ends the turn is no part of it.
    pub close: String,
    /// Where a call is one JSON object: the keys of its name and its arguments.
    pub object: Option<ObjectKeys>,
    pub arguments: Arguments,
    /// A turn may have several calls.
    pub parallel: bool,
    /// What stands before the first call ends the prompt already (Functionary 3.2, where text has a name, too).
    pub has_begun: bool,
    /// What stands before text then; empty for all other forms.
    pub before_text: String,
}

/// A part of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bit {
    Text(String),
    Name,
    Arguments,
    /// A name of the call's own, letters and digits.
    Id,
    /// The number of the call in its turn.
    Index,
}

/// Keys of a call that is a JSON object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectKeys {
    pub name: String,
    pub arguments: String,
}

/// How arguments are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arguments {
    /// A JSON object.
    Json,
    /// As in a programming language: `city="Rome", days=3`.
    Literal(Notation),
    /// Each between marks of its own: `<parameter=city>Rome</parameter>`.
    Tagged(Tagged),
}

/// Marks around tagged arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tagged {
    /// Before a key.
    pub key_open: String,
    /// Between a key and its value: of a string, and of anything else, which is written as JSON.
    pub text_open: String,
    pub other_open: String,
    /// Behind a value.
    pub close: String,
    /// Between two of them.
    pub between: String,
}

impl CallForm {
    /// The form that Hermes models made common: a JSON object between marks.
    pub fn hermes() -> CallForm {
        let text = |text: &str| Bit::Text(text.to_owned());
        let (before, between) = (text("<tool_call>\n{\"name\": \""), text("\", \"arguments\": "));
        CallForm {
            open: String::new(),
            call: vec![before, Bit::Name, between, Bit::Arguments, text("}\n</tool_call>")],
            between: "\n".to_owned(),
            close: String::new(),
            object: Some(ObjectKeys { name: "name".to_owned(), arguments: "arguments".to_owned() }),
            arguments: Arguments::Json,
            parallel: true,
            has_begun: false,
            before_text: String::new(),
        }
    }

    /// Whether it is that of Hermes models, spaces aside.
    pub fn is_hermes(&self) -> bool {
        let keys = self.object.as_ref().is_some_and(|keys| keys.name == "name" && keys.arguments == "arguments");
        keys && self.open.is_empty() && self.lead().trim() == "<tool_call>" && self.tail().trim() == "</tool_call>"
    }

    /// What stands in a call before its name, or before its object.
    pub fn lead(&self) -> &str {
        let text = match self.call.first() {
            Some(Bit::Text(text)) => text.as_str(),
            _ => "",
        };
        match &self.object {
            Some(_) => text.find('{').map_or(text, |at| &text[..at]),
            None => text,
        }
    }

    /// What stands behind a call's arguments; behind its object, where it is one.
    pub fn tail(&self) -> &str {
        let text = match self.call.last() {
            Some(Bit::Text(text)) => text.as_str(),
            _ => "",
        };
        match &self.object {
            Some(_) => text.find('}').map_or(text, |at| &text[at + 1..]),
            None => text,
        }
    }

    /// Whether a turn's calls are a list without a mark before it, which is all of the answer: `[{"name": ...}]`, `[f(a=1)]`.
    pub fn is_bare_list(&self) -> bool {
        let is_known = self.object.is_some() || matches!(self.arguments, Arguments::Literal(_));
        is_known && self.lead().trim().is_empty() && self.open.trim() == "[" && self.close.trim() == "]"
    }

    /// The mark by which a call shows within text; empty where a call is nothing but JSON.
    pub fn trigger(&self) -> &str {
        let open = self.open.trim_start();
        first_mark(if open.is_empty() { self.lead().trim_start() } else { open })
    }

    /// All that is written in marks, for a vocabulary that has some of them as control tokens.
    pub fn marks(&self) -> Vec<&str> {
        let mut texts = vec![&*self.open, &*self.between, &*self.close];
        texts.extend(self.call.iter().filter_map(|bit| match bit {
            Bit::Text(text) => Some(text.as_str()),
            _ => None,
        }));
        if let Arguments::Tagged(Tagged { key_open, text_open, other_open, close, between }) = &self.arguments {
            texts.extend([&**key_open, text_open, other_open, close, between]);
        }
        if let Arguments::Literal(notation) = &self.arguments {
            texts.extend(notation.quote.as_deref());
        }
        let mut marks: Vec<&str> = texts.into_iter().flat_map(marks_in).collect();
        marks.sort_unstable();
        marks.dedup();
        marks
    }
}

/// The first mark of a literal: `<...>`, `[...]` of letters, or all up to the first white space or bracket.
pub fn first_mark(literal: &str) -> &str {
    if let Some(mark) = marks_in(literal).first()
        && literal.starts_with(mark)
    {
        return mark;
    }
    let end = literal.char_indices().skip(1).find(|(_, c)| c.is_whitespace() || matches!(c, '<' | '{' | '['));
    let end = end.map_or(literal.len(), |(at, _)| at);
    if literal.starts_with(['{', '[']) { "" } else { &literal[..end] }
}

/// Marks within a literal: what stands between angle brackets or, in capitals, between square ones.
pub fn marks_in(literal: &str) -> Vec<&str> {
    let mut marks = Vec::new();
    let mut at = 0;
    while let Some(open) = literal[at..].find(['<', '[']).map(|found| at + found) {
        let is_angle = literal[open..].starts_with('<');
        let close = literal[open..].find(if is_angle { '>' } else { ']' }).map(|found| open + found + 1);
        let fits = |mark: &str| {
            let inner = &mark[1..mark.len() - 1];
            let is_word = !inner.is_empty() && !inner.contains(['<', '[', '{']) && !inner.contains(char::is_whitespace);
            is_word && (is_angle || inner.chars().all(|c| c.is_ascii_uppercase() || matches!(c, '_' | '/')))
        };
        match close.map(|close| &literal[open..close]).filter(|mark| fits(mark)) {
            Some(mark) => {
                marks.push(mark);
                at = open + mark.len();
            }
            None => at = open + 1,
        }
    }
    marks
}
