//! The parts of a model's answer, as the readers of an answer report them.

/// A part of a model's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// Text of the answer.
    Content(&'a str),
    /// Text of the thought.
    Reasoning(&'a str),
    /// A tool call begins. Arguments up to the next call belong to it.
    Call {
        /// The tool's name.
        name: &'a str,
    },
    /// More of the arguments of the latest call, as JSON text.
    Arguments(&'a str),
}

/// The function that readers call with each part of the answer.
pub type Tell<'a> = &'a mut dyn FnMut(Said<'_>);

/// Length in bytes of the part of `text` that can't become the beginning of `mark`. With `and_white`, white space
/// before that beginning is excluded, too.
pub fn certain(text: &str, mark: &str, and_white: bool) -> usize {
    let most = text.len().min(mark.len() - 1);
    let held = (1..=most).rev().find(|&n| text.as_bytes().ends_with(&mark.as_bytes()[..n])).unwrap_or(0);
    let kept = &text[..text.len() - held];
    if and_white { kept.trim_end().len() } else { kept.len() }
}
