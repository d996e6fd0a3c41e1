//! The regular expressions of pre-tokenizers, matched as llama.cpp's `std::regex` matches them: first alternative first,
//! greedy, with backtracking. The backtracking uses the heap, and a run of one class is one step, so a megabyte of one
//! character needs neither deep recursion nor quadratic time.
//!
//! llama.cpp runs an expression that names Unicode categories over *collapsed* text, which has one byte for each character:
//! ASCII unchanged, other white space as 0x0B, other characters as one code for their category. Categories inside `L` are
//! not distinguished, and `\s` means ASCII's white space and 0x0B. Other expressions run over code points. Both are `u32`
//! codes here.

use super::unicode::{LETTER, MARK, NUMBER, PUNCTUATION, SPACE, SYMBOL};

/// The collapsed code of characters that have no other.
const OTHER: u32 = 0xd0;
const CATEGORIES: [(char, u8, u32); 5] =
    [('N', NUMBER, 0xd1), ('L', LETTER, 0xd2), ('P', PUNCTUATION, 0xd3), ('M', MARK, 0xd4), ('S', SYMBOL, 0xd5)];

/// A set of codes: a bitmap below 256, ranges above.
#[derive(Clone, Debug, Default)]
struct CharClass {
    low: [u64; 4],
    high: Vec<(u32, u32)>,
    high_negated: bool,
}

impl CharClass {
    fn add(&mut self, first: u32, last: u32) {
        (first..=last.min(255)).for_each(|c| self.low[(c / 64) as usize] |= 1 << (c % 64));
        if last > 255 {
            self.high.push((first.max(256), last));
        }
    }

    fn negate(&mut self) {
        self.low.iter_mut().for_each(|bits| *bits = !*bits);
        self.high_negated = !self.high_negated;
    }

    #[inline]
    fn has(&self, code: u32) -> bool {
        match self.low.get((code / 64) as usize) {
            Some(bits) => bits >> (code % 64) & 1 == 1,
            None => self.high.iter().any(|&(first, last)| first <= code && code <= last) != self.high_negated,
        }
    }
}

#[derive(Clone, Debug)]
enum Node {
    Class(CharClass),
    Seq(Vec<Node>),
    Alt(Vec<Node>),
    Repeat { what: Box<Node>, min: usize, max: usize },
    Look { what: Box<Node>, wanted: bool },
}

#[derive(Debug)]
enum Op {
    /// Takes as many characters of the class as possible, `min..=max`. Backtracking gives back one at a time.
    Run {
        class: CharClass,
        min: usize,
        max: usize,
    },
    /// Tries the next op first, then `other`.
    Fork {
        other: usize,
    },
    Jump {
        to: usize,
    },
    /// The ops up to `end` must (or must not) match here. Takes no characters.
    Look {
        wanted: bool,
        end: usize,
    },
    Match,
}

/// A parsed expression.
#[derive(Debug)]
pub struct Pattern {
    ops: Vec<Op>,
    collapsed: bool,
}

/// An alternative that has not been tried: continue with `op` at `at` and, if `at > at_min`, also one character earlier. A
/// `Vec` of these replaces the stack in backtracking; callers keep it between matches to reuse its memory.
pub struct Way {
    op: usize,
    at: usize,
    at_min: usize,
}

impl Pattern {
    /// Parses an expression of `pre`.
    ///
    /// # Panics
    /// The expression is malformed, which tests exclude.
    pub fn new(text: &str) -> Pattern {
        let collapsed = ["\\p{N}", "\\p{L", "\\p{P}", "\\p{M}", "\\p{S}"].iter().any(|c| text.contains(c));
        let mut parser = Parser { rest: text.chars().collect(), at: 0 };
        let tree = parser.alternatives();
        assert_eq!(parser.at, parser.rest.len(), "unbalanced expression {text:?}");
        let mut ops = Vec::new();
        compile(&tree, &mut ops);
        ops.push(Op::Match);
        Pattern { ops, collapsed }
    }

    /// The codes that this expression runs over: one for each character.
    pub fn codes(&self, cps: &[u32], flags: &[u8]) -> Vec<u32> {
        let code = |(&c, &f): (&u32, &u8)| match c {
            0..128 => c,
            _ if f & SPACE != 0 => 0x0b,
            _ if !self.collapsed => c,
            _ => CATEGORIES.iter().find(|(_, flag, _)| f & flag != 0).map_or(OTHER, |&(_, _, code)| code),
        };
        cps.iter().zip(flags).map(code).collect()
    }

    /// The end of the match that begins at `start`, inside `codes[..end]`. `ways` is working memory.
    pub fn match_at(&self, codes: &[u32], start: usize, end: usize, ways: &mut Vec<Way>) -> Option<usize> {
        ways.clear();
        self.run(codes, 0, start, end, ways)
    }

