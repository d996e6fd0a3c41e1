//! SentencePiece-style BPE: two neighbours merge if their joined text is a token. The merge with the best score comes
//! first.
//!
//! The vocabulary has scores and no merge ranks. The `tokenizers` crate's `BPE` can't express that: equal scores are
//! ordered by place, and characters that are no token may be half of one.

use std::collections::BinaryHeap;

use super::vocab::Vocab;

const NONE: u32 = u32::MAX;

/// The token of each single byte. Everything else is in the vocabulary.
#[derive(Debug)]
pub struct Spm {
    byte_tokens: [Option<u32>; 256],
}

/// A merge that was possible when it was pushed. Ordered by score, then from left to right.
struct Merge {
    score: f32,
    left: u32,
    /// Bytes of both halves together. If their size differs now, the merge is outdated.
    bytes: u32,
}

impl PartialEq for Merge {
    fn eq(&self, other: &Merge) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Merge {}
impl PartialOrd for Merge {
    fn partial_cmp(&self, other: &Merge) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Merge {
    fn cmp(&self, other: &Merge) -> std::cmp::Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl Spm {
    /// Looks up the tokens of single bytes in `vocab`.
    pub fn new(vocab: &Vocab) -> Spm {
        let byte_tokens = std::array::from_fn(|b| {
            let spelled = vocab.texts.get(format!("<0x{b:02X}>").as_bytes());
            spelled.or_else(|| vocab.texts.get(&[b as u8]))
        });
        Spm { byte_tokens }
    }

    /// Appends the ids of a text with escaped spaces.
    ///
    /// # Errors
    /// A byte has no token; the message names it.
    pub fn encode(&self, vocab: &Vocab, text: &str, out: &mut Vec<u32>) -> Result<(), String> {
        let bytes = text.as_bytes();
        // Symbol i is the bytes starts[i]..starts[i] + sizes[i]. A symbol that was merged into another has size 0.
        let starts: Vec<u32> = text.char_indices().map(|(at, _)| at as u32).collect();
        let n = starts.len();
        let mut sizes: Vec<u32> = text.chars().map(|c| c.len_utf8() as u32).collect();
        let mut next: Vec<u32> = (1..=n as u32).map(|i| if i == n as u32 { NONE } else { i }).collect();
        let mut prev: Vec<u32> = (0..n as u32).map(|i| i.wrapping_sub(1)).collect();
        let merge_of = |sizes: &[u32], left: u32, right: u32| {
            let total = sizes[left as usize] + sizes[right as usize];
            let start = starts[left as usize] as usize;
            let token = vocab.texts.get(&bytes[start..start + total as usize])?;
            // Adding zero turns -0 into 0, so that the two compare as equal.
            Some(Merge { score: vocab.scores[token as usize] + 0.0, left, bytes: total })
        };
        let mut heap: BinaryHeap<Merge> =
            (1..n as u32).filter_map(|right| merge_of(&sizes, right - 1, right)).collect::<Vec<_>>().into();
        while let Some(Merge { left, bytes: total, .. }) = heap.pop() {
            let right = next[left as usize];
            if sizes[left as usize] == 0 || right == NONE || sizes[left as usize] + sizes[right as usize] != total {
                continue;
            }
            sizes[left as usize] = total;
            sizes[right as usize] = 0;
            let after = next[right as usize];
            next[left as usize] = after;
            if after != NONE {
                prev[after as usize] = left;
                heap.extend(merge_of(&sizes, left, after));
            }
            let before = prev[left as usize];
            if before != NONE {
                heap.extend(merge_of(&sizes, before, left));
            }
        }
        let mut symbol = if n == 0 { NONE } else { 0 };
        while symbol != NONE {
            let (start, size) = (starts[symbol as usize] as usize, sizes[symbol as usize] as usize);
            let piece = &bytes[start..start + size];
            match vocab.texts.get(piece) {
                Some(token) => out.push(token),
                None => {
                    for &byte in piece {
                        let token = self.byte_tokens[byte as usize];
                        out.push(token.ok_or_else(|| format!("the vocabulary has no token for byte 0x{byte:02X}"))?);
                    }
                }
            }
            symbol = next[symbol as usize];
        }
        Ok(())
    }
}
