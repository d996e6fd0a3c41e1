//! How likely a generated token was, in the model's own distribution or in the one that it was drawn from; for requests that ask.

use super::Token;

/// The most tokens beside the chosen one whose probability a request may ask for.
pub const TOP_LOGPROBS_MAX: usize = 20;

/// Natural logarithms of probabilities: before bias, penalties, filters and temperature, unless a request wants those after.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenLogprobs {
    /// Of the token that was chosen; `-inf` is possible.
    pub chosen: f32,
    /// The likeliest tokens, likeliest first; as many as were asked for, or all that are possible.
    pub top: Vec<(Token, f32)>,
}
