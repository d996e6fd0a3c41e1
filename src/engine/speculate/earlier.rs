//! Answers to earlier requests, as a source of guesses for requests with the same beginning. An owner's texts are
//! guesses for that owner alone: a right guess is faster, which would tell others what was written.

use std::collections::VecDeque;

use crate::types::limits::{
    EARLIER_ANSWERS_MAX, EARLIER_BEGINNING_TOKENS_MAX, EARLIER_TOKENS_EACH_MAX, EARLIER_TOKENS_MAX,
};
use crate::types::{Owner, Token};

/// Least number of tokens that two prompts must have in common at the beginning (or the whole shorter prompt), so that
/// the answer to one is a guess for the other.
const ALIKE_MIN: usize = 16;

/// Shorter answers are not kept.
const ANSWER_MIN: usize = 4;

#[derive(Debug)]
struct Answer {
    owner: Owner,
    beginning: Vec<Token>,
    /// The length of the whole prompt, in tokens.
    n_prompt: usize,
    tokens: Vec<Token>,
}

/// The latest answers, the newest last, with at most `EARLIER_TOKENS_MAX` tokens in all.
#[derive(Debug, Default)]
pub struct Earlier {
    answers: VecDeque<Answer>,
    tokens: usize,
}

impl Earlier {
    /// Keeps an answer; the oldest ones are dropped to make room.
    pub fn keep(&mut self, owner: Owner, prompt: &[Token], answer: &[Token]) {
        if answer.len() < ANSWER_MIN {
            return;
        }
        let beginning = prompt[..prompt.len().min(EARLIER_BEGINNING_TOKENS_MAX)].to_vec();
        let tokens = answer[..answer.len().min(EARLIER_TOKENS_EACH_MAX)].to_vec();
        self.tokens += beginning.len() + tokens.len();
        self.answers.push_back(Answer { owner, beginning, n_prompt: prompt.len(), tokens });
        while self.tokens > EARLIER_TOKENS_MAX
            && let Some(oldest) = self.answers.pop_front()
        {
            self.tokens -= oldest.beginning.len() + oldest.tokens.len();
        }
    }

    /// Writes to `out` the answers of this owner to prompts with the same beginning as `prompt`: those with the longest
    /// common beginning first, of equal ones the latest. Returns whether the first of them was an answer to the same
    /// prompt, as far as is known.
    pub fn find(&self, owner: Owner, prompt: &[Token], out: &mut Vec<Token>) -> bool {
        out.clear();
        let alike = |answer: &Answer| answer.beginning.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        let mut found: Vec<(bool, usize, &Answer)> = self
            .answers
            .iter()
            .rev()
            .filter(|answer| answer.owner == owner)
            .map(|answer| (answer, alike(answer)))
            .filter(|(answer, alike)| *alike >= ALIKE_MIN.min(answer.n_prompt).min(prompt.len()))
            .map(|(answer, alike)| (alike == answer.beginning.len() && answer.n_prompt == prompt.len(), alike, answer))
            .collect();
        // The sort is stable: of equal entries the latest comes first.
        found.sort_by_key(|(is_same, alike, _)| std::cmp::Reverse((*is_same, *alike)));
        found.truncate(EARLIER_ANSWERS_MAX);
        found.iter().for_each(|(.., answer)| out.extend(&answer.tokens));
        found.first().is_some_and(|(is_same, ..)| *is_same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(from: u32, n: u32) -> Vec<Token> {
        (from..from + n).map(Token).collect()
    }

    fn found(earlier: &Earlier, owner: u128, prompt: &[Token]) -> (bool, Vec<Token>) {
        let mut out = tokens(7, 3);
        let is_same = earlier.find(Owner(owner), prompt, &mut out);
        (is_same, out)
    }

    #[test]
    fn an_owner_finds_its_own_answers_to_what_begins_alike_and_no_others() {
        let mut earlier = Earlier::default();
        let (ask, other_ask) = (tokens(0, 30), tokens(500, 30));
        let longer = [&ask[..], &tokens(900, 5)].concat();
        earlier.keep(Owner(1), &ask, &tokens(100, 20));
        earlier.keep(Owner(1), &longer, &tokens(200, 20));
        earlier.keep(Owner(1), &ask, &tokens(300, 3));
        assert_eq!(found(&earlier, 1, &ask), (true, [tokens(100, 20), tokens(200, 20)].concat()));
        assert_eq!(found(&earlier, 1, &longer), (true, [tokens(200, 20), tokens(100, 20)].concat()));
        assert!(!found(&earlier, 1, &ask[..29]).0);
        assert_eq!(found(&earlier, 1, &other_ask), (false, vec![]));
        assert_eq!(found(&earlier, 2, &ask), (false, vec![]));
        // Fewer tokens in common than a template has; and a short prompt asked again.
        assert_eq!(found(&earlier, 1, &[&ask[..ALIKE_MIN - 1], &other_ask].concat()), (false, vec![]));
        earlier.keep(Owner(1), &ask[..3], &tokens(400, 20));
        assert_eq!(found(&earlier, 1, &ask[..3]), (true, [400, 200, 100].map(|from| tokens(from, 20)).concat()));
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_goes() {
        let mut earlier = Earlier::default();
        for i in 0..3_000 {
            earlier.keep(Owner(1), &tokens(i * 1_000, 300), &tokens(i, EARLIER_TOKENS_EACH_MAX as u32 + 9));
            assert!(earlier.tokens <= EARLIER_TOKENS_MAX);
        }
        let held = |answer: &Answer| answer.beginning.len() + answer.tokens.len();
        assert_eq!(earlier.tokens, earlier.answers.iter().map(held).sum::<usize>());
        assert!(found(&earlier, 1, &tokens(2_999_000, 300)).0 && !found(&earlier, 1, &tokens(0, 300)).0);
    }
}
