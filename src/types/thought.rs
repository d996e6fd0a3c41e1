//! Finds where a model's thought ends and its answer begins, token by token. Pure. The batching thread searches stop
//! strings in the answer only; an HTTP thread starts a grammar at the answer.

use super::Token;

/// The marks around a thought in the text of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThoughtMarks {
    /// The text that opens a thought. Empty: the model doesn't write an opening mark.
    pub open: Vec<u8>,
    /// The text that closes a thought. Never empty.
    pub close: Vec<u8>,
    /// Another text that ends a thought: the beginning of a tool call, for models that call a tool without closing the
    /// thought. Empty: the model has none.
    pub call: Vec<u8>,
    /// Whether the prompt ends inside a thought, so that the answer starts in it.
    pub has_begun: bool,
    /// Whether further thoughts may begin anywhere behind the first.
    pub again: bool,
    /// Control tokens that have no bytes, each with the text that it stands for in the marks.
    pub silent: Vec<(Token, Vec<u8>)>,
}

/// Which part of the text the latest token belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextPart {
    /// The text so far may be the beginning of an opening mark.
    Undecided,
    /// This token, and all undecided ones before it, are thought or mark.
    Thought,
    /// The thought ends in this token.
    End {
        /// Bytes at the token's beginning that are thought or mark. The rest is answer.
        thought: usize,
    },
    /// This token, and all undecided ones before it, are answer.
    Answer,
}

#[derive(Clone, Debug)]
enum At {
    /// At the beginning of the text; holds the text so far.
    Start(Vec<u8>),
    /// Inside a thought; holds the last bytes, in which the beginning of a closing mark may lie.
    Inside(Vec<u8>),
    /// Behind a thought, where another may begin; holds the last bytes, in which the beginning of an opening mark may lie.
    Between(Vec<u8>),
    Behind,
}

impl At {
    fn behind(again: bool) -> At {
        if again { At::Between(Vec::new()) } else { At::Behind }
    }
}

/// Follows the text of one request.
#[derive(Clone, Debug)]
pub struct ThoughtWatch {
    marks: ThoughtMarks,
    at: At,
}

impl ThoughtWatch {
    /// Starts at the beginning of the answer to a prompt with these marks.
    pub fn new(marks: ThoughtMarks) -> ThoughtWatch {
        let at = match (marks.has_begun, marks.open.is_empty()) {
            (true, _) => At::Inside(Vec::new()),
            (false, true) => At::Behind,
            (false, false) => At::Start(Vec::new()),
        };
        ThoughtWatch { marks, at }
    }

    /// Whether the text so far ends within a thought.
    pub fn is_inside(&self) -> bool {
        matches!(self.at, At::Inside(_))
    }

    /// Whether a thought may still begin.
    pub fn is_at_start(&self) -> bool {
        matches!(self.at, At::Start(_))
    }

    /// If the thought's last bytes are the beginning of the closing mark, the rest of that mark; otherwise `None`.
    pub fn rest_of_close(&self) -> Option<&[u8]> {
        let At::Inside(tail) = &self.at else { return None };
        let close = &self.marks.close;
        let held = (1..close.len()).rev().find(|n| tail.ends_with(&close[..*n]))?;
        Some(&close[held..])
    }

