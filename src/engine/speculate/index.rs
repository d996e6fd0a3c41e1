//! Finds places in a text where given tokens occur, to see how the text went on there.
//!
//! Hash chains as in LZ77 coders (zlib's `deflate`): a table maps a hash of `ENDING` tokens to the latest place where
//! they occur, and each place to the one before it with the same hash. Adding a token costs one write in each; finding
//! the longest match among `PLACES_MAX` places costs a few comparisons. The caller keeps the text itself.

use crate::types::Token;
use crate::types::limits::GUESS_INDEX_TOKENS_MAX;

/// Number of tokens that are looked up. Fewer would match by accident.
pub const ENDING: usize = 3;

/// Most places that are compared, the latest first.
const PLACES_MAX: usize = 8;

/// Matches longer than this count as equally good.
const MATCH_MAX: usize = 32;

/// Least number of entries of a table.
const ENTRIES_MIN: usize = 1_024;

/// A place in a text where another text's end also occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// The index of the token that follows there.
    pub at: usize,
    /// How many tokens before it are equal in both texts, at least `ENDING`.
    pub matched: usize,
}

/// The places of each run of `ENDING` tokens in one growing text, of its latest `GUESS_INDEX_TOKENS_MAX` tokens.
#[derive(Debug, Default)]
pub struct Index {
    /// By hash: the latest place plus one, 0 for none. A place is the index of the last of the tokens.
    latest: Vec<u32>,
    /// By place, modulo the length: the earlier place with the same hash plus one, 0 for none.
    earlier: Vec<u32>,
    /// How many tokens of the text are indexed.
    indexed: usize,
}

impl Index {
    /// Begins another text of about `tokens` tokens. Takes 8 bytes for each, at most 8 x `GUESS_INDEX_TOKENS_MAX`.
    pub fn reset(&mut self, tokens: usize) {
        let entries = tokens.next_power_of_two().clamp(ENTRIES_MIN, GUESS_INDEX_TOKENS_MAX);
        self.latest.clear();
        self.latest.resize(entries, 0);
        // Entries of an earlier text are never reached.
        self.earlier.resize(entries, 0);
        self.indexed = 0;
    }

    /// Adds at most `most` tokens of `text` that aren't indexed yet.
    pub fn grow(&mut self, text: &[Token], most: usize) {
        let end = text.len().min(self.indexed.saturating_add(most));
        for place in self.indexed.max(ENDING - 1)..end {
            let hash = self.hash(&text[place + 1 - ENDING..=place]);
            let slot = place % self.earlier.len();
            self.earlier[slot] = std::mem::replace(&mut self.latest[hash], place as u32 + 1);
        }
        self.indexed = self.indexed.max(end);
    }

    /// The place in `text`, the indexed text, with the longest match of the end of `ending`; of equal ones the latest.
    /// `None`: the last `ENDING` tokens of `ending` occur at no place that is compared.
    pub fn find(&self, text: &[Token], ending: &[Token]) -> Option<Match> {
        let last = &ending[ending.len().checked_sub(ENDING)?..];
        if self.latest.is_empty() {
            return None;
        }
        let mut best: Option<Match> = None;
        let mut next = self.latest[self.hash(last)] as usize;
        for _ in 0..PLACES_MAX {
            // The entry was overwritten, or the chain ends.
            let Some(place) = next.checked_sub(1).filter(|place| place + self.earlier.len() >= self.indexed) else {
                break;
            };
            if place + 1 < text.len() {
                let matched = common_ending(&text[..=place], ending);
                if matched >= ENDING && best.is_none_or(|best| matched > best.matched) {
                    best = Some(Match { at: place + 1, matched });
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

/// The number of tokens, at most `MATCH_MAX`, with which both end.
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
        assert_eq!(find(&[9, 1, 2, 3]), Some(Match { at: 4, matched: 4 }));
        assert_eq!(find(&[8, 1, 2, 3]), Some(Match { at: 14, matched: 4 }));
        assert_eq!(find(&[7, 1, 2, 3]), Some(Match { at: 14, matched: 3 }));
        assert_eq!((find(&[2, 3]), find(&[1, 2, 4])), (None, None));
    }

    #[test]
    fn a_text_doesnt_find_its_own_end() {
        let text = tokens(&[1, 2, 3, 4, 1, 2, 3]);
        assert_eq!(index_of(&text).find(&text, &text), Some(Match { at: 3, matched: 3 }));
        let text = tokens(&[1, 2, 3]);
        assert_eq!(index_of(&text).find(&text, &text), None);
    }

    #[test]
    fn what_is_taken_in_bit_by_bit_is_found_like_the_whole() {
        let mut dice = crate::dice::Dice::new(1);
        let mut text: Vec<Token> = Vec::new();
        let mut grown = Index::default();
        grown.reset(0);
        for _ in 0..3_000 {
            text.push(Token(dice.below(3) as u32));
            grown.grow(&text, 2);
            let found = grown.find(&text, &text);
            // No place that is compared may match longer than the best of all places.
            let places =
                (ENDING..text.len()).filter(|at| text[..*at].ends_with(&text[text.len().saturating_sub(ENDING)..]));
            let longest = places.map(|at| common_ending(&text[..at], &text)).max();
            assert_eq!(found.is_some(), longest.is_some());
            if let Some(Match { at, matched }) = found {
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
