//! The guesses for one request: its sources, and how often they were right.

use super::chance::Chances;
use super::texts::{Guesses, Next, OtherText, OwnText};
use crate::types::limits::GUESS_SAVED_STEPS_MAX;
use crate::types::{GuessSource, Owner, PathStep, Token};

/// A step moves the mean of tokens a step by one part of this many.
const PACE_PARTS: f32 = 8.0;

/// The number of matched tokens that a sequel counts as. It has the chances of the longest matches for itself.
const SEQUEL_MATCHED: usize = 32;

/// The outcome of the guess for a chosen token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuessOutcome {
    /// The source of the guess.
    pub source: GuessSource,
    /// How many tokens before it are equal in the text and in the source.
    pub matched: usize,
    /// Whether the guess was the chosen token.
    pub came_true: bool,
}

/// Makes guesses for one slot's request; reused by later requests.
#[derive(Debug)]
pub struct Guesser {
    /// All tokens of the request, in the cache or not.
    text: Vec<Token>,
    own: OwnText,
    predicted: OtherText,
    earlier: OtherText,
    chances: Chances,
    /// The API key that the text belongs to.
    owner: Option<Owner>,
    n_prompt: usize,
    /// Moving mean of tokens a step.
    pace: f32,
    /// How many tokens in a row were those of its grammar's paths.
    along: usize,
    /// The first token of the sequel that was guessed behind the latest token.
    sequel: Option<Token>,
    /// The length of `text` when `pace` was last updated.
    paced: usize,
    paced_at: u64,
    /// Time that the request has gained by guesses, in plain steps.
    saved: f32,
    /// The length of `text` when the step was planned.
    planned: usize,
}

impl Default for Guesser {
    fn default() -> Self {
        Guesser {
            text: Vec::new(),
            own: OwnText::default(),
            predicted: OtherText::default(),
            earlier: OtherText::default(),
            chances: Chances::default(),
            owner: None,
            n_prompt: 0,
            along: 0,
            sequel: None,
            pace: 1.0,
            paced: 0,
            paced_at: 0,
            saved: 0.0,
            planned: 0,
        }
    }
}

impl Guesser {
    /// Begins a request, or continues one that was preempted or gave way. `tokens`: its prompt and what it has generated;
    /// `tokens_max`: the most tokens that it may have; `prediction`: the text that its client expects; `earlier`:
    /// answers to similar requests, and whether the first of them answers the same prompt.
    pub fn begin(
        &mut self,
        tokens: &[Token],
        tokens_max: usize,
        prediction: &[Token],
        earlier: (&[Token], bool),
        chances: &Chances,
    ) {
        self.text.clear();
        self.text.extend_from_slice(tokens);
        self.own.reset(tokens, tokens_max);
        self.predicted.reset(prediction, true);
        self.earlier.reset(earlier.0, earlier.1);
        self.chances = *chances;
        (self.along, self.sequel, self.pace, self.paced) = (0, None, 1.0, tokens.len());
        (self.saved, self.planned) = (0.0, tokens.len());
    }

    /// The text goes on with `token`. Returns the outcome of the best source's guess for it, if there was one.
    pub fn take(&mut self, token: Token) -> Option<GuessOutcome> {
        let told = self.best().map(|(source, Next { token: next, matched })| GuessOutcome {
            source,
            matched,
            came_true: next == token,
        });
        self.learn(told, token)
    }

    /// Like `take`, for a constrained request whose path is `ahead`. A token without an alternative says nothing about
    /// guesses.
    pub fn take_allowed(&mut self, token: Token, ahead: &[PathStep]) -> Option<GuessOutcome> {
        if let Some(first) = self.sequel.take() {
            let came_true = first == token;
            self.along = if came_true { SEQUEL_MATCHED + 1 } else { 0 };
            let told = GuessOutcome { source: GuessSource::Grammar, matched: SEQUEL_MATCHED, came_true };
            return self.learn(Some(told), token);
        }
        let told = ahead.first().filter(|step| !step.is_certain).map(|step| GuessOutcome {
            source: GuessSource::Grammar,
            matched: self.along,
            came_true: step.token == token,
        });
        self.along = if ahead.first().is_some_and(|step| step.token == token) { self.along + 1 } else { 0 };
        self.learn(told, token)
    }

    fn learn(&mut self, told: Option<GuessOutcome>, token: Token) -> Option<GuessOutcome> {
        if let Some(GuessOutcome { source, matched, came_true }) = told {
            self.chances.learn(source, matched, came_true);
        }
        self.text.push(token);
        self.own.follow(&self.text);
        self.predicted.follow(&self.text);
        self.earlier.follow(&self.text);
        told
    }

    /// The source with the longest match, the first of equal ones.
    fn best(&self) -> Option<(GuessSource, Next)> {
        let sources = [
            (GuessSource::Prediction, self.predicted.next(&self.text)),
            (GuessSource::Earlier, self.earlier.next(&self.text)),
            (GuessSource::Own, self.own.next(&self.text)),
        ];
        let said = sources.into_iter().filter_map(|(source, next)| Some((source, next?)));
        said.reduce(|best, other| if other.1.matched > best.1.matched { other } else { best })
    }

