//! How many rows the next step may carry. Plain arithmetic over what steps have cost so far.
//!
//! A prompt that is read while others generate holds each of them up by one pass over its chunk. How large that may be
//! depends on how rows go through the decoder:
//!
//! - all in one pass: as many as a step of `DEAR_TENTHS` decode steps can take, by what a row has cost lately, in whole
//!   groups of `GROUP_ROWS` with the decode rows. The Qwen3-0.6B shape on two cores, per step: 4 rows 57 ms, 8 rows 98,
//!   16 rows 107, 20 rows 144, 32 rows 185.
//! - each length in a pass of its own: at least one tile. Small chunks don't help much there: a pass of 16 rows costs two
//!   decode steps, and llama.cpp's fused attention takes fewer than `TILE_ROWS` rows of a sequence one at a time, three times
//!   slower at 800 cells. The chunk doubles while the steps stay cheap, as they do on a GPU.

use crate::types::limits::TILE_ROWS;
use crate::types::seams::Capacity;

/// The longest step that reads part of a prompt, in tenths of a decode step. No stream's gap should reach 4 decode steps, and what a row
/// costs varies.
const DEAR_TENTHS: u64 = 30;

/// Rows that llama.cpp's matrices take together on a CPU with AVX-512; others take 4 or 8.
const GROUP_ROWS: usize = 16;

/// A chunk of fewer rows isn't worth its step.
const CHUNK_MIN: usize = GROUP_ROWS / 4;

/// Tiles are doubled when their step took less than this many decode steps, in tenths: twice the chunk is then below
/// `TILES_DEAR_TENTHS` still.
const TILES_CHEAP_TENTHS: u64 = 25;

/// Tiles are halved when their step took more than this many decode steps, in tenths.
const TILES_DEAR_TENTHS: u64 = 40;

/// Prompt rows beside decode rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptRows {
    /// As many (`--step-tokens`).
    Fixed(usize),
    /// As the measured cost of steps allows.
    Measured,
}

/// Prompt rows of a step when someone decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    Fixed(usize),
    /// So many tiles, each sequence in a buffer of its own.
    Tiles(usize),
    /// What fits, at so many nanoseconds a row; 0 before the first.
    Affordable {
        row_ns: u64,
    },
}

/// What steps may carry, and what they cost.
#[derive(Clone, Debug)]
pub struct Budget {
    rows_max: usize,
    /// Never more than this, lowered after the cache had no room.
    rows_cap: usize,
    chunk: Chunk,
    /// Moving mean of steps without prompt rows, in microseconds; 0 before the first.
    decode_us: u64,
}

impl Budget {
    pub fn new(capacity: &Capacity, prompt_rows: PromptRows) -> Budget {
        let rows_max = capacity.rows_max;
        let chunk = match prompt_rows {
            PromptRows::Fixed(rows) => Chunk::Fixed(rows.clamp(1, rows_max)),
            PromptRows::Measured if capacity.cells_shared.is_some() => Chunk::Affordable { row_ns: 0 },
            PromptRows::Measured => Chunk::Tiles(1),
        };
        Budget { rows_max, rows_cap: rows_max, chunk, decode_us: 0 }
    }

    /// Rows of any kind.
    pub fn rows(&self) -> usize {
        self.rows_cap
    }

    /// What a step without prompt rows takes, in microseconds; 0 before the first.
    pub fn decode_us(&self) -> u64 {
        self.decode_us
    }

    /// Prompt rows of a step beside `decoding` decode rows, for `prompts` prompts that have `left` rows to read together. Where no
    /// request decodes, none is held up, and prompts are read at full speed. So they are where rows go through in one pass, there are
    /// more prompts than decoding requests, and one step reads all that is left: it is one pause for the few.
    pub fn prompt_rows(&self, decoding: usize, prompts: usize, left: usize) -> usize {
        let room = self.rows_cap.saturating_sub(decoding);
        let chunk = match self.chunk {
            _ if decoding == 0 => room,
            Chunk::Affordable { .. } if prompts > decoding && left <= room => room,
            Chunk::Fixed(rows) => rows,
            Chunk::Tiles(tiles) => rows_of(tiles),
            Chunk::Affordable { row_ns } => self.affordable(decoding, row_ns),
        };
        chunk.min(room)
    }

    fn affordable(&self, decoding: usize, row_ns: u64) -> usize {
        let spare_ns = self.decode_us * (DEAR_TENTHS - 10) * 100;
        let fit = spare_ns.checked_div(row_ns).map_or(0, |rows| rows.min(self.rows_max as u64) as usize);
        let whole = (decoding + fit) / GROUP_ROWS * GROUP_ROWS;
        let least = (decoding + CHUNK_MIN).next_multiple_of(GROUP_ROWS);
        whole.max(least) - decoding
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
        if decoding == 0 || prompt == 0 || self.decode_us == 0 {
            return;
        }
        match &mut self.chunk {
            Chunk::Fixed(_) => {}
            Chunk::Tiles(tiles) if prompt >= rows_of(*tiles).min(self.rows_max) => {
                if step_us * 10 < self.decode_us * TILES_CHEAP_TENTHS && rows_of(*tiles) < self.rows_max {
                    *tiles *= 2;
                } else if step_us * 10 > self.decode_us * TILES_DEAR_TENTHS {
                    *tiles = (*tiles / 2).max(1);
                }
            }
            Chunk::Affordable { row_ns } if prompt >= CHUNK_MIN => {
                let now_ns = (step_us.saturating_sub(self.decode_us) * 1_000 / prompt as u64).max(1);
                *row_ns = if *row_ns == 0 { now_ns } else { (3 * *row_ns + now_ns) / 4 };
            }
            // The last bit of a prompt says nothing about a whole chunk.
            Chunk::Tiles(_) | Chunk::Affordable { .. } => {}
        }
    }
}

