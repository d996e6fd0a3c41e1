//! The form in which a model writes its tool calls: one value, from which both the grammar that constrains a call and
//! the reader of calls are made.
//!
//! `derive` reads the form from a template's renderings of small conversations (`probe`). The idea of comparing
//! renderings is llama.cpp's (its "autoparser" of 2026).

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
pub use probe::{RenderProbe, shows_calls};
pub use read::FormReader;

/// The form of tool calls: the texts around and between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallForm {
    /// The text before the first call of a turn.
    pub open: String,
    /// The parts of one call, from its beginning to its end.
    pub call: Vec<Bit>,
    /// The text between two calls of a turn.
    pub between: String,
    /// The text after the last call of a turn, without the token that ends the turn.
    pub close: String,
    /// If a call is one JSON object: the keys of its name and its arguments.
    pub object: Option<ObjectKeys>,
    /// How the arguments of a call are written.
    pub arguments: Arguments,
    /// Whether a turn may have several calls.
    pub parallel: bool,
    /// Whether the prompt already ends with the text before the first call (Functionary 3.2, where a plain answer has a
    /// name, too).
    pub has_begun: bool,
    /// If `has_begun`: the text before a plain answer. Empty for all other forms.
    pub before_text: String,
}

/// A part of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bit {
    /// Literal text.
    Text(String),
    /// The tool's name.
    Name,
    /// The arguments, as `CallForm::arguments` says.
    Arguments,
    /// The call's id, letters and digits.
    Id,
    /// The call's number within its turn.
    Index,
}

/// Keys of a call that is a JSON object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectKeys {
    /// The key of the tool's name.
    pub name: String,
    /// The key of the arguments.
    pub arguments: String,
}

/// How the arguments of a call are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arguments {
    /// A JSON object.
    Json,
    /// As in a programming language: `city="Rome", days=3`.
    Literal(Notation),
    /// Each argument between marks: `<parameter=city>Rome</parameter>`.
    Tagged(Tagged),
}

/// Marks around tagged arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tagged {
    /// The text before a key.
    pub key_open: String,
    /// The text between a key and its value, if the value is a string.
    pub text_open: String,
    /// The text between a key and its value, if the value is no string. Such a value is written as JSON.
    pub other_open: String,
    /// The text after a value.
    pub close: String,
    /// The text between two arguments.
    pub between: String,
}

impl CallForm {
    /// The form that became common with Hermes models: a JSON object between marks.
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

    /// Whether this is the form of Hermes models, apart from spaces.
    pub fn is_hermes(&self) -> bool {
        let keys = self.object.as_ref().is_some_and(|keys| keys.name == "name" && keys.arguments == "arguments");
        keys && self.open.is_empty() && self.lead().trim() == "<tool_call>" && self.tail().trim() == "</tool_call>"
    }

    /// The text of a call before its name, or before its object.
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

    /// The text of a call after its arguments, or after its object.
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

    /// Whether a turn's calls are a list without a mark before it, which is the whole answer: `[{"name": ...}]`,
    /// `[f(a=1)]`.
    pub fn is_bare_list(&self) -> bool {
        let is_known = self.object.is_some() || matches!(self.arguments, Arguments::Literal(_));
        is_known && self.lead().trim().is_empty() && self.open.trim() == "[" && self.close.trim() == "]"
    }

    /// The mark that shows that a call begins; empty for calls that are bare JSON.
    pub fn trigger(&self) -> &str {
        let open = self.open.trim_start();
        first_mark(if open.is_empty() { self.lead().trim_start() } else { open })
    }

    /// All texts of the form that may contain control tokens of a vocabulary.
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
