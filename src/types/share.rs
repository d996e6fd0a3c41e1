//! The rank of a request among waiting requests: its account, the account's weight and class, and its priority
//! within the account.

use std::num::NonZeroU32;

use super::AccountId;
use super::limits::WEIGHT_MAX;

/// What a request may claim of the machine while other requests wait. By default all requests are of one account: first
/// come, first served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// The account that the request's work is charged to.
    pub account: AccountId,
    /// The account's part of the work of its class.
    pub weight: Weight,
    /// Whether the request goes before or after those of the other class.
    pub class: Class,
    /// Order within the account: the lowest number goes first, then the earliest arrival. vLLM's `priority`.
    pub priority: i32,
}

/// An account's part of the work of its class: an account of weight 4 gets twice the work of one of weight 2.
/// `1..=WEIGHT_MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight(NonZeroU32);

impl Weight {
    /// The weight `weight`; `None` if it is out of bounds.
    pub fn new(weight: u32) -> Option<Weight> {
        NonZeroU32::new(weight).filter(|weight| weight.get() <= WEIGHT_MAX).map(Weight)
    }

    /// The weight as a number, `1..=WEIGHT_MAX`.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl Default for Weight {
    fn default() -> Weight {
        Weight(NonZeroU32::MIN)
    }
}

/// The two classes. Interactive requests go before batch requests, which keep `BATCH_SHARE_PERCENT` of the work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A person waits for the answer.
    #[default]
    Interactive,
    /// No person waits; the answer may take longer.
    Batch,
}

/// By what requests are counted as one account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FairBy {
    /// All requests are of one account: first come, first served.
    #[default]
    None,
    /// By API key.
    Key,
    /// By the address that the connection comes from: of IPv4 the whole address, of IPv6 its first 64 bits, the
    /// network.
    Address,
}

impl Class {
    /// Both classes, interactive first.
    pub const ALL: [Class; 2] = [Class::Interactive, Class::Batch];

    /// Its name in the key file.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Interactive => "interactive",
            Class::Batch => "batch",
        }
    }
}
