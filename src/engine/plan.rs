//! Which rows the next step decodes. Pure: reads slots, fills rows, changes nothing.
//!
//! Decode rows come first, then prompt chunks up to the step's budget, so that a long prompt never delays the others
//! for more than one such step. Chunks aren't split further, because a pass over few rows costs nearly as much as one
//! over many. Steps alternate: in one the oldest prompt comes first, in the next the prompts with the fewest tokens
//! left. So the oldest prompt always progresses, and a short question doesn't wait for a long document.

use super::budget::{RowBudget, Span};
use super::cache::Kv;
use super::checkpoints::Checkpoints;
use super::live::{Live, Phase};
use super::prompt_cost::Reading;
use super::slot::Slots;
use crate::types::SlotId;
use crate::types::limits::{SCORED_ROWS_MAX, TILE_ROWS};
use crate::types::seams::Row;

/// Which prompt gets rows first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// The prompt that was admitted first.
    Oldest,
    /// The prompt with the fewest tokens left.
    Shortest,
}

/// A prompt that needs rows.
struct Prompt {
    slot: SlotId,
    order: u64,
    /// Tokens that its sequence holds, and those that it has still to read.
    held: usize,
    left: usize,
    /// Whether its rows need logits, because its log probabilities are wanted.
    scoring: bool,
    granted: usize,
}

/// Fills `rows`, sorted by sequence and position, because llama.cpp joins neighbouring sequences into one pass.
/// Allocates only while prompts are prefilled. Returns how many of the rows decode; the others belong to prompts.
pub fn plan(slots: &Slots, kv: &Kv, budget: &RowBudget, first: First, rows: &mut Vec<Row>) -> usize {
    rows.clear();
    rows.extend(slots.live().filter_map(|(_, live)| decoding_row(live, kv)));
    // Under a lowered bound the oldest requests get rows first, so that at least one always reaches its end.
    if rows.len() > budget.rows() {
        let age = |row: &Row| kv.owner(row.seq).and_then(|slot| slots.get(slot)).map(|live| live.order);
        rows.sort_unstable_by_key(age);
        rows.truncate(budget.rows());
    }
    let decoding = rows.len();
    let mut prompts = prompts(slots, kv);
    if !prompts.is_empty() {
        let left = prompts.iter().map(|prompt| prompt.left).sum();
        sort(&mut prompts, first);
        let mut decode = Reading::default();
        rows.iter().for_each(|row| decode.add(row.pos.count_before(), 1));
        let room = budget.prompt_rows(&decode, left, spans(&prompts));
        grant(&mut prompts, room, kv.is_shared() || budget.cuts_anywhere(room));
        for prompt in prompts.iter().filter(|prompt| prompt.granted > 0) {
            let Some(live) = slots.get(prompt.slot) else { continue };
            let until_due = |all: &Checkpoints| all.rows_until_due(kv.next_pos(live.seq).count_before());
            let most = kv.checkpoints().map_or(prompt.granted, until_due);
            push_chunk(live, kv, prompt.granted.min(most), rows);
        }
    }
    rows.sort_unstable_by_key(|row| (row.seq, row.pos));
    decoding
}

fn decoding_row(live: &Live, kv: &Kv) -> Option<Row> {
    match live.phase {
        Phase::Decoding { next } if live.request.reply_has_room() => {
            Some(Row { token: next, pos: kv.next_pos(live.seq), seq: live.seq, wants_logits: true })
        }
        _ => None,
    }
}

fn prompts(slots: &Slots, kv: &Kv) -> Vec<Prompt> {
    slots
        .live()
        .filter(|(_, live)| live.phase == Phase::Prefill && live.request.reply_has_room())
        .map(|(slot, live)| {
            let held = kv.next_pos(live.seq).count_before();
            let left = live.request.tokens.len() - held;
            Prompt { slot, order: live.order, held, left, scoring: live.request.is_scoring(), granted: 0 }
        })
        .collect()
}

/// In the order in which they get rows.
fn sort(prompts: &mut [Prompt], first: First) {
    match first {
        First::Oldest => prompts.sort_unstable_by_key(|prompt| prompt.order),
        First::Shortest => prompts.sort_unstable_by_key(|prompt| (prompt.left, prompt.order)),
    }
}

/// What each could read in this step; prompts that are scored share `SCORED_ROWS_MAX` rows.
fn spans(prompts: &[Prompt]) -> impl Iterator<Item = Span> + Clone {
    prompts.iter().scan(SCORED_ROWS_MAX, |scored_room, prompt| {
        let rows = if prompt.scoring { prompt.left.min(*scored_room) } else { prompt.left };
        *scored_room -= if prompt.scoring { rows } else { 0 };
        Some(Span { held: prompt.held, rows })
    })
}

/// Distributes `room` rows among the prompts: each in turn gets all that it can use. Prompts whose log probabilities
/// are wanted share `SCORED_ROWS_MAX`. If prompts may be cut anywhere, that is all.
///
/// Otherwise the first prompt gets the remainder that fills no whole chunk at its beginning: rows that fill no tile of
/// llama.cpp's attention are computed one at a time, each over all cells before it, so they should come while there are
/// few cells. At the end of 1,480 tokens a step of 54 rows took twice as long as one of 69. After the first prompt, a
/// prompt of at most one tile is prefilled whole or not at all: llama.cpp computes sequences together only while they
/// have rows left, so each different length among them needs a pass of its own, and a prompt cut in two needs two.
fn grant(prompts: &mut [Prompt], mut room: usize, cuts_anywhere: bool) {
    let mut scored_room = SCORED_ROWS_MAX;
    for (i, prompt) in prompts.iter_mut().enumerate() {
        let most = if prompt.scoring { room.min(scored_room) } else { room };
        if !cuts_anywhere && i > 0 && prompt.left <= TILE_ROWS && prompt.left > most {
            continue;
        }
        prompt.granted = match prompt.left.checked_rem(most) {
            Some(over) if !cuts_anywhere && i == 0 && over > 0 && prompt.left > most => over,
            _ => prompt.left.min(most),
        };
        room -= prompt.granted;
        if prompt.scoring {
            scored_room -= prompt.granted;
        }
    }
}

