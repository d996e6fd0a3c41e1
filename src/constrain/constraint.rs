//! The constraint of one request's answer: a text of one grammar, or of any of several, each perhaps after a text of
//! another.
//!
//! With several grammars, a token is allowed if one of them allows it, and a grammar that doesn't allow the next token
//! is dropped. So an answer may be a tool call or a JSON text, without a grammar that contains both.

use super::follow::Follower;
use crate::types::{Token, TokenMask, Verdict};

/// A text of one grammar, then a text of a second one if there is one.
struct GrammarWay {
    now: Follower,
    next: Option<Follower>,
    /// The verdict of the latest mask.
    verdict: Verdict,
}

impl GrammarWay {
    /// Computes what may come next in this way. When the first text is complete, the second begins.
    fn look(&mut self) {
        loop {
            self.verdict = self.now.verdict();
            match (self.verdict, self.next.take()) {
                (Verdict::Complete, Some(next)) => self.now = next,
                (_, next) => {
                    self.next = next;
                    break;
                }
            }
        }
        // The answer can't end between the two texts.
        if self.next.is_some() {
            self.now.forbid_end();
        }
    }
}

/// The grammars that the answer may still follow.
pub struct Constraint {
    /// The remaining ways; never empty.
    ways: Vec<GrammarWay>,
    /// The tokens that any of several ways allows. A single way's mask is its own.
    mask: TokenMask,
    /// Whether the latest verdict filled `mask`.
    is_joint: bool,
    ignore_eos: bool,
}

impl Constraint {
    pub(super) fn new(only: Follower) -> Constraint {
        let mask = TokenMask::none(only.n_vocab());
        let way = GrammarWay { now: only, next: None, verdict: Verdict::Allow };
        Constraint { ways: vec![way], mask, is_joint: false, ignore_eos: false }
    }

    /// Allows a text of this constraint or one of `other`. Only before the first token.
    #[must_use]
    pub fn or(mut self, other: Constraint) -> Constraint {
        self.ways.extend(other.ways);
        self
    }

    /// Allows a text of this constraint followed by one of `other`. Only before the first token; `other` must have one
    /// way.
    #[must_use]
    pub fn before(mut self, mut other: Constraint) -> Constraint {
        let next = other.ways.pop().map(|way| way.now);
        if let Some(way) = self.ways.last_mut() {
            way.next = next;
        }
        self
    }

    /// A copy that continues on its own from here.
    pub(super) fn fork(&self) -> Constraint {
        let way = |way: &GrammarWay| GrammarWay {
            now: way.now.fork(),
            next: way.next.as_ref().map(Follower::fork),
            verdict: way.verdict,
        };
        Constraint { ways: self.ways.iter().map(way).collect(), mask: self.mask.clone(), ..*self }
    }

    /// The field of the request that asked for it.
    pub fn field(&self) -> &str {
        self.ways.last().map_or("", |way| way.now.field())
    }

    /// This constraint with the request's `ignore_eos`. If it is set, an end-of-generation token is allowed only where no other token is.
    #[must_use]
    pub fn ignoring_eos(mut self, ignore_eos: bool) -> Constraint {
        self.ignore_eos = ignore_eos;
        let followers = self.ways.iter_mut().flat_map(|way| [Some(&mut way.now), way.next.as_mut()]);
        followers.flatten().for_each(|follower| follower.ignore_eos(ignore_eos));
        self
    }

    /// What may come next. If `Allow`, `mask` has the allowed tokens.
    pub fn verdict(&mut self) -> Verdict {
        self.ways.iter_mut().for_each(GrammarWay::look);
        self.is_joint = false;
        if let [only] = self.ways.as_slice() {
            return only.verdict;
        }
        let is_complete = self.ways.iter().any(|way| way.verdict == Verdict::Complete);
        let first = self.ways[0].verdict;
        self.ways.retain(|way| way.verdict == Verdict::Allow);
        let Some(way) = self.ways.first() else {
            // No grammar continues. If one was complete, so is the answer.
            return if is_complete { Verdict::Complete } else { first };
        };
        self.mask.clone_from(way.now.mask());
        for way in &self.ways[1..] {
            self.mask.words_mut().iter_mut().zip(way.now.mask().words()).for_each(|(all, own)| *all |= own);
        }
        // A complete way has no mask; its text may end here.
        if is_complete && !self.ignore_eos {
            self.ways[0].now.eog().iter().for_each(|token| self.mask.set(*token, true));
        }
        self.is_joint = true;
        Verdict::Allow
    }

    /// The allowed tokens, after `verdict` has returned `Allow`.
    pub fn mask(&self) -> &TokenMask {
        match self.ways.as_slice() {
            [only] if !self.is_joint => only.now.mask(),
            _ => &self.mask,
        }
    }

    /// The grammar of the rest of the text, if only one remains, in the state after the latest verdict.
    pub fn only_way(&self) -> Option<&Follower> {
        match self.ways.as_slice() {
            [GrammarWay { now, next: None, verdict: Verdict::Allow }] => Some(now),
            _ => None,
        }
    }

    /// Records that the text goes on with `token`, which the latest mask allowed.
    pub fn take(&mut self, token: Token) {
        if self.ways.len() > 1 && self.ways.iter().any(|way| way.now.mask().allows(token)) {
            self.ways.retain(|way| way.now.mask().allows(token));
        }
        self.ways.iter_mut().for_each(|way| way.now.take(token));
    }
}
