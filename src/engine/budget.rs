//! How many rows the next step may have. Plain arithmetic over the measured times of past steps.
//!
//! While requests generate, each chunk of another request's prompt delays their next tokens by the time of its rows. How large a chunk may
//! be depends on how rows go through the decoder:
//!
//! - All rows in one pass: as many as fit into the time of `DEAR_TENTHS` tenths of a decode step, by the measured costs of rows and of the cells
//!   before them (`prompt_cost.rs`), so that with the decode rows they are whole groups of `GROUP_ROWS`. The Qwen3-0.6B shape on two cores, per
//!   step: 4 rows 57 ms, 8 rows 98, 16 rows 107, 20 rows 144, 32 rows 185. If the attention of
//!   even one group takes longer than that, the chunk has fewer rows, at least one.
//! - Sequences of each length in a pass of their own: at least one tile. Small chunks don't help much there: a pass of 16 rows costs two
//!   decode steps, and llama.cpp's fused attention takes fewer than `TILE_ROWS` rows of a sequence one at a time, three times
//!   slower at 800 cells. The chunk doubles while the steps stay cheap, as they do on a GPU. Where its attention alone takes half of
//!   that time or more, the chunk has as many rows as fit, and one at least.

use super::decode_cost::DecodeCost;
use super::prompt_cost::{PromptCost, Reading};
use crate::types::limits::TILE_ROWS;
use crate::types::seams::Capacity;

/// The longest step with prompt rows, in tenths of a decode step. A stream's gap should stay below 4 decode steps, and
/// the cost of a row varies.
const DEAR_TENTHS: u64 = 30;

/// Rows that llama.cpp's matrix products compute together on a CPU with AVX-512; other CPUs compute 4 or 8 together.
const GROUP_ROWS: usize = 16;

/// Chunks of fewer rows aren't worth a step.
const CHUNK_MIN: usize = GROUP_ROWS / 4;

/// The number of tiles is doubled if their step took less than this many tenths of a decode step; the doubled chunk is
/// then still below `TILES_DEAR_TENTHS`.
const TILES_CHEAP_TENTHS: u64 = 25;

/// The number of tiles is halved if their step took more than this many tenths of a decode step.
const TILES_DEAR_TENTHS: u64 = 40;

/// How many prompt rows a step has beside decode rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptRows {
    /// This many (`--step-tokens`).
    Fixed(usize),
    /// As many as the measured cost of steps allows.
    Measured,
}

/// Prompt rows of a step with decode rows.
#[derive(Clone, Debug, PartialEq)]
enum Chunk {
    Fixed(usize),
    /// This many tiles, or as many rows as fit into the time at these costs; each sequence has a buffer of its own.
    Tiles(usize, PromptCost),
    /// As many as fit into the time, at these costs.
    Affordable(PromptCost),
}

/// The rest of one prompt that is to be prefilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Cells before its next row.
    pub held: usize,
    /// Rows that it could use in one step.
    pub rows: usize,
}

/// How many rows steps may have, and what they cost.
#[derive(Clone, Debug)]
pub struct RowBudget {
    rows_max: usize,
    /// The most rows of any step, lowered after the cache had no room.
    rows_cap: usize,
    chunk: Chunk,
    /// What steps without prompt rows take.
    decode: DecodeCost,
    /// Cells before the decode rows of the latest step.
    decode_cells: usize,
}

impl RowBudget {
    /// A budget for a cache of this capacity.
    pub fn new(capacity: &Capacity, prompt_rows: PromptRows) -> RowBudget {
        let rows_max = capacity.rows_max;
        let chunk = match prompt_rows {
            PromptRows::Fixed(rows) => Chunk::Fixed(rows.clamp(1, rows_max)),
            PromptRows::Measured if capacity.cells_common.is_some() => Chunk::Affordable(PromptCost::default()),
            PromptRows::Measured => Chunk::Tiles(1, PromptCost::default()),
        };
        RowBudget { rows_max, rows_cap: rows_max, chunk, decode: DecodeCost::default(), decode_cells: 0 }
    }

    /// Most rows of a step, of any kind.
    pub fn rows(&self) -> usize {
        self.rows_cap
    }

