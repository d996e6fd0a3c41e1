//! What is known of a request's sender: the owner of its texts, its rank among waiting requests, and the account that
//! it is charged to.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tiny_http::Header;

use super::fault::header;
use super::rate::{Left, Over, Rate};
use crate::metrics::KeyCounts;
use crate::types::seams::Clock;
use crate::types::{AccountId, KeyTerms, Owner, Share, Terminal};

/// What is known of a request's sender.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// The owner, by API key. `None`: the request came over no connection.
    pub owner: Option<Owner>,
    /// The request's rank among waiting requests.
    pub share: Share,
    /// The key's account. `None`: the server has no keys.
    pub account: Option<Arc<Account>>,
}

/// The account of an API key: its terms and its books.
#[derive(Debug)]
pub struct Account {
    /// The terms from the key file.
    pub terms: KeyTerms,
    /// Kept when the terms change.
    books: Arc<Books>,
}

/// What an account has used. Shared by all HTTP threads; locked at the beginning and at the end of a request.
#[derive(Debug, Default)]
struct Books {
    rate: Mutex<Rate>,
    counts: KeyCounts,
}

impl Account {
    /// An account on these terms. If the key had an account before, its books are kept.
    pub fn new(terms: KeyTerms, before: Option<&Account>) -> Account {
        Account { terms, books: before.map(|before| Arc::clone(&before.books)).unwrap_or_default() }
    }

    /// The account's counters for metrics.
    pub fn counts(&self) -> &KeyCounts {
        &self.books.counts
    }

    /// What remains of its limits at the time `now_us`.
    pub fn left(&self, now_us: u64) -> Left {
        self.rate().left(&self.terms.limits, now_us)
    }

    /// Admits a request that uses at most `tokens` tokens of prompt and answer.
    ///
    /// # Errors
    /// A limit is reached; this is counted.
    pub fn begin(self: &Arc<Self>, tokens: u64, clock: &Arc<dyn Clock + Send + Sync>) -> Result<Permit, Over> {
        let begun = self.rate().begin(&self.terms.limits, tokens, clock.now_us());
        match begun {
            Ok(()) => {
                self.books.counts.requests.inc();
                let (account, clock) = (Arc::clone(self), Arc::clone(clock));
                Ok(Permit(Rc::new(Reserved { account, clock, tokens: Cell::new(tokens) })))
            }
            Err(over) => {
                self.books.counts.refused.inc();
                Err(over)
            }
        }
    }

    /// The headers that tell clients about their limits, with OpenAI's names; none if the account has no limits. There
    /// is no `x-ratelimit-reset-requests`, because it isn't known when running requests will end.
    pub fn headers(&self, now_us: u64) -> Vec<Header> {
        let (limits, left) = (&self.terms.limits, self.left(now_us));
        let mut headers = Vec::new();
        let mut say = |name: &str, value: Option<u64>, unit: &str| {
            headers.extend(value.map(|value| header(&format!("x-ratelimit-{name}"), &format!("{value}{unit}"))));
        };
        say("limit-requests", limits.requests, "");
        say("remaining-requests", left.requests, "");
        say("limit-tokens", limits.tokens_per_minute, "");
        say("remaining-tokens", left.tokens, "");
        say("reset-tokens", limits.tokens_per_minute.map(|_| left.tokens_reset_s), "s");
        headers
    }

    fn rate(&self) -> MutexGuard<'_, Rate> {
        self.books.rate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The admission of one request. Each of its answers holds a clone; the request has ended when the last clone is
/// dropped.
#[derive(Clone)]
pub struct Permit(Rc<Reserved>);

struct Reserved {
    account: Arc<Account>,
    clock: Arc<dyn Clock + Send + Sync>,
    /// Tokens reserved for the request and not used yet.
    tokens: Cell<u64>,
}

impl Permit {
    /// Records that an answer has ended, for which `reserved` tokens were reserved.
    pub fn ended(&self, reserved: u64, end: &Terminal) {
        let counts = self.0.account.counts();
        counts.cached_tokens.add(end.cached_tokens.into());
        counts.waited_us.add(end.queue_us);
        counts.gave_way.add(end.gave_way.into());
        self.used(reserved, end.prompt_tokens.into(), end.generated_tokens.into());
    }

    /// Records that the client left after `generated` tokens of an answer.
    pub fn left(&self, reserved: u64, prompt: usize, generated: usize) {
        self.used(reserved, prompt as u64, generated as u64);
    }

    fn used(&self, reserved: u64, prompt: u64, generated: u64) {
        let Reserved { account, clock, tokens } = &*self.0;
        account.counts().prompt_tokens.add(prompt);
        account.counts().generated_tokens.add(generated);
        tokens.set(tokens.get().saturating_sub(reserved));
        account.rate().used(reserved, prompt + generated, clock.now_us());
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.account.rate().end(self.tokens.get());
    }
}

/// The account of all requests from `address`. An IPv6 network of 64 bits is one account, because a host may choose the
/// remaining bits freely.
pub fn account_of(address: Option<&SocketAddr>) -> AccountId {
    match address.map(|address| address.ip().to_canonical()) {
        None => AccountId(0),
        Some(IpAddr::V4(address)) => AccountId(address.to_bits().into()),
        Some(IpAddr::V6(address)) => AccountId((address.to_bits() >> 64) as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_account_and_so_is_a_network_of_ipv6() {
        let of = |text: &str| account_of(Some(&text.parse().expect("an address")));
        assert_eq!(of("10.1.2.3:80"), of("10.1.2.3:81"));
        assert_eq!(of("10.1.2.3:80"), of("[::ffff:10.1.2.3]:80"));
        assert_ne!(of("10.1.2.3:80"), of("10.1.2.4:80"));
        assert_eq!(of("[2001:db8:1:2::3]:80"), of("[2001:db8:1:2:ffff::4]:80"));
        assert_ne!(of("[2001:db8:1:2::3]:80"), of("[2001:db8:1:3::3]:80"));
        assert_eq!(account_of(None), AccountId(0), "a Unix socket has none");
    }
}
