//! What a constrained request may say next, thoughts included: it thinks freely, then the constraint begins. A thought that
//! takes too long is closed.

use std::sync::Arc;

use super::ahead::{self, Blanks};
use super::constraint::Constraint;
use super::vocabulary::Vocabulary;
use crate::tokenizer::Tokenizer;
use crate::types::{Part, Path, ThoughtMarks, ThoughtWatch, Token, TokenMask, Verdict};

#[cfg(test)]
mod tests;

/// Tokens of white space that may stand between a thought and an answer in a constrained form.
const GAP_MAX: usize = 2;

/// How the model of a request thinks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Thinking {
    pub marks: ThoughtMarks,
    /// The opening mark as tokens.
    pub open: Vec<Token>,
    /// What is forced when the budget is spent: a sentence and the closing mark.
    pub closing: Vec<Token>,
    /// Tokens that a thought may have. `None`: any number.
    pub budget: Option<usize>,
    /// The marks of a thought that the answer's grammar has in it, as GPT-OSS's channels beside calls: then the grammar holds from the
    /// first token on, and `closing` is a text of it.
    pub within: Option<ThoughtMarks>,
}

/// Where in the text a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// At the beginning, where a thought may begin.
    Opening(Opening),
    /// In a thought of so many tokens.
    Inside(usize),
    /// In what closes the thought by force: so many tokens of it are written.
    Closing(usize),
    /// Behind a thought and so many tokens of white space.
    Gap(usize),
    Answer,
    /// In an answer that has thoughts in it, of so many tokens so far; in what closes one, behind so many tokens.
    Within(usize),
    ClosingWithin(usize),
}

/// A text that may be the beginning of a thought's mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Opening {
    /// Tokens of the mark, where the text is the mark's as `Thinking::open` has it.
    n_mark: Option<usize>,
    /// The text may be an answer's, too, which took it.
    is_answers: bool,
}

/// Follows one request's text.
pub struct Guide {
    /// `None`: the answer is free.
    answer: Option<Constraint>,
    /// The answer before its first token, while what it took may turn out to be the mark of a thought.
    before_answer: Option<Constraint>,
    thinking: Thinking,
    watch: ThoughtWatch,
    at: At,
    tokenizer: Arc<Tokenizer>,
    vocabulary: Arc<Vocabulary>,
    mask: TokenMask,
    /// Where the mask is the constraint's own.
    is_answers: bool,
    /// Of the answer, and its latest token.
    blanks: Blanks,
    last: Option<Token>,
    looks_ahead: bool,
}

impl Guide {
    /// `thinking`: `None` where the constraint holds from the first token on.
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
        }
    }

    /// What may come next; with `Allow`, `mask` has it.
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
            At::Gap(n) if n < GAP_MAX => self.answers_and(|_, vocabulary| vocabulary.blanks.clone()),
            At::Gap(_) | At::Answer | At::Within(_) => self.answers(),
            At::ClosingWithin(n) => {
                let verdict = self.answers();
                let token = self.thinking.closing[n];
                // In the middle of a character the sentence can't begin yet.
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

    pub fn mask(&self) -> &TokenMask {
        match &self.answer {
            Some(answer) if self.is_answers => answer.mask(),
            _ => &self.mask,
        }
    }

    /// With `looks_ahead`, `look_ahead` has something to say.
    #[must_use]
    pub(super) fn looking_ahead(self, looks_ahead: bool) -> Guide {
        Guide { looks_ahead, ..self }
    }

    /// Puts into `path` how the text goes on where little is open, if this is wanted. Behind `verdict`.
    pub fn look_ahead(&self, path: &mut Path) {
        let is_in_thought = self.watch.is_inside() || self.watch.is_at_start();
        let is_in_answer = self.at == At::Answer || (matches!(self.at, At::Within(_)) && !is_in_thought);
        if let (true, true, Some(answer)) = (is_in_answer, self.looks_ahead && self.is_answers, &self.answer)
            && let Some(only) = answer.only_way()
        {
            ahead::look(only, &self.tokenizer, &self.blanks, self.last, path);
        }
    }

    /// The text goes on with `token`, which the latest mask allowed.
    pub fn take(&mut self, token: Token) {
        let part = self.watch.push(token, self.tokenizer.table().bytes(token));
        match self.at {
            At::Opening(opening) => self.open(opening, token, part),
            At::Inside(n) => {
                self.at = match part {
                    Part::Thought | Part::Undecided => At::Inside(n + 1),
                    Part::End { .. } | Part::Answer => At::Gap(0),
                };
            }
            At::Closing(n) if n + 1 < self.thinking.closing.len() => self.at = At::Closing(n + 1),
            At::Closing(_) => self.at = At::Gap(0),
            At::Gap(n) if n < GAP_MAX && self.vocabulary.blanks.contains(&token) => self.at = At::Gap(n + 1),
            At::Gap(_) | At::Answer => self.take_answers(token),
            At::Within(n) => {
                self.take_answers(token);
                // All thoughts count together.
                self.at = At::Within(n + usize::from(part == Part::Thought));
            }
            At::ClosingWithin(n) => {
                self.take_answers(token);
                let is_closed = n + 1 >= self.thinking.closing.len();
                self.at = if is_closed { self.spent_within() } else { At::ClosingWithin(n + 1) };
            }
        }
    }

    /// Behind a thought that was closed: the next is closed at once.
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

    /// `token` is an answer's or belongs to the mark of a thought: both are followed until the text shows which.
    fn open(&mut self, Opening { n_mark, is_answers }: Opening, token: Token, part: Part) {
        match part {
            Part::Answer => self.take_answers(token),
            Part::Undecided => {
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
            Part::Thought | Part::End { .. } => {
                self.begin_answer_anew();
                self.at = if self.watch.is_inside() { At::Inside(0) } else { At::Gap(0) };
            }
        }
        self.before_answer = None;
    }

    /// What the answer took was none of it.
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

    /// What the answer allows, and these.
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

    /// All but the end, and but what closes the thought and begins an answer with one token.
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
