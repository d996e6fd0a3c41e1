//! Heads of messages in channels, as GPT-OSS writes them. Models sometimes leave out parts of a head; text after an
//! incomplete head is shown, not lost.

use super::style::{CHANNEL, MESSAGE, START};

/// Marks that end a message.
pub const ENDS: [&str; 3] = ["<|end|>", "<|call|>", "<|return|>"];

const CONSTRAIN: &str = "<|constrain|>";

/// The known channels.
const CHANNELS: [&str; 3] = ["analysis", "commentary", "final"];

/// A head, or the part of one that is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head<'a> {
    /// The channel; empty if none is named.
    pub channel: &'a str,
    /// The recipient of the message; `functions.NAME` means a call.
    pub recipient: Option<&'a str>,
    /// Length of the head, in bytes.
    pub len: usize,
    /// Whether it ends with the mark before the message, as a complete head does.
    pub is_whole: bool,
}

impl<'a> Head<'a> {
    /// Reads the head at the beginning of `text`, as far as there is one.
    pub fn read(text: &'a str) -> Head<'a> {
        let mut head = Head::default();
        let mut at = 0;
        loop {
            let rest = text[at..].trim_start();
            at = text.len() - rest.len();
            let eaten = |mark: &str| rest.strip_prefix(mark).map(|behind| text.len() - behind.len());
            let word = |from: usize| {
                let rest = &text[from..];
                &rest[..rest.find(|c: char| c.is_whitespace() || c == '<').unwrap_or(rest.len())]
            };
            if let Some(end) = eaten(MESSAGE) {
                return Head { len: end, is_whole: true, ..head };
            }
            if let Some(end) = ENDS.iter().find_map(|mark| eaten(mark)) {
                at = end;
            } else if let Some(end) = eaten(START) {
                // Skips the role.
                at = end + word(end).len();
            } else if let Some(end) = eaten(CHANNEL) {
                let name = word(end);
                let is_name = CHANNELS.contains(&name) || names_follow(&text[end + name.len()..]);
                let is_cut = end + name.len() == text.len() && CHANNELS.iter().any(|known| known.starts_with(name));
                (head.channel, at) = if is_name || is_cut { (name, end + name.len()) } else { (head.channel, end) };
            } else if let Some(end) = eaten("to=") {
                head.recipient = Some(word(end));
                at = end + word(end).len();
            } else if let Some(end) = eaten(CONSTRAIN) {
                at = end + word(end).len();
            } else if head != Head::default() && names_follow(&rest[word(at).len()..]) && !word(at).is_empty() {
                // Skips `json` without the mark before it.
                at += word(at).len();
            } else {
                return Head { len: at, ..head };
            }
        }
    }
}

/// Whether the text after a word shows that the word belongs to a head.
fn names_follow(text: &str) -> bool {
    let text = text.trim_start();
    [MESSAGE, CONSTRAIN, "to="].iter().any(|mark| text.starts_with(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (&str, Option<&str>, &str, bool) {
        let head = Head::read(text);
        (head.channel, head.recipient, &text[head.len..], head.is_whole)
    }

    #[test]
    fn heads_are_read_and_what_is_none_is_left() {
        let call = "<|end|><|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{";
        assert_eq!(read(call), ("commentary", Some("functions.f"), "{", true));
        let call = "<|start|>assistant to=functions.f<|channel|>commentary json<|message|>{";
        assert_eq!(read(call), ("commentary", Some("functions.f"), "{", true));
        assert_eq!(read("<|channel|>final<|message|>Hi"), ("final", None, "Hi", true));
        assert_eq!(read("<|channel|>other<|message|>Hi"), ("other", None, "Hi", true));
        assert_eq!(read("<|message|>Hi"), ("", None, "Hi", true));
        // Parts of the head are missing.
        assert_eq!(read("<|channel|>final Hi there"), ("final", None, "Hi there", false));
        assert_eq!(read("<|channel|>Hi there"), ("", None, "Hi there", false));
        assert_eq!(read("<|end|>So be it."), ("", None, "So be it.", false));
        assert_eq!(
            read("<|channel|>commentary to=functions.f {\"a\""),
            ("commentary", Some("functions.f"), "{\"a\"", false)
        );
        // The text ends within the head.
        for text in ["<|end|>", "<|start|>assistant", "<|channel|>ana", "<|channel|>commentary to=functions.f "] {
            assert_eq!(read(text).2, "", "{text}");
        }
    }
}
