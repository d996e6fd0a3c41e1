//! Where the guesses of speculative decoding come from.

/// A source of guessed tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuessSource {
    /// The request's own prompt and its answer so far.
    Own,
    /// The text that the client expects (`prediction`).
    Prediction,
    /// A path along the request's grammar.
    Grammar,
    /// Answers to earlier requests of the same API key that began as this one does.
    Earlier,
}

impl GuessSource {
    /// All sources, in the order of their discriminants.
    pub const ALL: [GuessSource; 4] =
        [GuessSource::Own, GuessSource::Prediction, GuessSource::Grammar, GuessSource::Earlier];

    /// The name in metrics and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            GuessSource::Own => "own",
            GuessSource::Prediction => "prediction",
            GuessSource::Grammar => "grammar",
            GuessSource::Earlier => "earlier",
        }
    }
}
