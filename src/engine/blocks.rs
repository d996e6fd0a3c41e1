//! Tells the publisher of KV events which blocks each sequence holds. Batching thread; once after each step, and only
//! with `--kv-events`.
//!
//! It compares the blocks that it has told with the tokens of each sequence, so a token costs nothing until it
//! completes a block. If the queue is full, it tries again after the next step, with all changes since.

use super::cache::Cache;
use super::{Engine, Observer};
use crate::handoff::{BlockChange, BlockWriter};
use crate::types::SeqId;
use crate::types::seams::{Clock, Decoder};

impl<D: Decoder, C: Clock, O: Observer> Engine<D, C, O> {
    /// Tells `writer`, after each step, which blocks of tokens the cache holds.
    #[must_use]
    pub fn telling(mut self, writer: BlockWriter) -> Self {
        self.blocks = Some(Blocks::new(writer, self.cache.capacity().seqs));
        self
    }

    pub(super) fn tell_blocks(&mut self) {
        if let Some(blocks) = &mut self.blocks {
            blocks.tell(&mut self.cache);
        }
    }
}

/// What was told of each sequence.
pub(super) struct Blocks {
    writer: BlockWriter,
    seqs: Vec<ToldTokens>,
}

/// Numbers of tokens, multiples of the block's size.
#[derive(Clone, Copy, Default)]
struct ToldTokens {
    /// Tokens that the sequence holds according to what was told.
    told: usize,
    /// How many of these, from the beginning, are unchanged since.
    valid: usize,
}

impl Blocks {
    /// For a cache of `seqs` sequences, all empty.
    pub(super) fn new(writer: BlockWriter, seqs: u16) -> Blocks {
        Blocks { writer, seqs: vec![ToldTokens::default(); usize::from(seqs)] }
    }

    /// Tells the changes since the last call, as far as there is room, and answers a thread that asked for all blocks.
    pub(super) fn tell<D: Decoder>(&mut self, cache: &mut Cache<D>) {
        let size = self.writer.block_tokens();
        for (told, seq) in self.seqs.iter_mut().zip((0..).map(SeqId)) {
            let (least, len) = (cache.take_least(seq), cache.kv().tokens(seq).len());
            if least >= told.told && told.valid == told.told && len < told.told + size {
                continue;
            }
            told.valid = told.valid.min(least - least % size);
            let complete = len - len % size;
            if complete == told.told && told.valid == told.told || self.writer.is_full() {
                continue;
            }
            let change = BlockChange {
                seq,
                kept: told.valid / size,
                added: cache.kv().tokens(seq)[told.valid..complete].into(),
            };
            if self.writer.push(change).is_ok() {
                *told = ToldTokens { told: complete, valid: complete };
            }
        }
        if self.writer.is_asked() {
            let complete = |seq: SeqId| {
                let tokens = cache.kv().tokens(seq);
                tokens[..tokens.len() - tokens.len() % size].to_vec()
            };
            self.writer.answer((0..self.seqs.len() as u16).map(|seq| complete(SeqId(seq))).collect());
        }
    }
}
