//! Which blocks a tier keeps: the least recently used are evicted first, by bytes, and never a block before those that
//! follow it.
//!
//! A block is useful only if all blocks before it are there, because a request takes blocks from the beginning. So each
//! use of a block also counts as a use of all blocks before it, and a chain is evicted from its end. Pure; both tiers
//! use it on the batching thread, and the disk thread once at start-up.

use std::collections::{BTreeMap, HashMap};

use crate::types::prompts::BlockName;

/// Blocks, each with a value. `bytes() + reserved <= size` at any time.
#[derive(Debug)]
pub struct Lru<V> {
    /// Most bytes.
    size: u64,
    /// Bytes of the blocks in `nodes`.
    bytes: u64,
    /// Bytes of blocks that will be added; room is kept for them.
    reserved: u64,
    nodes: HashMap<BlockName, Node<V>>,
    /// Blocks that may be evicted, by the time of their latest use.
    order: BTreeMap<u64, BlockName>,
    /// The number of uses so far.
    uses: u64,
}

#[derive(Debug)]
struct Node<V> {
    value: V,
    bytes: u64,
    parent: Option<BlockName>,
    /// The time of its latest use, unique among all blocks.
    used: u64,
    /// Whether it must not be evicted now. It is then not in `order`.
    pinned: bool,
}

impl<V> Lru<V> {
    /// An empty tier of at most `size` bytes.
    pub fn new(size: u64) -> Lru<V> {
        Lru { size, bytes: 0, reserved: 0, nodes: HashMap::new(), order: BTreeMap::new(), uses: 0 }
    }

    /// Most bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of all blocks here.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Number of blocks here.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Whether the block is here. Doesn't count as a use.
    pub fn has(&self, name: &BlockName) -> bool {
        self.nodes.contains_key(name)
    }

    /// The block's value. Doesn't count as a use.
    pub fn value(&self, name: &BlockName) -> Option<&V> {
        self.nodes.get(name).map(|node| &node.value)
    }

    /// The block's bytes and its parent.
    pub fn about(&self, name: &BlockName) -> Option<(u64, Option<BlockName>)> {
        self.nodes.get(name).map(|node| (node.bytes, node.parent))
    }

    /// The names of all blocks, in no particular order.
    #[cfg(test)]
    pub fn names(&self) -> impl Iterator<Item = &BlockName> {
        self.nodes.keys()
    }

    /// Records a use of the block, and of those before it: the first block of the chain counts as used last.
    pub fn touch(&mut self, name: &BlockName) {
        let mut next = Some(*name);
        // A chain has no block twice, but a damaged file might say otherwise.
        for _ in 0..self.nodes.len() {
            let Some(node) = next.and_then(|name| self.nodes.get_mut(&name)) else { return };
            self.uses += 1;
            if !node.pinned
                && let Some(name) = self.order.remove(&node.used)
            {
                self.order.insert(self.uses, name);
            }
            node.used = self.uses;
            next = node.parent;
        }
    }

    /// Makes room for `bytes` behind `parent`: evicts the blocks that were used longest ago into `evicted`. Returns
    /// `false` if that isn't enough, because the rest is pinned, reserved, or before the new block in its chain.
    pub fn make_room(&mut self, parent: Option<&BlockName>, bytes: u64, evicted: &mut Vec<BlockName>) -> bool {
        let before = self.uses;
        if let Some(parent) = parent {
            self.touch(parent);
        }
        while self.bytes + self.reserved + bytes > self.size {
            match self.order.first_key_value() {
                Some((used, name)) if *used <= before => {
                    let name = *name;
                    self.remove(&name);
                    evicted.push(name);
                }
                _ => return false,
            }
        }
        true
    }

    /// Changes the size, and evicts the blocks that were used longest ago into `evicted` until the rest fits.
    pub fn resize(&mut self, size: u64, evicted: &mut Vec<BlockName>) {
        self.size = size;
        self.make_room(None, 0, evicted);
    }

    /// Reserves room for a block that will be added. There must be room (`make_room`).
    pub fn reserve(&mut self, bytes: u64) {
        self.reserved += bytes;
        assert!(self.bytes + self.reserved <= self.size, "reserved more than there is");
    }

    /// Releases room that `reserve` reserved.
    pub fn unreserve(&mut self, bytes: u64) {
        self.reserved = self.reserved.checked_sub(bytes).expect("only what was reserved is given back");
    }

    /// Adds a block as used now, together with the blocks before it. There must be room (`make_room`). A block that is
    /// already there is left unchanged.
    pub fn insert(&mut self, name: BlockName, parent: Option<BlockName>, bytes: u64, value: V) {
        if !self.has(&name) {
            assert!(self.bytes + self.reserved + bytes <= self.size, "a tier above its size");
            self.bytes += bytes;
            self.uses += 1;
            self.order.insert(self.uses, name);
            self.nodes.insert(name, Node { value, bytes, parent, used: self.uses, pinned: false });
        }
        self.touch(&name);
    }

