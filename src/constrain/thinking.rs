//! The masks of a constrained request that may think: it thinks freely, then the constraint begins. A thought longer
//! than its budget is closed by force.

use std::sync::Arc;

use super::ahead::{self, Blanks};
use super::constraint::Constraint;
use super::vocabulary::Vocabulary;
use crate::tokenizer::Tokenizer;
use crate::types::limits::{THOUGHT_GAP_TOKENS_MAX, VALUE_END_LOOKS_MAX};
use crate::types::{Path, TextPart, ThoughtMarks, ThoughtWatch, Token, TokenMask, Verdict};

#[cfg(test)]
mod tests;

/// The thought of one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Thinking {
    /// The marks around a thought, and whether the prompt opens one.
    pub marks: ThoughtMarks,
    /// The tokens of the opening mark.
    pub open: Vec<Token>,
    /// The tokens that are forced when the budget is used up: a sentence and the closing mark.
    pub closing: Vec<Token>,
    /// Most tokens of all thoughts. `None`: no bound.
    pub budget: Option<usize>,
    /// The marks of thoughts that belong to the answer's grammar, as GPT-OSS's channels beside calls do. The grammar
    /// then holds from the first token on, and `closing` is a text of it.
    pub within: Option<ThoughtMarks>,
}

/// The part of the text that a request has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// At the beginning, where a thought may begin.
    Opening(Opening),
    /// In a thought; holds the number of its tokens.
    Inside(usize),
    /// In the tokens that close a thought by force; holds how many of them are written.
    Closing(usize),
    /// Between a thought and an answer; holds the number of tokens of white space.
    Gap(usize),
    Answer,
    /// In an answer that contains thoughts; holds the number of their tokens so far.
    Within(usize),
    /// In the tokens that close such a thought by force; holds how many of them are written.
    ClosingWithin(usize),
}

/// A text that may turn out to be the opening mark of a thought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Opening {
    /// How many tokens of `Thinking::open` the text has. `None`: it differs from these, but may be the mark in other
    /// tokens.
    n_mark: Option<usize>,
    /// Whether the text may also be the beginning of an answer, which has read it.
    is_answers: bool,
}

/// Computes the masks of one request's text.
pub struct Guide {
    /// The constraint of the answer. `None`: the answer is free.
    answer: Option<Constraint>,
    /// A copy of the answer's constraint before its first token, as long as the text may turn out to be a thought's
    /// mark.
    before_answer: Option<Constraint>,
    thinking: Thinking,
    watch: ThoughtWatch,
    at: At,
    tokenizer: Arc<Tokenizer>,
    vocabulary: Arc<Vocabulary>,
    mask: TokenMask,
    /// Whether the latest mask is the constraint's own, rather than `mask`.
    is_answers: bool,
    /// The white space of the answer, to look ahead.
    blanks: Blanks,
    last: Option<Token>,
    looks_ahead: bool,
    /// How often the end of the value in which the text is was looked for.
    looks_for_end: usize,
}

impl Guide {
    /// A guide. `thinking` is `None` if the constraint holds from the first token on.
    pub(super) fn new(
        answer: Option<Constraint>,
        thinking: Option<Thinking>,
        tokenizer: Arc<Tokenizer>,
        vocabulary: Arc<Vocabulary>,
    ) -> Guide {
        let never =
            || Thinking { marks: ThoughtMarks { close: vec![0], ..ThoughtMarks::default() }, ..Thinking::default() };
        let thinking = thinking.unwrap_or_else(never);
        let watch = ThoughtWatch::new(thinking.within.as_ref().unwrap_or(&thinking.marks).clone());
        let at = match (watch.is_inside(), watch.is_at_start() && !thinking.open.is_empty()) {
            _ if thinking.within.is_some() => At::Within(0),
            (true, _) => At::Inside(0),
            (false, true) => At::Opening(Opening { n_mark: Some(0), is_answers: true }),
            (false, false) => At::Answer,
        };
        let mask = TokenMask::none(vocabulary.n_vocab);
        Guide {
            answer,
            before_answer: None,
            thinking,
            watch,
            at,
            tokenizer,
            vocabulary,
            mask,
            is_answers: false,
            blanks: Blanks::default(),
            last: None,
            looks_ahead: false,
            looks_for_end: 0,
        }
    }

