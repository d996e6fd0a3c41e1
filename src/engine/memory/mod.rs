//! KV state outside the cells: what the engine knows of the store (`types/prompts.rs`), and what moving costs. Batching thread only.
//!
//! ```text
//! memory    names of blocks, and what the store was offered
//! states    of sequences that can't be cut: their checkpoints in the store
//! rates     what reading a token and moving a block have cost: which is cheaper
//! stats     what was moved
//! restore   blocks from the store into cells, for requests that wait for them
//! save      blocks from cells into the store
//! ```
//!
//! A block is moved between two steps. Others that decode wait for one block at a time, and for no more than half a decode step unless one
//! block takes longer.

mod rates;
mod restore;
mod save;
mod states;
mod stats;

pub use rates::Rates;
pub use stats::{PromptStats, Restored};

use std::ops::Range;

use super::request::AcceptedRequest;
use crate::types::seams::CheckpointRule;
use crate::types::{BlockName, Identity, Owner, PromptStore, SlotId, Token};

/// The store of KV state outside the cells, and how its blocks are named.
pub struct PromptMemory {
    /// The store.
    pub store: Box<dyn PromptStore>,
    /// What the names of all blocks depend on.
    pub identity: Identity,
    /// Tokens of a block, at least 1. Where the cache can't be cut, a block ends where a checkpoint is due.
    pub block_tokens: usize,
}

/// What the engine knows of the store's blocks.
pub(super) struct Memory {
    store: Box<dyn PromptStore>,
    identity: Identity,
    block: usize,
    /// Where the cache can't be cut: how its states are kept.
    states: Option<CheckpointRule>,
    /// For each sequence, the names of its first blocks that were offered to the store, or came from it.
    known: Vec<Vec<BlockName>>,
    /// For each slot, how long its request has waited.
    wanted: Vec<Wanted>,
    stats: PromptStats,
    /// How long the latest step took, in microseconds.
    step_us: u64,
}

/// How long a request waits for its blocks.
#[derive(Default)]
struct Wanted {
    /// When the latest block came, or when the request began to wait.
    since_us: u64,
    /// Whether it has asked for the next block, which isn't there yet.
    waits: bool,
}

impl Memory {
    /// `states`: where the cache can't be cut, how its states are kept.
    pub(super) fn new(parts: PromptMemory, states: Option<CheckpointRule>, seqs: usize, slots: usize) -> Memory {
        let PromptMemory { store, identity, block_tokens } = parts;
        assert!(block_tokens > 0);
        Memory {
            store,
            identity,
            block: states.map_or(block_tokens, |rule| rule.every),
            states,
            known: vec![Vec::new(); seqs],
            wanted: (0..slots).map(|_| Wanted::default()).collect(),
            stats: PromptStats::default(),
            step_us: 0,
        }
    }

    /// Tokens of a block.
    pub(super) fn block(&self) -> usize {
        self.block
    }

    /// Counts of moved blocks.
    pub(super) fn stats(&self) -> &PromptStats {
        &self.stats
    }

    /// Learns from a step of `decoding` decode rows and `prompt` prompt rows that took `step_us`. `decode_us` is the
    /// duration of a step without prompt rows, 0 if unknown.
    pub(super) fn learn_step(&mut self, decoding: usize, prompt: usize, step_us: u64, decode_us: u64) {
        self.step_us = step_us;
        self.stats.rates.learn_reading(decoding, prompt, step_us, decode_us);
    }

    /// How many tokens `request` should begin with, where it has its first `have` tokens from cells; `None`: the store has no more, or
    /// reading them costs less than bringing them.
    pub(super) fn offer(&mut self, request: &AcceptedRequest, have: usize) -> Option<usize> {
        if let Some(rule) = self.states {
            return self.offer_state(rule, request, have);
        }
        // The last token must be decoded to get its logits.
        let most = (request.shareable().len() - 1) / self.block;
        if most * self.block <= have {
            return None;
        }
        let is_new = request.names.borrow().is_empty();
        self.name(request, most);
        let held = self.store.held(&request.names.borrow()[..most]);
        let (block, from) = (self.block, have / self.block);
        let pays = |rates: &Rates, blocks: usize| {
            let of_disk = blocks - held.ram.clamp(from, blocks);
            rates.pays(blocks * block - have, blocks - from, of_disk)
        };
        let best = [held.all, held.ram].into_iter().find(|blocks| *blocks > from && pays(&self.stats.rates, *blocks));
        if best.is_none() && held.all > from && is_new {
            self.stats.rates.forget_a_little();
        }
        best.map(|blocks| blocks * block)
    }

    /// The next block to restore or save of the first `until` tokens of `request`, whose cells have `held` of them: its
    /// name and its tokens.
    fn next_piece(&self, request: &AcceptedRequest, held: usize, until: usize) -> (BlockName, Range<usize>) {
        let end = if self.is_whole() { until } else { until.min(held + self.block) };
        let (names, blocks) = (request.names.borrow(), end / self.block);
        let before = blocks.checked_sub(1).map_or_else(|| self.root(request.params.space), |last| names[last]);
        let rest = &request.tokens[blocks * self.block..end];
        (if rest.is_empty() { before } else { before.next(rest) }, held..end)
    }

    /// Computes the names of the first `count` blocks of the request's tokens.
    fn name(&self, request: &AcceptedRequest, count: usize) {
        let mut names = request.names.borrow_mut();
        let mut name = names.last().copied().unwrap_or_else(|| self.root(request.params.space));
        for tokens in request.tokens.chunks_exact(self.block).take(count).skip(names.len()) {
            name = name.next(tokens);
            names.push(name);
        }
    }

    fn root(&self, space: Owner) -> BlockName {
        BlockName::root(&self.identity, space)
    }

    /// `request` in `slot`, which was offered them, waits from now on for its tokens `wanted`.
    pub(super) fn begin(&mut self, slot: SlotId, request: &AcceptedRequest, wanted: Range<usize>, now_us: u64) {
        self.wanted[slot.index()] = Wanted { since_us: now_us, waits: false };
        let (mut names, mut held) = (Vec::new(), wanted.start);
        while held < wanted.end {
            let (name, piece) = self.next_piece(request, held, wanted.end);
            names.push(name);
            held = piece.end;
        }
        self.store.fetch(&names);
    }

    /// The name of the block of `tokens` that follows the first `known` blocks of a sequence of `space`.
    fn name_after(&self, known: &[BlockName], space: Owner, tokens: &[Token]) -> BlockName {
        known.last().copied().unwrap_or_else(|| self.root(space)).next(tokens)
    }
}
