//! From a row of logits to the next token: pure, safe Rust, without a sort of the vocabulary.
//!
//! Everything here runs on the batching thread, once per generated token. It never allocates after start-up (`reset`
//! apart, which may grow a bias list), never blocks, and never panics on what a model computes: NaN counts as `-inf`.
//!
//! The stages and their meaning are llama.cpp's default chain (`common_params_sampling`): logit bias, penalties, DRY,
//! top-n-sigma, top-k, typical-p, top-p, min-p, XTC, temperature, draw. Each filter sees the distribution that the one before
//! left, untempered. Mirostat takes the place of all between bias and temperature.
//! `tests/sampling.rs` compares every stage with llama.cpp's; `benches/sample.rs` times both.
//!
//! Where it differs from llama.cpp: equal logits are taken by lowest id (there, by an unstable sort); temperature 0
//! is the largest logit after bias and penalties even where typical-p would have dropped it; sums are kept in f64; impossible
//! tokens don't count among those that `min_keep` and the dynamic temperature count; whether XTC acts is drawn from our seed.
//!
//! ```text
//! mask       what a grammar forbids becomes impossible, in a copy of the row (`types::TokenMask`)
//! edits      bias and penalties, written into the row and taken back; history: the tokens they look back on; dry: which repeat
//! row        blocks, maxima, argmax, the order of entries, a cut through it
//! top_k      ┐
//! typical    ├ filters: each leaves a shorter row (`candidates`) or a cut
//! top_p      │
//! sigma      │
//! xtc        ┘
//! mass       where a running sum over the order reaches a target, for the last two
//! draw       temperature, one draw; dynamic: a temperature that follows the entropy
//! mirostat   the cut that follows the surprise of what was drawn
//! random     a number from (seed, index)
//! logprobs   the model's own distribution, for requests that ask
//! ```

mod candidates;
mod draw;
mod dry;
mod dynamic;
mod edits;
mod exp;
mod history;
mod logprobs;
mod mass;
mod mirostat;
#[cfg(test)]
mod naive;
mod random;
mod row;
mod sigma;
#[cfg(test)]
mod tests;
mod top_k;
mod top_p;
mod typical;
mod xtc;

pub use logprobs::{log_softmax_at, token_logprobs, top_logprobs};
pub use random::uniform;

use std::cell::Cell;

use crate::types::limits::{EOG_TOKENS_MAX, LOGIT_BIAS_MAX, STOP_TOKENS_MAX};
use crate::types::{SamplingParams, Token, TokenLogprobs, TokenMask};
use candidates::Candidates;
use draw::Survivors;
use edits::Edits;
use history::TokenHistory;
use mass::Mass;
use row::Cut;

/// One request's sampling state: its parameters, the tokens that its penalties look at, and how many tokens it
/// generated.
///
/// There is one for each slot, made at start-up (about 24 KiB, and 16 more for a request with DRY) and reused by
/// `reset`.
pub struct Sampler {
    params: SamplingParams,
    work: Work,
    history: TokenHistory,
    /// The tokens in which DRY searches for repetitions.
    dry_history: TokenHistory,
    /// Tokens accepted since `reset`: the index of the next draw.
    generated: u64,
    /// Tokens that can't be chosen before `min_tokens` are generated.
    kept_back: Vec<Token>,
    min_tokens: u64,
    mirostat: MirostatState,
}

/// Which work the request's parameters require for each token, determined once, because most requests turn most
/// samplers off.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    /// The largest entry of the unedited row is chosen: greedy, without bias, penalties and tokens to keep back.
    only_argmax: bool,
    /// Whether `accept` must record tokens: for penalties, DRY or Mirostat.
    remembers: bool,
}

impl Work {
    fn of(params: &SamplingParams) -> Work {
        let remembers = params.penalises() || params.dry.is_on() || params.mirostat.is_some();
        Work { only_argmax: params.is_greedy() && params.logit_bias.is_empty() && !remembers, remembers }
    }
}

/// Mirostat's bound on surprise, and the surprise that will move it.
#[derive(Clone, Debug, Default)]
struct MirostatState {
    /// The bound on surprise, in bits.
    bound: f32,
    /// Surprise, in bits, of the token that `sample` chose last. `accept` moves the bound by it.
    seen: Cell<f32>,
}

/// Scratch memory for one row, 49 bytes per token of the vocabulary. One per batching thread: it holds nothing between
/// calls, and a single one stays in the processor's cache while the slots take turns.
pub struct SampleScratch {
    edits: Edits,
    maxima: Vec<f32>,
    sums: Vec<f64>,
    mass: Mass,
    /// The entries that top-k and typical-p leave; the two are used in turn.
    kept: [Candidates; 2],
    /// The entries that XTC leaves.
    left: Candidates,
    /// A copy of a row in which the tokens that the mask forbids are `-inf`.
    masked: Vec<f32>,
}