    /// What may come next. If `Allow`, `mask` has the allowed tokens.
    pub fn verdict(&mut self) -> Verdict {
        self.is_answers = false;
        if let (At::Inside(n) | At::Within(n), Some(budget)) = (self.at, self.thinking.budget)
            && n >= budget
            && self.watch.is_inside()
            && !self.thinking.closing.is_empty()
        {
            self.at = if let At::Within(_) = self.at { At::ClosingWithin(0) } else { At::Closing(0) };
        }
        match self.at {
            At::Opening(Opening { n_mark: Some(n), is_answers: false }) => self.only(self.thinking.open[n]),
            At::Opening(Opening { n_mark, .. }) => {
                self.answers_and(|thinking, _| n_mark.map(|n| thinking.open[n]).into_iter().collect())
            }
            At::Inside(_) => self.free_thought(),
            At::Closing(n) => self.only(self.thinking.closing[n]),
            At::Gap(n) if n < THOUGHT_GAP_TOKENS_MAX => self.answers_and(|_, vocabulary| vocabulary.blanks.clone()),
            At::Gap(_) | At::Answer | At::Within(_) => self.answers(),
            At::ClosingWithin(n) => {
                let verdict = self.answers();
                let token = self.thinking.closing[n];
                // Within a UTF-8 character the closing sentence can't begin yet.
                match self.answer.as_ref().is_none_or(|answer| answer.mask().allows(token)) {
                    true if verdict == Verdict::Allow => {
                        self.is_answers = false;
                        return self.only(token);
                    }
                    _ if n == 0 => self.at = self.spent_within(),
                    _ => self.at = At::Answer,
                }
                verdict
            }
        }
    }

    /// The allowed tokens, after `verdict` has returned `Allow`.
    pub fn mask(&self) -> &TokenMask {
        match &self.answer {
            Some(answer) if self.is_answers => answer.mask(),
            _ => &self.mask,
        }
    }

    /// Whether `look_ahead` fills paths.
    #[must_use]
    pub(super) fn looking_ahead(self, looks_ahead: bool) -> Guide {
        Guide { looks_ahead, ..self }
    }

    /// Fills `path` with how the text goes on where the grammar leaves little choice, if this is enabled. Within a free
    /// value, fills it once with what comes behind that value. To be called after `verdict`.
    pub fn look_ahead(&mut self, path: &mut Path) {
        let is_in_thought = self.watch.is_inside() || self.watch.is_at_start();
        let is_in_answer = self.at == At::Answer || (matches!(self.at, At::Within(_)) && !is_in_thought);
        if let (true, true, Some(answer)) = (is_in_answer, self.looks_ahead && self.is_answers, &self.answer)
            && let Some(only) = answer.only_way()
        {
            if !ahead::is_free(only) {
                self.looks_for_end = 0;
                ahead::look(only, &self.tokenizer, &self.blanks, self.last, path);
            } else if self.looks_for_end < VALUE_END_LOOKS_MAX {
                self.looks_for_end += 1;
                if ahead::look_behind_value(only, &self.tokenizer, &self.blanks, path) {
                    self.looks_for_end = VALUE_END_LOOKS_MAX;
                }
            }
        }
    }

    /// Records that the text goes on with `token`, which the latest mask allowed.
    pub fn take(&mut self, token: Token) {
        let part = self.watch.push(token, self.tokenizer.table().bytes(token));
        match self.at {
            At::Opening(opening) => self.open(opening, token, part),
            At::Inside(n) => {
                self.at = match part {
                    TextPart::Thought | TextPart::Undecided => At::Inside(n + 1),
                    TextPart::End { .. } | TextPart::Answer => At::Gap(0),
                };
            }
            At::Closing(n) if n + 1 < self.thinking.closing.len() => self.at = At::Closing(n + 1),
            At::Closing(_) => self.at = At::Gap(0),
            At::Gap(n) if n < THOUGHT_GAP_TOKENS_MAX && self.vocabulary.blanks.contains(&token) => {
                self.at = At::Gap(n + 1)
            }
            At::Gap(_) | At::Answer => self.take_answers(token),
            At::Within(n) => {
                self.take_answers(token);
                // The tokens of all thoughts are counted together.
                self.at = At::Within(n + usize::from(part == TextPart::Thought));
            }
            At::ClosingWithin(n) => {
                self.take_answers(token);
                let is_closed = n + 1 >= self.thinking.closing.len();
                self.at = if is_closed { self.spent_within() } else { At::ClosingWithin(n + 1) };
            }
        }
    }

