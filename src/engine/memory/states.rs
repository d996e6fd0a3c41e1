//! Checkpoints in the store, for models whose cache can't be cut. Each is one block: what a sequence has, where the model is recurrent;
//! otherwise the state, and the cells since the place before it at which a checkpoint is due, where its parent is.
//!
//! A block's name is the hash of all tokens before its end: of whole stretches from one due checkpoint to the next, and of what is
//! behind the last. So two prompts with the same beginning have the same checkpoints, and the end of an earlier prompt is found in a
//! later one by naming each place at which it may be.
//!
//! A state is that of all tokens read so far, and nothing can make it from a later one. So it is saved when it is taken, and not when its
//! cells are given up.

use std::ops::Range;

use super::super::Engine;
use super::super::request::AcceptedRequest;
use super::super::stats::Observer;
use super::Memory;
use crate::types::limits::{CHECKPOINT_TAIL_PARTS, CHECKPOINT_TAILS_MAX};
use crate::types::seams::{CheckpointRule, Clock, Decoder};
use crate::types::{BlockName, Held, Owner, SeqId, Token};

/// A beginning of a prompt that the store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FoundStates {
    tokens: usize,
    /// Blocks to bring, and how many of them come from the disk.
    blocks: usize,
    of_disk: usize,
}

/// A state that the store may keep.
struct Named {
    name: BlockName,
    parent: Option<BlockName>,
    /// The tokens whose cells go with it.
    cells: Range<usize>,
    /// Tokens since the place before it at which a checkpoint is due.
    tokens: usize,
}

impl Memory {
    /// Whether a block is all that a sequence has.
    pub(super) fn is_whole(&self) -> bool {
        self.states.is_some_and(|rule| rule.is_whole)
    }

    /// Least number of tokens between the latest checkpoint and the end of a prompt, from which the prompt's end gets a checkpoint of
    /// its own.
    fn tail_min(&self) -> usize {
        (self.block / CHECKPOINT_TAIL_PARTS).max(1)
    }

    /// As `offer`, where the cache can't be cut.
    pub(super) fn offer_state(
        &mut self,
        rule: CheckpointRule,
        request: &AcceptedRequest,
        have: usize,
    ) -> Option<usize> {
        let tokens = request.shareable();
        let (tokens, block) = (&tokens[..tokens.len() - 1], self.block);
        if tokens.len() <= have {
            return None;
        }
        let (is_new, most) = (request.names.borrow().is_empty(), tokens.len() / block);
        self.name(request, most);
        let names = request.names.borrow();
        let root = self.root(request.params.space);
        let found = if rule.is_whole {
            vec![self.last_state(&names[..most], root, tokens, have)]
        } else {
            let held = self.store.held(&names[..most]);
            let before = held.all.checked_sub(1).map_or(root, |last| names[last]);
            let rest = &tokens[held.all * block..];
            let tail = self.last_tail(before, &rest[..rest.len().min(block - 1)]);
            let whole = |blocks: usize| FoundStates {
                tokens: blocks * block,
                blocks: blocks.saturating_sub(have / block),
                of_disk: blocks.saturating_sub(held.ram.max(have / block)),
            };
            let all = whole(held.all);
            let tail = tail.map(|tail| FoundStates {
                tokens: all.tokens + tail.tokens,
                blocks: all.blocks + tail.blocks,
                of_disk: all.of_disk + tail.of_disk,
            });
            vec![tail, Some(all), Some(whole(held.ram))]
        };
        let more: Vec<FoundStates> = found.into_iter().flatten().filter(|found| found.tokens > have).collect();
        let pays = |found: &&FoundStates| self.stats.rates.pays(found.tokens - have, found.blocks, found.of_disk);
        let best = more.iter().find(pays).map(|found| found.tokens);
        if best.is_none() && !more.is_empty() && is_new {
            self.stats.rates.forget_a_little();
        }
        best
    }

    /// The longest beginning of `tokens`, longer than `have`, whose state the store has. `names`: of whole stretches from `root` on.
    fn last_state(
        &mut self,
        names: &[BlockName],
        root: BlockName,
        tokens: &[Token],
        have: usize,
    ) -> Option<FoundStates> {
        let block = self.block;
        for blocks in (have / block..=names.len()).rev() {
            let before = blocks.checked_sub(1).map(|last| names[last]);
            let here = before.map_or(Held::default(), |name| self.store.held(&[name]));
            if here.all > 0 || names.len() - blocks < CHECKPOINT_TAILS_MAX {
                let rest = &tokens[blocks * block..];
                let tail = self.last_tail(before.unwrap_or(root), &rest[..rest.len().min(block - 1)]);
                if let Some(tail) = tail {
                    return Some(FoundStates { tokens: blocks * block + tail.tokens, ..tail });
                }
            }
            if here.all > 0 {
                return Some(FoundStates { tokens: blocks * block, blocks: 1, of_disk: 1 - here.ram });
            }
        }
        None
    }

    /// The longest beginning of `tokens`, which follow `before` and are no whole stretch, at whose end the store has a state.
    fn last_tail(&mut self, before: BlockName, tokens: &[Token]) -> Option<FoundStates> {
        let least = self.tail_min();
        let names: Vec<BlockName> = before.each_next(tokens).collect();
        let ends = names.iter().enumerate().skip(least - 1).rev();
        ends.map(|(last, name)| (last + 1, self.store.held(&[*name])))
            .find(|(_, held)| held.all > 0)
            .map(|(tokens, held)| FoundStates { tokens, blocks: 1, of_disk: 1 - held.ram })
    }

    /// The state of `seq`, which holds `tokens` of `space`, the first `intact` of them for as long as its names are known. `None`: it isn't
    /// worth keeping.
    fn named(&mut self, seq: SeqId, space: Owner, tokens: &[Token], intact: usize) -> Option<Named> {
        let (block, len, root, least) = (self.block, tokens.len(), self.root(space), self.tail_min());
        let from = len.checked_sub(1)? / block * block;
        let known = &mut self.known[seq.index()];
        known.truncate(intact.min(from) / block);
        if !len.is_multiple_of(block) && len - from < least {
            return None;
        }
        for stretch in tokens[..from].chunks_exact(block).skip(known.len()) {
            let before = known.last().copied().unwrap_or(root);
            known.push(before.next(stretch));
        }
        let parent = known.last().copied();
        let name = parent.unwrap_or(root).next(&tokens[from..]);
        let is_whole = self.is_whole();
        let (parent, cells) = if is_whole { (None, 0..len) } else { (parent, from..len) };
        Some(Named { name, parent, cells, tokens: len - from })
    }
}

impl<D: Decoder, C: Clock, O: Observer> Engine<D, C, O> {
    /// Gives the store the state of `seq` as it is now, if the store lacks it.
    pub(in super::super) fn store_state(&mut self, seq: SeqId) {
        let (space, intact) = (self.cache.kv().space(seq), self.cache.intact(seq));
        let Some(memory) = self.memory.as_deref_mut() else { return };
        let Some(named) = memory.named(seq, space, self.cache.kv().tokens(seq), intact) else { return };
        let Named { name, parent, cells, tokens } = named;
        if !memory.store.wants(&name) {
            return;
        }
        let begun_us = self.clock.now_us();
        let mut bytes = Vec::new();
        if !self.cache.save(seq, cells, &mut bytes) {
            return;
        }
        let length = bytes.len() as u64;
        memory.store.put(name, parent, tokens as u32, bytes);
        let us = self.clock.now_us() - begun_us;
        memory.stats.rates.learn_saving(us);
        memory.stats.gave(length, us);
    }
}
