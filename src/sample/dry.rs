//! DRY, "don't repeat yourself": which tokens would make a repetition longer, and by how much.
//!
//! Runs on the batching thread, over at most `PENALTY_LAST_N_MAX` tokens and without an allocation. The Z algorithm,
//! read backwards, compares the end of the text with every place before it. Where they agree, the token behind that
//! place would make the repetition one token longer. The method is p-e-w's; the steps and their limits are llama.cpp's
//! (`llama_sampler_dry`).

use super::history::TokenHistory;
use crate::types::limits::PENALTY_LAST_N_MAX;
use crate::types::{Dry, SequenceBreakers, Token};

/// Scratch memory of `penalties`.
pub struct Repeats {
    /// For each place of the window, counted from its end: how many tokens before it equal as many at the end of the
    /// text.
    agree: Vec<usize>,
    /// For each token of the vocabulary, the length of the longest repetition that it would continue, plus one; 0 means
    /// none. All zero between calls.
    longest: Vec<u16>,
    /// The tokens whose `longest` isn't zero.
    found: Vec<Token>,
}

impl Repeats {
    /// For a vocabulary of `n_vocab` tokens.
    pub fn new(n_vocab: usize) -> Repeats {
        const MOST: usize = PENALTY_LAST_N_MAX;
        Repeats { agree: Vec::with_capacity(MOST), longest: vec![0; n_vocab], found: Vec::with_capacity(MOST) }
    }

    /// Calls `subtract(token, amount)` once for each token whose logit DRY lowers. Ids outside the vocabulary are
    /// ignored.
    pub fn penalties(&mut self, dry: &Dry, history: &TokenHistory, mut subtract: impl FnMut(Token, f32)) {
        if !dry.is_on() || history.len() <= dry.allowed_length {
            return;
        }
        let breakers = dry.breakers.as_deref();
        let most = breakers.map_or(history.len(), |breakers| unbroken(breakers, history));
        if most < dry.allowed_length {
            return;
        }
        self.compare(history, most);
        for place in 1..history.len() {
            let agree = self.agree[place];
            if agree >= dry.allowed_length
                && let Some(longest) = self.longest.get_mut(history.latest(place - 1).index())
            {
                if *longest == 0 {
                    self.found.push(history.latest(place - 1));
                }
                // Stores the length plus one, so that 0 means that there is no repetition.
                *longest = (*longest).max(agree as u16 + 1);
            }
        }
        for token in self.found.drain(..) {
            let longest = usize::from(std::mem::take(&mut self.longest[token.index()])) - 1;
            // A token that contains a whole breaker ends any repetition, so it continues none.
            let breaks = |breakers: &SequenceBreakers| breakers.beginning_with(token).iter().any(|b| b.1.is_empty());
            if breakers.is_some_and(breaks) {
                continue;
            }
            let beyond = longest - dry.allowed_length;
            subtract(token, (dry.multiplier * dry.base.powi(beyond as i32)).min(f32::MAX));
        }
    }

    /// Fills `agree`, where each entry is at most `most`.
    fn compare(&mut self, history: &TokenHistory, most: usize) {
        let len = history.len();
        self.agree.clear();
        self.agree.resize(len, 0);
        // The range `left..=right` is the last one known to equal the end of the text.
        let (mut left, mut right) = (0, 0);
        for place in 1..len {
            let inside = self.agree[place.saturating_sub(left)];
            if place <= right && inside < right - place + 1 {
                self.agree[place] = inside.min(most);
                continue;
            }
            let mut end = if place > right { place } else { right + 1 };
            while end < len && history.latest(end) == history.latest(end - place) {
                end += 1;
            }
            self.agree[place] = (end - place).min(most);
            if end > place {
                (left, right) = (place, end - 1);
            }
        }
    }
}

