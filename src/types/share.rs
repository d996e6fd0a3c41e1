//! How a request stands among others that wait: its account, the account's weight and class, and its priority within the account.

use std::num::NonZeroU32;

use super::AccountId;
use super::limits::WEIGHT_MAX;

/// What a request may claim of the machine while others wait. By default all requests are of one account: first come, first served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    pub account: AccountId,
    pub weight: Weight,
    pub class: Class,
    /// Within the account, lower goes first; of equal ones the first to come. vLLM's `priority`.
    pub priority: i32,
}

/// An account's part beside others of its class: one of weight 4 gets twice the work of one of weight 2. `1..=WEIGHT_MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight(NonZeroU32);

impl Weight {
    /// `None`: out of bounds.
    pub fn new(weight: u32) -> Option<Weight> {
        NonZeroU32::new(weight).filter(|weight| weight.get() <= WEIGHT_MAX).map(Weight)
    }

    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl Default for Weight {
    fn default() -> Weight {
        Weight(NonZeroU32::MIN)
    }
}

/// Requests of the first class go before those of the second, which keeps `BATCH_SHARE_PERCENT` of the work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A person waits for the answer.
    #[default]
    Interactive,
    Batch,
}

/// What makes requests those of one account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FairBy {
    /// All are of one account: first come, first served.
    #[default]
    None,
    /// The API key.
    Key,
    /// The address that the connection comes from; of IPv6 the network, its first 64 bits.
    Address,
}

impl Class {
    pub const ALL: [Class; 2] = [Class::Interactive, Class::Batch];

    /// Its name in the key file.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Interactive => "interactive",
            Class::Batch => "batch",
        }
    }
}
