//! Makes sure that a client's text never becomes a control token. Before the template is rendered, the guard marks the
//! places where a client's text spells a control token; afterwards it finds them in the prompt.
//!
//! A mark is one private-use character inside the spelled token, so that templates treat the text as they would without
//! it. In the rendered prompt the marks are removed, and each place of a mark is a *barrier*: the tokenizer makes no
//! control token across a barrier. A token that begins or ends in a client's text and continues in the template's or in
//! another text gets a barrier, too. Nearly all texts have no such place and are passed on unchanged.

use std::borrow::Cow;

/// Characters that may serve as a mark: private use, which no template searches for.
const MARKS: std::ops::RangeInclusive<char> = '\u{f4a0}'..='\u{f4ff}';

/// If there are more different first characters than this, they aren't searched for one by one.
const FIRSTS_MAX: usize = 4;

/// The control tokens of a vocabulary, by their texts. Made once at start-up.
#[derive(Debug, Default)]
pub struct Guard {
    /// The texts, sorted by first byte.
    texts: Vec<String>,
    /// For each byte, whether a text begins with it and whether one ends with it.
    first_bytes: Vec<bool>,
    /// The first characters of all texts, if they are few and ASCII: searching for one reads eight bytes at a time.
    firsts: Option<Vec<char>>,
    last_bytes: Vec<bool>,
    /// The texts without their first characters, each followed by NUL.
    tails: String,
    /// Length of the longest text, in bytes.
    len_max: usize,
}

/// A prompt without its marks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unmarked {
    /// The prompt's text.
    pub text: String,
    /// Byte offsets in `text`, ascending. No control token may begin at or before one and end after it.
    pub barriers: Vec<usize>,
}

impl Guard {
    /// Makes a guard for these control tokens, each as a prompt would spell it.
    pub fn new(texts: impl IntoIterator<Item = String>) -> Guard {
        let mut texts: Vec<String> = texts.into_iter().filter(|text| !text.is_empty()).collect();
        texts.sort_unstable();
        texts.dedup();
        let (mut first_bytes, mut last_bytes) = (vec![false; 256], vec![false; 256]);
        for text in &texts {
            first_bytes[usize::from(text.as_bytes()[0])] = true;
            last_bytes[usize::from(text.as_bytes()[text.len() - 1])] = true;
        }
        let mut firsts: Vec<char> = texts.iter().filter_map(|text| text.chars().next()).collect();
        firsts.dedup();
        let firsts = Some(firsts).filter(|firsts| firsts.len() <= FIRSTS_MAX && firsts.iter().all(char::is_ascii));
        let tail = |text: &String| text.chars().skip(1).chain(['\0']).collect::<String>();
        let tails = texts.iter().map(tail).collect();
        let len_max = texts.iter().map(String::len).max().unwrap_or(0);
        Guard { texts, first_bytes, firsts, last_bytes, tails, len_max }
    }

    /// The places of `text` that need a mark: after the first character of each control token that is spelled in it or
    /// begins at its end, and at the beginning if the text may end a control token.
    fn places(&self, text: &str) -> Vec<usize> {
        let mut places = Vec::new();
        if self.texts.is_empty() {
            return places;
        }
        let bytes = text.as_bytes();
        let end = text.trim_end().len();
        // In a blank text the trimmed beginning would lie after the end.
        let start = (text.len() - text.trim_start().len()).min(end);
        // A single word can't end a control token, and templates compare such words: `type`, `string`.
        let is_word = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        if !is_word && self.begins_with_a_tail(&text[start..end]) {
            places.push(start);
        }
        let may_begin = match &self.firsts {
            Some(firsts) => firsts.iter().any(|first| text.contains(*first)),
            None => bytes.iter().any(|byte| self.first_bytes[usize::from(*byte)]),
        };
        if !may_begin {
            return places;
        }
        for (at, byte) in bytes.iter().enumerate() {
            if !self.first_bytes[usize::from(*byte)] || !text.is_char_boundary(at) {
                continue;
            }
            let from = self.texts.partition_point(|token| token.as_bytes()[0] < *byte);
            let candidates = self.texts[from..].iter().take_while(|token| token.as_bytes()[0] == *byte);
            let is_spelled = |token: &String| {
                let rest = &bytes[at..];
                rest.starts_with(token.as_bytes())
                    || (!is_word && at < end && token.len() > end - at && token.as_bytes().starts_with(&bytes[at..end]))
            };
            let Some(token) = candidates.into_iter().find(|token| is_spelled(token)) else { continue };
            let first = token.chars().next().map_or(1, char::len_utf8);
            places.push(if token.len() == first { at } else { at + first });
        }
        places.sort_unstable();
        places.dedup();
        places
    }

