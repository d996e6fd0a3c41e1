//! Follows one grammar along a text: tokens in, verdicts out.

use std::sync::Arc;
use std::time::Duration;

use llguidance::Matcher;

use super::patience::{CpuBudget, Watchdog, thread_time};
use super::vocabulary::Vocabulary;
use crate::types::{Token, TokenMask, Verdict};

/// A compiled grammar and the state after the text so far.
pub struct Follower {
    matcher: Matcher,
    watchdog: Arc<Watchdog>,
    budget: CpuBudget,
    /// CPU time used since the latest verdict.
    spent: Duration,
    vocabulary: Arc<Vocabulary>,
    mask: TokenMask,
    ignore_eos: bool,
    /// The field of the request that asked for it.
    field: String,
}

impl Follower {
    pub(super) fn new(matcher: Matcher, watchdog: Arc<Watchdog>, vocabulary: Arc<Vocabulary>, field: &str) -> Follower {
        Follower {
            matcher: matcher.into_cancellable(),
            watchdog,
            budget: CpuBudget::new(),
            spent: Duration::ZERO,
            mask: TokenMask::none(vocabulary.n_vocab),
            vocabulary,
            ignore_eos: false,
            field: field.to_owned(),
        }
    }

    /// The field of the request that asked for it.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// Whether end-of-generation tokens are forbidden, from now on, until nothing else can come.
    pub fn ignore_eos(&mut self, ignore_eos: bool) {
        self.ignore_eos = ignore_eos;
    }

    /// Tokens of the vocabulary.
    pub fn n_vocab(&self) -> usize {
        self.vocabulary.n_vocab
    }

    /// The tokens that end a text.
    pub fn eog(&self) -> &[Token] {
        &self.vocabulary.eog
    }

    /// Removes the end-of-generation tokens from the latest mask.
    pub fn forbid_end(&mut self) {
        self.set_ends(false);
    }

    /// What may come next. If `Allow`, `mask` has the allowed tokens.
    pub fn verdict(&mut self) -> Verdict {
        if self.matcher.is_stopped() {
            return if self.matcher.stop_reason().is_ok() { Verdict::Complete } else { self.broken() };
        }
        let computed = self.step(Matcher::compute_mask);
        let is_affordable = self.budget.spend(std::mem::take(&mut self.spent));
        let Ok(allowed) = computed else { return self.broken() };
        if !is_affordable {
            tracing::info!("following a grammar takes too long");
            return Verdict::DeadEnd;
        }
        let mut halves = allowed.as_slice().iter().map(|half| u64::from(*half));
        for word in self.mask.words_mut() {
            *word = halves.next().unwrap_or(0) | halves.next().unwrap_or(0) << 32;
        }
        let (n_vocab, mask) = (self.vocabulary.n_vocab, &mut self.mask);
        (n_vocab..n_vocab.next_multiple_of(64)).for_each(|id| mask.set(Token(id as u32), false));
        for (twin, known) in &self.vocabulary.twins {
            let allowed = mask.allows(*known);
            mask.set(*twin, allowed);
        }
        let may_end = self.vocabulary.eog.iter().any(|token| mask.allows(*token));
        self.set_ends(false);
        match (self.mask.is_empty(), may_end) {
            (true, true) => return Verdict::Complete,
            (true, false) => return self.broken(),
            (false, _) => self.set_ends(may_end && !self.ignore_eos),
        }
        Verdict::Allow
    }

    /// A copy that runs ahead of the text. Its errors and its CPU time don't count for this one.
    pub fn scout(&self) -> Follower {
        Follower { field: String::new(), ..self.fork() }
    }

    /// A copy that continues on its own from here, with a CPU budget of its own.
    pub fn fork(&self) -> Follower {
        Follower {
            matcher: self.matcher.clone(),
            watchdog: Arc::clone(&self.watchdog),
            budget: CpuBudget::new(),
            spent: Duration::ZERO,
            vocabulary: Arc::clone(&self.vocabulary),
            mask: self.mask.clone(),
            ignore_eos: self.ignore_eos,
            field: self.field.clone(),
        }
    }

    /// A scout that has read `bytes`, whatever their tokens. `None`: the grammar doesn't allow them.
    pub fn scout_over(&self, bytes: &[u8]) -> Option<Follower> {
        let tokens = self.vocabulary.env.tok_trie().greedy_tokenize(bytes);
        let mut scout = self.scout();
        let taken = scout.step(|matcher| matcher.try_consume_tokens(&tokens));
        taken.is_ok_and(|taken| taken == tokens.len()).then_some(scout)
    }

    /// The bytes that must come next, as far as the grammar leaves no choice.
    pub fn forced(&self) -> Vec<u8> {
        let mut scout = self.scout();
        scout.step(Matcher::compute_ff_bytes)
    }

    /// The allowed tokens, after `verdict` has returned `Allow`.
    pub fn mask(&self) -> &TokenMask {
        &self.mask
    }

    /// Records that the text goes on with `token`, which the latest mask allowed.
    pub fn take(&mut self, token: Token) {
        let twin = self.vocabulary.twins.iter().find(|(twin, _)| *twin == token);
        // An error of the matcher stays until the next verdict, which reports it.
        let known = twin.map_or(token, |(_, known)| *known).0;
        let _ = self.step(|matcher| matcher.consume_token(known));
    }

    /// Runs one operation of the matcher within the time limit, and adds up its CPU time.
    fn step<T>(&mut self, what: impl FnOnce(&mut Matcher) -> T) -> T {
        let begun = thread_time();
        let _watched = self.matcher.cancellation_handle().map(|handle| self.watchdog.watch(handle));
        let done = what(&mut self.matcher);
        self.spent += thread_time().saturating_sub(begun);
        done
    }

    fn set_ends(&mut self, allowed: bool) {
        for token in &self.vocabulary.eog {
            self.mask.set(*token, allowed);
        }
    }

    fn broken(&self) -> Verdict {
        let why = self.matcher.get_error().unwrap_or_else(|| format!("{:?}", self.matcher.stop_reason()));
        let why = why.lines().next().unwrap_or_default();
        // llguidance reports a panic of its own as an error that begins with this word.
        if why.starts_with("panic") {
            tracing::error!(why, "following a request's grammar failed");
            return Verdict::Broken;
        }
        tracing::info!(why, "a grammar could not be followed");
        Verdict::DeadEnd
    }
}
