//! Several tokens a step: guesses of what a sequence goes on with are decoded behind its next token, and the request's own sampler
//! chooses at each of them in turn, as it would have without them. The first token that is another ends it; the decoder's cells
//! behind are cut. So a text, its log-probabilities and its end are those that it has without guesses, bit for bit, where rows are
//! computed alike whatever is beside them.
//!
//! Guesses come from texts, never from a second model (`texts`; Saxena 2023, "Prompt lookup decoding"; the check is that of
//! Leviathan et al. 2023 with a guess that is certain of itself, where what is drawn needs no correction).
//!
//! They yield: none in a step that reads a prompt, or after the cache had no room; and otherwise only as many as bring more
//! tokens a second by what steps have cost and how often guesses came true (`allot`, `costs`, `chance`).
//!
//! ```text
//! guesser  one request's sources, and what they say
//! texts    sources that are texts; index: where a few tokens stand in one
//! chance   how often guesses come true
//! costs    what a step takes, by its rows
//! earlier  answers of earlier requests
//! allot    which sequences get rows for guesses (pure)
//! ```

mod allot;
mod chance;
mod costs;
mod earlier;
mod guesser;
mod index;
mod texts;

use super::Engine;
use super::cache::follows;
use super::request::AcceptedRequest;
use super::stats::Observer;
use crate::types::limits::{GUESSES_MAX, SCORED_ROWS_MAX};
use crate::types::seams::{Clock, Decoder, Row};
use crate::types::{GuessSource, SlotId, Token};
use allot::{Offer, Ranked, allot};
use chance::Chances;
use costs::Costs;
use earlier::Earlier;
use guesser::{GuessOutcome, Guesser};

/// The state of guessing; absent with `--speculate off`.
#[derive(Debug)]
pub struct Speculation {
    /// One for each slot.
    guessers: Vec<Guesser>,
    /// The chances with which a request begins.
    chances: Chances,
    costs: Costs,
    earlier: Earlier,
    /// Whether the next step has no guesses, because the cache had no room for the last one.
    pauses: bool,
    // For the step that is planned, in the order of its decode rows; reused.
    offers: Vec<Offer>,
    slots: Vec<(SlotId, Option<GuessSource>)>,
    tokens: Vec<Token>,
    gains: Vec<f32>,
    order: Vec<Ranked>,
}

impl Speculation {
    /// For an engine of `slots` slots.
    pub fn new(slots: usize) -> Speculation {
        Speculation {
            guessers: (0..slots).map(|_| Guesser::default()).collect(),
            chances: Chances::default(),
            costs: Costs::default(),
            earlier: Earlier::default(),
            pauses: false,
            offers: Vec::new(),
            slots: Vec::new(),
            tokens: Vec::new(),
            gains: Vec::new(),
            order: Vec::new(),
        }
    }

    /// A request begins in `slot`, or is continued there.
    pub fn begin(&mut self, slot: SlotId, request: &AcceptedRequest) {
        let tokens_max = request.cells_at_end() + 1;
        let (mut texts, mut is_same) = (std::mem::take(&mut self.tokens), false);
        texts.clear();
        if let Some(owner) = request.params.owner.filter(|_| !request.params.constrained) {
            let prompt = &request.tokens[..request.n_prompt()];
            // A request that was preempted is already past its beginning.
            is_same = self.earlier.find(owner, prompt, &mut texts) && request.generated() == 0;
        }
        let (guesser, earlier) = (&mut self.guessers[slot.index()], (texts.as_slice(), is_same));
        guesser.begin(&request.tokens, tokens_max, &request.params.prediction, earlier, &self.chances);
        guesser.belong(request.params.owner, request.n_prompt());
        self.tokens = texts;
    }

    /// The request in `slot` has ended.
    pub fn end(&mut self, slot: SlotId) {
        if let Some((owner, prompt, answer)) = self.guessers[slot.index()].end() {
            self.earlier.keep(owner, prompt, answer);
        }
    }

    /// The text of `request`, in `slot`, goes on with `token`, which isn't published yet.
    pub fn take(&mut self, slot: SlotId, token: Token, request: &mut AcceptedRequest) {
        let guesser = &mut self.guessers[slot.index()];
        let told = match request.params.constrained {
            true => guesser.take_allowed(token, request.ahead()),
            false => guesser.take(token),
        };
        if let Some(GuessOutcome { source, matched, came_true }) = told {
            self.chances.learn_slowly(source, matched, came_true);
        }
    }

    /// The mask behind the latest token of the request in `slot` isn't there yet.
    pub fn came_late(&mut self, slot: SlotId) {
        self.guessers[slot.index()].came_late();
    }

