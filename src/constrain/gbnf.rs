//! Converts llama.cpp's grammars, GBNF, to Lark.
//!
//! GBNF has no lexer: its rules go down to characters. Lark in llguidance has a lexer, which reads the longest text
//! that some terminal matches. A rule without recursion, and the items beside it, can become one terminal without
//! changing the language. So the longest regular parts become terminals, and rules remain where there is recursion.
//! Every text of the Lark grammar is a text of the GBNF grammar.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::types::limits::{GRAMMAR_DEPTH_MAX, GRAMMAR_REPEAT_MAX};

/// Whether a grammar is written in GBNF: it uses `::=`, which Lark doesn't have outside strings.
pub fn is_gbnf(grammar: &str) -> bool {
    grammar.lines().any(|line| {
        let rest = line.trim_start().trim_start_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        rest.len() < line.trim_start().len() && rest.trim_start().starts_with("::=")
    })
}

#[derive(Debug)]
enum Item {
    /// A regular expression for one character.
    Regex(String),
    Text(String),
    Rule(usize),
    Group(Vec<Vec<Item>>),
    /// An item, its least count and its largest; `None`: no largest.
    Repeat(Box<Item>, u64, Option<u64>),
}

/// Converts a GBNF grammar.
///
/// # Errors
/// What is wrong and in which line, for the client.
pub fn to_lark(grammar: &str) -> Result<String, String> {
    let mut parser = Parser { rest: grammar, line: 1, names: HashMap::new(), rules: Vec::new() };
    parser.grammar()?;
    let Parser { names, rules, .. } = parser;
    let root = *names.get("root").ok_or("has no rule named root")?;
    let mut order: Vec<(&String, &usize)> = names.iter().collect();
    order.sort_by_key(|(_, id)| **id);
    let mut bodies = Vec::new();
    for ((name, _), body) in order.iter().zip(rules) {
        bodies.push(body.ok_or_else(|| format!("has no rule named {name}"))?);
    }
    let regular = regular(&bodies);
    let mut out = Writer { regular: &regular, lark: String::new(), terminals: 0 };
    let root = if regular[root] { format!("T{root}") } else { format!("r{root}") };
    let _ = writeln!(out.lark, "start: {root}");
    for (id, body) in bodies.iter().enumerate() {
        let (kind, text) = if regular[id] { ('T', terminal(body)) } else { ('r', out.alternatives(body)) };
        let _ = writeln!(out.lark, "{kind}{id}: {text}");
    }
    Ok(out.lark)
}

/// For each rule whether it is free of recursion, so that it is a regular expression. Starts with rules that refer to
/// no other.
fn regular(bodies: &[Vec<Vec<Item>>]) -> Vec<bool> {
    let named: Vec<Vec<usize>> = bodies.iter().map(|body| names_in(body)).collect();
    let mut users = vec![Vec::new(); bodies.len()];
    let mut open: Vec<usize> = named.iter().map(Vec::len).collect();
    for (id, names) in named.iter().enumerate() {
        names.iter().for_each(|name| users[*name].push(id));
    }
    let mut regular = vec![false; bodies.len()];
    let mut todo: Vec<usize> = (0..bodies.len()).filter(|id| open[*id] == 0).collect();
    while let Some(id) = todo.pop() {
        regular[id] = true;
        for user in &users[id] {
            open[*user] -= 1;
            if open[*user] == 0 {
                todo.push(*user);
            }
        }
    }
    regular
}

fn names_in(alternatives: &[Vec<Item>]) -> Vec<usize> {
    let mut names = Vec::new();
    for item in alternatives.iter().flatten() {
        item.names(&mut names);
    }
    names
}

impl Item {
    fn names(&self, into: &mut Vec<usize>) {
        match self {
            Item::Regex(_) | Item::Text(_) => {}
            Item::Rule(id) => into.push(*id),
            Item::Group(alternatives) => into.extend(names_in(alternatives)),
            Item::Repeat(item, ..) => item.names(into),
        }
    }

    fn is_regular(&self, regular: &[bool]) -> bool {
        let mut names = Vec::new();
        self.names(&mut names);
        names.iter().all(|id| regular[*id])
    }
}

/// Alternatives of regular items, as a terminal.
fn terminal(alternatives: &[Vec<Item>]) -> String {
    let all: Vec<String> = alternatives.iter().map(|sequence| terminal_sequence(sequence.iter())).collect();
    all.join(" | ")
}

fn terminal_sequence<'a>(items: impl Iterator<Item = &'a Item>) -> String {
    let all: Vec<String> = items.map(terminal_item).collect();
    if all.is_empty() { "\"\"".to_owned() } else { all.join(" ") }
}

