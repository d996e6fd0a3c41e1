//! From pieces to text that can be shown. Bytes that may belong to a stop string are held back, and UTF-8 characters
//! come whole. Each reader of a reply owns one; pure.

use std::sync::Arc;

use super::utf8::Utf8Assembler;
use crate::types::{Piece, TokenTable};

/// Joins pieces to a text and gives out the part of it that is final.
#[derive(Default)]
pub struct TextAssembler {
    /// Bytes that were given out.
    shown: usize,
    /// The bytes of the text after those.
    held: Vec<u8>,
    utf8: Utf8Assembler,
    /// Texts of control tokens, which have no bytes, each with the byte of the text that it comes before.
    marks: Vec<(usize, Arc<str>)>,
}

impl TextAssembler {
    /// Adds a piece and appends to `out` the text that is final now: perhaps none, never half a character.
    pub fn push(&mut self, piece: Piece, table: &TokenTable, out: &mut String) {
        self.held.extend_from_slice(table.bytes(piece.token));
        self.show(piece.text_end as usize, out);
    }

    /// Adds a piece whose text is final at once and returns that text, without a copy. This is the usual case: whole
    /// characters, and nothing held back before them. `None`: nothing was added, and the caller must use `push`.
    pub fn pass<'table>(&mut self, piece: Piece, table: &'table TokenTable) -> Option<&'table str> {
        let text = table.text(piece.token)?;
        let is_alone = self.held.is_empty() && self.utf8.held() == 0 && self.marks.is_empty();
        if !is_alone || piece.text_end as usize != self.shown + text.len() {
            return None;
        }
        self.shown += text.len();
        Some(text)
    }

    /// Puts `text` after the pieces so far. For a control token, which has no bytes but which the reader of the text
    /// needs.
    pub fn mark(&mut self, text: Arc<str>) {
        self.marks.push((self.shown + self.held.len(), text));
    }

    /// Ends the text: appends to `out` what is left before byte `text_end`.
    pub fn finish(&mut self, text_end: u32, out: &mut String) {
        self.show(text_end as usize, out);
        self.utf8.finish(out);
    }

    /// Gives out the text before byte `end`.
    fn show(&mut self, end: usize, out: &mut String) {
        let end = end.min(self.shown + self.held.len());
        let n_marks = self.marks.iter().take_while(|(at, _)| *at <= end).count();
        if n_marks > 0 {
            let later = self.marks.split_off(n_marks);
            for (at, mark) in std::mem::replace(&mut self.marks, later) {
                self.show_bytes(at, out);
                out.push_str(&mark);
            }
        }
        self.show_bytes(end, out);
    }

    fn show_bytes(&mut self, end: usize, out: &mut String) {
        if end > self.shown {
            let certain = end - self.shown;
            self.utf8.push(&self.held[..certain], out);
            self.held.drain(..certain);
            self.shown = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Token;

    #[test]
    fn held_back_text_comes_late_and_cut_text_never() {
        let table = TokenTable::new([&b"ab"[..], b"\xc3", b"\xa9!", b"EN"], &[]);
        let mut text = TextAssembler::default();
        let mut out = String::new();
        let mut push = |token, text_end, out: &mut String| {
            text.push(Piece { token: Token(token), text_end }, &table, out);
        };
        push(0, 2, &mut out);
        push(1, 3, &mut out);
        assert_eq!(out, "ab");
        push(2, 5, &mut out);
        assert_eq!(out, "abé!");
        push(3, 5, &mut out);
        text.finish(6, &mut out);
        assert_eq!(out, "abé!E");
    }

    /// However a text is cut into tokens, and with bytes held back or not, `pass` followed by `push` where it returns
    /// `None` gives what `push` alone gives.
    #[test]
    fn what_is_passed_is_what_would_be_pushed() {
        let table = TokenTable::new([&b"ab"[..], b"\xc3", b"\xa9!", b"EN", b"", b"\0", "\u{e9}".as_bytes()], &[]);
        let (mut passed, mut dice) = (0, crate::dice::Dice::new(1));
        let mut below = |n: u64| dice.below(n as usize) as u64;
        for _ in 0..2_000 {
            let (mut with, mut without) = (TextAssembler::default(), TextAssembler::default());
            let (mut out, mut expected, mut total, mut certain) = (String::new(), String::new(), 0, 0);
            for _ in 0..12 {
                let token = Token(below(7) as u32);
                total += table.bytes(token).len() as u64;
                certain += below(3).min(1) * (total - certain) + below(2) * below(total - certain + 1) / 2;
                certain = certain.min(total);
                let piece = Piece { token, text_end: certain as u32 };
                if below(9) == 0 {
                    with.mark("[X]".into());
                    without.mark("[X]".into());
                }
                match with.pass(piece, &table) {
                    Some(text) => {
                        out.push_str(text);
                        passed += 1;
                    }
                    None => with.push(piece, &table, &mut out),
                }
                without.push(piece, &table, &mut expected);
                assert_eq!(out, expected);
            }
            with.finish(total as u32, &mut out);
            without.finish(total as u32, &mut expected);
            assert_eq!(out, expected);
        }
        assert!(passed > 1_000, "{passed}");
    }

    #[test]
    fn marks_stand_where_they_were_put() {
        let table = TokenTable::new([&b"ab"[..], b""], &[]);
        let (mut text, mut out) = (TextAssembler::default(), String::new());
        text.push(Piece { token: Token(0), text_end: 1 }, &table, &mut out);
        text.mark("[X]".into());
        text.push(Piece { token: Token(1), text_end: 1 }, &table, &mut out);
        assert_eq!(out, "a");
        text.push(Piece { token: Token(0), text_end: 4 }, &table, &mut out);
        assert_eq!(out, "ab[X]ab");
    }
}
