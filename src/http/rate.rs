//! The limits of one account: tokens a minute, and requests at once. Pure: the time is a parameter.
//!
//! Tokens count for a minute after the request that used them has ended; until then its prompt and the most that it may
//! generate are reserved. A request is admitted if the tokens used in the last minute and the reserved ones leave at
//! least one token. So no minute has more tokens than the limit plus those of one request.

use std::collections::VecDeque;

use crate::types::KeyLimits;

/// Seconds for which a token counts. Only whole seconds are stored, so a token counts for up to one second more.
const WINDOW_S: u64 = 60;

const SECOND_US: u64 = 1_000_000;

/// Which limit a request exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// The tokens of the last minute are used up.
    Tokens {
        /// Seconds until there are tokens again, if no other request is admitted meanwhile. `None`: only when a running
        /// request of the account has ended.
        retry_after_s: Option<u64>,
    },
    /// All allowed requests are running; one must end first.
    Requests,
}

/// What remains of the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Tokens that may still be used; `None`: no limit.
    pub tokens: Option<u64>,
    /// Seconds until all tokens of the limit are available again, without further requests.
    pub tokens_reset_s: u64,
    /// Requests that may still begin; `None`: no limit.
    pub requests: Option<u64>,
}

/// The recent usage of an account.
#[derive(Debug, Default)]
pub struct Rate {
    /// Tokens used, by the second of the clock, oldest first; at most `WINDOW_S + 1` entries.
    used: VecDeque<(u64, u64)>,
    reserved: u64,
    requests: u64,
}

impl Rate {
    /// Admits a request that uses at most `tokens` tokens.
    ///
    /// # Errors
    /// A limit is exceeded; nothing has changed.
    pub fn begin(&mut self, limits: &KeyLimits, tokens: u64, now_us: u64) -> Result<(), Over> {
        if limits.requests.is_some_and(|most| self.requests >= most) {
            return Err(Over::Requests);
        }
        if let Some(limit) = limits.tokens_per_minute
            && self.taken(now_us) >= limit
        {
            return Err(Over::Tokens { retry_after_s: self.free_in_s(limit, now_us) });
        }
        self.requests += 1;
        self.reserved += tokens;
        Ok(())
    }

    /// Ends the reservation of `reserved` tokens of a request, of which `used` were used.
    pub fn used(&mut self, reserved: u64, used: u64, now_us: u64) {
        self.reserved = self.reserved.saturating_sub(reserved);
        self.forget(now_us);
        let second = now_us / SECOND_US;
        match self.used.back_mut() {
            Some((last, tokens)) if *last == second => *tokens += used,
            _ => self.used.push_back((second, used)),
        }
    }

    /// Ends a request; `reserved` of its tokens were never used.
    pub fn end(&mut self, reserved: u64) {
        self.reserved = self.reserved.saturating_sub(reserved);
        self.requests = self.requests.saturating_sub(1);
    }

    /// What remains of the limits at the time `now_us`.
    pub fn left(&mut self, limits: &KeyLimits, now_us: u64) -> Left {
        let taken = self.taken(now_us);
        let last =
            if self.reserved > 0 { Some(now_us / SECOND_US) } else { self.used.back().map(|(second, _)| *second) };
        Left {
            tokens: limits.tokens_per_minute.map(|limit| limit.saturating_sub(taken)),
            tokens_reset_s: last.map_or(0, |second| seconds_until(second, now_us)),
            requests: limits.requests.map(|most| most.saturating_sub(self.requests)),
        }
    }

    /// Tokens used in the last minute or reserved.
    fn taken(&mut self, now_us: u64) -> u64 {
        self.forget(now_us);
        self.used.iter().map(|(_, tokens)| tokens).sum::<u64>() + self.reserved
    }

    fn forget(&mut self, now_us: u64) {
        while self.used.front().is_some_and(|(second, _)| seconds_until(*second, now_us) == 0) {
            self.used.pop_front();
        }
    }

    /// Seconds until less than `limit` tokens are used or reserved. `None`: not before a request ends.
    fn free_in_s(&self, limit: u64, now_us: u64) -> Option<u64> {
        let mut left: u64 = self.used.iter().map(|(_, tokens)| tokens).sum::<u64>() + self.reserved;
        self.used.iter().find_map(|(second, tokens)| {
            left -= tokens;
            (left < limit).then(|| seconds_until(*second, now_us))
        })
    }
}

