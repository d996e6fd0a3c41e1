//! How many rows the next step may carry. Plain arithmetic over what steps have cost so far.
//!
//! A prompt that is read while others generate holds each of them up by one pass over its chunk. Small chunks don't help
//! much: on a CPU a pass of 16 rows costs two decode steps, and llama.cpp's fused attention takes fewer than `TILE_ROWS`
//! rows of a sequence one at a time, three times slower at 800 cells. So a chunk is at least one tile, and doubles while
//! the steps stay cheap, as they do on a GPU.

use crate::types::limits::TILE_ROWS;

/// A chunk doubles when its step took less than this many decode steps, in tenths: twice the chunk is then below
/// `DEAR_TENTHS` still.
const CHEAP_TENTHS: u64 = 25;

/// A chunk is halved when its step took more than this many decode steps, in tenths.
const DEAR_TENTHS: u64 = 40;

/// Prompt rows beside decode rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptRows {
    /// As many (`--step-tokens`).
    Fixed(usize),
    /// As the measured cost of steps allows.
    Measured,
}

/// What steps may carry, and what they cost.
#[derive(Clone, Debug)]
pub struct Budget {
    rows_max: usize,
    /// Never more than this, lowered after the cache had no room.
    rows_cap: usize,
    /// Prompt rows of a step when someone decodes.
    prompt_rows: usize,
    /// Tiles of a chunk, while they follow what steps cost.
    tiles: Option<usize>,
    /// Moving mean of steps without prompt rows, in microseconds; 0 before the first.
    decode_us: u64,
}

impl Budget {
    pub fn new(rows_max: usize, prompt_rows: PromptRows) -> Budget {
        let (rows, tiles) = match prompt_rows {
            PromptRows::Fixed(rows) => (rows, None),
            PromptRows::Measured => (chunk(1), Some(1)),
        };
        Budget { rows_max, rows_cap: rows_max, prompt_rows: rows.clamp(1, rows_max), tiles, decode_us: 0 }
    }

    /// Rows of any kind.
    pub fn rows(&self) -> usize {
        self.rows_cap
    }

    /// What a step without prompt rows takes, in microseconds; 0 before the first.
    pub fn decode_us(&self) -> u64 {
        self.decode_us
    }

    /// Prompt rows beside `decoding` decode rows. Without any nobody is held up, and prompts are read at full speed.
    pub fn prompt_rows(&self, decoding: usize) -> usize {
        let room = self.rows_cap.saturating_sub(decoding);
        if decoding == 0 { room } else { room.min(self.prompt_rows) }
    }

    /// The cache had no room for `rows` rows: half as many next.
    pub fn halve(&mut self, rows: usize) {
        self.rows_cap = (rows / 2).max(1);
    }

    /// A step went through, or there was nothing to do.
    pub fn restore(&mut self) {
        self.rows_cap = self.rows_max;
    }

    /// Whether the cache had no room lately.
    pub fn is_lowered(&self) -> bool {
        self.rows_cap < self.rows_max
    }

    /// Learns from a step of so many rows that took `step_us`.
    pub fn learn(&mut self, decoding: usize, prompt: usize, step_us: u64) {
        if decoding > 0 && prompt == 0 {
            self.decode_us = if self.decode_us == 0 { step_us } else { (7 * self.decode_us + step_us) / 8 };
        }
        let Some(tiles) = self.tiles else { return };
        if decoding == 0 || prompt < self.prompt_rows || self.decode_us == 0 {
            return;
        }
        let tiles = if step_us * 10 < self.decode_us * CHEAP_TENTHS && self.prompt_rows < self.rows_max {
            tiles * 2
        } else if step_us * 10 > self.decode_us * DEAR_TENTHS {
            (tiles / 2).max(1)
        } else {
            tiles
        };
        self.tiles = Some(tiles);
        self.prompt_rows = chunk(tiles).min(self.rows_max);
    }
}

/// Rows of a chunk of so many tiles. One more: where each sequence has its own buffer llama.cpp takes the first row of a
/// chunk along with the decode rows, and the rest in a pass of its own.
fn chunk(tiles: usize) -> usize {
    tiles * TILE_ROWS + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_held_up_without_decode_rows() {
        let budget = Budget::new(512, PromptRows::Fixed(32));
        assert_eq!((budget.prompt_rows(0), budget.prompt_rows(4), budget.prompt_rows(500)), (512, 32, 12));
    }

    #[test]
    fn chunks_grow_while_steps_are_cheap_and_come_back_when_they_are_dear() {
        let mut budget = Budget::new(512, PromptRows::Measured);
        budget.learn(4, 0, 10_000);
        budget.learn(4, chunk(1), 12_000);
        assert_eq!(budget.prompt_rows(4), chunk(2));
        // The last bit of a prompt says nothing about a whole chunk.
        budget.learn(4, 3, 10_000);
        assert_eq!(budget.prompt_rows(4), chunk(2));
        budget.learn(4, chunk(2), 41_000);
        budget.learn(4, chunk(1), 90_000);
        assert_eq!(budget.prompt_rows(4), chunk(1));
    }

    #[test]
    fn a_fixed_chunk_stays() {
        let mut budget = Budget::new(512, PromptRows::Fixed(16));
        budget.learn(4, 0, 10_000);
        budget.learn(4, 16, 1);
        assert_eq!(budget.prompt_rows(4), 16);
    }

    #[test]
    fn no_room_lowers_everything_until_a_step_goes_through() {
        let mut budget = Budget::new(512, PromptRows::Fixed(64));
        budget.halve(20);
        assert_eq!(
            (budget.rows(), budget.prompt_rows(0), budget.prompt_rows(8), budget.is_lowered()),
            (10, 10, 2, true)
        );
        budget.restore();
        assert!(!budget.is_lowered());
    }
}
