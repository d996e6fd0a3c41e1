//! Which rows the next step reads. Pure: reads inputs, fills rows, changes nothing.
//!
//! Inputs with the fewest tokens left get all their rows first; the others share the rest. So every input progresses in
//! every step, and a short text doesn't wait for a long one.

use super::RunningInput;
use super::request::InputsRequest;
use crate::types::seams::Row;
use crate::types::{Pos, SeqId};

/// Fills `rows`, sorted by sequence and position, with at most `rows_max` rows.
pub fn plan(inputs: &[Option<RunningInput>], requests: &[InputsRequest], rows_max: usize, rows: &mut Vec<Row>) {
    rows.clear();
    let live: Vec<(usize, RunningInput)> =
        inputs.iter().enumerate().filter_map(|(seq, input)| Some((seq, (*input)?))).collect();
    let left: Vec<usize> = live.iter().map(|(_, input)| input.len - input.read).collect();
    for ((seq, input), share) in live.into_iter().zip(shares(&left, rows_max)) {
        let Ok(at) = requests.binary_search_by_key(&input.order, |request| request.order) else { continue };
        let tokens = &requests[at].tokens(input.index)[input.read..input.read + share];
        rows.extend(tokens.iter().enumerate().map(|(i, token)| Row {
            token: *token,
            pos: Pos((input.read + i) as u32),
            seq: SeqId(seq as u16),
            wants_logits: true,
        }));
    }
}

/// How many of `room` rows each input gets; `left` has the number of tokens that each has left. If there are at least
/// as many rows as inputs, each gets at least one. No row stays unused while an input could use it.
fn shares(left: &[usize], mut room: usize) -> Vec<usize> {
    let mut by_size: Vec<usize> = (0..left.len()).collect();
    by_size.sort_by_key(|i| left[*i]);
    let mut shares = vec![0; left.len()];
    for (done, i) in by_size.iter().enumerate() {
        shares[*i] = left[*i].min(room / (left.len() - done));
        room -= shares[*i];
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::shares;

    #[test]
    fn short_ones_get_all_and_long_ones_share_the_rest() {
        assert_eq!(shares(&[1_000, 3, 500, 2], 100), [48, 3, 47, 2]);
        assert_eq!(shares(&[10, 20], 100), [10, 20]);
        assert_eq!(shares(&[5, 5, 5], 3), [1, 1, 1]);
        assert_eq!(shares(&[700], 512), [512]);
        assert_eq!(shares(&[], 512), [] as [usize; 0]);
    }

    #[test]
    fn no_row_is_wasted_or_given_twice() {
        for seed in 0..1_000usize {
            let left: Vec<usize> = (0..seed % 9 + 1).map(|i| (seed * 31 + i * 977) % 300 + 1).collect();
            let room = seed % 200 + left.len();
            let shares = shares(&left, room);
            assert_eq!(shares.iter().sum::<usize>(), room.min(left.iter().sum()), "{left:?} of {room}");
            assert!(shares.iter().zip(&left).all(|(share, left)| (1..=*left).contains(share)), "{shares:?}");
        }
    }
}