    /// Appends `token`, which has the bytes `own` in the vocabulary, and returns which part it belongs to.
    pub fn push(&mut self, token: Token, own: &[u8]) -> TextPart {
        let silent = self.marks.silent.iter().find(|(silent, _)| *silent == token);
        let bytes = silent.map_or(own, |(_, text)| text);
        let ThoughtMarks { open, close, call, again, .. } = &self.marks;
        match &mut self.at {
            At::Behind => TextPart::Answer,
            At::Between(tail) => {
                tail.extend_from_slice(bytes);
                let Some(at) = find(tail, open) else {
                    let keep = tail.len().min(open.len() - 1);
                    tail.drain(..tail.len() - keep);
                    return TextPart::Answer;
                };
                self.at = At::Inside(tail.split_off(at + open.len()));
                TextPart::Thought
            }
            At::Start(held) => {
                held.extend_from_slice(bytes);
                let text = held.trim_ascii_start();
                match text.strip_prefix(&open[..]) {
                    // Opening and closing mark in one token: an empty thought.
                    Some(rest) if find(rest, close).is_some() => self.at = At::behind(*again),
                    Some(rest) => self.at = At::Inside(rest.to_vec()),
                    None if open.starts_with(text) => return TextPart::Undecided,
                    None => {
                        self.at = At::behind(*again);
                        return TextPart::Answer;
                    }
                }
                TextPart::Thought
            }
            At::Inside(tail) => {
                tail.extend_from_slice(bytes);
                let end_of = |mark: &[u8]| if mark.is_empty() { None } else { Some(find(tail, mark)? + mark.len()) };
                let Some(end) = end_of(close).into_iter().chain(end_of(call)).min() else {
                    let keep = tail.len().min(close.len().max(call.len()) - 1);
                    tail.drain(..tail.len() - keep);
                    return TextPart::Thought;
                };
                let answer = (tail.len() - end).min(own.len());
                self.at = At::behind(*again);
                TextPart::End { thought: own.len() - answer }
            }
        }
    }
}

fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    text.windows(pattern.len()).position(|window| window == pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(has_begun: bool) -> ThoughtWatch {
        let silent = vec![(Token(7), b"<t>".to_vec()), (Token(8), b"</t>".to_vec())];
        ThoughtWatch::new(ThoughtMarks {
            open: b"<t>".to_vec(),
            close: b"</t>".to_vec(),
            call: b"to=".to_vec(),
            has_begun,
            again: false,
            silent,
        })
    }

    fn parts(mut watch: ThoughtWatch, pieces: &[&str]) -> Vec<TextPart> {
        let token = |piece: &str| match piece {
            "OPEN" => (Token(7), ""),
            "CLOSE" => (Token(8), ""),
            _ => (Token(0), ""),
        };
        let push = |piece: &&str| match token(piece) {
            (Token(0), _) => watch.push(Token(0), piece.as_bytes()),
            (token, own) => watch.push(token, own.as_bytes()),
        };
        pieces.iter().map(push).collect()
    }

    #[test]
    fn thoughts_end_where_their_mark_does() {
        use TextPart::{Answer, End, Thought, Undecided};
        let end = |thought| End { thought };
        assert_eq!(parts(watch(true), &["a</", "t", ">b", "c</t>"]), [Thought, Thought, end(1), Answer]);
        assert_eq!(
            parts(watch(false), &["\n", "<", "t>x", "</t>", "y"]),
            [Undecided, Undecided, Thought, end(4), Answer]
        );
        assert_eq!(parts(watch(false), &[" <", "b"]), [Undecided, Answer]);
        // A closing mark that is a token without bytes also ends the thought.
        assert_eq!(parts(watch(false), &["OPEN", "x", "CLOSE", "y"]), [Thought, Thought, end(0), Answer]);
        assert_eq!(parts(watch(true), &["a t", "o=", "f"]), [Thought, end(2), Answer]);
        let never = ThoughtWatch::new(ThoughtMarks { close: b"x".to_vec(), ..ThoughtMarks::default() });
        assert_eq!(parts(never, &["<t>"]), [Answer]);
    }

    #[test]
    fn another_thought_may_begin_where_the_marks_say_so() {
        use TextPart::{Answer, End, Thought};
        let mut first = watch(false);
        first.marks.again = true;
        assert_eq!(
            parts(first, &["<t>", "x", "</t>", "a<", "t", ">", "y", "CLOSE", "b"]),
            [Thought, Thought, End { thought: 4 }, Answer, Answer, Thought, Thought, End { thought: 0 }, Answer]
        );
    }
}
