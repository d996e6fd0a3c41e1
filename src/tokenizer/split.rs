//! Cuts text into the words inside which BPE merges.
//!
//! llama.cpp has hand-written splitters for the commonest expressions. They differ from the expressions in what counts as
//! white space and at the end of a piece, so their behaviour is written here by hand, too. Two more are written by hand
//! because backtracking would take quadratic time on long runs. All others are a `Pattern`.

use super::pattern::Pattern;
use super::unicode::{self, LETTER, MARK, NUMBER, SPACE};

/// A text as characters, with each character's flags and its offset in bytes.
#[derive(Default)]
pub struct Chars {
    /// Each character's code point.
    pub cps: Vec<u32>,
    /// Each character's flags (`unicode.rs`).
    pub flags: Vec<u8>,
    /// The byte offset of each character, and at the end the text's length.
    pub starts: Vec<u32>,
}

impl Chars {
    /// Replaces the content by that of `text`.
    pub fn read(&mut self, text: &str) {
        let table = unicode::flags();
        let Chars { cps, flags, starts } = self;
        cps.clear();
        flags.clear();
        starts.clear();
        cps.reserve(text.len());
        flags.reserve(text.len());
        starts.reserve(text.len() + 1);
        for (at, c) in text.char_indices() {
            cps.push(c as u32);
            flags.push(table[c as usize]);
            starts.push(at as u32);
        }
        starts.push(text.len() as u32);
    }
}

/// One way to cut. A pre-tokenizer has several; each is applied to all pieces that the ones before it made.
#[derive(Debug)]
pub enum Split {
    /// GPT-2's: contractions in lower case, letters, numbers, others, white space.
    Gpt2,
    /// Llama 3's and Qwen's: contractions in upper or lower case, letters, numbers, others, white space.
    Words {
        /// Most digits of a number.
        digits: usize,
        /// Whether combining marks belong to words (Qwen 3.5).
        marks: bool,
        /// Whether white space is cut into powers of two (Jais 2).
        cascade: bool,
    },
    /// Kimi K2's: Han characters are separate words, contractions stay with their word.
    Kimi,
    /// Cuts runs of numbers into groups of three, counted from the end of the run.
    ThreesFromEnd,
    /// Runs of newlines, and runs of other characters.
    Newlines,
    /// `(?=(\d{3})+(?!\d))`: before each place where a multiple of three ASCII digits follows.
    BeforeThrees,
    /// `\s+$`: white space at the end of a piece.
    TrailingSpace,
    /// The matches of an expression, and what lies between them.
    Pattern(Pattern),
}

impl Split {
    /// Cuts pieces further. They end at `ends`: ascending, in characters, the last being the text's length. The new ends
    /// are written into `out`, which is returned.
    pub fn apply(&self, chars: &Chars, ends: &[u32], mut out: Vec<u32>) -> Vec<u32> {
        out.clear();
        let mut cut = Cutter { chars, at: 0, end: 0, out, last: 0 };
        let mut matcher = match self {
            Split::Pattern(pattern) => Some((pattern, pattern.codes(&chars.cps, &chars.flags), Vec::new())),
            _ => None,
        };
        for &end in ends {
            cut.end = end as usize;
            match (self, &mut matcher) {
                (Split::Gpt2, _) => cut.gpt2(),
                (Split::Words { digits, marks, cascade }, _) => cut.words(*digits, *marks, *cascade),
                (Split::Kimi, _) => cut.kimi(),
                (Split::ThreesFromEnd, _) => cut.threes_from_end(),
                (Split::Newlines, _) => cut.newlines(),
                (Split::BeforeThrees, _) => cut.before_threes(),
                (Split::TrailingSpace, _) => cut.trailing_space(),
                (Split::Pattern(_), Some((pattern, codes, ways))) => {
                    while cut.at < cut.end {
                        match pattern.match_at(codes, cut.at, cut.end, ways) {
                            Some(to) if to > cut.at => {
                                cut.cut_at(cut.at);
                                cut.cut_at(to);
                            }
                            _ => cut.at += 1,
                        }
                    }
                }
                (Split::Pattern(_), None) => unreachable!("a pattern has its codes"),
            }
            cut.cut_at(cut.end);
        }
        cut.out
    }
}

/// The state of cutting one text: the position `at`, in the piece that ends at `end`, and the `last` cut.
struct Cutter<'a> {
    chars: &'a Chars,
    at: usize,
    end: usize,
    last: usize,
    out: Vec<u32>,
}

