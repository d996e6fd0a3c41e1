//! Where in a text a few tokens occur: for each end of a text the places where it goes on as it did before.
//!
//! Hash chains as in LZ77 coders (zlib's `deflate`): a table leads from a hash of `ENDING` tokens to the latest place where they
//! stand, and each place to the one before it with the same hash. A token costs one write in each, and looking for the longest of
//! `PLACES_MAX` places some comparisons. The text itself is the caller's.

use crate::types::Token;
use crate::types::limits::GUESS_INDEX_TOKENS_MAX;

/// Tokens that are looked up. Fewer match by accident.
pub const ENDING: usize = 3;

/// Places that are looked at, latest first.
const PLACES_MAX: usize = 8;

/// Longer matches are taken to be equally good.
const MATCH_MAX: usize = 32;

/// The least entries of a table.
const ENTRIES_MIN: usize = 1_024;

/// A place in a text from which it may go on as another does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of the token that comes next there.
    pub at: usize,
    /// Tokens before it that are the same as in the other, at least `ENDING`.
    pub matched: usize,
}

/// Remembers where each `ENDING` tokens of one growing text stand: the latest `GUESS_INDEX_TOKENS_MAX` of them.
#[derive(Debug, Default)]
pub struct Index {
    /// By hash: one more than the latest place, 0 for none. A place is the index of the last of the tokens.
    latest: Vec<u32>,
    /// By place, modulo its length: one more than the place before with the same hash, 0 for none.
    earlier: Vec<u32>,
    /// Tokens of the text that are in here.
    indexed: usize,
}

impl Index {
    /// Begins another text that will have about `tokens` tokens. Takes 8 bytes for each, at most 8 x `GUESS_INDEX_TOKENS_MAX`.
    pub fn reset(&mut self, tokens: usize) {
        let entries = tokens.next_power_of_two().clamp(ENTRIES_MIN, GUESS_INDEX_TOKENS_MAX);
        self.latest.clear();
        self.latest.resize(entries, 0);
        // What this holds of another text is never led to.
        self.earlier.resize(entries, 0);
        self.indexed = 0;
    }

    /// Takes in at most `most` tokens of `text` that are new to it.
    pub fn grow(&mut self, text: &[Token], most: usize) {
        let end = text.len().min(self.indexed.saturating_add(most));
        for place in self.indexed.max(ENDING - 1)..end {
            let hash = self.hash(&text[place + 1 - ENDING..=place]);
            let slot = place % self.earlier.len();
            self.earlier[slot] = std::mem::replace(&mut self.latest[hash], place as u32 + 1);
        }
        self.indexed = self.indexed.max(end);
    }

    /// Where `text`, which this is the index of, goes on as `ending` does, with most tokens in common before it; of equals the latest.
    /// `None`: the last `ENDING` tokens of `ending` stand nowhere that is looked at.
    pub fn find(&self, text: &[Token], ending: &[Token]) -> Option<Place> {
        let last = &ending[ending.len().checked_sub(ENDING)?..];
        if self.latest.is_empty() {
            return None;
        }
        let mut best: Option<Place> = None;
        let mut next = self.latest[self.hash(last)] as usize;
        for _ in 0..PLACES_MAX {
            // Overwritten since, or the end of the chain.
            let Some(place) = next.checked_sub(1).filter(|place| place + self.earlier.len() >= self.indexed) else {
                break;
            };
            if place + 1 < text.len() {
                let matched = common_ending(&text[..=place], ending);
                if matched >= ENDING && best.is_none_or(|best| matched > best.matched) {
                    best = Some(Place { at: place + 1, matched });
                }
                if matched == MATCH_MAX {
                    break;
                }
            }
            let before = self.earlier[place % self.earlier.len()] as usize;
            if before > place {
                break;
            }
            next = before;
        }
        best
    }

    fn hash(&self, tokens: &[Token]) -> usize {
        let mixed = tokens
            .iter()
            .fold(0_u64, |hash, token| (hash ^ u64::from(token.0)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23));
        (mixed >> 32) as usize & (self.latest.len() - 1)
    }
}

/// Tokens, at most `MATCH_MAX`, that both end with.
fn common_ending(a: &[Token], b: &[Token]) -> usize {
    a.iter().rev().zip(b.iter().rev()).take(MATCH_MAX).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(ids: &[u32]) -> Vec<Token> {
        ids.iter().copied().map(Token).collect()
    }

    fn index_of(text: &[Token]) -> Index {
        let mut index = Index::default();
        index.reset(text.len());
        index.grow(text, usize::MAX);
        index
    }

    #[test]
    fn the_longest_match_wins_and_of_equals_the_latest() {
        let text = tokens(&[9, 1, 2, 3, 4, 8, 1, 2, 3, 5, 8, 1, 2, 3, 6]);
        let index = index_of(&text);
        let find = |ending: &[u32]| index.find(&text, &tokens(ending));
        assert_eq!(find(&[9, 1, 2, 3]), Some(Place { at: 4, matched: 4 }));
        assert_eq!(find(&[8, 1, 2, 3]), Some(Place { at: 14, matched: 4 }));
        assert_eq!(find(&[7, 1, 2, 3]), Some(Place { at: 14, matched: 3 }));
        assert_eq!((find(&[2, 3]), find(&[1, 2, 4])), (None, None));
    }

    #[test]
    fn a_text_doesnt_find_its_own_end() {
        let text = tokens(&[1, 2, 3, 4, 1, 2, 3]);
        assert_eq!(index_of(&text).find(&text, &text), Some(Place { at: 3, matched: 3 }));
        let text = tokens(&[1, 2, 3]);
        assert_eq!(index_of(&text).find(&text, &text), None);
    }

    #[test]
    fn what_is_taken_in_bit_by_bit_is_found_like_the_whole() {
        let mut state = 1_u64;
        let mut text: Vec<Token> = Vec::new();
        let mut grown = Index::default();
        grown.reset(0);
        for _ in 0..3_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push(Token((state >> 33) as u32 % 3));
            grown.grow(&text, 2);
            let found = grown.find(&text, &text);
            // Of places that are looked at none is longer than the best of all.
            let places =
                (ENDING..text.len()).filter(|at| text[..*at].ends_with(&text[text.len().saturating_sub(ENDING)..]));
            let longest = places.map(|at| common_ending(&text[..at], &text)).max();
            assert_eq!(found.is_some(), longest.is_some());
            if let Some(Place { at, matched }) = found {
                assert_eq!(matched, common_ending(&text[..at], &text));
                assert!(Some(matched) <= longest && at < text.len());
            }
        }
    }

    #[test]
    fn a_long_text_keeps_its_latest_places() {
        let text: Vec<Token> = (0..2 * GUESS_INDEX_TOKENS_MAX as u32 + 7).map(Token).collect();
        let index = index_of(&text);
        let at = |token: usize| index.find(&text, &text[..token]).map(|place| place.at);
        assert_eq!(at(text.len() - 1), Some(text.len() - 1));
        assert_eq!(at(text.len() - 30_000), Some(text.len() - 30_000));
        assert_eq!(at(100), None);
        assert_eq!(index.earlier.len(), GUESS_INDEX_TOKENS_MAX);
    }
}