    /// The state after a thought that was closed by force: the next thought is closed at once.
    fn spent_within(&self) -> At {
        At::Within(self.thinking.budget.unwrap_or(0))
    }

    fn take_answers(&mut self, token: Token) {
        self.at = At::Answer;
        if let Some(answer) = &mut self.answer {
            answer.take(token);
            self.blanks.take(self.tokenizer.table().bytes(token));
            self.last = Some(token);
        }
    }

    /// `token` belongs to an answer or to the mark of a thought. Both are followed until the text decides.
    fn open(&mut self, Opening { n_mark, is_answers }: Opening, token: Token, part: TextPart) {
        match part {
            TextPart::Answer => self.take_answers(token),
            TextPart::Undecided => {
                let is_answers = is_answers && self.answer.as_ref().is_none_or(|answer| answer.mask().allows(token));
                if is_answers {
                    if self.before_answer.is_none() {
                        self.before_answer = self.answer.as_ref().map(Constraint::fork);
                    }
                    self.take_answers(token);
                } else {
                    self.begin_answer_anew();
                }
                let bytes = self.tokenizer.table().bytes(token);
                let is_white = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_whitespace);
                let n_mark = match n_mark {
                    Some(n) if self.thinking.open[n] == token => Some(n + 1),
                    Some(0) if is_white => Some(0),
                    _ => None,
                };
                let n_mark = n_mark.filter(|n| *n < self.thinking.open.len());
                self.at = At::Opening(Opening { n_mark, is_answers });
                return;
            }
            TextPart::Thought | TextPart::End { .. } => {
                self.begin_answer_anew();
                self.at = if self.watch.is_inside() { At::Inside(0) } else { At::Gap(0) };
            }
        }
        self.before_answer = None;
    }

    /// The text was a thought's mark, so the answer starts from its beginning.
    fn begin_answer_anew(&mut self) {
        if let Some(answer) = self.before_answer.take() {
            (self.answer, self.blanks, self.last) = (Some(answer), Blanks::default(), None);
        }
    }

    fn answers(&mut self) -> Verdict {
        self.is_answers = self.answer.is_some();
        match &mut self.answer {
            Some(answer) => answer.verdict(),
            None => {
                self.fill();
                Verdict::Allow
            }
        }
    }

    /// Allows what the answer allows, and the tokens that `more` returns.
    fn answers_and(&mut self, more: impl FnOnce(&Thinking, &Vocabulary) -> Vec<Token>) -> Verdict {
        match self.answers() {
            Verdict::Allow => {}
            other => return other,
        }
        if let Some(answer) = self.answer.as_ref().filter(|_| self.is_answers) {
            self.mask.clone_from(answer.mask());
        }
        self.is_answers = false;
        more(&self.thinking, &self.vocabulary).into_iter().for_each(|token| self.mask.set(token, true));
        Verdict::Allow
    }

    /// Allows all tokens except end-of-generation tokens and tokens that close the thought and also begin the answer.
    fn free_thought(&mut self) -> Verdict {
        self.fill();
        for token in &self.vocabulary.eog {
            self.mask.set(*token, false);
        }
        if let (Some(rest), true) = (self.watch.rest_of_close(), self.answer.is_some()) {
            let table = self.tokenizer.table();
            let goes_on = |token: &Token| {
                let behind = table.bytes(*token).strip_prefix(rest);
                behind.is_some_and(|behind| !behind.iter().all(u8::is_ascii_whitespace))
            };
            let ids = (0..self.vocabulary.n_vocab as u32).map(Token);
            ids.filter(goes_on).for_each(|token| self.mask.set(token, false));
        }
        Verdict::Allow
    }

    fn only(&mut self, token: Token) -> Verdict {
        self.mask.words_mut().fill(0);
        self.mask.set(token, true);
        Verdict::Allow
    }

    fn fill(&mut self) {
        let n_vocab = self.vocabulary.n_vocab;
        self.mask.words_mut().fill(u64::MAX);
        (n_vocab..n_vocab.next_multiple_of(64)).for_each(|id| self.mask.set(Token(id as u32), false));
    }
}
