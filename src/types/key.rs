//! What the line of an API key says: the key and its terms.

use std::fmt;

use super::{Class, Weight};

/// A key, and on which terms it opens.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyLine {
    pub key: String,
    pub terms: KeyTerms,
}

/// What a key may claim of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyTerms {
    /// What people call it. Unique among the keys.
    pub name: String,
    /// Its part beside other keys of its class.
    pub weight: Weight,
    pub class: Class,
    pub limits: KeyLimits,
    /// It may see what all keys have got.
    pub is_admin: bool,
    /// Names of the models that it may use; empty: all.
    pub models: Vec<String>,
}

impl KeyTerms {
    /// Whether it may use the model of this name.
    pub fn may_use(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|name| name == model)
    }
}

/// What a key may ask for; `None`: as much as it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyLimits {
    /// Tokens of prompts and answers together.
    pub tokens_per_minute: Option<u64>,
    /// Requests that run or wait.
    pub requests: Option<u64>,
    /// Tokens of one prompt and its answer.
    pub context: Option<usize>,
}

/// Doesn't show the key.
impl fmt::Debug for KeyLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyLine").field("terms", &self.terms).finish_non_exhaustive()
    }
}