impl SampleScratch {
    /// For rows of `n_vocab` logits.
    pub fn new(n_vocab: usize) -> SampleScratch {
        let blocks = n_vocab.div_ceil(row::BLOCK);
        SampleScratch {
            edits: Edits::new(n_vocab),
            maxima: Vec::with_capacity(blocks),
            sums: Vec::with_capacity(blocks),
            mass: Mass::new(n_vocab),
            kept: [Candidates::new(n_vocab), Candidates::new(n_vocab)],
            left: Candidates::new(n_vocab),
            masked: Vec::with_capacity(n_vocab),
        }
    }
}

impl Default for Sampler {
    fn default() -> Self {
        Sampler::new()
    }
}

impl Sampler {
    /// A sampler with default parameters and an empty history.
    pub fn new() -> Sampler {
        let params = SamplingParams { logit_bias: Vec::with_capacity(LOGIT_BIAS_MAX), ..SamplingParams::default() };
        Sampler {
            work: Work::of(&params),
            params,
            history: TokenHistory::new(),
            dry_history: TokenHistory::new(),
            generated: 0,
            kept_back: Vec::with_capacity(EOG_TOKENS_MAX + STOP_TOKENS_MAX),
            min_tokens: 0,
            mirostat: MirostatState::default(),
        }
    }

    /// Begins a request. The penalties first see the end of `prompt`.
    pub fn reset(&mut self, params: &SamplingParams, prompt: &[Token]) {
        let mut logit_bias = std::mem::take(&mut self.params.logit_bias);
        logit_bias.clone_from(&params.logit_bias);
        self.params = SamplingParams { logit_bias, dry: params.dry.clone(), ..*params };
        let last_n = if params.penalises() { params.penalty_last_n } else { 0 };
        self.history.reset(last_n, prompt);
        let last_n = if params.dry.is_on() { params.dry.last_n } else { 0 };
        self.dry_history.reset(last_n, prompt);
        self.work = Work::of(params);
        self.generated = 0;
        self.kept_back.clear();
        self.min_tokens = 0;
        self.mirostat.bound = params.mirostat.map_or(0.0, |mirostat| 2.0 * mirostat.tau);
    }

    /// Continues a request that gave up its slot. `tokens` are all its tokens, prompt and answer; `generated` of them
    /// were generated; `mirostat_bound` is what the method of this name returned then.
    pub fn resume(&mut self, params: &SamplingParams, tokens: &[Token], generated: u64, mirostat_bound: Option<f32>) {
        self.reset(params, tokens);
        self.generated = generated;
        if let Some(bound) = mirostat_bound {
            self.mirostat.bound = bound;
        }
    }

    /// Makes `tokens`, at most `EOG_TOKENS_MAX + STOP_TOKENS_MAX`, impossible until `min_tokens` are generated, unless
    /// no other token is possible. Valid until the next `reset`.
    pub fn keep_back(&mut self, tokens: impl Iterator<Item = Token>, min_tokens: usize) {
        self.kept_back.clear();
        self.kept_back.extend(tokens);
        self.min_tokens = min_tokens as u64;
        self.work.only_argmax &= min_tokens == 0;
    }

    /// Mirostat's present bound on surprise, in bits: its whole state.
    pub fn mirostat_bound(&self) -> f32 {
        self.mirostat.bound
    }

    /// The next token, or `None` when every logit is NaN or `-inf`; then only this request fails.
    ///
    /// The row is edited and restored. Until `accept`, the same row gives the same token, because the random number is
    /// a hash of the seed and the number of accepted tokens. A logit of `+inf` is chosen for certain, the first if
    /// there are several.
    pub fn sample(&self, scratch: &mut SampleScratch, logits: &mut [f32]) -> Option<Token> {
        if self.work.only_argmax {
            return row::argmax(logits).map(|place| Token(place as u32));
        }
        let keeps_back = self.generated < self.min_tokens;
        self.edit(scratch, logits, keeps_back);
        let mut chosen = self.choose(scratch, logits);
        scratch.edits.undo(logits);
        if chosen.is_none() && keeps_back {
            self.edit(scratch, logits, false);
            chosen = self.choose(scratch, logits);
            scratch.edits.undo(logits);
        }
        chosen.map(|place| Token(place as u32))
    }