/// Rows of so many tiles. One more: where each sequence has its own buffer llama.cpp takes the first row of a
/// chunk along with the decode rows, and the rest in a pass of its own.
fn rows_of(tiles: usize) -> usize {
    tiles * TILE_ROWS + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(cells_shared: Option<u32>, prompt_rows: PromptRows) -> Budget {
        Budget::new(&Capacity { seqs: 8, cells_per_seq: 64, cells_shared, rows_max: 512, n_vocab: 3 }, prompt_rows)
    }

    /// Beside `decoding`, for a prompt that is longer than any step.
    fn rows(budget: &Budget, decoding: usize) -> usize {
        budget.prompt_rows(decoding, 1, 10_000)
    }

    #[test]
    fn many_who_wait_for_little_are_not_held_up_by_few() {
        let one_pass = budget(Some(512), PromptRows::Measured);
        assert_eq!((one_pass.prompt_rows(3, 4, 128), one_pass.prompt_rows(4, 4, 128)), (509, 12));
        // More than one step would take, they are read in chunks.
        assert_eq!((one_pass.prompt_rows(3, 4, 509), one_pass.prompt_rows(3, 4, 510)), (509, 13));
        let fixed = budget(Some(512), PromptRows::Fixed(32));
        assert_eq!(fixed.prompt_rows(3, 4, 128), 32);
    }

    #[test]
    fn in_one_pass_a_step_takes_what_three_decode_steps_can() {
        let mut budget = budget(Some(512), PromptRows::Measured);
        // Nothing is known: one group.
        assert_eq!((rows(&budget, 4), rows(&budget, 12), rows(&budget, 13)), (12, 4, 19));
        budget.learn(4, 0, 50_000);
        // 100 ms to spare, 2 ms a row: 50 rows, of which 44 fill groups with the four.
        budget.learn(4, 12, 50_000 + 24_000);
        assert_eq!((rows(&budget, 4), rows(&budget, 8), rows(&budget, 0)), (44, 40, 512));
        // Dearer rows, learnt by a quarter a step: 4 ms, then more than there is to spare.
        budget.learn(4, 44, 50_000 + 440_000);
        assert_eq!(rows(&budget, 4), 12);
        (0..9).for_each(|_| budget.learn(4, 12, 1_000_000));
        assert_eq!(rows(&budget, 4), 12);
        // A bit at a prompt's end says nothing.
        let before = budget.clone();
        budget.learn(4, 3, 50_001);
        assert_eq!(budget.chunk, before.chunk);
        // And where rows cost next to nothing, as many as there may be.
        (0..40).for_each(|_| budget.learn(4, 12, 50_000));
        assert_eq!(rows(&budget, 4), 508);
    }

    #[test]
    fn nobody_is_held_up_without_decode_rows() {
        let budget = budget(None, PromptRows::Fixed(32));
        assert_eq!((rows(&budget, 0), rows(&budget, 4), rows(&budget, 500)), (512, 32, 12));
    }

    #[test]
    fn chunks_grow_while_steps_are_cheap_and_come_back_when_they_are_dear() {
        let mut budget = budget(None, PromptRows::Measured);
        budget.learn(4, 0, 10_000);
        budget.learn(4, rows_of(1), 12_000);
        assert_eq!(rows(&budget, 4), rows_of(2));
        // The last bit of a prompt says nothing about a whole chunk.
        budget.learn(4, 3, 10_000);
        assert_eq!(rows(&budget, 4), rows_of(2));
        budget.learn(4, rows_of(2), 41_000);
        budget.learn(4, rows_of(1), 90_000);
        assert_eq!(rows(&budget, 4), rows_of(1));
    }

    #[test]
    fn a_fixed_chunk_stays() {
        let mut budget = budget(None, PromptRows::Fixed(16));
        budget.learn(4, 0, 10_000);
        budget.learn(4, 16, 1);
        assert_eq!(rows(&budget, 4), 16);
    }

    #[test]
    fn no_room_lowers_everything_until_a_step_goes_through() {
        let mut budget = budget(None, PromptRows::Fixed(64));
        budget.halve(20);
        assert_eq!((budget.rows(), rows(&budget, 0), rows(&budget, 8), budget.is_lowered()), (10, 10, 2, true));
        budget.restore();
        assert!(!budget.is_lowered());
    }
}
