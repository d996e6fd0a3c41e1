//! How often a guess comes true, by where it comes from and by how much of the text before it matched there.
//!
//! Each token that is chosen says whether the guess for it was right, whether or not the guess had a row: so nothing has to be tried
//! to learn that it doesn't pay.

use crate::types::GuessSource;

/// The least matched tokens of each class.
const CLASSES: [usize; 7] = [0, 4, 5, 7, 10, 16, 32];

/// Before anything was seen, by class.
const AT_FIRST: [f32; CLASSES.len()] = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];

/// The chance of the next token of a grammar's path before any has been checked. Its bytes are forced; how they are cut into tokens
/// is guessed.
const AT_FIRST_OF_GRAMMAR: f32 = 0.9;

/// An outcome moves its class's mean by one part of these: in the request that it belongs to, and in what later requests begin
/// with.
const REQUEST_PARTS: f32 = 8.0;
const SERVER_PARTS: f32 = 256.0;

/// Never certain: with these each guess is worth less than the one before it.
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
    /// That a guess from `source` comes true, behind `matched` tokens that are there as they are here.
    pub fn of(&self, source: GuessSource, matched: usize) -> f32 {
        self.0[source as usize][class_of(matched)].min(MOST)
    }

    /// Moves a request's own chances by one guess, which came true or not.
    pub fn learn(&mut self, source: GuessSource, matched: usize, came_true: bool) {
        self.shift(source, matched, came_true, REQUEST_PARTS);
    }

    /// Moves the chances that later requests begin with, by the same guess and more slowly.
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
