//! A subscriber of KV events, without sockets: compares the blocks that it was told of with those that the engine
//! reports.

use std::collections::BTreeSet;

use cllm::handoff::{BlockQuery, BlockReader, BlockWriter, block_feed_of};
use cllm::kv_events::hash::{BlockHash, Root};
use cllm::kv_events::message::Event;
use cllm::kv_events::mirror::Mirror;

const MODEL: &str = "simulated";

pub struct Told {
    reader: BlockReader,
    query: BlockQuery,
    changes_max: usize,
    mirror: Mirror,
    believes: BTreeSet<BlockHash>,
}

/// The result of one comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// The queue was full: the remaining changes come later.
    Late,
    /// Both had this many blocks.
    Equal(usize),
}

impl Told {
    /// Blocks of `block_tokens` tokens, and a queue of `changes_max` changes.
    pub fn new(block_tokens: usize, changes_max: usize) -> (BlockWriter, Told) {
        let (writer, reader, query) = block_feed_of(block_tokens, changes_max);
        let mirror = Mirror::new(MODEL, block_tokens);
        query.begin();
        (writer, Told { reader, query, changes_max, mirror, believes: BTreeSet::new() })
    }

    /// Compares after a round of the engine, which has answered what it holds.
    pub fn look(&mut self) -> Look {
        let changes: Vec<_> = std::iter::from_fn(|| self.reader.pop()).collect();
        changes.iter().for_each(|change| self.mirror.apply(change));
        for event in self.mirror.take_events(3) {
            self.take(event);
        }
        let held = self.query.answer().expect("the engine answers after each round");
        self.query.begin();
        if changes.len() == self.changes_max {
            return Look::Late;
        }
        let size = self.query.block_tokens();
        let names: BTreeSet<BlockHash> = held.iter().flat_map(|tokens| Root::of(MODEL).chain(tokens, size)).collect();
        assert_eq!(self.believes, names, "a subscriber was told something else");
        Look::Equal(names.len())
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Cleared => self.believes.clear(),
            Event::Removed(names) => {
                names.iter().for_each(|name| assert!(self.believes.remove(name), "removed, but never stored"));
            }
            Event::Stored { names, mut parent, tokens, block_tokens } => {
                assert!(parent.is_none_or(|parent| self.believes.contains(&parent)), "stored before its parent");
                for (name, tokens) in names.iter().zip(tokens.chunks(block_tokens)) {
                    assert_eq!(*name, Root::of(MODEL).child(parent, tokens));
                    assert!(self.believes.insert(*name), "stored twice");
                    parent = Some(*name);
                }
            }
        }
    }
}
