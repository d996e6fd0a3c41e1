//! How often guesses are right, by their source and by the length of the matching text before them.
//!
//! Each chosen token shows whether the guess for it was right, whether or not the guess had a row. So the chance is
//! learnt without trying guesses.

use crate::types::GuessSource;

/// The least number of matched tokens of each class.
const CLASSES: [usize; 7] = [0, 4, 5, 7, 10, 16, 32];

/// The chance of each class before any outcome was seen.
const AT_FIRST: [f32; CLASSES.len()] = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];

/// The chance of the next token of a grammar's path before any outcome was seen. Its bytes are forced, but the tokens
/// that make up these bytes are guessed.
const AT_FIRST_OF_GRAMMAR: f32 = 0.9;

/// An outcome moves the mean of its class by one part of this many: for the request itself, and for later requests.
const REQUEST_PARTS: f32 = 8.0;
const SERVER_PARTS: f32 = 256.0;

/// The largest chance, below 1, so that each guess is worth less than the one before it.
const MOST: f32 = 0.98;

/// Moving means, each in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chances([[f32; CLASSES.len()]; GuessSource::ALL.len()]);

impl Default for Chances {
    fn default() -> Self {
        let mut chances = [AT_FIRST; GuessSource::ALL.len()];
        chances[GuessSource::Grammar as usize] = [AT_FIRST_OF_GRAMMAR; CLASSES.len()];
        Chances(chances)
    }
}

impl Chances {
    /// The chance that a guess from `source` is right if the `matched` tokens before it are equal.
    pub fn of(&self, source: GuessSource, matched: usize) -> f32 {
        self.0[source as usize][class_of(matched)].min(MOST)
    }

    /// Updates a request's own chances by the outcome of one guess.
    pub fn learn(&mut self, source: GuessSource, matched: usize, came_true: bool) {
        self.shift(source, matched, came_true, REQUEST_PARTS);
    }

    /// Updates the chances with which later requests begin, more slowly.
    pub fn learn_slowly(&mut self, source: GuessSource, matched: usize, came_true: bool) {
        self.shift(source, matched, came_true, SERVER_PARTS);
    }

    fn shift(&mut self, source: GuessSource, matched: usize, came_true: bool, parts: f32) {
        let mean = &mut self.0[source as usize][class_of(matched)];
        *mean += (f32::from(u8::from(came_true)) - *mean) / parts;
    }
}

fn class_of(matched: usize) -> usize {
    CLASSES.iter().rposition(|least| matched >= *least).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_follows_what_happens_and_is_never_certain() {
        let mut chances = Chances::default();
        (0..50).for_each(|_| chances.learn(GuessSource::Own, 3, false));
        (0..50).for_each(|_| chances.learn(GuessSource::Own, 40, true));
        assert!(chances.of(GuessSource::Own, 3) < 0.01 && chances.of(GuessSource::Own, 40) == MOST);
        assert_eq!(chances.of(GuessSource::Own, 5), AT_FIRST[2]);
        let before = chances.of(GuessSource::Own, 5);
        chances.learn_slowly(GuessSource::Own, 6, true);
        assert!(chances.of(GuessSource::Own, 5) > before && chances.of(GuessSource::Own, 5) < before + 0.01);
    }
}
