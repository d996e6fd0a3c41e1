//! Answers of earlier requests, for those that begin as theirs did. An owner's texts are guesses for that owner alone: a guess that comes
//! true is faster, which would tell others what was written.

use std::collections::VecDeque;

use crate::types::limits::{EARLIER_TOKENS_EACH_MAX, EARLIER_TOKENS_MAX};
use crate::types::{Owner, Token};

/// Tokens of a prompt that are kept to know its beginning by: more than a template has before its first message.
const BEGINNING: usize = 256;

/// Tokens that two prompts begin with alike, or all of the shorter one, for one's answer to be a guess of the other's.
const ALIKE_MIN: usize = 16;

/// Answers that one request's guesses come from.
const ANSWERS_MAX: usize = 4;

/// Answers of less tokens are not kept.
const ANSWER_MIN: usize = 4;

#[derive(Debug)]
struct Answer {
    owner: Owner,
    beginning: Vec<Token>,
    /// Tokens of the whole prompt.
    n_prompt: usize,
    tokens: Vec<Token>,
}

/// The latest answers, last come last, with `EARLIER_TOKENS_MAX` tokens in all.
#[derive(Debug, Default)]
pub struct Earlier {
    answers: VecDeque<Answer>,
    tokens: usize,
}

impl Earlier {
    /// Keeps an answer, in place of the oldest.
    pub fn keep(&mut self, owner: Owner, prompt: &[Token], answer: &[Token]) {
        if answer.len() < ANSWER_MIN {
            return;
        }
        let beginning = prompt[..prompt.len().min(BEGINNING)].to_vec();
        let tokens = answer[..answer.len().min(EARLIER_TOKENS_EACH_MAX)].to_vec();
        self.tokens += beginning.len() + tokens.len();
        self.answers.push_back(Answer { owner, beginning, n_prompt: prompt.len(), tokens });
        while self.tokens > EARLIER_TOKENS_MAX
            && let Some(oldest) = self.answers.pop_front()
        {
            self.tokens -= oldest.beginning.len() + oldest.tokens.len();
        }
    }

    /// Puts into `out` the answers that this owner had to prompts which begin as `prompt` does, the likest first, of those the latest.
    /// Returns whether the first of them was to this very prompt, as far as that is known.
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
        // Stable: of equals the latest is first.
        found.sort_by_key(|(is_same, alike, _)| std::cmp::Reverse((*is_same, *alike)));
        found.truncate(ANSWERS_MAX);
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
        // Fewer tokens in common than a template has, and a short prompt asked again.
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