    fn run(&self, codes: &[u32], op: usize, start: usize, end: usize, ways: &mut Vec<Way>) -> Option<usize> {
        let bottom = ways.len();
        let (mut op, mut at) = (op, start);
        loop {
            let alive = match &self.ops[op] {
                Op::Match => {
                    ways.truncate(bottom);
                    return Some(at);
                }
                Op::Run { class, min, max } => {
                    let most = end.min(at.saturating_add(*max));
                    let n = codes[at..most].iter().position(|&c| !class.has(c)).unwrap_or(most - at);
                    if n >= *min {
                        op += 1;
                        if n > *min {
                            ways.push(Way { op, at: at + n - 1, at_min: at + min });
                        }
                        at += n;
                    }
                    n >= *min
                }
                Op::Fork { other } => {
                    ways.push(Way { op: *other, at, at_min: at });
                    op += 1;
                    true
                }
                Op::Jump { to } => {
                    op = *to;
                    true
                }
                Op::Look { wanted, end: after } => {
                    let found = self.run(codes, op + 1, at, end, ways).is_some();
                    op = *after;
                    found == *wanted
                }
            };
            if !alive {
                if ways.len() == bottom {
                    return None;
                }
                let way = ways.last_mut().expect("not empty");
                (op, at) = (way.op, way.at);
                if way.at > way.at_min {
                    way.at -= 1;
                } else {
                    ways.pop();
                }
            }
        }
    }
}

fn compile(node: &Node, ops: &mut Vec<Op>) {
    match node {
        Node::Class(class) => ops.push(Op::Run { class: class.clone(), min: 1, max: 1 }),
        Node::Seq(nodes) => nodes.iter().for_each(|n| compile(n, ops)),
        Node::Alt(nodes) => {
            let mut ends = Vec::new();
            for (i, n) in nodes.iter().enumerate() {
                let fork = ops.len();
                if i + 1 < nodes.len() {
                    ops.push(Op::Fork { other: 0 });
                }
                compile(n, ops);
                if i + 1 < nodes.len() {
                    ends.push(ops.len());
                    ops.push(Op::Jump { to: 0 });
                    ops[fork] = Op::Fork { other: ops.len() };
                }
            }
            let end = ops.len();
            ends.into_iter().for_each(|i| ops[i] = Op::Jump { to: end });
        }
        Node::Repeat { what, min, max } => {
            if let Some(class) = single_class(what) {
                ops.push(Op::Run { class, min: *min, max: *max });
                return;
            }
            (0..*min).for_each(|_| compile(what, ops));
            if *max == usize::MAX {
                let fork = ops.len();
                ops.push(Op::Fork { other: 0 });
                compile(what, ops);
                ops.push(Op::Jump { to: fork });
                ops[fork] = Op::Fork { other: ops.len() };
            } else {
                let mut forks = Vec::new();
                for _ in *min..*max {
                    forks.push(ops.len());
                    ops.push(Op::Fork { other: 0 });
                    compile(what, ops);
                }
                let end = ops.len();
                forks.into_iter().for_each(|i| ops[i] = Op::Fork { other: end });
            }
        }
        Node::Look { what, wanted } => {
            let look = ops.len();
            ops.push(Op::Look { wanted: *wanted, end: 0 });
            compile(what, ops);
            ops.push(Op::Match);
            ops[look] = Op::Look { wanted: *wanted, end: ops.len() };
        }
    }
}

/// The class of `[..]`, or of `(?=[..])([..])`, which is the intersection of two.
fn single_class(node: &Node) -> Option<CharClass> {
    match node {
        Node::Class(class) => Some(class.clone()),
        Node::Seq(nodes) => match &nodes[..] {
            [one] => single_class(one),
            [Node::Look { what, wanted: true }, other] => {
                let (mut a, b) = (single_class(what)?, single_class(other)?);
                assert!(a.high.is_empty() && b.high.is_empty(), "only collapsed classes are intersected");
                a.low.iter_mut().zip(b.low).for_each(|(a, b)| *a &= b);
                Some(a)
            }
            _ => None,
        },
        Node::Alt(nodes) => match &nodes[..] {
            [one] => single_class(one),
            _ => None,
        },
        _ => None,
    }
}

