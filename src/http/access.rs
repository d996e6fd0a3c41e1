//! Which clients may send requests: API keys, kept as hashes. And which pages of other sites may do so from a browser
//! (CORS).

use std::sync::{Arc, PoisonError, RwLock};

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use tiny_http::{Header, Method, Request, Response, ResponseBox};

use crate::http::account::{Account, Standing, account_of};
use crate::http::fault::header;
use crate::http::route::{Route, wants_page};
use crate::types::limits::{KEYS_PRESENTED_MAX, PREFLIGHT_AGE_S_MAX};
use crate::types::{AccountId, FairBy, KeyLine, KeyTerms, Owner, Share};

/// SHA-256 of an API key.
type KeyHash = [u8; 32];

/// API keys and origins. Shared by all HTTP threads; the keys may change while the server runs.
pub struct Access {
    /// Empty: every client is admitted. Read once a request, written at SIGHUP.
    keys: RwLock<Vec<Key>>,
    origins: Vec<String>,
    fair_by: FairBy,
}

/// A valid key's hash, and its terms.
struct Key {
    hash: KeyHash,
    account: Arc<Account>,
}

/// Why a request is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The server has keys, and the request has none.
    NoKey,
    /// No key of the request is valid.
    WrongKey,
}

impl Access {
    /// `origins`: the origins of pages whose requests are admitted; `*` means all.
    pub fn new(keys: &[KeyLine], origins: Vec<String>) -> Access {
        Access { keys: RwLock::new(keys_of(keys, &[])), origins, fair_by: FairBy::None }
    }

    /// Sets by what requests are assigned to accounts.
    #[must_use]
    pub fn fair_by(self, fair_by: FairBy) -> Access {
        Access { fair_by, ..self }
    }

    /// Replaces the valid keys and their terms. Requests that run or wait are continued.
    pub fn replace_keys(&self, keys: &[KeyLine]) {
        let mut held = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        *held = keys_of(keys, &held);
    }

    /// Whether `request` may use `route`. Probes need no key, so that supervisors need none. The page needs none
    /// either: it asks its user for a key and contains no data of this server. Returns the owner, the share and the
    /// account of the request.
    ///
    /// # Errors
    /// The request has no key, or no valid one.
    pub(in crate::http) fn check(&self, request: &Request, route: Option<Route>) -> Result<Standing, Denied> {
        let is_open = match route {
            Some(Route::Health | Route::Ready | Route::Page) => true,
            Some(Route::Index) => wants_page(request),
            _ => false,
        };
        if is_open {
            return Ok(Standing::default());
        }
        let mut standing = self.check_keys(&presented_keys(request))?;
        if self.fair_by == FairBy::Address {
            standing.share.account = account_of(request.remote_addr());
        }
        Ok(standing)
    }

    /// One valid key among those presented is enough; the first valid one counts. Every hash is compared, each in
    /// constant time, so that the time taken reveals nothing about the keys.
    fn check_keys(&self, presented: &[&str]) -> Result<Standing, Denied> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        if keys.is_empty() {
            return Ok(Standing { owner: Some(Owner(0)), ..Standing::default() });
        }
        if presented.is_empty() {
            return Err(Denied::NoKey);
        }
        let mut good = None;
        for given in presented {
            let hash: KeyHash = Sha256::digest(given).into();
            let is_good = keys.iter().fold(Choice::from(0), |found, key| found | key.hash.ct_eq(&hash));
            if bool::from(is_good) && good.is_none() {
                good = keys.iter().find(|key| key.hash == hash);
            }
        }
        good.map(|key| self.standing(key)).ok_or(Denied::WrongKey)
    }

    /// The accounts of all keys, in the order of the key file.
    pub(in crate::http) fn accounts(&self) -> Vec<Arc<Account>> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.iter().map(|key| Arc::clone(&key.account)).collect()
    }

    /// Owner, share and account of a request with this key.
    fn standing(&self, key: &Key) -> Standing {
        let owner = owner_of(&key.hash);
        let share = match self.fair_by {
            FairBy::None => Share::default(),
            FairBy::Key | FairBy::Address => {
                let KeyTerms { weight, class, .. } = key.account.terms;
                Share { account: AccountId(owner.0 as u64), weight, class, priority: 0 }
            }
        };
        Standing { owner: Some(owner), share, account: Some(Arc::clone(&key.account)) }
    }

    /// The headers that let the page of another site that sent `request` read the answer; none for other clients.
    pub(in crate::http) fn cors_headers(&self, request: &Request) -> Vec<Header> {
        if self.origins.is_empty() {
            return Vec::new();
        }
        let any = self.origins.iter().any(|origin| origin == "*");
        // Caches must not give one origin's answer to another.
        let mut headers = if any { Vec::new() } else { vec![header("Vary", "Origin")] };
        if let Some(origin) = value_of(request, "Origin")
            && (any || self.origins.iter().any(|allowed| allowed == origin))
        {
            headers.push(header("Access-Control-Allow-Origin", if any { "*" } else { origin }));
            headers.push(header("Access-Control-Expose-Headers", EXPOSED_HEADERS));
        }
        headers
    }

    /// The answer to a browser's preflight request, which has no key. `None`: `request` isn't one.
    pub(in crate::http) fn preflight(&self, request: &Request) -> Option<ResponseBox> {
        let asks = *request.method() == Method::Options && value_of(request, "Access-Control-Request-Method").is_some();
        if self.origins.is_empty() || !asks {
            return None;
        }
        let response = Response::empty(204)
            .with_header(header("Access-Control-Allow-Methods", "GET, HEAD, POST"))
            .with_header(header("Access-Control-Allow-Headers", ALLOWED_HEADERS))
            .with_header(header("Access-Control-Max-Age", &PREFLIGHT_AGE_S_MAX.to_string()));
        Some(response.boxed())
    }
}