impl Cutter<'_> {
    /// Ends a word at `to`. The next word begins there.
    #[inline]
    fn cut_at(&mut self, to: usize) {
        self.at = to;
        if to > self.last {
            self.out.push(to as u32);
            self.last = to;
        }
    }

    /// The character at `pos`; `None` after the piece's end.
    #[inline]
    fn cp(&self, pos: usize) -> Option<u32> {
        if pos < self.end { Some(self.chars.cps[pos]) } else { None }
    }

    /// The flags of the character at `pos`; 0 after the piece's end.
    #[inline]
    fn flags(&self, pos: usize) -> u8 {
        if pos < self.end { self.chars.flags[pos] } else { 0 }
    }

    /// The first position from `pos` on with none of the flags `any`.
    #[inline]
    fn skip(&self, mut pos: usize, any: u8) -> usize {
        while self.flags(pos) & any != 0 {
            pos += 1;
        }
        pos
    }

    /// The first position from `pos` on with one of the flags `stop`, or the piece's end.
    #[inline]
    fn skip_until(&self, mut pos: usize, stop: u8) -> usize {
        while self.flags(pos) != 0 && self.flags(pos) & stop == 0 {
            pos += 1;
        }
        pos
    }

    /// The length of `'s`, `'t`, `'m`, `'d`, `'re`, `'ve` or `'ll` at `pos`, 0 if there is none.
    fn contraction(&self, pos: usize, map: fn(u32) -> u32) -> usize {
        if self.cp(pos) != Some(u32::from(b'\'')) {
            return 0;
        }
        let letter = |pos| self.cp(pos).map(map).and_then(char::from_u32);
        match (letter(pos + 1), letter(pos + 2)) {
            (Some('s' | 't' | 'm' | 'd'), _) => 2,
            (Some('r' | 'v'), Some('e')) | (Some('l'), Some('l')) => 3,
            _ => 0,
        }
    }

    fn is_newline(&self, pos: usize) -> bool {
        matches!(self.cp(pos), Some(0x0a | 0x0d))
    }

    /// Cuts white space, or one character that no other alternative took: the last alternatives of most expressions.
    /// `newlines`: the alternative `\s*[\r
    /// ]+` comes before them.
    fn space_or_one(&mut self, newlines: bool) {
        let to = self.skip(self.at, SPACE);
        if newlines && let Some(last) = (self.at..to).rev().find(|&i| self.is_newline(i)) {
            return self.cut_at(last + 1);
        }
        match to - self.at {
            0 => self.cut_at(self.at + 1),
            1 => self.cut_at(to),
            _ if to < self.end => self.cut_at(to - 1),
            _ => self.cut_at(to),
        }
    }

    fn gpt2(&mut self) {
        while self.at < self.end {
            let contraction = self.contraction(self.at, |c| c);
            if contraction > 0 {
                self.cut_at(self.at + contraction);
                continue;
            }
            let first = self.at + usize::from(self.cp(self.at) == Some(0x20));
            let flags = self.flags(first);
            if flags & LETTER != 0 {
                self.cut_at(self.skip(first, LETTER));
            } else if flags & NUMBER != 0 {
                self.cut_at(self.skip(first, NUMBER));
            } else if flags != 0 && flags & SPACE == 0 {
                self.cut_at(self.skip_until(first, SPACE | LETTER | NUMBER));
            } else {
                self.space_or_one(false);
            }
        }
    }

    fn words(&mut self, digits: usize, marks: bool, cascade: bool) {
        let letters = if marks { LETTER | MARK } else { LETTER };
        while self.at < self.end {
            let contraction = self.contraction(self.at, unicode::lower);
            if contraction > 0 {
                self.cut_at(self.at + contraction);
                continue;
            }
            let flags = self.flags(self.at);
            if !self.is_newline(self.at) && flags & NUMBER == 0 && (flags | self.flags(self.at + 1)) & letters != 0 {
                self.cut_at(self.skip(self.at + 1, letters));
                continue;
            }
            if flags & NUMBER != 0 {
                let to = self.skip(self.at, NUMBER);
                while self.at < to {
                    self.cut_at(to.min(self.at + digits));
                }
                continue;
            }
            let is_space = self.cp(self.at) == Some(0x20);
            let first = self.at + usize::from(is_space);
            if self.flags(first) & (SPACE | letters | NUMBER) == 0 {
                let mut to = self.skip_until(first, SPACE | letters | NUMBER);
                while self.is_newline(to) {
                    to += 1;
                }
                self.cut_at(to);
                continue;
            }
            if cascade {
                self.space_cascade();
            } else {
                self.space_or_one(true);
            }
        }
    }

    /// Cuts `\s*[\r
    /// ]+`; otherwise pieces of 512, 256, ... 2 spaces that are followed by white space or by the end; otherwise one.
    fn space_cascade(&mut self) {
        let to = self.skip(self.at, SPACE);
        if to == self.at || (self.at..to).any(|i| self.is_newline(i)) {
            return self.space_or_one(true);
        }
        loop {
            let n = to - self.at;
            let fits = |size: &usize| n > *size || (n == *size && to == self.end);
            let size = [512, 256, 128, 64, 32, 16, 8, 4, 2].into_iter().find(fits).unwrap_or(1);
            self.cut_at(self.at + size);
            // The last white space may belong to the following word: start again with the first alternative.
            if to - self.at <= 1 {
                return;
            }
        }
    }

    fn kimi(&mut self) {
        while self.at < self.end {
            let is_han = |pos| self.cp(pos).is_some_and(unicode::is_han);
            let is_letter = |pos| self.flags(pos) & LETTER != 0 && !is_han(pos);
            if is_han(self.at) {
                let mut to = self.at;
                while is_han(to) {
                    to += 1;
                }
                self.cut_at(to);
                continue;
            }
            let flags = self.flags(self.at);
            let may_lead = !self.is_newline(self.at) && flags & (LETTER | NUMBER) == 0;
            if is_letter(self.at) || (may_lead && is_letter(self.at + 1)) {
                let mut to = self.at + usize::from(may_lead);
                while is_letter(to) {
                    to += 1;
                }
                self.cut_at(to + self.contraction(to, unicode::lower));
                continue;
            }
            if flags & NUMBER != 0 {
                let to = self.skip(self.at, NUMBER);
                while self.at < to {
                    self.cut_at(to.min(self.at + 3));
                }
                continue;
            }
            let first = self.at + usize::from(self.cp(self.at) == Some(0x20));
            if self.flags(first) != 0 && self.flags(first) & (SPACE | LETTER | NUMBER) == 0 {
                let mut to = self.skip_until(first, SPACE | LETTER | NUMBER);
                while self.is_newline(to) {
                    to += 1;
                }
                self.cut_at(to);
                continue;
            }
            self.space_or_one(true);
        }
    }

    /// Characters before and between numbers are cut together with the first group of the number that follows, as in
    /// llama.cpp.
    fn threes_from_end(&mut self) {
        while self.at < self.end {
            let to = self.skip(self.at, NUMBER);
            if to == self.at {
                self.at += 1;
                continue;
            }
            let odd = (to - self.at) % 3;
            if odd > 0 {
                self.cut_at(self.at + odd);
            }
            while self.at < to {
                self.cut_at(self.at + 3);
            }
        }
    }

    fn newlines(&mut self) {
        while self.at < self.end {
            let is_newline = self.cp(self.at) == Some(0x0a);
            let mut to = self.at;
            while to < self.end && (self.cp(to) == Some(0x0a)) == is_newline {
                to += 1;
            }
            self.cut_at(to);
        }
    }

    fn before_threes(&mut self) {
        let (chars, end) = (self.chars, self.end);
        let is_digit = |pos: usize| pos < end && (0x30..0x3a).contains(&chars.cps[pos]);
        let mut digits = self.at;
        while digits < self.end {
            let mut to = digits;
            while is_digit(to) {
                to += 1;
            }
            let places: Vec<usize> = (digits..to).filter(|pos| (to - pos).is_multiple_of(3)).collect();
            digits = to + 1;
            for pos in places {
                if pos > self.last {
                    self.out.push(pos as u32);
                    self.last = pos;
                }
            }
        }
        self.at = self.end;
    }

    fn trailing_space(&mut self) {
        let is_space = |c: u32, f: u8| matches!(c, 9..=13 | 32) || (c > 0x7f && f & SPACE != 0);
        let mut from = self.end;
        while from > self.at && is_space(self.chars.cps[from - 1], self.chars.flags[from - 1]) {
            from -= 1;
        }
        self.cut_at(from);
    }
}