    /// How long the latest step would have taken without prompt rows, in microseconds; 0 before the first.
    pub fn decode_us(&self) -> u64 {
        self.decode.us(self.decode_cells)
    }

    /// Prompt rows of a step beside the decode rows `decode`. `spans`: the prompts, in the order in which they get rows; together they have
    /// `left` rows to prefill. If no request decodes, prompts are prefilled at full speed, because no request is delayed. They are also
    /// prefilled at full speed, in the layouts where all rows go through in one pass, if there are more prompts than decoding requests, one step
    /// prefills all of them, and their attention alone fits into a step's time: the decoding requests then pause once.
    pub fn prompt_rows(&self, decode: &Reading, left: usize, spans: impl Iterator<Item = Span> + Clone) -> usize {
        let (decoding, spare_ns) = (decode.rows, self.spare_ns(decode.cells));
        let room = self.rows_cap.saturating_sub(decoding);
        let chunk = match &self.chunk {
            _ if decoding == 0 => room,
            Chunk::Fixed(rows) => *rows,
            Chunk::Tiles(tiles, cost) => {
                let attention_ns = |rows| cost.attention_ns(rows, &first_rows(rows, spans.clone()));
                let all = rows_of(*tiles).min(left);
                let fits = |rows: &usize| cost.rows_ns(*rows) + attention_ns(*rows) <= spare_ns;
                match attention_ns(all) <= spare_ns / 2.0 {
                    true => rows_of(*tiles),
                    false => (1..all).rev().find(fits).unwrap_or(1),
                }
            }
            Chunk::Affordable(cost) => {
                let reading = |rows| first_rows(rows, spans.clone());
                let is_one_pause = left <= room
                    && spans.clone().count() > decoding
                    && cost.attention_ns(padded(decoding, left), &reading(left)) <= spare_ns;
                if is_one_pause { room } else { self.affordable(decoding, cost, spare_ns, reading) }
            }
        };
        chunk.min(room)
    }

    /// Whether a prompt may be cut after any of `rows` rows: all go through the weights in one pass, or they are fewer than a tile anyway.
    pub fn cuts_anywhere(&self, rows: usize) -> bool {
        match self.chunk {
            Chunk::Affordable(_) => true,
            Chunk::Tiles(..) => rows < rows_of(1),
            Chunk::Fixed(_) => false,
        }
    }

    /// The time that prompt rows may add to a step whose decode rows have `decode_cells` cells before them, in nanoseconds; 0 before the first
    /// decode step was measured.
    fn spare_ns(&self, decode_cells: usize) -> f64 {
        (self.decode.us(decode_cells) * (DEAR_TENTHS - 10) * 100) as f64
    }

    /// Rows that fit beside `decoding` decode rows and may add `spare_ns` to the step. `reading`: gives the first rows of the prompts, for
    /// a number of rows.
    fn affordable(
        &self,
        decoding: usize,
        cost: &PromptCost,
        spare_ns: f64,
        reading: impl Fn(usize) -> Reading,
    ) -> usize {
        let unknown = PromptCost::default();
        let cost = if spare_ns == 0.0 { &unknown } else { cost };
        let rows_ns = |rows| cost.rows_ns(padded(decoding, rows));
        let attention_ns = |rows| cost.attention_ns(padded(decoding, rows), &reading(rows));
        let least = padded(decoding, CHUNK_MIN);
        let groups = (least..=self.rows_max).step_by(GROUP_ROWS);
        let fits = |rows: &usize| cost.is_known() && rows_ns(*rows) + attention_ns(*rows) <= spare_ns;
        if let Some(rows) = groups.take_while(fits).last() {
            return rows;
        }
        // Fewer rows than a group don't pass faster through the weights, but they attend to fewer cells.
        let left_ns = (spare_ns - rows_ns(least)).max(spare_ns / 4.0);
        (1..=least).rev().find(|rows| attention_ns(*rows) <= left_ns).unwrap_or(1)
    }

    /// The cache had no room for `rows` rows: the next step has half as many.
    pub fn halve(&mut self, rows: usize) {
        self.rows_cap = (rows / 2).max(1);
    }

