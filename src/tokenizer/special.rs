//! Finds special tokens in a text, before anything else is tokenised.
//!
//! llama.cpp searches the special tokens one by one, longest first, and cuts every occurrence out of the text that is left.
//! The result is equal here, but the text is scanned once for all of them: thousands of special tokens in a megabyte would
//! otherwise take seconds. Special tokens of equal length are taken by id. (llama.cpp's unstable sort leaves their order
//! open, which matters only if two of equal length overlap in the text.)

use std::collections::{BTreeMap, HashMap};

use crate::types::Token;
use crate::types::limits::SPECIAL_OCCURRENCES_MAX;

use super::vocab::{CONTROL, LSTRIP, RSTRIP, UNKNOWN, USER_DEFINED, Vocab};

/// A part of a text: a special token, or text to tokenise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment<'a> {
    /// A special token, cut out of the text.
    Token(Token),
    /// Text that has no special token in it.
    Text(&'a str),
}

/// The special tokens of a vocabulary.
#[derive(Debug)]
pub struct Specials {
    /// All special tokens, the longest text first.
    entries: Vec<SpecialEntry>,
    /// A trie of their texts: the child of a node for a byte. Node 0 is the root.
    trie: HashMap<(u32, u8), u32>,
    /// For each node of the trie, the entry whose text ends there.
    ends: Vec<Option<u32>>,
    first_bytes: [bool; 256],
}

#[derive(Debug)]
struct SpecialEntry {
    token: Token,
    text: String,
    /// Whether it is found even without `parse_special`.
    always: bool,
    lstrip: bool,
    rstrip: bool,
}

impl SpecialEntry {
    /// Whether a barrier prevents this token at offset `at`.
    fn is_barred(&self, at: usize, barriers: &[usize]) -> bool {
        let next = barriers.partition_point(|barrier| *barrier < at);
        !self.always && barriers.get(next).is_some_and(|barrier| *barrier < at + self.text.len())
    }
}

impl Specials {
    /// Takes control, unknown and user-defined tokens. Tokens that aren't UTF-8 are left out, because they can't occur in
    /// text.
    pub fn new(vocab: &Vocab) -> Specials {
        let mut entries: Vec<SpecialEntry> = (0..vocab.len() as u32)
            .filter(|&id| vocab.attrs[id as usize] & (CONTROL | USER_DEFINED | UNKNOWN) != 0)
            .filter_map(|id| {
                let attr = vocab.attrs[id as usize];
                Some(SpecialEntry {
                    token: Token(id),
                    text: String::from_utf8(vocab.texts.text(id).to_vec()).ok()?,
                    always: attr & (CONTROL | UNKNOWN) == 0,
                    lstrip: attr & LSTRIP != 0,
                    rstrip: attr & RSTRIP != 0,
                })
            })
            .collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.text.len()));
        let mut specials =
            Specials { entries: Vec::new(), trie: HashMap::new(), ends: vec![None], first_bytes: [false; 256] };
        for (rank, entry) in entries.iter().enumerate() {
            let mut node = 0;
            for &byte in entry.text.as_bytes() {
                let next = specials.ends.len() as u32;
                node = *specials.trie.entry((node, byte)).or_insert(next);
                if node == next {
                    specials.ends.push(None);
                }
            }
            specials.ends[node as usize] = Some(rank as u32);
            specials.first_bytes[entry.text.as_bytes()[0] as usize] = true;
        }
        specials.entries = entries;
        specials
    }

    /// The texts of control and unknown tokens.
    pub fn control_texts(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().filter(|entry| !entry.always).map(|entry| entry.text.as_str())
    }

    /// Cuts `text` at its special tokens; without `parse_special` only at user-defined ones. `barriers` are ascending
    /// offsets: a text that begins at or before a barrier and ends after it doesn't become a control token.
    pub fn cut<'a>(&self, text: &'a str, parse_special: bool, barriers: &[usize]) -> Vec<Fragment<'a>> {
        let mut found = match self.occurrences(text, parse_special, barriers) {
            Some(found) if found.is_empty() => {
                return if text.is_empty() { Vec::new() } else { vec![Fragment::Text(text)] };
            }
            found => found,
        };
        let mut cuts = Cuts { texts: BTreeMap::from([(0, text.len())]), tokens: BTreeMap::new() };
        match &mut found {
            Some(found) => {
                // Sorted by rank, then by offset.
                found.sort_unstable();
                for &(rank, at) in &*found {
                    cuts.take(text, &self.entries[rank as usize], at as usize);
                }
            }
            None => {
                for entry in self.entries.iter().filter(|entry| parse_special || entry.always) {
                    for (start, end) in cuts.texts.clone() {
                        let mut from = start;
                        while let Some(i) = text[from..end].find(&entry.text) {
                            if !entry.is_barred(from + i, barriers) {
                                cuts.take(text, entry, from + i);
                            }
                            from += i + entry.text.len();
                        }
                    }
                }
            }
        }
        let texts = cuts.texts.into_iter().map(|(start, end)| (start, Fragment::Text(&text[start..end])));
        let tokens = cuts.tokens.into_iter().map(|(start, token)| (start, Fragment::Token(token)));
        let mut pieces: Vec<(usize, Fragment)> = texts.chain(tokens).collect();
        pieces.sort_unstable_by_key(|(start, _)| *start);
        pieces.into_iter().map(|(_, piece)| piece).collect()
    }

    /// Every occurrence of a special token's text, as `(rank, offset)`; `None` if there are more than `SPECIAL_OCCURRENCES_MAX`.
    fn occurrences(&self, text: &str, parse_special: bool, barriers: &[usize]) -> Option<Vec<(u32, u32)>> {
        let bytes = text.as_bytes();
        let mut found = Vec::new();
        for (at, &first) in bytes.iter().enumerate() {
            if !self.first_bytes[first as usize] {
                continue;
            }
            let mut node = 0;
            for &byte in &bytes[at..] {
                match self.trie.get(&(node, byte)) {
                    Some(&next) => node = next,
                    None => break,
                }
                if let Some(rank) = self.ends[node as usize]
                    && (parse_special || self.entries[rank as usize].always)
                    && (barriers.is_empty() || !self.entries[rank as usize].is_barred(at, barriers))
                {
                    if found.len() == SPECIAL_OCCURRENCES_MAX {
                        return None;
                    }
                    found.push((rank, at as u32));
                }
            }
        }
        Some(found)
    }
}

/// The parts that are still text, as start and end, and the special tokens found so far.
struct Cuts {
    texts: BTreeMap<usize, usize>,
    tokens: BTreeMap<usize, Token>,
}

impl Cuts {
    /// Cuts out the special token at `at`, if that whole range is still text.
    fn take(&mut self, text: &str, entry: &SpecialEntry, at: usize) {
        let after = at + entry.text.len();
        let Some((&start, &end)) = self.texts.range(..=at).next_back() else { return };
        if after > end {
            return;
        }
        let is_space = |b: &u8| matches!(b, 9..=13 | 32);
        let (mut left_end, mut right) = (at, after);
        if entry.lstrip {
            left_end -= text.as_bytes()[start..at].iter().rev().take_while(|b| is_space(b)).count();
        }
        if entry.rstrip {
            right += text.as_bytes()[after..end].iter().take_while(|b| is_space(b)).count();
        }
        self.texts.remove(&start);
        if left_end > start {
            self.texts.insert(start, left_end);
        }
        if end > right {
            self.texts.insert(right, end);
        }
        self.tokens.insert(at, entry.token);
    }
}
