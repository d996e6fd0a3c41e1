//! Which rows the next step decodes. Pure: reads slots, fills rows, changes nothing.
//!
//! Decode rows first, then prompt chunks up to the step's budget, so that a long prompt never stalls the others for
//! more than one budgeted step. Of the prompts the oldest gets at least half of what is left and the rest goes to those
//! with the least still to do: the oldest always moves on, and a short question isn't stuck behind a long document.

use super::kv::Kv;
use super::slot::{Live, Phase, Slot};
use crate::types::Token;
use crate::types::seams::Row;

/// How many rows a step may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// When only prompts are there: nobody is stalled.
    pub rows_alone: usize,
    /// When someone decodes: rows of both kinds together, at least one of them for a prompt.
    pub rows_shared: usize,
    /// Never more than this, lowered after the cache had no room.
    pub rows_cap: usize,
}

/// A prompt that waits for rows.
struct Prompt {
    slot: usize,
    order: u64,
    left: usize,
    granted: usize,
}

/// Fills `rows`, sorted by sequence and position: llama.cpp joins neighbouring sequences into one pass.
pub fn plan(slots: &[Slot], kv: &Kv, budget: Budget, rows: &mut Vec<Row>) {
    rows.clear();
    let mut decoding: Vec<(&Live, Token)> = slots.iter().filter_map(decoding_row).collect();
    let mut prompts = prompts(slots, kv);
    // Under a lowered cap the oldest go first, so that someone always gets to the end.
    decoding.sort_unstable_by_key(|(live, _)| live.order);
    decoding.truncate(budget.rows_cap);
    for (live, next) in &decoding {
        rows.push(Row { token: *next, pos: kv.next_pos(live.seq), seq: live.seq, wants_logits: true });
    }
    let room = if decoding.is_empty() {
        budget.rows_alone.min(budget.rows_cap)
    } else {
        budget.rows_shared.max(decoding.len() + 1).min(budget.rows_cap)
    };
    grant(&mut prompts, room.saturating_sub(decoding.len()));
    for prompt in prompts.iter().filter(|prompt| prompt.granted > 0) {
        let Some(live) = &slots[prompt.slot].live else { continue };
        push_chunk(live, kv, prompt.granted, rows);
    }
    rows.sort_unstable_by_key(|row| (row.seq, row.pos));
}

fn decoding_row(slot: &Slot) -> Option<(&Live, Token)> {
    let live = slot.live.as_ref()?;
    match live.phase {
        Phase::Decoding { next } if live.request.reply_has_room() => Some((live, next)),
        _ => None,
    }
}

fn prompts(slots: &[Slot], kv: &Kv) -> Vec<Prompt> {
    slots
        .iter()
        .enumerate()
        .filter_map(|(slot, state)| {
            let live =
                state.live.as_ref().filter(|live| live.phase == Phase::Prefill && live.request.reply_has_room())?;
            let left = live.request.tokens.len() - kv.next_pos(live.seq).count_before();
            Some(Prompt { slot, order: live.order, left, granted: 0 })
        })
        .collect()
}

/// Shares `room` rows between the prompts.
fn grant(prompts: &mut [Prompt], mut room: usize) {
    let give = |prompt: &mut Prompt, most: usize, room: &mut usize| {
        let rows = (prompt.left - prompt.granted).min(most).min(*room);
        prompt.granted += rows;
        *room -= rows;
    };
    if let Some(oldest) = prompts.iter_mut().min_by_key(|prompt| prompt.order) {
        let half = room.div_ceil(2);
        give(oldest, half, &mut room);
    }
    prompts.sort_unstable_by_key(|prompt| (prompt.left - prompt.granted, prompt.order));
    for prompt in prompts {
        give(prompt, usize::MAX, &mut room);
    }
}

fn push_chunk(live: &Live, kv: &Kv, count: usize, rows: &mut Vec<Row>) {
    let from = kv.next_pos(live.seq);
    let all = live.request.tokens.len();
    let start = from.count_before();
    for (i, token) in live.request.tokens[start..start + count].iter().enumerate() {
        rows.push(Row { token: *token, pos: from.plus(i), seq: live.seq, wants_logits: start + i + 1 == all });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(order: u64, left: usize) -> Prompt {
        Prompt { slot: order as usize, order, left, granted: 0 }
    }

    fn granted(mut prompts: Vec<Prompt>, room: usize) -> Vec<(u64, usize)> {
        grant(&mut prompts, room);
        let mut out: Vec<_> = prompts.iter().map(|p| (p.order, p.granted)).collect();
        out.sort_unstable();
        out
    }

    #[test]
    fn the_oldest_gets_half_and_short_ones_the_rest() {
        assert_eq!(granted(vec![prompt(1, 1_000), prompt(2, 900), prompt(3, 10)], 64), [(1, 32), (2, 22), (3, 10)]);
    }

    #[test]
    fn a_lone_prompt_gets_everything() {
        assert_eq!(granted(vec![prompt(1, 1_000)], 64), [(1, 64)]);
        assert_eq!(granted(vec![prompt(1, 7)], 64), [(1, 7)]);
    }

    #[test]
    fn the_oldest_moves_even_with_one_row() {
        assert_eq!(granted(vec![prompt(1, 1_000), prompt(2, 1)], 1), [(1, 1), (2, 0)]);
    }
}
