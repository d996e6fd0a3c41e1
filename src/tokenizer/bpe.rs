//! Byte-pair encoding by merge rank, inside the words that the pre-tokenizer cuts.
//!
//! Why not the `tokenizers` crate's `BPE`: it requires every merge's result in the vocabulary and doesn't allow what
//! llama.cpp does with other results, allocates a string for each token, and keeps its word cache behind a lock that all
//! HTTP threads share. This code takes no lock, and a word of a megabyte takes n log n.

use std::borrow::Cow;
use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::gguf::GgufFile;
use crate::types::limits::BPE_KEPT_TEXT_BYTES_MAX;

use super::byte_alphabet;
use super::pre::{Family, Pre};
use super::split::Chars;
use super::text_map::{PairMap, TextMap};
use super::unicode;
use super::vocab::Vocab;

/// The value for "no symbol" and "no token".
const NONE: u32 = u32::MAX;
/// Words up to this many symbols merge by scanning for the best pair; longer ones through a heap.
const SCAN_MAX: usize = 32;

/// The merges of a vocabulary, and the tokens of their results.
#[derive(Debug)]
pub struct Bpe {
    pre: Pre,
    /// Drops white space before cutting (the model kind "whitespace").
    drops_space: bool,
    lowercase: bool,
    /// All texts that merges take or give, as bytes. With `byte_encode` the first 256 are the single bytes.
    symbols: TextMap,
    pairs: PairMap,
    /// The token of each symbol, or `NONE`.
    tokens: Vec<u32>,
    /// With `byte_encode`: the bytes of every token, and its id. Otherwise `Vocab::texts` is used instead.
    words: TextMap,
    word_ids: Vec<u32>,
    /// For each byte, the tokens that stand for it inside a symbol that is no token.
    byte_tokens: Vec<Vec<u32>>,
}

/// The buffers of one call. Each thread keeps them for the next call, unless they have grown large.
#[derive(Default)]
struct Scratch {
    chars: Chars,
    /// Where words end, in characters. `cut` is the next list while it is made.
    ends: Vec<u32>,
    cut: Vec<u32>,
    /// The symbols of a word: each symbol's number, and the byte of the word at which it ends.
    row: Vec<(u32, u32)>,
    ranks: Vec<(u32, u32)>,
    next: Vec<u32>,
    prev: Vec<u32>,
    heap: BinaryHeap<Reverse<u64>>,
}

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

impl Bpe {
    /// Reads the merges of `gguf`.
    ///
    /// # Errors
    /// The file has no merges.
    pub fn new(gguf: &GgufFile, vocab: &Vocab, pre: Pre) -> Result<Bpe, String> {
        let merges = match (gguf.strs("tokenizer.ggml.merges"), pre.family) {
            (Some(merges), _) => merges.clone(),
            (None, Family::KimiK2) => Default::default(),
            (None, _) => return Err("tokenizer.ggml.merges is missing".to_owned()),
        };
        let spell = |text: &[u8]| if pre.byte_encode { byte_alphabet::decode(text) } else { Some(text.to_vec()) };

        let mut words = TextMap::with_capacity(if pre.byte_encode { vocab.len() } else { 0 });
        let mut word_ids = Vec::new();
        if pre.byte_encode {
            for id in 0..vocab.len() as u32 {
                if let Some(bytes) = byte_alphabet::decode(vocab.texts.text(id)) {
                    words.insert(&bytes);
                    word_ids.push(id);
                }
            }
        }

        let mut symbols = TextMap::with_capacity(merges.len() + 256);
        if pre.byte_encode {
            (0..=255u8).for_each(|b| {
                symbols.insert(&[b]);
            });
        }
        let mut pairs = PairMap::with_capacity(merges.len());
        for (rank, merge) in merges.iter().enumerate() {
            // A space separates the halves of a merge. It is never the first character, because a half may begin with a
            // space.
            let Some(space) = merge.iter().skip(1).position(|&b| b == b' ').map(|i| i + 1) else { continue };
            let (Some(left), Some(right)) = (spell(&merge[..space]), spell(&merge[space + 1..])) else { continue };
            if left.is_empty() || right.is_empty() {
                continue;
            }
            let (l, _) = symbols.insert(&left);
            let (r, _) = symbols.insert(&right);
            let (merged, _) = symbols.insert(&[left, right].concat());
            pairs.insert(l, r, rank as u32, merged);
        }
        let token = |text: &[u8]| match pre.byte_encode {
            true => words.get(text).map(|i| word_ids[i as usize]),
            false => vocab.texts.get(text),
        };
        let tokens = (0..symbols.len() as u32).map(|s| token(symbols.text(s)).unwrap_or(NONE)).collect();
        let byte_tokens = (0..=255u8)
            .map(|b| match pre.byte_encode {
                // Like llama.cpp, looks up each byte of the spelling as a token.
                true => byte_alphabet::encode(&[b]).bytes().filter_map(|spelled| vocab.texts.get(&[spelled])).collect(),
                false => vocab.texts.get(format!("<0x{b:02X}>").as_bytes()).into_iter().collect(),
            })
            .collect();
        let drops_space = vocab.model == "whitespace";
        let lowercase = vocab.lowercase;
        Ok(Bpe { pre, drops_space, lowercase, symbols, pairs, tokens, words, word_ids, byte_tokens })
    }