    /// Appends to `tokens` at most `most` guesses, and to `gains`, for each of them, the chance that it and all before
    /// it are right. Returns their source.
    pub fn guess(&self, most: usize, tokens: &mut Vec<Token>, gains: &mut Vec<f32>) -> Option<GuessSource> {
        let (source, next) = self.best()?;
        let from = tokens.len();
        match source {
            GuessSource::Own => self.own.fill(&self.text, most, tokens),
            GuessSource::Prediction => self.predicted.fill(&self.text, most, tokens),
            GuessSource::Earlier => self.earlier.fill(&self.text, most, tokens),
            GuessSource::Grammar => {}
        }
        let mut gain = 1.0;
        gains.extend((0..tokens.len() - from).map(|i| {
            gain *= self.chances.of(source, next.matched + i);
            gain
        }));
        Some(source)
    }

    /// Like `guess`, along the path of a grammar.
    pub fn guess_ahead(
        &self,
        ahead: &[PathStep],
        most: usize,
        tokens: &mut Vec<Token>,
        gains: &mut Vec<f32>,
    ) -> Option<GuessSource> {
        let mut gain = 1.0;
        for (i, step) in ahead.iter().take(most).enumerate() {
            if !step.is_certain {
                gain *= self.chances.of(GuessSource::Grammar, self.along + i);
            }
            tokens.push(step.token);
            gains.push(gain);
        }
        (!ahead.is_empty()).then_some(GuessSource::Grammar)
    }

    /// Like `guess`, with the tokens that are expected behind the latest token of a constrained text.
    pub fn guess_sequel(
        &mut self,
        sequel: &[Token],
        most: usize,
        tokens: &mut Vec<Token>,
        gains: &mut Vec<f32>,
    ) -> Option<GuessSource> {
        self.sequel = sequel.first().copied();
        let chance = self.chances.of(GuessSource::Grammar, SEQUEL_MATCHED);
        let mut gain = 1.0;
        for token in sequel.iter().take(most) {
            gain *= chance;
            tokens.push(*token);
            gains.push(gain);
        }
        self.sequel.map(|_| GuessSource::Grammar)
    }

    /// The mask behind the latest token wasn't there in time, so a sequel behind that token was guessed in vain.
    pub fn came_late(&mut self) {
        if self.sequel.take().is_some() {
            self.chances.learn(GuessSource::Grammar, SEQUEL_MATCHED, false);
        }
    }

    /// Sets the text's owner and the length of its prompt.
    pub fn belong(&mut self, owner: Option<Owner>, n_prompt: usize) {
        (self.owner, self.n_prompt) = (owner, n_prompt);
    }

    /// Ends the text and returns its owner, prompt and answer. `None` for a text without an owner, and if called again.
    pub fn end(&mut self) -> Option<(Owner, &[Token], &[Token])> {
        let owner = self.owner.take()?;
        let (prompt, answer) = self.text.split_at_checked(self.n_prompt)?;
        Some((owner, prompt, answer))
    }

    /// The recent mean of tokens a step, at least 1.
    pub fn pace(&self) -> f32 {
        self.pace.max(1.0)
    }

    /// The time that the request has gained by guesses and may spend on the step that is planned, in plain steps.
    pub fn saved(&mut self) -> f32 {
        self.planned = self.text.len();
        self.saved
    }

    /// The planned step went through. It took as long as `steps` plain steps, in which the text would have grown by as many
    /// tokens.
    pub fn account(&mut self, steps: f32) {
        let grown = (self.text.len() - self.planned) as f32;
        self.planned = self.text.len();
        self.saved = (self.saved + grown - steps).clamp(0.0, GUESS_SAVED_STEPS_MAX as f32);
    }

