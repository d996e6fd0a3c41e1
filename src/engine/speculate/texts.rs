//! Sources of guesses that are texts: where the end of the request's text occurs in one of them, the tokens that follow
//! there may come next.

use super::index::{Index, Match};
use crate::types::Token;
use crate::types::limits::GUESS_INDEX_STEP_TOKENS_MAX;

/// The number of matched tokens that the beginning of a prediction counts as, before the first token.
const MATCHED_AT_FIRST: usize = 8;

/// A guess of the next token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// The token.
    pub token: Token,
    /// How many tokens before it are equal in the request's text: its chance depends on that.
    pub matched: usize,
}

/// A source of guesses about how one request's text goes on. It may be wrong, because every guess is checked.
pub trait Guesses {
    /// `text`, all tokens of the request, has grown by its last token.
    fn follow(&mut self, text: &[Token]);

    /// The guess for the token after `text`, which is as in the latest `follow`.
    fn next(&self, text: &[Token]) -> Option<Next>;

    /// Appends to `out` at most `most` guesses for the tokens after `text`, the first as in `next`.
    fn fill(&self, text: &[Token], most: usize, out: &mut Vec<Token>);
}

/// The request's own prompt and answer.
#[derive(Debug, Default)]
pub struct OwnText {
    index: Index,
    place: Option<Match>,
}

impl OwnText {
    /// Begins with a prompt, for a text of at most `tokens_max` tokens.
    pub fn reset(&mut self, prompt: &[Token], tokens_max: usize) {
        self.index.reset(tokens_max);
        self.index.grow(prompt, GUESS_INDEX_STEP_TOKENS_MAX);
        self.place = self.index.find(prompt, prompt);
    }
}

impl Guesses for OwnText {
    fn follow(&mut self, text: &[Token]) {
        self.place = moved_on(self.place, text, text).or_else(|| self.index.find(text, text));
        self.index.grow(text, GUESS_INDEX_STEP_TOKENS_MAX);
    }

    fn next(&self, text: &[Token]) -> Option<Next> {
        next_at(self.place, text)
    }

    fn fill(&self, text: &[Token], most: usize, out: &mut Vec<Token>) {
        let Some(place) = self.place else { return };
        let from = out.len();
        for at in place.at..place.at + most {
            // Beyond the end of the text the guesses themselves are repeated: a repetition is expected to go on.
            let token = text.get(at).copied().unwrap_or_else(|| out[from + at - text.len()]);
            out.push(token);
        }
    }
}

/// A text that the client expects, or an earlier answer.
#[derive(Debug, Default)]
pub struct OtherText {
    text: Vec<Token>,
    index: Index,
    place: Option<Match>,
}

impl OtherText {
    /// Begins with another text; empty: there is none. `from_its_start`: whether the answer is expected to begin like
    /// it, rather than to contain parts of it.
    pub fn reset(&mut self, text: &[Token], from_its_start: bool) {
        self.text.clear();
        self.text.extend_from_slice(text);
        self.place = None;
        if !text.is_empty() {
            self.index.reset(text.len());
            self.place = from_its_start.then_some(Match { at: 0, matched: MATCHED_AT_FIRST });
        }
    }
}

impl Guesses for OtherText {
    fn follow(&mut self, text: &[Token]) {
        if self.text.is_empty() {
            return;
        }
        self.index.grow(&self.text, GUESS_INDEX_STEP_TOKENS_MAX);
        self.place = moved_on(self.place, &self.text, text).or_else(|| self.index.find(&self.text, text));
    }

    fn next(&self, _text: &[Token]) -> Option<Next> {
        next_at(self.place, &self.text)
    }

    fn fill(&self, _text: &[Token], most: usize, out: &mut Vec<Token>) {
        let Some(place) = self.place else { return };
        out.extend(self.text[place.at..].iter().take(most));
    }
}

/// The place after `place` in `there`, if the last token of `here` is the token at `place`.
fn moved_on(place: Option<Match>, there: &[Token], here: &[Token]) -> Option<Match> {
    let Match { at, matched } = place?;
    let goes_on = there[at..].first() == here.last() && at + 1 < there.len();
    goes_on.then_some(Match { at: at + 1, matched: matched + 1 })
}

fn next_at(place: Option<Match>, there: &[Token]) -> Option<Next> {
    let Match { at, matched } = place?;
    there.get(at).map(|token| Next { token: *token, matched })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(ids: &[u32]) -> Vec<Token> {
        ids.iter().copied().map(Token).collect()
    }

    fn filled(source: &impl Guesses, text: &[Token], most: usize) -> Vec<u32> {
        let mut out = vec![Token(77)];
        source.fill(text, most, &mut out);
        assert_eq!(source.next(text).map(|next| next.token), out.get(1).copied());
        out[1..].iter().map(|token| token.0).collect()
    }

    #[test]
    fn an_own_text_goes_on_as_it_did_before_and_round_and_round() {
        let mut text = tokens(&[5, 1, 2, 3, 4, 9, 1, 2, 3]);
        let mut own = OwnText::default();
        own.reset(&text, 100);
        assert_eq!(filled(&own, &text, 3), [4, 9, 1]);
        assert_eq!(filled(&own, &text, 7), [4, 9, 1, 2, 3, 4, 9]);
        for (token, then) in [(4, vec![9, 1]), (9, vec![1, 2]), (7, vec![]), (1, vec![]), (2, vec![]), (3, vec![7, 1])]
        {
            text.push(Token(token));
            own.follow(&text);
            if token != 3 || then == [7, 1] {
                assert_eq!(filled(&own, &text, 2).len(), then.len(), "behind {token}");
            }
        }
    }

    #[test]
    fn a_prediction_is_followed_from_its_beginning_and_found_again_behind_what_differs() {
        let mut expected = OtherText::default();
        expected.reset(&tokens(&[10, 11, 12, 13, 14, 15, 16, 17]), true);
        let mut text = tokens(&[1, 2]);
        assert_eq!(filled(&expected, &text, 2), [10, 11]);
        for (token, then) in
            [(10, vec![11, 12]), (99, vec![]), (13, vec![]), (14, vec![]), (15, vec![16, 17]), (16, vec![17])]
        {
            text.push(Token(token));
            expected.follow(&text);
            assert_eq!(filled(&expected, &text, 2), then, "behind {token}");
        }
        text.push(Token(17));
        expected.follow(&text);
        assert_eq!(expected.next(&text), None);
        expected.reset(&[], true);
        expected.follow(&text);
        assert_eq!(expected.next(&text), None);
        expected.reset(&tokens(&[10, 11, 12, 13, 14]), false);
        assert_eq!(expected.next(&text), None);
    }
}
