//! From pieces to text that can be shown: stop strings hold bytes back, UTF-8 characters come whole. Whoever reads a
//! reply owns one; pure.

use std::sync::Arc;

use super::utf8::Utf8Assembler;
use crate::types::{Piece, TokenTable};

/// Puts pieces together to text, which it gives out up to where it can't be taken back.
#[derive(Default)]
pub struct TextAssembler {
    /// Bytes of all pieces; those before `shown` have been given out.
    bytes: Vec<u8>,
    shown: usize,
    utf8: Utf8Assembler,
    /// Text that stands for no bytes, and the byte it comes before.
    marks: Vec<(usize, Arc<str>)>,
}

impl TextAssembler {
    /// Adds a piece and appends to `out` the text that is certain now; perhaps none, never half a character.
    pub fn push(&mut self, piece: Piece, table: &TokenTable, out: &mut String) {
        self.bytes.extend_from_slice(table.bytes(piece.token));
        self.show(piece.text_end as usize, out);
    }

    /// Puts `text` behind the pieces so far, though it has no bytes: a control token that somebody must see.
    pub fn mark(&mut self, text: Arc<str>) {
        self.marks.push((self.bytes.len(), text));
    }

    /// Begins anew and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.marks.clear();
        (self.shown, self.utf8) = (0, Utf8Assembler::default());
    }

    /// Bytes it has memory for.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// The rest, up to where the text ends.
    pub fn finish(&mut self, text_end: u32, out: &mut String) {
        self.show(text_end as usize, out);
        self.utf8.finish(out);
    }

    fn show(&mut self, end: usize, out: &mut String) {
        let end = end.min(self.bytes.len());
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
            self.utf8.push(&self.bytes[self.shown..end], out);
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

    #[test]
    fn cleared_it_begins_anew() {
        let table = TokenTable::new([&b"ab"[..], b"\xc3"], &[]);
        let (mut text, mut out) = (TextAssembler::default(), String::new());
        text.push(Piece { token: Token(0), text_end: 2 }, &table, &mut out);
        text.push(Piece { token: Token(1), text_end: 3 }, &table, &mut out);
        text.mark("[X]".into());
        text.clear();
        out.clear();
        text.push(Piece { token: Token(0), text_end: 1 }, &table, &mut out);
        text.push(Piece { token: Token(0), text_end: 3 }, &table, &mut out);
        text.finish(4, &mut out);
        assert_eq!(out, "abab");
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