    /// Applies bias and penalties, and forbids tokens that are kept back if `keeps_back`.
    fn edit(&self, scratch: &mut SampleScratch, logits: &mut [f32], keeps_back: bool) {
        scratch.edits.apply(logits, &self.params, &self.history);
        if self.params.dry.is_on() && self.params.mirostat.is_none() {
            scratch.edits.apply_dry(logits, &self.params.dry, &self.dry_history);
        }
        if keeps_back {
            scratch.edits.forbid(logits, &self.kept_back);
        }
    }

    /// Like `sample`, among the tokens that `mask` allows. All others are impossible before bias, penalties and
    /// filters, so that top-k counts allowed tokens only. Works on a copy of the row.
    pub fn sample_masked(&self, scratch: &mut SampleScratch, logits: &[f32], mask: &TokenMask) -> Option<Token> {
        let mut masked = std::mem::take(&mut scratch.masked);
        mask.select(logits, &mut masked);
        let token = self.sample(scratch, &mut masked);
        scratch.masked = masked;
        token
    }

    /// Records a token that now belongs to the text.
    pub fn accept(&mut self, token: Token) {
        self.generated += 1;
        if self.work.remembers {
            self.remember(token);
        }
    }

    fn remember(&mut self, token: Token) {
        self.history.push(token);
        self.dry_history.push(token);
        if let Some(mirostat) = self.params.mirostat {
            self.mirostat.bound -= mirostat.eta * (self.mirostat.seen.get() - mirostat.tau);
        }
    }

    /// The tokens that `sample` may return and their probabilities, by ascending id. Allocates: for tests and debugging.
    pub fn distribution(&self, scratch: &mut SampleScratch, logits: &mut [f32]) -> Vec<(Token, f32)> {
        let mut tokens = Vec::new();
        self.each_possible(scratch, logits, |token, p| tokens.push((token, p)));
        tokens
    }

    /// The probability, as ln, with which `sample` would now choose `token`, and the `k` most likely tokens with
    /// theirs: after bias, penalties, filters and temperature. Allocates its answer.
    pub fn sampled_logprobs(
        &self,
        scratch: &mut SampleScratch,
        logits: &mut [f32],
        token: Token,
        k: usize,
    ) -> TokenLogprobs {
        let (mut chosen, mut top) = (0.0, Vec::with_capacity(k + 1));
        self.each_possible(scratch, logits, |possible, p| {
            if possible == token {
                chosen = p;
            }
            let rank = top.partition_point(|(_, other): &(Token, f32)| *other >= p);
            if rank < k {
                top.insert(rank, (possible, p));
                top.truncate(k);
            }
        });
        top.iter_mut().for_each(|(_, p)| *p = p.ln());
        TokenLogprobs { chosen: chosen.ln(), top }
    }

    /// Like `sampled_logprobs`, for a token that `sample_masked` chose.
    pub fn masked_logprobs(
        &self,
        scratch: &mut SampleScratch,
        logits: &[f32],
        mask: &TokenMask,
        token: Token,
        k: usize,
    ) -> TokenLogprobs {
        let mut masked = std::mem::take(&mut scratch.masked);
        mask.select(logits, &mut masked);
        let scores = self.sampled_logprobs(scratch, &mut masked, token, k);
        scratch.masked = masked;
        scores
    }

    /// Calls `f` with each token that `sample` may return and its probability, by ascending id.
    fn each_possible(&self, scratch: &mut SampleScratch, logits: &mut [f32], mut f: impl FnMut(Token, f32)) {
        let keeps_back = self.generated < self.min_tokens;
        if !self.each_of(scratch, logits, keeps_back, &mut f) && keeps_back {
            self.each_of(scratch, logits, false, &mut f);
        }
    }

    /// Like `each_possible`, for a row whose edits are made. Returns whether any token is possible.
    fn each_of(
        &self,
        scratch: &mut SampleScratch,
        logits: &mut [f32],
        keeps_back: bool,
        f: &mut impl FnMut(Token, f32),
    ) -> bool {
        self.edit(scratch, logits, keeps_back);
        let mut certain = |place: usize| f(Token(place as u32), 1.0);
        let found = if self.params.is_greedy() {
            row::argmax(logits).map(&mut certain).is_some()
        } else {
            match self.filter(scratch, logits) {
                Filtered::Nothing => false,
                Filtered::Certain(place) => {
                    certain(place);
                    true
                }
                Filtered::Some(left, ids, _) => {
                    left.each(|place, p| f(token_at(ids, place), p));
                    true
                }
            }
        };
        scratch.edits.undo(logits);
        found
    }