/// Whole seconds, rounded up, until tokens used in `second` no longer count.
fn seconds_until(second: u64, now_us: u64) -> u64 {
    ((second + WINDOW_S + 1) * SECOND_US).saturating_sub(now_us).div_ceil(SECOND_US)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    const LIMIT: u64 = 1_000;
    const MOST: u64 = 150;
    const LIMITS: KeyLimits = KeyLimits { tokens_per_minute: Some(LIMIT), requests: Some(8), context: None };

    /// The most tokens in any minute of `used`, which is ordered by time.
    fn worst_minute(used: &[(u64, u64)]) -> u64 {
        let minute = |(i, (end_us, _)): (usize, &(u64, u64))| {
            let in_it = used[..=i].iter().rev().take_while(|(us, _)| us + WINDOW_S * SECOND_US > *end_us);
            in_it.map(|(_, tokens)| tokens).sum()
        };
        used.iter().enumerate().map(minute).max().unwrap_or(0)
    }

    #[test]
    fn ten_thousand_requests_never_take_more_than_the_limit_and_one_request() {
        let (mut rate, mut dice, mut now_us) = (Rate::default(), Dice::new(1), 0);
        // `running`: when each request ends, and its reservation. `used`: when each ended, and what it used.
        let (mut running, mut used) = (Vec::<(u64, u64)>::new(), Vec::<(u64, u64)>::new());
        let (mut asked, mut refused) = (0, 0);
        while asked < 10_000 {
            now_us += dice.below_u64(1_500_000);
            while let Some(i) = running.iter().position(|(until_us, _)| *until_us <= now_us) {
                let (_, reserved) = running.swap_remove(i);
                let tokens = dice.below_u64(reserved + 1);
                rate.used(reserved, tokens, now_us);
                rate.end(0);
                used.push((now_us, tokens));
            }
            let tokens = 1 + dice.below_u64(MOST);
            asked += 1;
            match rate.begin(&LIMITS, tokens, now_us) {
                Ok(()) => running.push((now_us + dice.below_u64(90_000_000), tokens)),
                Err(_) => refused += 1,
            }
            assert!(running.len() <= 8 && rate.used.len() <= WINDOW_S as usize + 1);
        }
        let worst = worst_minute(&used);
        println!("{refused} of {asked} refused; the fullest minute had {worst} tokens of {LIMIT}");
        assert!(worst <= LIMIT + MOST && worst > LIMIT / 2 && refused > 1_000);
    }

    #[test]
    fn one_after_the_other_retry_after_is_true_to_the_second_and_so_is_what_is_left() {
        let (mut rate, mut dice, mut now_us) = (Rate::default(), Dice::new(2), 0);
        let (mut used, mut refused) = (Vec::new(), 0);
        for _ in 0..10_000 {
            now_us += dice.below_u64(3_000_000);
            let tokens = 1 + dice.below_u64(MOST);
            let left = rate.left(&LIMITS, now_us);
            match rate.begin(&LIMITS, tokens, now_us) {
                Ok(()) => {
                    assert!(left.tokens > Some(0) && left.requests == Some(8));
                    rate.used(tokens, tokens, now_us);
                    rate.end(0);
                    used.push((now_us, tokens));
                }
                Err(over) => {
                    let Over::Tokens { retry_after_s: Some(wait_s) } = over else { panic!("{over:?}") };
                    assert_eq!(left.tokens, Some(0));
                    assert!((1..=WINDOW_S + 1).contains(&wait_s) && wait_s <= left.tokens_reset_s);
                    refused += 1;
                    let sooner_us = now_us + (wait_s - 1) * SECOND_US;
                    assert_eq!(rate.left(&LIMITS, sooner_us).tokens, Some(0), "no sooner");
                    now_us += wait_s * SECOND_US;
                    assert!(rate.left(&LIMITS, now_us).tokens > Some(0), "it could come by then");
                }
            }
        }
        assert!(worst_minute(&used) <= LIMIT + MOST && refused > 1_000, "{refused}");
        assert_eq!(rate.left(&LIMITS, now_us + 61 * SECOND_US).tokens, Some(LIMIT));
    }

    #[test]
    fn what_a_request_did_not_use_is_there_again() {
        let mut rate = Rate::default();
        assert_eq!(rate.begin(&LIMITS, 2_000, 0), Ok(()), "a request may be larger than the limit");
        assert_eq!(rate.begin(&LIMITS, 1, 0), Err(Over::Tokens { retry_after_s: None }));
        assert_eq!(rate.left(&LIMITS, 0), Left { tokens: Some(0), tokens_reset_s: 61, requests: Some(7) });
        rate.used(500, 10, 0);
        rate.end(1_500);
        assert_eq!(rate.left(&LIMITS, 0), Left { tokens: Some(990), tokens_reset_s: 61, requests: Some(8) });
        assert_eq!(
            rate.left(&LIMITS, 61 * SECOND_US),
            Left { tokens: Some(1_000), tokens_reset_s: 0, requests: Some(8) }
        );
    }

    #[test]
    fn only_so_many_requests_are_there_at_once() {
        let (mut rate, limits) = (Rate::default(), KeyLimits { requests: Some(1), ..KeyLimits::default() });
        assert_eq!(rate.begin(&limits, 9, 0), Ok(()));
        assert_eq!(rate.begin(&limits, 9, 0), Err(Over::Requests));
        rate.end(9);
        assert_eq!(rate.begin(&limits, 9, 0), Ok(()));
    }
}
