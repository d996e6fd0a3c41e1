//! What one request's answer must be: a text of one grammar, or of any of several, each perhaps behind another.
//!
//! With several, a token is allowed where one of them allows it; a grammar that does not allow the token that came is dropped.
//! So an answer may be a tool's call or a JSON text, and any two constraints make one without a grammar that has both.

use super::follow::Follower;
use crate::types::{Token, TokenMask, Verdict};

/// A text of one grammar, then of another where there is one.
struct Way {
    now: Follower,
    next: Option<Follower>,
    /// What the latest mask said of it.
    verdict: Verdict,
}

impl Way {
    /// What may come next in this way. Where the first text is complete, the second begins.
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
        // Between two texts there is no end.
        if self.next.is_some() {
            self.now.forbid_end();
        }
    }
}

/// The ways that an answer may still go.
pub struct Constraint {
    /// Never empty.
    ways: Vec<Way>,
    /// What any of several ways allows; of one way it is that way's own.
    mask: TokenMask,
    /// The latest verdict made `mask`.
    is_joint: bool,
    ignore_eos: bool,
}

impl Constraint {
    pub(super) fn new(only: Follower) -> Constraint {
        let mask = TokenMask::none(only.n_vocab());
        let way = Way { now: only, next: None, verdict: Verdict::Allow };
        Constraint { ways: vec![way], mask, is_joint: false, ignore_eos: false }
    }

    /// A text of this constraint, or one of `other`. Before any token.
    #[must_use]
    pub fn or(mut self, other: Constraint) -> Constraint {
        self.ways.extend(other.ways);
        self
    }

    /// A text of this constraint, which nothing can follow, and behind it one of `other`. Before any token; `other` has one way.
    #[must_use]
    pub fn before(mut self, mut other: Constraint) -> Constraint {
        let next = other.ways.pop().map(|way| way.now);
        if let Some(way) = self.ways.last_mut() {
            way.next = next;
        }
        self
    }

    /// A copy that goes its own way from here.
    pub(super) fn fork(&self) -> Constraint {
        let way =
            |way: &Way| Way { now: way.now.fork(), next: way.next.as_ref().map(Follower::fork), verdict: way.verdict };
        Constraint { ways: self.ways.iter().map(way).collect(), mask: self.mask.clone(), ..*self }
    }

    /// The request's field that it came from.
    pub fn field(&self) -> &str {
        self.ways.last().map_or("", |way| way.now.field())
    }

    /// The constraint; with `ignore_eos` it allows no end-of-generation token until nothing else can come.
    #[must_use]
    pub fn ignoring_eos(mut self, ignore_eos: bool) -> Constraint {
        self.ignore_eos = ignore_eos;
        let followers = self.ways.iter_mut().flat_map(|way| [Some(&mut way.now), way.next.as_mut()]);
        followers.flatten().for_each(|follower| follower.ignore_eos(ignore_eos));
        self
    }

    /// What may come next; with `Allow`, `mask` has it.
    pub fn verdict(&mut self) -> Verdict {
        self.ways.iter_mut().for_each(Way::look);
        self.is_joint = false;
        if let [only] = self.ways.as_slice() {
            return only.verdict;
        }
        let is_complete = self.ways.iter().any(|way| way.verdict == Verdict::Complete);
        let first = self.ways[0].verdict;
        self.ways.retain(|way| way.verdict == Verdict::Allow);
        let Some(way) = self.ways.first() else {
            // Nothing goes on; what was complete is an answer.
            return if is_complete { Verdict::Complete } else { first };
        };
        self.mask.clone_from(way.now.mask());
        for way in &self.ways[1..] {
            self.mask.words_mut().iter_mut().zip(way.now.mask().words()).for_each(|(all, own)| *all |= own);
        }
        // A way that is complete has no mask; it may end here.
        if is_complete && !self.ignore_eos {
            self.ways[0].now.eog().iter().for_each(|token| self.mask.set(*token, true));
        }
        self.is_joint = true;
        Verdict::Allow
    }

    pub fn mask(&self) -> &TokenMask {
        match self.ways.as_slice() {
            [only] if !self.is_joint => only.now.mask(),
            _ => &self.mask,
        }
    }

    /// The one grammar that the rest of the text has, if there is but one, as its latest verdict left it.
    pub fn only_way(&self) -> Option<&Follower> {
        match self.ways.as_slice() {
            [Way { now, next: None, verdict: Verdict::Allow }] => Some(now),
            _ => None,
        }
    }

    /// The text goes on with `token`, which the latest mask allowed.
    pub fn take(&mut self, token: Token) {
        if self.ways.len() > 1 && self.ways.iter().any(|way| way.now.mask().allows(token)) {
            self.ways.retain(|way| way.now.mask().allows(token));
        }
        self.ways.iter_mut().for_each(|way| way.now.take(token));
    }
}
