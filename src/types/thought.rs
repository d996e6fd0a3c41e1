//! Where a model's thought ends and its answer begins, told from its tokens as they come. Pure. The batching thread looks for
//! stop strings in the answer alone, an HTTP thread lets a grammar begin with it.

use super::Token;

/// How a thought shows in the text of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThoughtMarks {
    /// Text before a thought that the model begins itself; empty: it doesn't.
    pub open: Vec<u8>,
    /// Text behind a thought. Never empty.
    pub close: Vec<u8>,
    /// Other text that ends a thought as `close` does: the beginning of a call, where calls follow thoughts without it. Empty: there
    /// is none.
    pub call: Vec<u8>,
    /// The prompt ends within a thought.
    pub has_begun: bool,
    /// Tokens that have no bytes of their own, and the text that each stands for in the marks.
    pub silent: Vec<(Token, Vec<u8>)>,
}

/// What the latest token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It may belong to an opening mark.
    Undecided,
    /// Thought or mark, and all that was undecided with it.
    Thought,
    /// The thought ends with this token, whose first `thought` bytes are thought or mark; the rest is answer.
    End { thought: usize },
    /// Answer, and all that was undecided with it.
    Answer,
}

#[derive(Clone, Debug)]
enum At {
    /// At the beginning; with the text so far.
    Start(Vec<u8>),
    /// In a thought; with as much of its end as the closing mark may reach back to.
    Inside(Vec<u8>),
    Behind,
}

/// Follows one text.
#[derive(Clone, Debug)]
pub struct ThoughtWatch {
    marks: ThoughtMarks,
    at: At,
}

impl ThoughtWatch {
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

    /// In a thought whose end may be the beginning of the closing mark: the rest of that mark.
    pub fn rest_of_close(&self) -> Option<&[u8]> {
        let At::Inside(tail) = &self.at else { return None };
        let close = &self.marks.close;
        let held = (1..close.len()).rev().find(|n| tail.ends_with(&close[..*n]))?;
        Some(&close[held..])
    }

    /// The text goes on with `token`, whose bytes are `own`.
    pub fn push(&mut self, token: Token, own: &[u8]) -> Part {
        let silent = self.marks.silent.iter().find(|(silent, _)| *silent == token);
        let bytes = silent.map_or(own, |(_, text)| text);
        let ThoughtMarks { open, close, call, .. } = &self.marks;
        match &mut self.at {
            At::Behind => Part::Answer,
            At::Start(held) => {
                held.extend_from_slice(bytes);
                let text = held.trim_ascii_start();
                match text.strip_prefix(&open[..]) {
                    // A close in the same token is a thought of nothing.
                    Some(rest) if find(rest, close).is_some() => self.at = At::Behind,
                    Some(rest) => self.at = At::Inside(rest.to_vec()),
                    None if open.starts_with(text) => return Part::Undecided,
                    None => {
                        self.at = At::Behind;
                        return Part::Answer;
                    }
                }
                Part::Thought
            }
            At::Inside(tail) => {
                tail.extend_from_slice(bytes);
                let end_of = |mark: &[u8]| if mark.is_empty() { None } else { Some(find(tail, mark)? + mark.len()) };
                let Some(end) = end_of(close).into_iter().chain(end_of(call)).min() else {
                    let keep = tail.len().min(close.len().max(call.len()) - 1);
                    tail.drain(..tail.len() - keep);
                    return Part::Thought;
                };
                let answer = (tail.len() - end).min(own.len());
                self.at = At::Behind;
                Part::End { thought: own.len() - answer }
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
            silent,
        })
    }

    fn parts(mut watch: ThoughtWatch, pieces: &[&str]) -> Vec<Part> {
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
        use Part::{Answer, End, Thought, Undecided};
        let end = |thought| End { thought };
        assert_eq!(parts(watch(true), &["a</", "t", ">b", "c</t>"]), [Thought, Thought, end(1), Answer]);
        assert_eq!(
            parts(watch(false), &["\n", "<", "t>x", "</t>", "y"]),
            [Undecided, Undecided, Thought, end(4), Answer]
        );
        assert_eq!(parts(watch(false), &[" <", "b"]), [Undecided, Answer]);
        // A mark without bytes of its own ends the thought, too.
        assert_eq!(parts(watch(false), &["OPEN", "x", "CLOSE", "y"]), [Thought, Thought, end(0), Answer]);
        assert_eq!(parts(watch(true), &["a t", "o=", "f"]), [Thought, end(2), Answer]);
        let never = ThoughtWatch::new(ThoughtMarks { close: b"x".to_vec(), ..ThoughtMarks::default() });
        assert_eq!(parts(never, &["<t>"]), [Answer]);
    }
}