    /// A step succeeded, or there was nothing to do: the bound is lifted.
    pub fn restore(&mut self) {
        self.rows_cap = self.rows_max;
    }

    /// Whether the bound is lowered, because the cache had no room.
    pub fn is_lowered(&self) -> bool {
        self.rows_cap < self.rows_max
    }

    /// Learns from a step that took `step_us` microseconds. `decode`: its decode rows; `reading`: its prompt rows.
    pub fn learn(&mut self, decode: &Reading, reading: &Reading, step_us: u64) {
        let (decoding, prompt) = (decode.rows, reading.rows);
        if decoding > 0 {
            self.decode_cells = decode.cells;
        }
        if decoding > 0 && prompt == 0 {
            self.decode.learn(decode.cells, step_us);
        }
        let decode_us = self.decode_us();
        if decoding == 0 || prompt == 0 || decode_us == 0 {
            return;
        }
        let more_us = step_us.saturating_sub(decode_us);
        if let Chunk::Tiles(_, cost) = &mut self.chunk
            && (prompt >= rows_of(1) || reading.is_deep())
        {
            cost.learn(prompt, reading, more_us);
        }
        match &mut self.chunk {
            Chunk::Fixed(_) => {}
            Chunk::Tiles(tiles, _) if prompt >= rows_of(*tiles).min(self.rows_max) => {
                if step_us * 10 < decode_us * TILES_CHEAP_TENTHS && rows_of(*tiles) < self.rows_max {
                    *tiles *= 2;
                } else if step_us * 10 > decode_us * TILES_DEAR_TENTHS {
                    *tiles = (*tiles / 2).max(1);
                }
            }
            Chunk::Affordable(cost) if prompt >= CHUNK_MIN || reading.is_deep() => {
                cost.learn(padded(decoding, prompt), reading, more_us);
            }
            // The short last chunk of a prompt isn't learnt from.
            Chunk::Tiles(..) | Chunk::Affordable(_) => {}
        }
    }
}

/// `rows` prompt rows, rounded up so that together with `decoding` decode rows they are whole groups.
fn padded(decoding: usize, rows: usize) -> usize {
    (decoding + rows).next_multiple_of(GROUP_ROWS) - decoding
}

/// The first `rows` rows of `spans`, or all of them if there are fewer.
fn first_rows(rows: usize, spans: impl Iterator<Item = Span>) -> Reading {
    let (mut left, mut reading) = (rows, Reading::default());
    for span in spans {
        let rows = span.rows.min(left);
        reading.add(span.held, rows);
        left -= rows;
    }
    reading
}

