//! Events as MessagePack, in the shapes of vLLM's `KVEventBatch`: arrays, each event with its name first. Pure.
//!
//! A message has three frames: the topic, its number in 8 bytes (big-endian), and a batch `[time, events, rank]`. Events are
//! `["BlockStored", hashes, parent, token_ids, block_size, lora_id, medium, lora_name]`, `["BlockRemoved", hashes, medium]` and
//! `["AllBlocksCleared"]`. Adapters don't exist here, so what concerns them is nil. The medium is `GPU`, vLLM's word for the memory
//! that steps read; the rank is 0.

use rmp::encode::{self, ValueWriteError};

use super::hash::BlockHash;
use crate::types::Token;

/// vLLM's name for the memory that steps read, whatever device computes.
const MEDIUM: &str = "GPU";

/// One event for subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The cache now holds a chain of blocks.
    Stored {
        /// The names of the blocks, first to last.
        names: Vec<BlockHash>,
        /// The name of the block before the first; `None`: the chain begins a prompt.
        parent: Option<BlockHash>,
        /// The tokens of all these blocks, one block after the other.
        tokens: Vec<Token>,
        /// Tokens of one block.
        block_tokens: usize,
    },
    /// The cache no longer holds these blocks.
    Removed(Vec<BlockHash>),
    /// The cache holds no block.
    Cleared,
}

impl Event {
    /// The number of blocks that it names.
    pub fn blocks(&self) -> usize {
        match self {
            Event::Stored { names, .. } | Event::Removed(names) => names.len(),
            Event::Cleared => 0,
        }
    }
}

/// The MessagePack of a batch of `events`; `unix_s` is the time in seconds since 1970.
pub fn encode_batch(unix_s: f64, events: &[Event]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + events.iter().map(Event::blocks).sum::<usize>() * 64);
    // Writing into memory can't fail.
    let _ = write_batch(&mut bytes, unix_s, events);
    bytes
}

fn write_batch(to: &mut Vec<u8>, unix_s: f64, events: &[Event]) -> Result<(), ValueWriteError> {
    encode::write_array_len(to, 3)?;
    encode::write_f64(to, unix_s)?;
    encode::write_array_len(to, events.len() as u32)?;
    for event in events {
        write_event(to, event)?;
    }
    encode::write_uint(to, 0)?;
    Ok(())
}

fn write_event(to: &mut Vec<u8>, event: &Event) -> Result<(), ValueWriteError> {
    match event {
        Event::Stored { names, parent, tokens, block_tokens } => {
            encode::write_array_len(to, 8)?;
            encode::write_str(to, "BlockStored")?;
            write_names(to, names)?;
            match parent {
                Some(parent) => encode::write_uint(to, parent.0).map(|_| ())?,
                None => write_nil(to)?,
            }
            encode::write_array_len(to, tokens.len() as u32)?;
            for token in tokens {
                encode::write_uint(to, u64::from(token.0))?;
            }
            encode::write_uint(to, *block_tokens as u64)?;
            write_nil(to)?;
            encode::write_str(to, MEDIUM)?;
            write_nil(to)
        }
        Event::Removed(names) => {
            encode::write_array_len(to, 3)?;
            encode::write_str(to, "BlockRemoved")?;
            write_names(to, names)?;
            encode::write_str(to, MEDIUM)
        }
        Event::Cleared => {
            encode::write_array_len(to, 1)?;
            encode::write_str(to, "AllBlocksCleared")
        }
    }
}

fn write_nil(to: &mut Vec<u8>) -> Result<(), ValueWriteError> {
    encode::write_nil(to).map_err(ValueWriteError::InvalidMarkerWrite)
}

fn write_names(to: &mut Vec<u8>, names: &[BlockHash]) -> Result<(), ValueWriteError> {
    encode::write_array_len(to, names.len() as u32)?;
    for name in names {
        encode::write_uint(to, name.0)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes are those that msgspec writes for vLLM's structs with the same values.
    #[test]
    fn a_batch_has_the_bytes_that_vllm_writes() {
        let stored = Event::Stored {
            names: vec![BlockHash(1), BlockHash(0x1122_3344_5566_7788)],
            parent: None,
            tokens: [7, 200, 70_000, 0].map(Token).to_vec(),
            block_tokens: 2,
        };
        let child = Event::Stored {
            names: vec![BlockHash(3)],
            parent: Some(BlockHash(1)),
            tokens: Vec::new(),
            block_tokens: 2,
        };
        let bytes = encode_batch(1.5, &[Event::Cleared, Event::Removed(vec![BlockHash(300)]), stored, child]);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = [
            "93",
            "cb3ff8000000000000",
            "94",
            "91",
            "b0",
            "416c6c426c6f636b73436c6561726564",
            "93",
            "ac",
            "426c6f636b52656d6f766564",
            "91",
            "cd012c",
            "a3475055",
            "98",
            "ab",
            "426c6f636b53746f726564",
            "92",
            "01",
            "cf1122334455667788",
            "c0",
            "94",
            "07",
            "ccc8",
            "ce00011170",
            "00",
            "02",
            "c0",
            "a3475055",
            "c0",
            "98",
            "ab",
            "426c6f636b53746f726564",
            "91",
            "03",
            "01",
            "90",
            "02",
            "c0",
            "a3475055",
            "c0",
            "00",
        ];
        assert_eq!(hex, expected.concat());
    }
}