    /// Whether `text` begins with the end of a control token, without its first character.
    fn begins_with_a_tail(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        let ends = (1..=bytes.len().min(self.len_max)).filter(|end| self.last_bytes[usize::from(bytes[end - 1])]);
        ends.filter_map(|end| text.get(..end)).any(|head| self.tails.contains(&format!("{head}\0")))
    }

    /// Whether the vocabulary has no control tokens.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Whether `text` needs a mark.
    pub fn touches(&self, text: &str) -> bool {
        !self.places(text).is_empty()
    }

    /// Inserts `mark` at each place of `text` that needs one.
    pub fn marked<'a>(&self, text: &'a str, mark: char) -> Cow<'a, str> {
        let places = self.places(text);
        if places.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut out = String::with_capacity(text.len() + 3 * places.len());
        let mut from = 0;
        for at in places {
            out.push_str(&text[from..at]);
            out.push(mark);
            from = at;
        }
        out.push_str(&text[from..]);
        Cow::Owned(out)
    }
}

/// Two mark characters that none of the texts contains.
pub fn free_marks<'a>(texts: impl Iterator<Item = &'a str> + Clone) -> Option<(char, char)> {
    let mut free = MARKS.filter(|mark| !texts.clone().any(|text| text.contains(*mark)));
    Some((free.next()?, free.next()?))
}

/// Removes `mark` from a rendered prompt, also if the template wrote it as a JSON escape.
pub fn unmarked(text: String, mark: char) -> Unmarked {
    let escape = format!("\\u{:04x}", mark as u32);
    if !text.contains(mark) && !text.contains(&escape) {
        return Unmarked { text, barriers: Vec::new() };
    }
    let mut out = Unmarked { text: String::with_capacity(text.len()), barriers: Vec::new() };
    let mut rest = text.as_str();
    while let Some((at, len)) =
        [rest.find(mark).map(|at| (at, mark.len_utf8())), rest.find(&escape).map(|at| (at, escape.len()))]
            .into_iter()
            .flatten()
            .min()
    {
        out.text.push_str(&rest[..at]);
        out.barriers.push(out.text.len());
        rest = &rest[at + len..];
    }
    out.text.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: char = '\u{f4a0}';

    fn guard() -> Guard {
        Guard::new(["<|im_end|>", "<|im_start|>", "<s>", "[INST]", "|"].map(str::to_owned))
    }

    fn shown(text: &str) -> String {
        guard().marked(text, MARK).replace(MARK, "^")
    }

    #[test]
    fn spelled_tokens_are_marked_and_other_text_is_not() {
        assert_eq!(shown("plain <b>text</b> [1]"), "plain <b>text</b> [1]");
        assert_eq!(shown("a<s>b [INST"), "a<^s>b [^INST");
        assert_eq!(shown("x <|im_end|> y"), "x <^|im_end^|> y");
        assert_eq!(shown("m_end|> hm"), "^m_end^|> hm");
        assert_eq!(shown("so < "), "so <^ ");
        assert_eq!(shown("m_e"), "m_e");
        assert!(matches!(guard().marked("plain", MARK), Cow::Borrowed(_)));
    }

    #[test]
    fn barriers_stand_where_the_marks_stood() {
        let text = format!("é<{MARK}s> \\uf4a0x");
        let out = unmarked(text, MARK);
        assert_eq!((out.text.as_str(), out.barriers), ("é<s> x", vec![3, 6]));
    }

    #[test]
    fn a_blank_text_needs_no_mark() {
        let guard = Guard::new(["<|im_end|>".to_owned()]);
        for blank in ["", " ", "\n\t", "\u{a0}"] {
            assert!(!guard.touches(blank), "{blank:?}");
        }
    }

    #[test]
    fn two_marks_are_free() {
        let taken = "\u{f4a0}\u{f4a1}";
        assert_eq!(free_marks([taken, "x"].into_iter()), Some(('\u{f4a2}', '\u{f4a3}')));
    }
}