    /// Removes a block and returns its value.
    pub fn remove(&mut self, name: &BlockName) -> Option<V> {
        let node = self.nodes.remove(name)?;
        self.order.remove(&node.used);
        self.bytes -= node.bytes;
        Some(node.value)
    }

    /// Prevents the block's eviction until `unpin`.
    pub fn pin(&mut self, name: &BlockName) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.pinned = true;
            self.order.remove(&node.used);
        }
    }

    /// Allows the block's eviction again.
    pub fn unpin(&mut self, name: &BlockName) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.pinned = false;
            self.order.insert(node.used, *name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompts::tests::{Dice, name};

    fn put(tier: &mut Lru<()>, at: u64, parent: Option<u64>, bytes: u64) -> Option<Vec<BlockName>> {
        let (parent, mut evicted) = (parent.map(name), Vec::new());
        let fits = tier.make_room(parent.as_ref(), bytes, &mut evicted);
        fits.then(|| tier.insert(name(at), parent, bytes, ())).map(|()| evicted)
    }

    #[test]
    fn the_end_of_an_old_chain_goes_first() {
        let mut tier = Lru::new(6);
        for (at, parent) in [(1, None), (2, Some(1)), (3, Some(2)), (11, None), (12, Some(11)), (13, Some(12))] {
            assert_eq!(put(&mut tier, at, parent, 1), Some(vec![]));
        }
        assert_eq!(put(&mut tier, 14, Some(13), 1), Some(vec![name(3)]));
        tier.touch(&name(2));
        assert_eq!(put(&mut tier, 21, None, 1), Some(vec![name(14)]), "1 and 2 were used since");
        assert_eq!((tier.bytes(), tier.count()), (6, 6));
    }

    #[test]
    fn a_block_never_displaces_those_before_it() {
        let mut tier = Lru::new(3);
        for (at, parent) in [(1, None), (2, Some(1)), (3, Some(2))] {
            put(&mut tier, at, parent, 1);
        }
        assert_eq!(put(&mut tier, 4, Some(3), 1), None);
        assert!((1..=3).all(|at| tier.has(&name(at))));
        assert_eq!(put(&mut tier, 5, Some(2), 1), Some(vec![name(3)]), "a sibling may go");
    }

    #[test]
    fn what_is_pinned_or_reserved_stays() {
        let mut tier = Lru::new(3);
        (1..=2).for_each(|at| drop(put(&mut tier, at, None, 1)));
        tier.pin(&name(1));
        tier.reserve(1);
        assert_eq!(put(&mut tier, 3, None, 1), Some(vec![name(2)]));
        assert_eq!(put(&mut tier, 4, None, 2), None, "1 byte at most could be freed");
        tier.unpin(&name(1));
        tier.unreserve(1);
        assert_eq!(put(&mut tier, 5, None, 3).map(|evicted| evicted.len()), Some(1));
    }

    #[test]
    fn a_chain_that_bites_its_tail_ends() {
        let mut tier = Lru::new(9);
        put(&mut tier, 1, Some(1), 1);
        put(&mut tier, 2, Some(3), 1);
        put(&mut tier, 3, Some(2), 1);
        tier.touch(&name(3));
        assert_eq!(tier.count(), 3);
    }

    /// 10,000 conversations with common beginnings: the bytes never exceed the size, and each block can be reached from
    /// the beginning of its chain.
    #[test]
    fn ten_thousand_conversations_stay_within_the_size() {
        let mut dice = Dice::new(21);
        for round in 0..10 {
            let size = 20 + dice.below(200);
            let mut tier = Lru::new(size);
            let mut parents = HashMap::new();
            for _ in 0..1_000 {
                let (system, user, blocks) = (dice.below(5), dice.below(40), 1 + dice.below(30));
                let shared = dice.below(blocks);
                let mut parent = None;
                for turn in 0..blocks {
                    let of = if turn < shared { system } else { 1_000 + system * 100 + user };
                    let at = of * 1_000 + turn;
                    parents.insert(name(at), parent.map(name));
                    if tier.has(&name(at)) {
                        tier.touch(&name(at));
                    } else if put(&mut tier, at, parent, 1 + at % 7).is_none() {
                        break;
                    }
                    parent = Some(at);
                    assert!(tier.bytes() <= size, "round {round}");
                }
            }
            let counted: u64 = tier.names().map(|name| tier.about(name).unwrap().0).sum();
            assert_eq!(counted, tier.bytes());
            assert!(tier.bytes() > size / 2, "it is used");
            for at in tier.names() {
                let before = tier.about(at).unwrap().1;
                assert!(before.is_none_or(|before| tier.has(&before)), "a block without its parent");
            }
        }
    }
}