/// How many tokens at the end of the text follow its last breaker.
fn unbroken(breakers: &SequenceBreakers, history: &TokenHistory) -> usize {
    for place in 0..history.len() {
        let spelt = |tail: &[Token]| tail.iter().enumerate().all(|(i, token)| *token == history.latest(place - i - 1));
        let tails = breakers.beginning_with(history.latest(place)).iter().map(|pair| &pair.1);
        if let Some(longest) = tails.filter(|tail| tail.len() <= place && spelt(tail)).map(Vec::len).max() {
            return place - longest;
        }
    }
    history.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    fn history(ids: &[u32]) -> TokenHistory {
        let mut history = TokenHistory::new();
        let tokens: Vec<Token> = ids.iter().map(|&id| Token(id)).collect();
        history.reset(PENALTY_LAST_N_MAX, &tokens);
        history
    }

    fn penalties(dry: &Dry, ids: &[u32]) -> Vec<(u32, f32)> {
        let mut found = Vec::new();
        let mut repeats = Repeats::new(64);
        repeats.penalties(dry, &history(ids), |token, penalty| found.push((token.0, penalty)));
        assert!(repeats.longest.iter().all(|&n| n == 0));
        found.sort_by_key(|pair| pair.0);
        found
    }

    #[test]
    fn a_token_that_would_go_on_with_a_repetition_pays_by_its_length() {
        let dry = Dry { multiplier: 1.0, base: 2.0, allowed_length: 2, last_n: 64, ..Dry::default() };
        // a b c c b c y a b c: c after `a b c`, y after `b c`; b after `c` alone is free.
        assert_eq!(penalties(&dry, &[1, 2, 3, 3, 2, 3, 9, 1, 2, 3]), [(3, 2.0), (9, 1.0)]);
        assert_eq!(penalties(&Dry { multiplier: 0.0, ..dry.clone() }, &[1, 2, 1, 2, 1, 2]), []);
        assert_eq!(penalties(&dry, &[1, 2]), []);
    }

    #[test]
    fn the_longest_repetition_has_a_finite_penalty() {
        let dry = Dry { multiplier: 1.0, base: 4.0, allowed_length: 1, last_n: 300, ..Dry::default() };
        let found = penalties(&dry, &[7; 300]);
        assert!(matches!(found[..], [(7, penalty)] if penalty > 1e30 && penalty.is_finite()), "{found:?}");
    }

    #[test]
    fn a_breaker_ends_a_repetition_and_is_never_penalised() {
        let broken = |spelt: &[(u32, &[u32])]| {
            let tokens = |ids: &[u32]| ids.iter().map(|&id| Token(id)).collect();
            let pairs = spelt.iter().map(|(head, tail)| (Token(*head), tokens(tail))).collect();
            let breakers = Some(std::sync::Arc::new(SequenceBreakers::new(pairs)));
            Dry { multiplier: 1.0, base: 2.0, allowed_length: 2, last_n: 64, breakers, ..Dry::default() }
        };
        let text = [1, 2, 3, 4, 5, 1, 2, 3, 4];
        assert_eq!(penalties(&broken(&[]), &text), [(5, 4.0)]);
        assert_eq!(penalties(&broken(&[(2, &[])]), &text), [(5, 1.0)]);
        assert_eq!(penalties(&broken(&[(2, &[3])]), &text), []);
        assert_eq!(penalties(&broken(&[(2, &[9])]), &text), [(5, 4.0)]);
        assert_eq!(penalties(&broken(&[(5, &[])]), &text), []);
    }

    /// Compares with the plain algorithm: the end of the text against every place, token by token.
    #[test]
    fn equals_comparing_every_place_with_the_end() {
        let mut rng = Dice::new(31);
        let dry = Dry { multiplier: 0.5, base: 1.5, allowed_length: 1, last_n: 64, ..Dry::default() };
        for _ in 0..2_000 {
            let len = 1 + rng.below(60);
            let ids: Vec<u32> = (0..len).map(|_| rng.below(3) as u32).collect();
            let mut longest = [0usize; 3];
            for next in 1..len {
                let agree = (0..next).take_while(|i| ids[next - 1 - i] == ids[len - 1 - i]).count();
                longest[ids[next] as usize] = longest[ids[next] as usize].max(agree);
            }
            let plain: Vec<(u32, f32)> = (0..3u32)
                .filter(|id| longest[*id as usize] >= 1 && len > 1)
                .map(|id| (id, 0.5 * 1.5f32.powi(longest[id as usize] as i32 - 1)))
                .collect();
            assert_eq!(penalties(&dry, &ids), plain, "{ids:?}");
        }
    }
}