    /// Whether every byte of a text ends up in some token, because each single byte is a token.
    pub fn keeps_all(&self) -> bool {
        self.pre.byte_encode && self.tokens[..256].iter().all(|&token| token != NONE)
    }

    /// Appends the ids of a text without special tokens.
    pub fn encode(&self, vocab: &Vocab, text: &str, out: &mut Vec<u32>) {
        let mut scratch = SCRATCH.take();
        self.encode_with(vocab, text, &mut scratch, out);
        if text.len() <= BPE_KEPT_TEXT_BYTES_MAX {
            SCRATCH.set(scratch);
        }
    }

    fn encode_with(&self, vocab: &Vocab, text: &str, scratch: &mut Scratch, out: &mut Vec<u32>) {
        if !self.drops_space {
            return self.encode_piece(vocab, text, scratch, out);
        }
        let is_space = |c: char| unicode::flags()[c as usize] & unicode::SPACE != 0;
        for piece in text.split(is_space).filter(|piece| !piece.is_empty()) {
            if self.lowercase {
                let lower = |c: char| char::from_u32(unicode::lower(c as u32)).unwrap_or(c);
                self.encode_piece(vocab, &piece.chars().map(lower).collect::<String>(), scratch, out);
            } else {
                self.encode_piece(vocab, piece, scratch, out);
            }
        }
    }

    fn encode_piece(&self, vocab: &Vocab, text: &str, scratch: &mut Scratch, out: &mut Vec<u32>) {
        let text = match self.pre.escape_spaces {
            true => Cow::Owned(text.replace(' ', "\u{2581}")),
            false => Cow::Borrowed(text),
        };
        scratch.chars.read(&text);
        scratch.ends.clear();
        scratch.ends.push(scratch.chars.cps.len() as u32);
        for split in &self.pre.splits {
            let cut = split.apply(&scratch.chars, &scratch.ends, std::mem::take(&mut scratch.cut));
            scratch.cut = std::mem::replace(&mut scratch.ends, cut);
        }
        let mut start = 0;
        for word in 0..scratch.ends.len() {
            let end = scratch.chars.starts[scratch.ends[word] as usize] as usize;
            let word = &text[start..end];
            start = end;
            match self.pre.family {
                Family::Mmbert => self.encode_metaspace(vocab, word, scratch, out),
                _ => self.encode_word(vocab, word.as_bytes(), scratch, out),
            }
        }
    }

    /// Encodes one line in the metaspace way: the line begins with U+2581, and each U+2581 begins a word.
    fn encode_metaspace(&self, vocab: &Vocab, line: &str, scratch: &mut Scratch, out: &mut Vec<u32>) {
        const SPACE: &str = "\u{2581}";
        if line.bytes().all(|b| b == b'\n') {
            return self.encode_word(vocab, line.as_bytes(), scratch, out);
        }
        let rest = line.strip_prefix(SPACE).unwrap_or(line);
        for word in rest.split(SPACE) {
            self.encode_word(vocab, format!("{SPACE}{word}").as_bytes(), scratch, out);
        }
    }

    fn token_of(&self, vocab: &Vocab, word: &[u8]) -> Option<u32> {
        match self.pre.byte_encode {
            true => self.words.get(word).map(|i| self.word_ids[i as usize]),
            false => vocab.texts.get(word),
        }
    }

