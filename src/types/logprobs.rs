//! Log probabilities of a generated token, in the model's own distribution or in the one that it was drawn from, for
//! requests that ask for them.

use super::Token;

/// Natural logarithms of probabilities. They are taken before bias, penalties, filters and temperature, unless the request
/// asks for the values after these.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenLogprobs {
    /// The log probability of the chosen token; may be `-inf`.
    pub chosen: f32,
    /// The most likely tokens in descending order: as many as the request asked for, or fewer if fewer are possible.
    pub top: Vec<(Token, f32)>,
}
