//! A store of blocks that is slow, forgets blocks, and returns damaged ones, within its size.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use cllm::types::{BlockBytes, BlockName, Fetched, Held, PromptStore, Tier};

use crate::dice::Dice;

/// The properties of a store.
#[derive(Clone, Debug)]
pub struct StoreShape {
    pub block_tokens: usize,
    /// Bytes of all blocks, in memory and on the disk.
    pub ram_max: usize,
    pub disk_max: usize,
    /// How often a block on the disk must be asked for before it is there.
    pub slowness: usize,
    /// The probability that a block is gone when it is asked for.
    pub forgets: f64,
    pub damages: f64,
    pub survives: bool,
}

impl StoreShape {
    pub fn roll(dice: &mut Dice) -> StoreShape {
        let block_tokens = *dice.pick(&[1, 2, 4, 8]);
        let bytes = block_tokens * size_of::<u64>();
        StoreShape {
            block_tokens,
            ram_max: dice.within(0..=40) * bytes,
            disk_max: *dice.pick(&[0, 20, 100]) * bytes,
            slowness: *dice.pick(&[0, 2, 10]),
            forgets: *dice.pick(&[0.0, 0.0, 0.1]),
            damages: *dice.pick(&[0.0, 0.0, 0.1]),
            survives: dice.chance(0.5),
        }
    }
}

/// Counts of what happened in the store.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub evicted: u64,
    pub gone: u64,
    pub damaged: u64,
    pub coming: u64,
}

struct Block {
    tier: Tier,
    bytes: Vec<u8>,
    /// When it was last used.
    used: u64,
    /// How often it has been asked for on the disk.
    asked: usize,
}

pub struct FakeStore {
    shape: StoreShape,
    dice: Dice,
    blocks: HashMap<BlockName, Block>,
    uses: u64,
    seen: Arc<Mutex<Seen>>,
}

impl FakeStore {
    pub fn new(shape: StoreShape, dice: Dice, seen: Arc<Mutex<Seen>>) -> FakeStore {
        FakeStore { shape, dice, blocks: HashMap::new(), uses: 0, seen }
    }

    fn saw(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().expect("one thread"));
    }

    fn bytes(&self, tier: Tier) -> usize {
        self.blocks.values().filter(|block| block.tier == tier).map(|block| block.bytes.len()).sum()
    }

    /// Moves the least recently used blocks from memory to the disk, and removes them there.
    fn evict(&mut self) {
        for (tier, most) in [(Tier::Ram, self.shape.ram_max), (Tier::Disk, self.shape.disk_max)] {
            while self.bytes(tier) > most {
                let of_tier = self.blocks.iter().filter(|(_, block)| block.tier == tier);
                let (name, _) = of_tier.min_by_key(|(_, block)| block.used).expect("some are too many");
                let name = *name;
                match tier {
                    Tier::Ram if self.shape.disk_max > 0 => {
                        let block = self.blocks.get_mut(&name).expect("it is there");
                        (block.tier, block.asked) = (Tier::Disk, 0);
                    }
                    _ => _ = self.blocks.remove(&name),
                }
                self.saw(|seen| seen.evicted += 1);
            }
        }
    }
}

impl PromptStore for FakeStore {
    fn held(&mut self, names: &[BlockName]) -> Held {
        let tier = |name: &BlockName| self.blocks.get(name).map(|block| block.tier);
        let all = names.iter().take_while(|name| tier(name).is_some()).count();
        let ram = names.iter().take_while(|name| tier(name) == Some(Tier::Ram)).count();
        Held { all, ram }
    }

    fn fetch(&mut self, names: &[BlockName]) {
        for name in names {
            if let Some(block) = self.blocks.get_mut(name) {
                block.asked += 1;
            }
        }
    }

    fn get(&mut self, name: &BlockName) -> Fetched {
        self.uses += 1;
        if self.dice.chance(self.shape.forgets) {
            self.blocks.remove(name);
        }
        let Some(block) = self.blocks.get_mut(name) else {
            self.saw(|seen| seen.gone += 1);
            return Fetched::Gone;
        };
        block.used = self.uses;
        let tier = block.tier;
        if tier == Tier::Disk {
            block.asked += 1;
            if block.asked <= self.shape.slowness {
                self.saw(|seen| seen.coming += 1);
                return Fetched::Coming;
            }
        }
        let mut bytes = block.bytes.clone();
        if self.dice.chance(self.shape.damages) {
            bytes.pop();
            self.saw(|seen| seen.damaged += 1);
        }
        if tier == Tier::Disk && self.shape.ram_max > 0 {
            self.blocks.get_mut(name).expect("it was there").tier = Tier::Ram;
            self.evict();
        }
        Fetched::Ready(BlockBytes::new(bytes), tier)
    }

    fn wants(&mut self, name: &BlockName) -> bool {
        !self.blocks.contains_key(name)
    }

    fn put(&mut self, name: BlockName, parent: Option<BlockName>, tokens: u32, bytes: Vec<u8>) {
        assert_ne!(Some(name), parent);
        // A checkpoint may be of fewer tokens, or of more.
        assert!(tokens > 0);
        self.uses += 1;
        let before = self.blocks.insert(name, Block { tier: Tier::Ram, bytes, used: self.uses, asked: 0 });
        assert!(before.is_none(), "it has the block");
        self.evict();
        assert!(self.bytes(Tier::Ram) <= self.shape.ram_max && self.bytes(Tier::Disk) <= self.shape.disk_max);
    }

    fn survives(&self) -> bool {
        self.shape.survives
    }
}
