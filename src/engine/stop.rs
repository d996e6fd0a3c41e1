//! Finds where a text ends: searches stop strings in its bytes as they come. Pure; one matcher for each request.

use crate::types::{TextPart, ThoughtMarks, ThoughtWatch, Token};

/// Searches a growing text for any of several byte strings, and says how much of the text is final.
#[derive(Debug, Default)]
pub struct StopMatcher {
    stops: Vec<Vec<u8>>,
    /// The last bytes of the text, in which a stop string may have begun.
    tail: Vec<u8>,
    /// Bytes of text before `tail`.
    before_tail: usize,
    /// Separates thought from answer; `None`: all text is answer.
    thought: Option<ThoughtWatch>,
    /// Text after `tail` that may be answer or the beginning of a thought.
    undecided: Vec<u8>,
    n_undecided: usize,
    n_thought: usize,
}

/// The result of adding a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The text goes on; its first `text_end` bytes are final.
    Open { text_end: usize },
    /// Stop string number `which` was found; the text is its first `text_end` bytes.
    Hit { text_end: usize, which: u8 },
}

impl StopMatcher {
    /// A matcher for these stop strings.
    pub fn new(stops: Vec<Vec<u8>>) -> StopMatcher {
        StopMatcher { stops, ..StopMatcher::default() }
    }

    /// Like `new`, for a text in which stop strings only count after the thought has ended.
    pub fn behind_thought(stops: Vec<Vec<u8>>, marks: Option<ThoughtMarks>) -> StopMatcher {
        StopMatcher { thought: marks.map(ThoughtWatch::new), ..StopMatcher::new(stops) }
    }

    /// Bytes of text so far, held back or not.
    pub fn text_len(&self) -> usize {
        self.before_tail + self.tail.len() + self.undecided.len()
    }

    /// Tokens of the thought so far.
    pub fn thought_tokens(&self) -> usize {
        self.n_thought
    }

    /// Appends `token` with these bytes. `counts`: whether a stop string may begin or end in it.
    pub fn take(&mut self, token: Token, bytes: &[u8], counts: bool) -> Stop {
        let Some(watch) = &mut self.thought else { return self.answer(bytes, counts) };
        match watch.push(token, bytes) {
            TextPart::Undecided => {
                self.n_undecided += 1;
                self.undecided.extend_from_slice(bytes);
                Stop::Open { text_end: self.before_tail }
            }
            TextPart::Thought => {
                self.n_thought += 1 + std::mem::take(&mut self.n_undecided);
                self.before_tail += self.undecided.len() + bytes.len();
                self.undecided.clear();
                Stop::Open { text_end: self.before_tail }
            }
            TextPart::End { thought } => {
                // A text has one thought, at its beginning; the rest is answer. The mark that ends it counts as
                // thought, even without bytes.
                self.thought = None;
                self.n_thought += 1 + std::mem::take(&mut self.n_undecided);
                self.before_tail += self.undecided.len() + thought;
                self.undecided.clear();
                self.answer(&bytes[thought..], counts)
            }
            TextPart::Answer => {
                self.thought = None;
                let mut text = std::mem::take(&mut self.undecided);
                text.extend_from_slice(bytes);
                self.answer(&text, counts)
            }
        }
    }

    fn answer(&mut self, text: &[u8], counts: bool) -> Stop {
        if counts { self.push(text) } else { self.pass_over(text) }
    }

    /// Appends the bytes of a token in which no stop string begins or ends. Only before the first `push`.
    pub fn pass_over(&mut self, bytes: &[u8]) -> Stop {
        debug_assert!(self.tail.is_empty());
        self.before_tail += bytes.len();
        Stop::Open { text_end: self.before_tail }
    }

    /// Appends the bytes of a token. Of several stop strings found, the one that begins first counts, then the first in
    /// the list.
    pub fn push(&mut self, bytes: &[u8]) -> Stop {
        if self.stops.is_empty() {
            self.before_tail += bytes.len();
            return Stop::Open { text_end: self.before_tail };
        }
        self.tail.extend_from_slice(bytes);
        let hits = self.stops.iter().zip(0..).filter_map(|(stop, which)| Some((find(&self.tail, stop)?, which)));
        if let Some((at, which)) = hits.min() {
            return Stop::Hit { text_end: self.before_tail + at, which };
        }
        let held = self.stops.iter().map(|stop| overlap(&self.tail, stop)).max().unwrap_or(0);
        let shown = self.tail.len() - held;
        self.tail.drain(..shown);
        self.before_tail += shown;
        Stop::Open { text_end: self.before_tail }
    }
}

fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    text.windows(pattern.len()).position(|window| window == pattern)
}

