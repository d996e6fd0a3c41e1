//! Where guesses of a request's next tokens come from.

/// A source of guesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuessSource {
    /// The request's own prompt and answer.
    Own,
    /// What its client expects.
    Prediction,
    /// What its grammar leaves open.
    Grammar,
    /// Answers to earlier requests of its owner that began as it does.
    Earlier,
}

impl GuessSource {
    /// All of them; `as usize` is the place of one.
    pub const ALL: [GuessSource; 4] =
        [GuessSource::Own, GuessSource::Prediction, GuessSource::Grammar, GuessSource::Earlier];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            GuessSource::Own => "own",
            GuessSource::Prediction => "prediction",
            GuessSource::Grammar => "grammar",
            GuessSource::Earlier => "earlier",
        }
    }
}