    fn encode_word(&self, vocab: &Vocab, word: &[u8], scratch: &mut Scratch, out: &mut Vec<u32>) {
        let newlines_whole = matches!(self.pre.family, Family::Gemma4 | Family::Mmbert);
        if (self.pre.ignore_merges || (newlines_whole && word.iter().all(|&b| b == b'\n')))
            && let Some(token) = self.token_of(vocab, word)
        {
            return out.push(token);
        }
        scratch.row.clear();
        if self.pre.byte_encode {
            scratch.row.extend(word.iter().enumerate().map(|(i, &b)| (u32::from(b), i as u32 + 1)));
        } else {
            let text = std::str::from_utf8(word).expect("words are cut between characters");
            let symbol = |(i, c): (usize, char)| {
                let end = i + c.len_utf8();
                (self.symbols.get(&word[i..end]).unwrap_or(NONE), end as u32)
            };
            scratch.row.extend(text.char_indices().map(symbol));
        }
        match scratch.row.len() {
            0..=SCAN_MAX => self.merge_by_scan(scratch),
            _ => self.merge_by_heap(scratch),
        }
        let mut start = 0;
        for &(symbol, end) in &scratch.row {
            let text = &word[start..end as usize];
            start = end as usize;
            let token = match symbol {
                NONE => self.token_of(vocab, text).unwrap_or(NONE),
                _ => self.tokens[symbol as usize],
            };
            match token {
                NONE => text.iter().for_each(|&b| out.extend_from_slice(&self.byte_tokens[b as usize])),
                _ => out.push(token),
            }
        }
    }

    /// Rank and result of merging two symbols; `NONE` if they don't merge.
    #[inline]
    fn merge(&self, left: u32, right: u32) -> (u32, u32) {
        if left == NONE || right == NONE {
            return (NONE, NONE);
        }
        self.pairs.get(left, right).unwrap_or((NONE, NONE))
    }

    /// Repeatedly merges the pair with the lowest rank, the leftmost of equals, until no pair merges.
    fn merge_by_scan(&self, scratch: &mut Scratch) {
        let Scratch { row, ranks, .. } = scratch;
        ranks.clear();
        ranks.extend(row.windows(2).map(|pair| self.merge(pair[0].0, pair[1].0)));
        loop {
            let mut best = (NONE, 0);
            for (i, &(rank, _)) in ranks.iter().enumerate() {
                if rank < best.0 {
                    best = (rank, i);
                }
            }
            let (rank, i) = best;
            if rank == NONE {
                return;
            }
            row[i] = (ranks[i].1, row[i + 1].1);
            row.remove(i + 1);
            ranks.remove(i);
            if i > 0 {
                ranks[i - 1] = self.merge(row[i - 1].0, row[i].0);
            }
            if i < ranks.len() {
                ranks[i] = self.merge(row[i].0, row[i + 1].0);
            }
        }
    }

    /// Like `merge_by_scan`, with a heap of `rank << 32 | place`. An entry is outdated if the pair now at its place has
    /// another rank, since each rank belongs to one pair of symbols.
    fn merge_by_heap(&self, scratch: &mut Scratch) {
        let Scratch { row, next, prev, heap, .. } = scratch;
        let n = row.len();
        next.clear();
        next.extend((1..=n as u32).map(|i| if i == n as u32 { NONE } else { i }));
        prev.clear();
        prev.extend((0..n as u32).map(|i| i.wrapping_sub(1)));
        let entry = |rank: u32, at: u32| Reverse(u64::from(rank) << 32 | u64::from(at));
        let first = row.windows(2).enumerate().filter_map(|(i, pair)| {
            let (rank, _) = self.merge(pair[0].0, pair[1].0);
            (rank != NONE).then(|| entry(rank, i as u32))
        });
        *heap = first.collect::<Vec<_>>().into();
        while let Some(Reverse(top)) = heap.pop() {
            let (rank, left) = ((top >> 32) as u32, top as u32 as usize);
            // A symbol that was merged into its left neighbour has end 0.
            let right = next[left];
            if row[left].1 == 0 || right == NONE {
                continue;
            }
            let right = right as usize;
            let (now, merged) = self.merge(row[left].0, row[right].0);
            if now != rank {
                continue;
            }
            row[left] = (merged, row[right].1);
            row[right].1 = 0;
            next[left] = next[right];
            if next[left] != NONE {
                prev[next[left] as usize] = left as u32;
                let (rank, _) = self.merge(merged, row[next[left] as usize].0);
                if rank != NONE {
                    heap.push(entry(rank, left as u32));
                }
            }
            if prev[left] != NONE {
                let (rank, _) = self.merge(row[prev[left] as usize].0, merged);
                if rank != NONE {
                    heap.push(entry(rank, prev[left]));
                }
            }
        }
        row.retain(|&(_, end)| end != 0);
    }
}