/// The length of the longest end of `text` that is a proper beginning of `pattern`.
fn overlap(text: &[u8], pattern: &[u8]) -> usize {
    let most = text.len().min(pattern.len() - 1);
    (1..=most).rev().find(|&n| text.ends_with(&pattern[..n])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stops(list: &[&str]) -> StopMatcher {
        StopMatcher::new(list.iter().map(|s| s.as_bytes().to_vec()).collect())
    }

    #[test]
    fn without_stops_everything_shows_at_once() {
        let mut matcher = stops(&[]);
        assert_eq!(matcher.push(b"abc"), Stop::Open { text_end: 3 });
        assert_eq!(matcher.text_len(), 3);
    }

    #[test]
    fn a_stop_across_tokens_is_cut_before_its_first_byte() {
        let mut matcher = stops(&["END"]);
        assert_eq!(matcher.push(b"xE"), Stop::Open { text_end: 1 });
        assert_eq!(matcher.push(b"N"), Stop::Open { text_end: 1 });
        assert_eq!(matcher.push(b"Dy"), Stop::Hit { text_end: 1, which: 0 });
    }

    #[test]
    fn what_is_passed_over_is_no_part_of_a_stop() {
        let mut matcher = stops(&["END"]);
        assert_eq!(matcher.pass_over(b"END E"), Stop::Open { text_end: 5 });
        assert_eq!(matcher.push(b"ND END"), Stop::Hit { text_end: 8, which: 0 });
    }

    #[test]
    fn in_a_thought_nothing_stops() {
        let marks = |has_begun| {
            let (open, close) = (b"<t>".to_vec(), b"</t>".to_vec());
            Some(ThoughtMarks { open, close, has_begun, ..ThoughtMarks::default() })
        };
        let take = |matcher: &mut StopMatcher, text: &str| matcher.take(Token(0), text.as_bytes(), true);
        let mut matcher = StopMatcher::behind_thought(vec![b"END".to_vec()], marks(true));
        assert_eq!(take(&mut matcher, "END</t"), Stop::Open { text_end: 6 });
        assert_eq!(take(&mut matcher, ">EN"), Stop::Open { text_end: 7 });
        assert_eq!(take(&mut matcher, "D"), Stop::Hit { text_end: 7, which: 0 });
        let mut matcher = StopMatcher::behind_thought(vec![b"<".to_vec()], marks(false));
        assert_eq!(take(&mut matcher, "<t"), Stop::Open { text_end: 0 });
        assert_eq!((take(&mut matcher, ">< "), matcher.text_len()), (Stop::Open { text_end: 5 }, 5));
        // Text that turns out to be no thought counts from its first byte.
        let mut matcher = StopMatcher::behind_thought(vec![b"<".to_vec()], marks(false));
        assert_eq!(take(&mut matcher, "<t"), Stop::Open { text_end: 0 });
        assert_eq!(take(&mut matcher, "able"), Stop::Hit { text_end: 0, which: 0 });
    }

    #[test]
    fn a_false_start_is_released() {
        let mut matcher = stops(&["END"]);
        assert_eq!(matcher.push(b"EN"), Stop::Open { text_end: 0 });
        assert_eq!(matcher.push(b"EN"), Stop::Open { text_end: 2 });
        assert_eq!(matcher.push(b"."), Stop::Open { text_end: 5 });
    }

    #[test]
    fn of_two_stops_the_earlier_wins() {
        let mut matcher = stops(&["b", "ab"]);
        assert_eq!(matcher.push(b"xxab"), Stop::Hit { text_end: 2, which: 1 });
        let mut matcher = stops(&["z", "abc", "ab"]);
        assert_eq!(matcher.push(b"xxabc"), Stop::Hit { text_end: 2, which: 1 });
    }

    /// Compares with the plain definition, for all ways of cutting short texts of a two-letter alphabet.
    #[test]
    fn equals_searching_the_whole_text() {
        let patterns: &[&[&str]] = &[&["aab"], &["ab", "ba"], &["aa"], &["bab", "abb", "b"]];
        for list in patterns {
            for bits in 0u32..(1 << 9) {
                let text: Vec<u8> = (0..9).map(|i| if bits >> i & 1 == 0 { b'a' } else { b'b' }).collect();
                for cut in 1..=3 {
                    let mut matcher = stops(list);
                    let mut fed = 0;
                    let first = |fed: usize| {
                        let found = list
                            .iter()
                            .zip(0..)
                            .filter_map(|(s, which)| Some((find(&text[..fed], s.as_bytes())?, which)));
                        found.min()
                    };
                    for chunk in text.chunks(cut) {
                        fed += chunk.len();
                        match (matcher.push(chunk), first(fed)) {
                            (Stop::Hit { text_end, which }, Some(whole)) => {
                                assert_eq!((text_end, which), whole);
                                break;
                            }
                            (Stop::Open { text_end }, None) => assert!(text_end <= fed),
                            other => panic!("{list:?} {text:?} {other:?}"),
                        }
                    }
                }
            }
        }
    }
}
