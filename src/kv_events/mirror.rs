//! The blocks in the KV cache, as the batching thread reported them: by sequence, and for each block the number of
//! sequences that hold it. Pure.

use std::collections::{HashMap, HashSet};

use super::hash::{BlockHash, Root};
use super::message::Event;
use crate::handoff::BlockChange;
use crate::types::Token;

/// A block that at least one sequence holds.
struct Block {
    /// The number of sequences that hold it.
    holders: u32,
    parent: Option<BlockHash>,
    tokens: Box<[Token]>,
}

/// The blocks of all sequences.
pub struct Mirror {
    root: Root,
    block_tokens: usize,
    /// The blocks of each sequence from its beginning, by sequence number.
    seqs: Vec<Vec<BlockHash>>,
    blocks: HashMap<BlockHash, Block>,
    /// Blocks that were added or removed since the last `take_events`.
    touched: HashSet<BlockHash>,
    /// The blocks in `touched`: those whose first change was that they were added, parents before children; and those
    /// whose first change was that they were removed.
    came: Vec<BlockHash>,
    went: Vec<BlockHash>,
}

impl Mirror {
    /// An empty cache of the model `model`, with blocks of `block_tokens` tokens.
    pub fn new(model: &str, block_tokens: usize) -> Mirror {
        Mirror {
            root: Root::of(model),
            block_tokens,
            seqs: Vec::new(),
            blocks: HashMap::new(),
            touched: HashSet::new(),
            came: Vec::new(),
            went: Vec::new(),
        }
    }