/// Headers of an answer that pages of other sites may read.
const EXPOSED_HEADERS: &str = "X-Request-Id, Retry-After, X-RateLimit-Limit-Requests, X-RateLimit-Remaining-Requests, \
    X-RateLimit-Limit-Tokens, X-RateLimit-Remaining-Tokens, X-RateLimit-Reset-Tokens";

/// Headers that clients of these routes send. OpenAI's and Anthropic's libraries send the `x-stainless-*` ones.
const ALLOWED_HEADERS: &str = "Authorization, Content-Type, X-Api-Key, X-Request-Id, Anthropic-Version, \
    Anthropic-Beta, Anthropic-Dangerous-Direct-Browser-Access, OpenAI-Organization, OpenAI-Project, \
    X-Stainless-Arch, X-Stainless-Lang, X-Stainless-Os, X-Stainless-Package-Version, X-Stainless-Retry-Count, \
    X-Stainless-Runtime, X-Stainless-Runtime-Version, X-Stainless-Timeout, X-Stainless-Helper-Method";

/// The owner's id: the first half of a key's hash.
fn owner_of(hash: &KeyHash) -> Owner {
    Owner(hash.iter().take(16).fold(0, |name, byte| name << 8 | u128::from(*byte)))
}

/// The keys with their hashes. A key that was among `before` keeps its account's books.
fn keys_of(lines: &[KeyLine], before: &[Key]) -> Vec<Key> {
    let key = |line: &KeyLine| {
        let hash: KeyHash = Sha256::digest(&line.key).into();
        let known = before.iter().find(|key| key.hash == hash);
        Key { hash, account: Arc::new(Account::new(line.terms.clone(), known.map(|key| &*key.account))) }
    };
    lines.iter().map(key).collect()
}

fn value_of<'a>(request: &'a Request, name: &'static str) -> Option<&'a str> {
    request.headers().iter().find(|header| header.field.equiv(name)).map(|header| header.value.as_str().trim())
}

/// The keys in `Authorization` and `X-Api-Key`. Some clients send a placeholder in one header and the key in the other,
/// or several keys with commas between them. A value with commas also counts as one key, because a key may contain
/// commas.
fn presented_keys(request: &Request) -> Vec<&str> {
    let bearer = value_of(request, "Authorization").and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("Bearer").then_some(key.trim())
    });
    let mut keys = Vec::new();
    for value in [bearer, value_of(request, "X-Api-Key")].into_iter().flatten() {
        keys.push(value);
        if value.contains(',') {
            keys.extend(value.split(',').map(str::trim));
        }
    }
    keys.truncate(KEYS_PRESENTED_MAX);
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Class, Weight};

    fn line(key: &str, weight: u32) -> KeyLine {
        let weight = Weight::new(weight).expect("within bounds");
        KeyLine {
            key: key.to_owned(),
            terms: KeyTerms { name: key.to_owned(), weight, class: Class::Batch, ..KeyTerms::default() },
        }
    }

    #[test]
    fn every_key_opens_and_nothing_else_does() {
        let access = Access::new(&[line("alpha", 1), line("beta", 1)], Vec::new());
        let owner = |presented: &[&str]| access.check_keys(presented).map(|standing| standing.owner);
        let alpha = owner(&["alpha"]);
        assert!(alpha.is_ok() && alpha != owner(&["beta"]));
        assert!(owner(&["beta"]).is_ok());
        assert_eq!(owner(&[]), Err(Denied::NoKey));
        for wrong in ["", "alph", "alphab", "Alpha", "alpha beta"] {
            assert_eq!(owner(&[wrong]), Err(Denied::WrongKey), "{wrong:?}");
        }
        assert_eq!(owner(&["stand-in", "beta"]), owner(&["beta"]), "the good one counts");
        access.replace_keys(&[line("gamma", 1)]);
        assert_eq!(owner(&["alpha"]), Err(Denied::WrongKey));
        assert!(owner(&["gamma"]).is_ok());
        access.replace_keys(&[]);
        assert_eq!(owner(&["alpha"]), Ok(Some(Owner(0))), "no keys, no lock");
    }

    #[test]
    fn a_key_has_its_share_where_turns_are_fair() {
        let keys = [line("alpha", 4), line("beta", 1)];
        let share = |access: &Access, key: &str| access.check_keys(&[key]).expect("a good key").share;
        let in_order = Access::new(&keys, Vec::new());
        assert_eq!((share(&in_order, "alpha"), share(&in_order, "beta")), (Share::default(), Share::default()));
        let fair = Access::new(&keys, Vec::new()).fair_by(FairBy::Key);
        let (alpha, beta) = (share(&fair, "alpha"), share(&fair, "beta"));
        assert_eq!((alpha.weight.get(), beta.weight.get(), alpha.class), (4, 1, Class::Batch));
        assert_ne!(alpha.account, beta.account);
        assert_eq!(share(&in_order, "alpha").account, share(&in_order, "beta").account);
    }

    #[test]
    fn a_key_keeps_its_books_when_its_terms_change() {
        let access = Access::new(&[line("alpha", 1), line("beta", 1)], Vec::new());
        let account = || access.check_keys(&["beta"]).expect("a good key").account.expect("an account");
        let before = account();
        before.counts().requests.inc();
        access.replace_keys(&[line("beta", 7)]);
        assert_eq!((before.terms.weight.get(), account().terms.weight.get()), (1, 7), "what runs goes on as it came");
        assert_eq!(account().counts().requests.get(), 1);
        before.counts().requests.inc();
        assert_eq!(account().counts().requests.get(), 2, "what began before counts, too");
        assert_eq!(access.accounts().len(), 1);
    }
}
