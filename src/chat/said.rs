//! The parts of what a model said, and how the readers of an answer tell them.

/// A part of what the model said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<'a> {
    Content(&'a str),
    Reasoning(&'a str),
    /// A tool call begins; what follows belongs to it until the next begins.
    Call {
        name: &'a str,
    },
    Arguments(&'a str),
}

/// What the parser calls with each part of the answer.
pub type Tell<'a> = &'a mut dyn FnMut(Said<'_>);

/// Bytes of `text` before what may become `mark`; with `and_white`, also before the white space in front of that.
pub fn certain(text: &str, mark: &str, and_white: bool) -> usize {
    let most = text.len().min(mark.len() - 1);
    let held = (1..=most).rev().find(|&n| text.as_bytes().ends_with(&mark.as_bytes()[..n])).unwrap_or(0);
    let kept = &text[..text.len() - held];
    if and_white { kept.trim_end().len() } else { kept.len() }
}
