//! Blocks of the KV cache: changes that the batching thread sends to the thread that publishes KV events, and the
//! answers that it gives HTTP threads.
//!
//! A block is a fixed number of tokens of a sequence, counted from its beginning. The batching thread never waits. If
//! the queue of changes is full, it keeps its changes and sends them later, as one change for each sequence
//! (`engine/blocks.rs`). So the reader always learns the present state, only later.

use std::time::{Duration, Instant};

use super::sync::{Arc, ArrayQueue, AtomicU8, Ordering};
use crate::types::limits::{KV_BLOCK_CHANGES_MAX, KV_BLOCKS_LOOK_MS};
use crate::types::{SeqId, Token};

/// What changed in the blocks of one sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockChange {
    /// The sequence.
    pub seq: SeqId,
    /// How many of its first blocks are unchanged. Its other former blocks are gone.
    pub kept: usize,
    /// The tokens of the new blocks after the unchanged ones: a multiple of the block's size.
    pub added: Box<[Token]>,
}

/// For each sequence, by its id, the tokens of its complete blocks.
pub type SequenceBlocks = Vec<Vec<Token>>;

/// The state that writer, reader and query share.
struct Feed {
    block_tokens: usize,
    changes: ArrayQueue<BlockChange>,
    /// The latest answer, until an HTTP thread takes it.
    held: ArrayQueue<SequenceBlocks>,
    /// 1 while an HTTP thread waits for an answer, else 0.
    ///
    /// ORDERING: written by HTTP threads (1) and by the batching thread (0), Relaxed: the answer travels in `held`.
    asked: AtomicU8,
    /// 1 when the batching thread will send no more changes.
    ///
    /// ORDERING: written by the batching thread with Release after its last change; the reader's Acquire sees that
    /// change.
    closed: AtomicU8,
}

/// Makes the three ends of a feed of blocks of `block_tokens` tokens, at least 1.
pub fn block_feed(block_tokens: usize) -> (BlockWriter, BlockReader, BlockQuery) {
    block_feed_of(block_tokens, KV_BLOCK_CHANGES_MAX)
}

/// Like `block_feed`, with room for `changes_max` changes.
///
/// # Panics
/// If `block_tokens` or `changes_max` is 0.
pub fn block_feed_of(block_tokens: usize, changes_max: usize) -> (BlockWriter, BlockReader, BlockQuery) {
    assert!(block_tokens > 0, "a block has tokens");
    let feed = Arc::new(Feed {
        block_tokens,
        changes: ArrayQueue::new(changes_max),
        held: ArrayQueue::new(1),
        asked: AtomicU8::new(0),
        closed: AtomicU8::new(0),
    });
    (BlockWriter(Arc::clone(&feed)), BlockReader(Arc::clone(&feed)), BlockQuery(feed))
}

/// The batching thread's end. Dropping it closes the feed.
pub struct BlockWriter(Arc<Feed>);

impl BlockWriter {
    /// Tokens of one block.
    pub fn block_tokens(&self) -> usize {
        self.0.block_tokens
    }

    /// Whether `push` would refuse a change now.
    pub fn is_full(&self) -> bool {
        self.0.changes.is_full()
    }

    /// Sends a change to the publishing thread.
    ///
    /// # Errors
    /// The queue is full; the error is the change.
    pub fn push(&self, change: BlockChange) -> Result<(), BlockChange> {
        self.0.changes.push(change)
    }

    /// Whether an HTTP thread waits for `answer`.
    pub fn is_asked(&self) -> bool {
        self.0.asked.load(Ordering::Relaxed) != 0
    }

    /// Gives a waiting HTTP thread the blocks that each sequence holds now.
    pub fn answer(&self, held: SequenceBlocks) {
        self.0.asked.store(0, Ordering::Relaxed);
        self.0.held.force_push(held);
    }
}

impl Drop for BlockWriter {
    fn drop(&mut self) {
        self.0.closed.store(1, Ordering::Release);
    }
}

/// The publishing thread's end.
pub struct BlockReader(Arc<Feed>);

impl BlockReader {
    /// Tokens of one block.
    pub fn block_tokens(&self) -> usize {
        self.0.block_tokens
    }

    /// Takes the oldest change; `None` if there is none now.
    pub fn pop(&self) -> Option<BlockChange> {
        self.0.changes.pop()
    }

    /// Whether the batching thread has ended. Changes that it sent before can still be popped.
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire) != 0
    }
}

/// The HTTP threads' end. Only one thread may ask at a time.
pub struct BlockQuery(Arc<Feed>);

impl BlockQuery {
    /// Tokens of one block.
    pub fn block_tokens(&self) -> usize {
        self.0.block_tokens
    }

    /// Asks which blocks the sequences hold. The batching thread answers after its next step.
    pub fn begin(&self) {
        // Drops an answer to an earlier question whose thread stopped waiting.
        while self.0.held.pop().is_some() {}
        self.0.asked.store(1, Ordering::Relaxed);
    }

    /// The answer to the latest `begin`; `None` until the batching thread has given it.
    pub fn answer(&self) -> Option<SequenceBlocks> {
        self.0.held.pop()
    }

    /// The blocks that the sequences hold after the batching thread's next step. An idle batching thread looks for
    /// questions every 100 ms. `None`: it didn't answer within `most`.
    pub fn ask(&self, most: Duration) -> Option<SequenceBlocks> {
        self.begin();
        let until = Instant::now() + most;
        while Instant::now() < until && self.0.closed.load(Ordering::Acquire) == 0 {
            if let Some(held) = self.answer() {
                return Some(held);
            }
            std::thread::sleep(Duration::from_millis(KV_BLOCKS_LOOK_MS));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_gives_the_change_back_and_an_answer_is_for_those_that_asked() {
        let (writer, reader, query) = block_feed_of(4, 1);
        let change = BlockChange { seq: SeqId(3), kept: 2, added: Box::new([Token(1); 4]) };
        assert!(!writer.is_full() && writer.push(change.clone()).is_ok() && writer.is_full());
        assert_eq!(writer.push(change.clone()), Err(change.clone()));
        assert_eq!((reader.pop(), reader.pop()), (Some(change), None));
        assert!(!writer.is_asked());
        writer.answer(vec![vec![Token(7)]]);
        assert_eq!(query.ask(Duration::from_millis(5)), None, "the answer was an old one");
        assert!(writer.is_asked());
        let asked = std::thread::spawn(move || query.ask(Duration::from_secs(60)));
        while !writer.is_asked() {}
        std::thread::sleep(Duration::from_millis(20));
        writer.answer(vec![vec![Token(8)]]);
        assert_eq!(asked.join().unwrap(), Some(vec![vec![Token(8)]]));
        assert!(!reader.is_closed());
        drop(writer);
        assert!(reader.is_closed());
    }
}