    fn choose(&self, scratch: &mut SampleScratch, logits: &[f32]) -> Option<usize> {
        self.mirostat.seen.set(0.0);
        if self.params.is_greedy() {
            return row::argmax(logits);
        }
        match self.filter(scratch, logits) {
            Filtered::Nothing => None,
            Filtered::Certain(place) => Some(place),
            Filtered::Some(left, ids, sums) => {
                let place = left.draw(random::uniform(self.params.seed, self.generated), sums);
                if self.params.mirostat.is_some() {
                    self.mirostat.seen.set(mirostat::surprise(&left, place, sums));
                }
                Some(token_at(ids, place).index())
            }
        }
    }

    /// Runs the filters in order.
    fn filter<'a>(&self, scratch: &'a mut SampleScratch, logits: &'a [f32]) -> Filtered<'a> {
        let SampleScratch { maxima, sums, mass, kept, left, .. } = scratch;
        let [first, second] = kept;
        let SamplingParams { top_k, typical_p, top_p, min_p, min_keep, temperature, .. } = self.params;

        let mut best = row::block_maxima(logits, maxima);
        if best == row::NOTHING {
            return Filtered::Nothing;
        }
        if best == f32::INFINITY {
            return row::argmax(logits).map_or(Filtered::Nothing, Filtered::Certain);
        }
        if self.params.mirostat.is_some() {
            let cut = mirostat::cut(logits, maxima, best, temperature, self.mirostat.bound, sums);
            return Filtered::Some(Survivors { row: logits, maxima, best, cut, temperature }, None, sums);
        }
        let (mut row, mut ids): (&[f32], Option<&[u32]>) = (logits, None);
        if top_k > 0 && top_k < row.len() {
            let floor = sigma::floor(row, best, self.params.top_n_sigma);
            top_k::top_k(row, maxima, top_k, &mut mass.keys, first);
            if let Some(floor) = floor {
                first.retain(Cut::from(floor));
            }
            (row, ids) = (&first.values, Some(first.ids.as_slice()));
            row::block_maxima(row, maxima);
        } else if let Some(floor) = sigma::floor(row, best, self.params.top_n_sigma) {
            first.gather(row, maxima, floor);
            (row, ids) = (&first.values, Some(first.ids.as_slice()));
            row::block_maxima(row, maxima);
        }
        if typical_p < 1.0 {
            typical::typical(row, maxima, best, typical_p, min_keep, mass, second);
            second.rename(ids);
            (row, ids) = (&second.values, Some(second.ids.as_slice()));
            best = row::block_maxima(row, maxima);
        }
        let mut cut = Cut::NONE;
        if top_p < 1.0 {
            cut = top_p::top_p(row, maxima, best, top_p, mass);
        }
        if min_p > 0.0 {
            cut = cut.and(Cut::from(best + min_p.ln()));
        }
        if min_keep > 1 && cut != Cut::NONE {
            cut = cut.or(top_k::cut(row, min_keep, &mut mass.keys));
        }
        if self.params.xtc_probability > 0.0 && self.xtc_acts() {
            let before = Survivors { row, maxima, best, cut, temperature: 1.0 };
            if xtc::xtc(&before, self.params.xtc_threshold, min_keep, left) {
                left.rename(ids);
                (row, ids, cut) = (&left.values, Some(left.ids.as_slice()), Cut::NONE);
                best = row::block_maxima(row, maxima);
            }
        }
        let mut survivors = Survivors { row, maxima, best, cut, temperature };
        if self.params.dynatemp_range > 0.0 {
            survivors.temperature = dynamic::temperature(&survivors, &self.params);
            if survivors.temperature <= 0.0 {
                let place = row::argmax(row).map(|place| token_at(ids, place).index());
                return place.map_or(Filtered::Nothing, Filtered::Certain);
            }
        }
        Filtered::Some(survivors, ids, sums)
    }

    /// Whether XTC acts on the next token. Decided by a random number of its own.
    fn xtc_acts(&self) -> bool {
        /// Separates these random numbers from those that draw tokens.
        const STREAM: u64 = 0x5854_4358_5443_5854;
        random::uniform(self.params.seed ^ STREAM, self.generated) <= f64::from(self.params.xtc_probability)
    }
}

/// The state of a row after the filters.
enum Filtered<'a> {
    /// No entry exists.
    Nothing,
    /// The entry at this index is `+inf`, so it is chosen for certain.
    Certain(usize),
    /// The survivors, their ids if these differ from their indices, and scratch memory for the draw.
    Some(Survivors<'a>, Option<&'a [u32]>, &'a mut Vec<f64>),
}

fn token_at(ids: Option<&[u32]>, place: usize) -> Token {
    Token(ids.map_or(place as u32, |ids| ids[place]))
}