/// The rows of this many tiles, and one more: if each sequence has a buffer of its own, llama.cpp computes the first
/// row of a chunk together with the decode rows, and the rest in a pass of its own.
fn rows_of(tiles: usize) -> usize {
    tiles * TILE_ROWS + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(cells_common: Option<u32>, prompt_rows: PromptRows) -> RowBudget {
        RowBudget::new(&Capacity { seqs: 8, cells_per_seq: 64, cells_common, rows_max: 512, n_vocab: 3 }, prompt_rows)
    }

    /// Decode rows that have few cells before them.
    fn decode(rows: usize) -> Reading {
        Reading { rows, ..Reading::default() }
    }

    /// Prompt rows of a step with `decoding` decode rows, for a prompt that is longer than any step and has no cells yet.
    fn rows(budget: &RowBudget, decoding: usize) -> usize {
        rows_behind(budget, decoding, 0)
    }

    /// Prompt rows of a step with `decoding` decode rows, for a prompt that is longer than any step and has `held` cells.
    fn rows_behind(budget: &RowBudget, decoding: usize, held: usize) -> usize {
        budget.prompt_rows(&decode(decoding), 10_000, [Span { held, rows: 10_000 }].into_iter())
    }

    /// A step of `decoding` decode rows and of `rows` prompt rows behind `held` cells.
    fn learn(budget: &mut RowBudget, decoding: usize, rows: usize, held: usize, step_us: u64) {
        let mut reading = Reading::default();
        reading.add(held, rows);
        budget.learn(&decode(decoding), &reading, step_us);
    }

    #[test]
    fn many_short_prompts_are_prefilled_in_one_step_beside_fewer_decoding_requests() {
        let of_four = |budget: &RowBudget, decoding, left: usize, held| {
            budget.prompt_rows(&decode(decoding), left, [Span { held, rows: left.div_ceil(4) }; 4].into_iter())
        };
        let mut one_pass = budget(Some(512), PromptRows::Measured);
        assert_eq!((of_four(&one_pass, 3, 128, 0), of_four(&one_pass, 4, 128, 0)), (509, 12));
        // Prompts that together are longer than one step are prefilled in chunks.
        assert_eq!((of_four(&one_pass, 3, 509, 0), of_four(&one_pass, 3, 510, 0)), (509, 13));
        let fixed = budget(Some(512), PromptRows::Fixed(32));
        assert_eq!(of_four(&fixed, 3, 128, 0), 32);
        // Behind 7,000 cells attention alone takes too long; before it was measured, it is assumed to.
        assert_eq!(of_four(&one_pass, 3, 128, 7_000), 1);
        learn(&mut one_pass, 3, 0, 0, 50_000);
        learn(&mut one_pass, 3, 1, 7_000, 50_000 + 30_000);
        assert!(of_four(&one_pass, 3, 128, 7_000) < 13);
        assert_eq!(of_four(&one_pass, 3, 128, 100), 509);
    }

    #[test]
    fn in_one_pass_a_step_takes_what_three_decode_steps_can() {
        let mut budget = budget(Some(512), PromptRows::Measured);
        // Nothing is measured yet: one group.
        assert_eq!((rows(&budget, 4), rows(&budget, 12), rows(&budget, 13)), (12, 4, 19));
        learn(&mut budget, 4, 0, 0, 50_000);
        // There are 100 ms to spare at 2 ms a row: 50 rows, of which 44 fill groups together with the four.
        learn(&mut budget, 4, 12, 0, 50_000 + 24_000);
        assert_eq!((rows(&budget, 4), rows(&budget, 8), rows(&budget, 0)), (44, 40, 512));
        // A step with rows of 10 ms raises the learnt cost of a row so far that one group is all that fits.
        learn(&mut budget, 4, 44, 0, 50_000 + 440_000);
        assert_eq!(rows(&budget, 4), 12);
        (0..9).for_each(|_| learn(&mut budget, 4, 12, 0, 1_000_000));
        assert_eq!(rows(&budget, 4), 12);
        // A chunk of fewer than `CHUNK_MIN` rows, the end of a prompt, is not learnt from.
        let before = budget.clone();
        learn(&mut budget, 4, 3, 0, 50_001);
        assert_eq!(budget.chunk, before.chunk);
        // If rows cost almost nothing, a step has as many as its capacity allows.
        for _ in 0..60 {
            let rows = rows(&budget, 4);
            learn(&mut budget, 4, rows, 0, 50_000);
        }
        assert_eq!(rows(&budget, 4), 508);
    }

    #[test]
    fn behind_many_cells_a_step_has_as_many_rows_as_it_has_time_for() {
        // A decode step takes 20 ms, a row 1 ms, and 4 us more for each cell before it.
        let step_us = |rows: usize, held: usize| {
            20_000 + padded(4, rows) as u64 * 1_000 + (rows * held + rows * (rows - 1) / 2) as u64 * 4
        };
        let mut budget = budget(Some(16_384), PromptRows::Measured);
        assert_eq!((rows_behind(&budget, 4, 100), rows_behind(&budget, 4, 7_000)), (12, 1), "nothing is known");
        learn(&mut budget, 4, 0, 0, 20_000);
        learn(&mut budget, 4, 12, 0, step_us(12, 0));
        assert_eq!((rows(&budget, 4), rows_behind(&budget, 4, 7_000)), (28, 1), "that depth is not known");
        let mut all = 0;
        for held in (0..7_000).step_by(10) {
            let rows = rows_behind(&budget, 4, held);
            let took_us = step_us(rows, held);
            assert!(took_us < 66_000, "{rows} rows behind {held} took {took_us}");
            learn(&mut budget, 4, rows, held, took_us);
            all += rows;
        }
        assert!(all > 1_700, "{all} rows in 700 steps");
        // Of 40 ms, 12 go to the group's way through the weights. A row's attention takes 28 ms behind 7,000 cells, and 8 ms behind 2,000.
        assert_eq!((rows_behind(&budget, 4, 7_000), rows_behind(&budget, 4, 2_000)), (1, 3));
        assert!(rows(&budget, 4) >= 12);
        // A short prompt in front of a long one.
        let both = [Span { held: 0, rows: 10 }, Span { held: 6_000, rows: 600 }];
        assert_eq!(budget.prompt_rows(&decode(4), 610, both.into_iter()), 11);
    }

    #[test]
    fn a_long_sequence_that_has_ended_gives_prompts_no_more_time() {
        let mut budget = budget(Some(512), PromptRows::Measured);
        let deep = Reading { rows: 5, cells: 7_400, deepest: 7_000 };
        (0..20).for_each(|_| learn(&mut budget, 4, 0, 0, 17_000));
        learn(&mut budget, 4, 12, 0, 17_000 + 12_000);
        let before = rows(&budget, 4);
        (0..40).for_each(|_| budget.learn(&deep, &Reading::default(), 100_000));
        assert!(rows(&budget, 4) <= before + GROUP_ROWS, "{} rows, {before} before", rows(&budget, 4));
        assert!(budget.prompt_rows(&deep, 10_000, [Span { held: 0, rows: 10_000 }].into_iter()) > 2 * before);
    }

    #[test]
    fn without_decode_rows_prompts_get_all_rows_of_a_step() {
        let budget = budget(None, PromptRows::Fixed(32));
        assert_eq!((rows(&budget, 0), rows(&budget, 4), rows(&budget, 500)), (512, 32, 12));
    }

    #[test]
    fn chunks_grow_while_steps_are_cheap_and_come_back_when_they_are_dear() {
        let mut budget = budget(None, PromptRows::Measured);
        learn(&mut budget, 4, 0, 0, 10_000);
        learn(&mut budget, 4, rows_of(1), 0, 12_000);
        assert_eq!(rows(&budget, 4), rows_of(2));
        // The short last chunk of a prompt isn't learnt from.
        learn(&mut budget, 4, 3, 0, 10_000);
        assert_eq!(rows(&budget, 4), rows_of(2));
        learn(&mut budget, 4, rows_of(2), 0, 41_000);
        learn(&mut budget, 4, rows_of(1), 0, 90_000);
        assert_eq!(rows(&budget, 4), rows_of(1));
    }

    #[test]
    fn a_tile_behind_many_cells_has_as_many_rows_as_there_is_time_for() {
        // A decode step takes 5 ms, each row 110 us, and 600 ns more for each cell before it.
        let step_us = |rows: usize, held: usize| {
            5_000 + rows as u64 * 110 + (rows * held + rows * (rows - 1) / 2) as u64 * 600 / 1_000
        };
        let mut budget = budget(None, PromptRows::Measured);
        learn(&mut budget, 4, 0, 0, 5_000);
        assert_eq!((rows(&budget, 4), rows_behind(&budget, 4, 7_000)), (rows_of(1), 1), "nothing is known");
        learn(&mut budget, 4, rows_of(1), 0, step_us(rows_of(1), 0));
        let mut held = 0;
        while held < 7_000 {
            let rows = rows_behind(&budget, 4, held);
            assert!(step_us(rows, held) <= 20_000, "{rows} rows behind {held} take {}", step_us(rows, held));
            learn(&mut budget, 4, rows, held, step_us(rows, held));
            held += rows;
        }
        // 10 ms of attention: 2 rows behind 7,000 cells, a whole tile behind 50.
        assert_eq!(rows_behind(&budget, 4, 7_000), 2);
        assert!(rows_behind(&budget, 4, 50) >= rows_of(1));
        assert!(budget.cuts_anywhere(2) && !budget.cuts_anywhere(rows_of(1)));
    }

    #[test]
    fn a_fixed_chunk_stays() {
        let mut budget = budget(None, PromptRows::Fixed(16));
        learn(&mut budget, 4, 0, 0, 10_000);
        learn(&mut budget, 4, 16, 0, 1);
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
