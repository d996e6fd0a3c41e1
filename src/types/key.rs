//! One line of the key file: an API key and its terms.

use std::fmt;

use super::{Class, Weight};

/// An API key and the terms under which requests with it are served.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyLine {
    /// The key itself, a secret. `Debug` doesn't print it.
    pub key: String,
    /// Its terms.
    pub terms: KeyTerms,
}

/// What requests with one key may claim: their share of the machine, their limits and their models.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyTerms {
    /// The name of the key, which logs and metrics show in place of the key. Unique among the keys.
    pub name: String,
    /// Its share of the work beside other keys of its class.
    pub weight: Weight,
    /// Whether its requests go before (`interactive`) or after (`batch`) those of the other class.
    pub class: Class,
    /// Bounds on what its requests may ask for.
    pub limits: KeyLimits,
    /// Whether this key may read the usage of all keys.
    pub is_admin: bool,
    /// Names of the models that it may use; empty means all.
    pub models: Vec<String>,
}

impl KeyTerms {
    /// Whether requests with this key may use the model of this name.
    pub fn may_use(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|name| name == model)
    }
}

/// Bounds on the requests of one key; `None` means no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyLimits {
    /// Tokens of prompts and answers together, in each minute.
    pub tokens_per_minute: Option<u64>,
    /// Requests that run or wait at the same time.
    pub requests: Option<u64>,
    /// Tokens of one prompt and its answer together.
    pub context: Option<usize>,
}

/// Leaves the key itself out, because it is a secret.
impl fmt::Debug for KeyLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyLine").field("terms", &self.terms).finish_non_exhaustive()
    }
}