    /// Updates the recent mean of tokens a step. `step`: the number of the step that is planned.
    pub fn update_pace(&mut self, step: u64) {
        let (grown, steps) = (self.text.len() - self.paced, step.saturating_sub(self.paced_at).max(1));
        (self.paced, self.paced_at) = (self.text.len(), step);
        self.pace += (grown as f32 / steps as f32 - self.pace) / PACE_PARTS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(ids: &[u32]) -> Vec<Token> {
        ids.iter().copied().map(Token).collect()
    }

    fn told(source: GuessSource, matched: usize, came_true: bool) -> Option<GuessOutcome> {
        Some(GuessOutcome { source, matched, came_true })
    }

    #[test]
    fn chances_multiply_and_fall_with_each_wrong_guess() {
        let mut guesser = Guesser::default();
        guesser.begin(&tokens(&[1, 2, 3, 4, 5, 6, 7, 1, 2, 3]), 50, &[], (&[], false), &Chances::default());
        let guess = |guesser: &Guesser| {
            let (mut tokens, mut gains) = (Vec::new(), Vec::new());
            let source = guesser.guess(3, &mut tokens, &mut gains);
            (source, tokens, gains)
        };
        let (source, guessed, gains) = guess(&guesser);
        assert_eq!((source, guessed), (Some(GuessSource::Own), tokens(&[4, 5, 6])));
        let chances = Chances::default();
        let first = chances.of(GuessSource::Own, 3);
        assert_eq!(gains[1], first * chances.of(GuessSource::Own, 4));
        assert_eq!(guesser.take(Token(9)), told(GuessSource::Own, 3, false));
        assert_eq!(guess(&guesser).0, None);
        [1, 2, 3].into_iter().for_each(|id| _ = guesser.take(Token(id)));
        assert!(guess(&guesser).2[0] < first);
    }

    #[test]
    fn the_longer_match_of_prediction_and_own_text_speaks() {
        let mut guesser = Guesser::default();
        guesser.begin(&tokens(&[1, 2, 3, 4]), 50, &tokens(&[5, 6, 7]), (&[], false), &Chances::default());
        assert_eq!(guesser.take(Token(5)), told(GuessSource::Prediction, 8, true));
        assert_eq!(guesser.take(Token(1)), told(GuessSource::Prediction, 9, false));
        [2, 3].into_iter().for_each(|id| assert_eq!(guesser.take(Token(id)), None));
        assert_eq!(guesser.take(Token(4)), told(GuessSource::Own, 3, true));
    }

    #[test]
    fn a_pace_follows_tokens_a_step() {
        let mut guesser = Guesser::default();
        guesser.begin(&tokens(&[1]), 500, &[], (&[], false), &Chances::default());
        for step in 1..=40 {
            (0..4).for_each(|_| _ = guesser.take(Token(1)));
            guesser.update_pace(step);
        }
        assert!((guesser.pace - 4.0).abs() < 0.1);
        // Steps without guesses count, too.
        for step in 1..=40 {
            (0..10).for_each(|_| _ = guesser.take(Token(1)));
            guesser.update_pace(40 + 10 * step);
        }
        assert!((guesser.pace - 1.0).abs() < 0.1);
    }

    #[test]
    fn what_steps_gain_is_saved_and_spent_and_has_a_bound() {
        let mut guesser = Guesser::default();
        guesser.begin(&tokens(&[1]), 500, &[], (&[], false), &Chances::default());
        let mut step = |grown: usize, steps: f32| {
            guesser.saved();
            (0..grown).for_each(|_| _ = guesser.take(Token(1)));
            guesser.account(steps);
            guesser.saved()
        };
        assert_eq!((step(4, 2.5), step(1, 2.0), step(1, 3.0), step(2, 1.5)), (1.5, 0.5, 0.0, 0.5));
        (0..40).for_each(|_| _ = step(4, 2.0));
        assert_eq!(step(4, 2.0), GUESS_SAVED_STEPS_MAX as f32);
        // Steps that aren't accounted for change nothing.
        (0..5).for_each(|_| _ = guesser.take(Token(1)));
        guesser.saved();
        guesser.account(0.0);
        assert_eq!(guesser.saved(), GUESS_SAVED_STEPS_MAX as f32);
        guesser.begin(&tokens(&[1, 2]), 500, &[], (&[], false), &Chances::default());
        assert_eq!(guesser.saved(), 0.0);
    }

    #[test]
    fn a_sequel_is_likelier_where_it_came_true_and_less_likely_where_masks_come_late() {
        let mut guesser = Guesser::default();
        guesser.begin(&tokens(&[1]), 500, &[], (&[], false), &Chances::default());
        let guess = |guesser: &mut Guesser, most: usize| {
            let (mut guessed, mut gains) = (Vec::new(), Vec::new());
            let source = guesser.guess_sequel(&tokens(&[7, 8, 9]), most, &mut guessed, &mut gains);
            (source, guessed, gains)
        };
        let (source, guessed, first) = guess(&mut guesser, 2);
        assert_eq!((source, guessed), (Some(GuessSource::Grammar), tokens(&[7, 8])));
        assert_eq!(first[1], first[0] * first[0]);
        assert_eq!(guesser.take_allowed(Token(7), &[]), told(GuessSource::Grammar, SEQUEL_MATCHED, true));
        let after = guess(&mut guesser, 1).2;
        assert!(after[0] > first[0]);
        assert_eq!(guesser.take_allowed(Token(8), &[]), told(GuessSource::Grammar, SEQUEL_MATCHED, false));
        let before = guess(&mut guesser, 1).2;
        assert!(before[0] < after[0]);
        guesser.came_late();
        assert_eq!(guesser.take_allowed(Token(7), &[]), None);
        assert!(guess(&mut guesser, 1).2[0] < before[0]);
        assert_eq!(guesser.guess_sequel(&[], 3, &mut Vec::new(), &mut Vec::new()), None);
    }
}