fn terminal_item(item: &Item) -> String {
    match item {
        Item::Regex(regex) => format!("/{regex}/"),
        // Lark's strings are JSON's, except for one character that Lark requires to be escaped.
        Item::Text(text) => serde_json::Value::from(text.as_str()).to_string().replace('\u{7f}', "\\u007f"),
        Item::Rule(id) => format!("T{id}"),
        Item::Group(alternatives) => format!("({})", terminal(alternatives)),
        Item::Repeat(item, low, high) => repeated(&format!("({})", terminal_item(item)), *low, *high),
    }
}

fn repeated(what: &str, low: u64, high: Option<u64>) -> String {
    match (low, high) {
        (0, None) => format!("{what}*"),
        (1, None) => format!("{what}+"),
        (0, Some(1)) => format!("{what}?"),
        (0, Some(0)) => "\"\"".to_owned(),
        (low, None) => format!("{what}{{{low}}} {what}*"),
        (low, Some(high)) => format!("{what}{{{low},{high}}}"),
    }
}

/// Writes rules, and a terminal for each run of regular items in a rule.
struct Writer<'a> {
    regular: &'a [bool],
    lark: String,
    terminals: usize,
}

impl Writer<'_> {
    fn alternatives(&mut self, alternatives: &[Vec<Item>]) -> String {
        let all: Vec<String> = alternatives.iter().map(|sequence| self.sequence(sequence)).collect();
        all.join(" | ")
    }

    fn sequence(&mut self, items: &[Item]) -> String {
        let mut all = Vec::new();
        for stretch in items.chunk_by(|a, b| a.is_regular(self.regular) && b.is_regular(self.regular)) {
            if stretch[0].is_regular(self.regular) {
                let name = format!("S{}", self.terminals);
                self.terminals += 1;
                let _ = writeln!(self.lark, "{name}: {}", terminal_sequence(stretch.iter()));
                all.push(name);
            } else {
                all.extend(stretch.iter().map(|item| self.item(item)));
            }
        }
        if all.is_empty() { "\"\"".to_owned() } else { all.join(" ") }
    }

    fn item(&mut self, item: &Item) -> String {
        match item {
            Item::Rule(id) => format!("r{id}"),
            Item::Group(alternatives) => format!("({})", self.alternatives(alternatives)),
            Item::Repeat(item, low, high) => {
                let what = self.item(item);
                repeated(&format!("({what})"), *low, *high)
            }
            Item::Regex(_) | Item::Text(_) => terminal_item(item),
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
    line: usize,
    /// Numbers of the rules by name, in the order in which the names appear.
    names: HashMap<String, usize>,
    rules: Vec<Option<Vec<Vec<Item>>>>,
}

impl Parser<'_> {
    fn grammar(&mut self) -> Result<(), String> {
        self.space(true);
        while !self.rest.is_empty() {
            let name = self.name().ok_or_else(|| self.wrong("a rule's name must stand here"))?;
            self.space(false);
            self.expect("::=")?;
            self.space(true);
            let body = self.alternatives(0)?;
            let id = self.id_of(&name);
            if self.rules[id].replace(body).is_some() {
                return Err(self.wrong(&format!("there are two rules named {name}")));
            }
            if !self.rest.is_empty() && !self.rest.starts_with(['\n', '\r']) {
                return Err(self.wrong("a line must end here"));
            }
            self.space(true);
        }
        Ok(())
    }

    fn alternatives(&mut self, depth: usize) -> Result<Vec<Vec<Item>>, String> {
        if depth > GRAMMAR_DEPTH_MAX {
            return Err(self.wrong(&format!("nested deeper than {GRAMMAR_DEPTH_MAX}")));
        }
        let mut all = vec![self.sequence(depth)?];
        while self.eat("|") {
            self.space(true);
            all.push(self.sequence(depth)?);
        }
        Ok(all)
    }

    fn sequence(&mut self, depth: usize) -> Result<Vec<Item>, String> {
        let mut items: Vec<Item> = Vec::new();
        while let Some(first) = self.rest.chars().next() {
            match first {
                '"' => items.push(Item::Text(self.literal()?)),
                '[' => items.push(Item::Regex(self.class()?)),
                '.' => {
                    self.rest = &self.rest[1..];
                    items.push(Item::Regex("(?s:.)".to_owned()));
                }
                '(' => {
                    self.rest = &self.rest[1..];
                    self.space(true);
                    let group = self.alternatives(depth + 1)?;
                    self.expect(")")?;
                    items.push(Item::Group(group));
                }
                '*' | '+' | '?' | '{' => {
                    let (low, high) = self.count()?;
                    let Some(item) = items.pop() else { return Err(self.wrong("there is nothing to repeat")) };
                    items.push(Item::Repeat(Box::new(item), low, high));
                }
                '<' | '!' => return Err(self.wrong("tokens in GBNF aren't supported, use Lark for them")),
                _ => match self.name() {
                    Some(name) => items.push(Item::Rule(self.id_of(&name))),
                    None => break,
                },
            }
            self.space(depth > 0);
        }
        Ok(items)
    }

    fn count(&mut self) -> Result<(u64, Option<u64>), String> {
        for (sign, count) in [("*", (0, None)), ("+", (1, None)), ("?", (0, Some(1)))] {
            if self.eat(sign) {
                return Ok(count);
            }
        }
        let wrong = self.wrong("a repetition is {N}, {N,} or {N,M}");
        let inner = self.rest[1..].split_once('}').ok_or(wrong.clone())?;
        self.rest = inner.1;
        let number = |text: &str| match text.trim().parse::<u64>() {
            Ok(n) if n > GRAMMAR_REPEAT_MAX => Err(self.wrong(&format!("counts to {n}, at most {GRAMMAR_REPEAT_MAX}"))),
            Ok(n) => Ok(n),
            Err(_) => Err(wrong.clone()),
        };
        match inner.0.split_once(',') {
            None => number(inner.0).map(|n| (n, Some(n))),
            Some((low, high)) if high.trim().is_empty() => Ok((number(low)?, None)),
            Some((low, high)) => {
                let (low, high) = (if low.trim().is_empty() { 0 } else { number(low)? }, number(high)?);
                if low > high { Err(wrong) } else { Ok((low, Some(high))) }
            }
        }
    }

    fn literal(&mut self) -> Result<String, String> {
        self.rest = &self.rest[1..];
        let mut text = String::new();
        while !self.eat("\"") {
            text.push(self.character()?);
        }
        Ok(text)
    }

    fn class(&mut self) -> Result<String, String> {
        self.rest = &self.rest[1..];
        let mut class = String::from(if self.eat("^") { "[^" } else { "[" });
        let empty = class.len();
        while !self.eat("]") {
            let first = self.character()?;
            class += &code(first);
            if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                self.rest = &self.rest[1..];
                let last = self.character()?;
                if last < first {
                    return Err(self.wrong("a range goes backwards"));
                }
                class += "-";
                class += &code(last);
            }
        }
        match (class.len() == empty, empty) {
            (false, _) => Ok(class + "]"),
            (true, 1) => Err(self.wrong("a class without characters")),
            (true, _) => Ok("(?s:.)".to_owned()),
        }
    }

    /// Reads one character, which may be escaped.
    fn character(&mut self) -> Result<char, String> {
        let mut chars = self.rest.chars();
        let c = match chars.next() {
            None | Some('\n') => return Err(self.wrong("a string or class doesn't end")),
            Some('\\') => match chars.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some(hex @ ('x' | 'u' | 'U')) => {
                    let digits = [('x', 2), ('u', 4), ('U', 8)].iter().find(|(c, _)| *c == hex).map_or(0, |(_, n)| *n);
                    let text: String = chars.by_ref().take(digits).collect();
                    let code = u32::from_str_radix(&text, 16).ok().filter(|_| text.len() == digits);
                    code.and_then(char::from_u32)
                        .ok_or_else(|| self.wrong("the escape sequence names no Unicode character"))?
                }
                Some(c @ ('"' | '\\' | '[' | ']' | '-' | '^' | '/' | '\'')) => c,
                _ => return Err(self.wrong("no such escape")),
            },
            Some(c) => c,
        };
        self.rest = chars.as_str();
        Ok(c)
    }

    fn name(&mut self) -> Option<String> {
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')));
        let (name, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        (!name.is_empty()).then(|| name.to_owned())
    }

    fn id_of(&mut self, name: &str) -> usize {
        let next = self.rules.len();
        let id = *self.names.entry(name.to_owned()).or_insert(next);
        if id == next {
            self.rules.push(None);
        }
        id
    }

    /// Skips spaces and comments, and line ends if `lines`.
    fn space(&mut self, lines: bool) {
        loop {
            let rest = self.rest.trim_start_matches([' ', '\t']);
            self.rest = match rest.chars().next() {
                Some('#') => rest.find(['\n', '\r']).map_or("", |end| &rest[end..]),
                Some('\n') if lines => {
                    self.line += 1;
                    &rest[1..]
                }
                Some('\r') if lines => &rest[1..],
                _ => {
                    self.rest = rest;
                    return;
                }
            };
        }
    }

    fn eat(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, text: &str) -> Result<(), String> {
        if self.eat(text) { Ok(()) } else { Err(self.wrong(&format!("{text} must stand here"))) }
    }

    fn wrong(&self, what: &str) -> String {
        format!("line {}: {what}", self.line)
    }
}

/// A character as a regular expression, valid inside and outside a class, without anything that Lark would interpret.
fn code(c: char) -> String {
    format!("\\x{{{:x}}}", u32::from(c))
}