struct Parser {
    rest: Vec<char>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.rest.get(self.at).copied()
    }

    fn next(&mut self) -> char {
        self.at += 1;
        self.rest[self.at - 1]
    }

    fn eat(&mut self, text: &str) -> bool {
        let n = text.chars().count();
        let found = self.rest[self.at..].iter().copied().take(n).eq(text.chars());
        self.at += if found { n } else { 0 };
        found
    }

    fn alternatives(&mut self) -> Node {
        let mut alternatives = vec![self.sequence()];
        while self.eat("|") {
            alternatives.push(self.sequence());
        }
        Node::Alt(alternatives)
    }

    fn sequence(&mut self) -> Node {
        let mut nodes = Vec::new();
        while let Some(c) = self.peek() {
            if c == '|' || c == ')' {
                break;
            }
            let what = self.atom();
            nodes.push(self.repeated(what));
        }
        Node::Seq(nodes)
    }

    fn repeated(&mut self, what: Node) -> Node {
        let (min, max) = if self.eat("*") {
            (0, usize::MAX)
        } else if self.eat("+") {
            (1, usize::MAX)
        } else if self.eat("?") {
            (0, 1)
        } else if self.eat("{") {
            let min = self.number();
            let max = if self.eat(",") { self.number() } else { min };
            assert!(self.eat("}"), "a count ends with a brace");
            (min, max)
        } else {
            return what;
        };
        Node::Repeat { what: Box::new(what), min, max }
    }

    fn number(&mut self) -> usize {
        let mut n = 0;
        while let Some(digit) = self.peek().and_then(|c| c.to_digit(10)) {
            n = n * 10 + digit as usize;
            self.at += 1;
        }
        n
    }

    fn atom(&mut self) -> Node {
        let mut class = CharClass::default();
        match self.next() {
            '(' => {
                let wanted = if self.eat("?=") {
                    Some(true)
                } else if self.eat("?!") {
                    Some(false)
                } else {
                    self.eat("?:");
                    None
                };
                let what = self.alternatives();
                assert!(self.eat(")"), "a group ends with a parenthesis");
                return match wanted {
                    Some(wanted) => Node::Look { what: Box::new(what), wanted },
                    None => what,
                };
            }
            '[' => {
                let negated = self.eat("^");
                while !self.eat("]") {
                    self.class_entry(&mut class);
                }
                if negated {
                    class.negate();
                }
            }
            '\\' => {
                self.at -= 1;
                self.class_entry(&mut class);
            }
            c => class.add(c as u32, c as u32),
        }
        Node::Class(class)
    }

    /// A character, an escape or a range.
    fn class_entry(&mut self, class: &mut CharClass) {
        let first = match self.next() {
            '\\' => match self.next() {
                'p' => {
                    assert!(self.eat("{"), "a category has braces");
                    let name = self.next();
                    while self.next() != '}' {}
                    let (_, flag, code) = CATEGORIES.into_iter().find(|c| c.0 == name).expect("a known category");
                    class.add(code, code);
                    let ascii = &super::unicode::flags()[..128];
                    (0..128).filter(|&c| ascii[c as usize] & flag != 0).for_each(|c| class.add(c, c));
                    return;
                }
                's' => return [(9, 13), (32, 32)].into_iter().for_each(|(a, b)| class.add(a, b)),
                'S' => {
                    let mut space = CharClass::default();
                    [(9, 13), (32, 32)].into_iter().for_each(|(a, b)| space.add(a, b));
                    space.negate();
                    *class = space;
                    return;
                }
                'd' => return class.add('0' as u32, '9' as u32),
                'r' => '\r',
                'n' => '\n',
                't' => '\t',
                c => c,
            },
            c => c,
        };
        let is_range = self.peek() == Some('-') && self.rest.get(self.at + 1).is_some_and(|&c| c != ']');
        let last = if is_range {
            self.at += 1;
            match self.next() {
                '\\' => self.next(),
                c => c,
            }
        } else {
            first
        };
        class.add(first as u32, last as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(pattern: &str, text: &str) -> Option<usize> {
        let pattern = Pattern::new(pattern);
        let cps: Vec<u32> = text.chars().map(|c| c as u32).collect();
        let flags: Vec<u8> = cps.iter().map(|&c| super::super::unicode::flags()[c as usize]).collect();
        let codes = pattern.codes(&cps, &flags);
        pattern.match_at(&codes, 0, codes.len(), &mut Vec::new())
    }

    #[test]
    fn matches_like_a_backtracking_regex() {
        assert_eq!(find(r"\s+(?!\S)|\s+", "   x"), Some(2));
        assert_eq!(find(r"\s+(?!\S)|\s+", "   "), Some(3));
        assert_eq!(find(r"\s*[\r\n]+", "  \n  \nx"), Some(6));
        assert_eq!(find(r"\p{N}{1,3}", "1234"), Some(3));
        assert_eq!(find(r"(?:'[sS]|'[rR][eE])", "'RE"), Some(3));
        assert_eq!(find(r"(a|ab)(c|bcd)", "abcd"), Some(4));
        assert_eq!(find(r"(IMGIMG)((A|B|C){1,4})Z", "IMGIMGABCAZ"), Some(11));
        // `upper*` takes the last letter, which is neither upper nor lower, and must give it back to `lower+`.
        assert_eq!(find(r"((?=[\p{L}])([^a-z]))*((?=[\p{L}])([^A-Z]))+", "ABéC"), Some(3));
        assert_eq!(find(r"[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+", "-a b  c"), Some(4));
    }
}