    /// The number of different blocks.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether no sequence holds a block.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The names of all blocks, in no particular order.
    pub fn names(&self) -> impl Iterator<Item = BlockHash> + '_ {
        self.blocks.keys().copied()
    }

    /// Applies a change of one sequence.
    pub fn apply(&mut self, change: &BlockChange) {
        let at = change.seq.index();
        if self.seqs.len() <= at {
            self.seqs.resize(at + 1, Vec::new());
        }
        let mut held = std::mem::take(&mut self.seqs[at]);
        // The new blocks are counted before the old ones are released, so that blocks in both lists stay.
        let mut parent = change.kept.checked_sub(1).map(|last| held[last]);
        let gone = held.split_off(change.kept);
        for tokens in change.added.chunks_exact(self.block_tokens) {
            let name = self.root.child(parent, tokens);
            self.hold(name, parent, tokens);
            held.push(name);
            parent = Some(name);
        }
        gone.into_iter().for_each(|name| self.release(name));
        self.seqs[at] = held;
    }

    fn hold(&mut self, name: BlockHash, parent: Option<BlockHash>, tokens: &[Token]) {
        if let Some(block) = self.blocks.get_mut(&name) {
            block.holders += 1;
            return;
        }
        self.blocks.insert(name, Block { holders: 1, parent, tokens: tokens.into() });
        if self.touched.insert(name) {
            self.came.push(name);
        }
    }

    fn release(&mut self, name: BlockHash) {
        let Some(block) = self.blocks.get_mut(&name) else { return };
        block.holders -= 1;
        if block.holders > 0 {
            return;
        }
        self.blocks.remove(&name);
        if self.touched.insert(name) {
            self.went.push(name);
        }
    }

    /// The changes since the last call. Blocks that were removed and added again are in no event. Events for removed
    /// blocks come first; those for stored blocks have parents before children and at most `stored_max` blocks each.
    pub fn take_events(&mut self, stored_max: usize) -> Vec<Event> {
        self.touched.clear();
        let went: Vec<BlockHash> = self.went.drain(..).filter(|name| !self.blocks.contains_key(name)).collect();
        let came: Vec<BlockHash> = self.came.drain(..).filter(|name| self.blocks.contains_key(name)).collect();
        let removed = (!went.is_empty()).then_some(Event::Removed(went));
        removed.into_iter().chain(self.stored(&came, stored_max)).collect()
    }

    /// The whole cache as events, for a subscriber that knows nothing: everything cleared, then each block stored.
    pub fn snapshot(&self, stored_max: usize) -> Vec<Event> {
        let mut told = HashSet::with_capacity(self.blocks.len());
        let all: Vec<BlockHash> = self.seqs.iter().flatten().copied().filter(|name| told.insert(*name)).collect();
        std::iter::once(Event::Cleared).chain(self.stored(&all, stored_max)).collect()
    }

    /// Events that store `names`: neighbouring blocks of one chain share an event.
    fn stored(&self, names: &[BlockHash], stored_max: usize) -> Vec<Event> {
        let parent = |name: &BlockHash| self.blocks.get(name).and_then(|block| block.parent);
        let mut events = Vec::new();
        for run in names.chunk_by(|before, name| parent(name) == Some(*before)) {
            for part in run.chunks(stored_max) {
                let tokens = part.iter().filter_map(|name| self.blocks.get(name)).flat_map(|block| block.tokens.iter());
                events.push(Event::Stored {
                    names: part.to_vec(),
                    parent: parent(&part[0]),
                    tokens: tokens.copied().collect(),
                    block_tokens: self.block_tokens,
                });
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::types::SeqId;

    /// The blocks known to a subscriber that starts with `known` and gets `events`. Panics if an event's parent isn't
    /// known.
    fn told(mut known: HashSet<BlockHash>, events: Vec<Event>) -> HashSet<BlockHash> {
        for event in events {
            match event {
                Event::Cleared => known.clear(),
                Event::Removed(names) => names.iter().for_each(|name| assert!(known.remove(name))),
                Event::Stored { names, parent, tokens, block_tokens } => {
                    assert_eq!(tokens.len(), names.len() * block_tokens);
                    assert!(parent.is_none_or(|parent| known.contains(&parent)));
                    names.iter().for_each(|name| assert!(known.insert(*name)));
                }
            }
        }
        known
    }

    fn change(seq: u16, kept: usize, added: &[u32]) -> BlockChange {
        BlockChange { seq: SeqId(seq), kept, added: added.iter().copied().map(Token).collect() }
    }

    #[test]
    fn a_block_of_two_sequences_goes_with_the_second() {
        let mut mirror = Mirror::new("m", 2);
        mirror.apply(&change(0, 0, &[1, 2, 3, 4]));
        mirror.apply(&change(1, 0, &[1, 2, 5, 6]));
        assert_eq!(mirror.len(), 3);
        let known = told(HashSet::new(), mirror.take_events(9));
        assert_eq!(known, mirror.names().collect());
        mirror.apply(&change(0, 0, &[]));
        assert_eq!((mirror.len(), mirror.take_events(9).len()), (2, 1));
        mirror.apply(&change(1, 1, &[]));
        mirror.apply(&change(1, 0, &[1, 2, 7, 8]));
        let events = mirror.take_events(9);
        assert_eq!(events.len(), 2, "the beginning went and came back: {events:?}");
    }

    #[test]
    fn subscribers_follow_whatever_happens_and_a_snapshot_says_all() {
        let mut numbers = crate::dice::Dice::new(3);
        let mut dice = |sides: usize| numbers.below(sides);
        let mut mirror = Mirror::new("m", 3);
        let mut seqs: Vec<Vec<u32>> = vec![Vec::new(); 5];
        let mut known = HashSet::new();
        for _ in 0..2_000 {
            let seq = dice(5);
            let kept = dice(seqs[seq].len() / 3 + 1);
            let from = dice(5);
            let rest: Vec<u32> = match dice(3) {
                0 => Vec::new(),
                1 => (0..3 * dice(4)).map(|_| dice(2) as u32).collect(),
                _ => seqs[from].get(kept * 3..).unwrap_or_default().to_vec(),
            };
            seqs[seq].truncate(kept * 3);
            seqs[seq].extend(&rest);
            mirror.apply(&change(seq as u16, kept, &rest));
            if dice(3) == 0 {
                known = told(known, mirror.take_events(2));
                let held = |seq: &Vec<u32>| {
                    let tokens: Vec<Token> = seq.iter().copied().map(Token).collect();
                    Root::of("m").chain(&tokens, 3).collect::<Vec<_>>()
                };
                assert_eq!(known, seqs.iter().flat_map(held).collect());
                assert_eq!(told(HashSet::from([BlockHash(9)]), mirror.snapshot(4)), known);
            }
        }
    }
}