    /// The recent mean of tokens a step of the request in `slot`.
    pub fn tokens_per_step(&self, slot: SlotId) -> f32 {
        self.guessers[slot.index()].pace()
    }

    /// Omits guesses in the next step, because the cache had no room.
    pub fn pause(&mut self) {
        self.pauses = true;
    }

    /// A step with guesses, of `rows` rows, went through: what each of its sequences has gained or lost by it.
    pub fn account(&mut self, rows: usize) {
        let (Some(step_us), Some(plain_us)) = (self.costs.step_us(rows), self.costs.step_us(self.slots.len())) else {
            return;
        };
        for (slot, _) in &self.slots {
            self.guessers[slot.index()].account((step_us / plain_us) as f32);
        }
    }

    /// Learns that a step of `rows` rows without a prompt took `step_us`.
    pub fn learn(&mut self, rows: usize, step_us: u64) {
        self.pauses = false;
        self.costs.learn(rows, step_us);
    }
}

impl<D: Decoder, C: Clock, O: Observer> Engine<D, C, O> {
    /// Adds guesses to the planned step, whose first `decoding` rows belong to requests that decode.
    pub(super) fn add_guesses(&mut self, decoding: usize) {
        self.guessed = 0;
        let Some(speculation) = self.speculation.as_deref_mut() else { return };
        if decoding == 0 || decoding < self.rows.len() || speculation.pauses || self.budget.is_lowered() {
            return;
        }
        // If each sequence has a buffer of its own, sequences with different numbers of rows need a pass each.
        if decoding > 1 && !self.cache.kv().is_shared() {
            return;
        }
        let room = self.cache.kv().cells_free().map_or(usize::MAX, |free| free.saturating_sub(decoding));
        let most = SCORED_ROWS_MAX.min(self.budget.rows().saturating_sub(decoding)).min(room);
        let Speculation { guessers, offers, slots, tokens, gains, .. } = speculation;
        offers.clear();
        slots.clear();
        tokens.clear();
        gains.clear();
        for row in &self.rows {
            let slot = self.cache.kv().owner(row.seq).expect("decode rows are of live sequences");
            let live = self.slots.get_mut(slot).expect("an owner is live");
            let (from, guesser) = (tokens.len(), &mut guessers[slot.index()]);
            let most = live.request.guesses_max().min(most).min(GUESSES_MAX);
            let source = match live.request.params.constrained {
                true => match live.request.ahead() {
                    [] => guesser.guess_sequel(live.request.sequel(), most, tokens, gains),
                    ahead => guesser.guess_ahead(ahead, most, tokens, gains),
                },
                false => guesser.guess(most, tokens, gains),
            };
            guesser.update_pace(self.stats.steps);
            offers.push(Offer { from, count: tokens.len() - from, saved: guesser.saved(), granted: 0 });
            slots.push((slot, source));
        }
        if tokens.is_empty() {
            return;
        }
        let Speculation { costs, order, .. } = speculation;
        self.guessed = allot(offers, gains, most, costs, order);
        if self.guessed == 0 {
            return;
        }
        for (i, (offer, (slot, source))) in offers.iter().zip(slots.iter()).enumerate() {
            let Row { pos, seq, .. } = self.rows[i];
            for (n, token) in tokens[offer.from..offer.from + offer.granted].iter().enumerate() {
                self.rows.push(Row { token: *token, pos: pos.plus(n + 1), seq, wants_logits: true });
            }
            if let (Some(source), Some(live)) = (source, self.slots.get_mut(*slot)) {
                live.request.guessed(*source, offer.granted);
                self.stats.guesses[*source as usize].tried += offer.granted as u64;
            }
        }
        self.rows.sort_unstable_by_key(|row| (row.seq, row.pos));
    }

    /// Whether row `i` of the step is a guess.
    pub(super) fn is_guess(&self, i: usize) -> bool {
        self.guessed > 0 && follows(&self.rows, i)
    }

    /// Whether the guess in `row` is the token that was chosen there. If so, it is committed.
    pub(super) fn comes_true(&mut self, slot: SlotId, row: Row) -> bool {
        let Some(live) = self.slots.get_mut(slot) else { return false };
        if live.next() != Some(row.token) || !self.cache.accept_guess(row) {
            return false;
        }
        let source = live.request.guess_came_true();
        self.stats.guesses[source as usize].accepted += 1;
        true
    }

    /// Removes the cells of wrong guesses from the cache.
    pub(super) fn cut_guesses(&mut self) {
        for lost in self.cache.drop_guesses(&self.rows) {
            // The decoder can't cut this sequence, so its request prefills again and no more tokens are guessed.
            self.start_over(lost);
            self.speculation = None;
        }
    }
}