fn push_chunk(live: &Live, kv: &Kv, count: usize, rows: &mut Vec<Row>) {
    let from = kv.next_pos(live.seq);
    let all = live.request.tokens.len();
    let start = from.count_before();
    for (i, token) in live.request.tokens[start..start + count].iter().enumerate() {
        let next = start + i + 1;
        let wants_logits = next == all || live.request.unscored(next).is_some();
        rows.push(Row { token: *token, pos: from.plus(i), seq: live.seq, wants_logits });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(order: u64, left: usize) -> Prompt {
        Prompt { slot: SlotId(order as u16), order, held: 0, left, scoring: false, granted: 0 }
    }

    fn granted(prompts: Vec<Prompt>, room: usize, first: First) -> Vec<(u64, usize)> {
        granted_in(prompts, room, first, false)
    }

    fn granted_in(mut prompts: Vec<Prompt>, room: usize, first: First, in_one_pass: bool) -> Vec<(u64, usize)> {
        sort(&mut prompts, first);
        grant(&mut prompts, room, in_one_pass);
        let mut out: Vec<_> = prompts.iter().map(|p| (p.order, p.granted)).collect();
        out.sort_unstable();
        out
    }

    #[test]
    fn the_oldest_and_the_short_ones_take_turns_with_whole_chunks() {
        let prompts = || vec![prompt(1, 1_000), prompt(2, 900), prompt(3, 10)];
        assert_eq!(granted(prompts(), 50, First::Oldest), [(1, 50), (2, 0), (3, 0)]);
        assert_eq!(granted(prompts(), 64, First::Shortest), [(1, 0), (2, 54), (3, 10)]);
    }

    #[test]
    fn short_prompts_are_not_cut_unless_one_is_first() {
        for first in [First::Oldest, First::Shortest] {
            assert_eq!(
                granted(vec![prompt(1, 32), prompt(2, 32), prompt(3, 32)], 65, first),
                [(1, 32), (2, 32), (3, 0)]
            );
            assert_eq!(granted(vec![prompt(1, 32), prompt(2, 33)], 20, first), [(1, 12), (2, 0)]);
        }
    }

    #[test]
    fn in_one_pass_no_row_stays_empty_and_nothing_is_left_for_the_beginning() {
        let prompts = || vec![prompt(1, 5), prompt(2, 32), prompt(3, 100)];
        assert_eq!(granted_in(prompts(), 12, First::Oldest, true), [(1, 5), (2, 7), (3, 0)]);
        assert_eq!(granted_in(prompts(), 60, First::Shortest, true), [(1, 5), (2, 32), (3, 23)]);
        assert_eq!(granted_in(vec![prompt(1, 40)], 12, First::Oldest, true), [(1, 12)]);
    }

    #[test]
    fn scored_prompts_share_a_tile_and_leave_the_rest_to_others() {
        let scored = |order, left| Prompt { scoring: true, ..prompt(order, left) };
        for first in [First::Oldest, First::Shortest] {
            let prompts = vec![scored(1, 40), scored(2, 100), prompt(3, 1_000), scored(4, 1_001)];
            assert_eq!(granted(prompts, 512, first), [(1, 40), (2, 24), (3, 448), (4, 0)]);
        }
    }

    #[test]
    fn what_the_budget_counts_is_what_is_granted() {
        let scored = |order, left| Prompt { scoring: true, held: 100, ..prompt(order, left) };
        let mut prompts = vec![scored(1, 40), prompt(2, 5), scored(3, 100), prompt(4, 1_000)];
        sort(&mut prompts, First::Oldest);
        let rows: Vec<usize> = spans(&prompts).map(|span| span.rows).collect();
        assert_eq!(rows, [40, 5, 24, 1_000]);
        grant(&mut prompts, 40 + 5 + 24 + 3, true);
        assert_eq!(prompts.iter().map(|prompt| prompt.granted).collect::<Vec<_>>(), [40, 5, 24, 3]);
        assert_eq!(spans(&prompts).next(), Some(Span { held: 100, rows: 40 }));
    }

    #[test]
    fn a_lone_prompt_gets_everything_it_can_use() {
        for first in [First::Oldest, First::Shortest] {
            assert_eq!(granted(vec![prompt(1, 640)], 64, first), [(1, 64)]);
            assert_eq!(granted(vec![prompt(1, 7)], 64, first), [(1, 7)]);
            assert_eq!(granted(vec![prompt(1, 7)], 0, first), [(1, 0)]);
        }
    }

    #[test]
    fn what_fills_no_chunk_comes_first() {
        let mut left = 1_480;
        let mut chunks = Vec::new();
        while left > 0 {
            let (_, rows) = granted(vec![prompt(1, left)], 65, First::Oldest)[0];
            chunks.push(rows);
            left -= rows;
        }
        assert_eq!((chunks[0], chunks.len()), (1_480 % 65, 1_480usize.div_ceil(65)));
        assert!(chunks[1..].iter().all(|rows| *rows == 65), "{chunks:?}");
    }
}
