//! What the KV cache holds: for each sequence its committed tokens, the slot that uses it, and since when it is idle.
//!
//! The cache outlives the request: a finished sequence keeps its cells until room is needed, least recently used
//! first. `Cache` alone changes this record, together with the decoder's cells; all others read it.

use std::sync::Arc;

use super::ledger::Ledger;
use crate::engine::checkpoints::Checkpoints;
use crate::types::seams::Capacity;
use crate::types::{Owner, Pos, SeqId, SlotId, Token};

/// The record of all sequences.
#[derive(Debug)]
pub struct Kv {
    seqs: Vec<Seq>,
    /// Counts of the cells' holders; only if sequences share one buffer.
    ledger: Option<Ledger>,
    /// Checkpoints; only if a sequence can't be cut at any position.
    checkpoints: Option<Box<Checkpoints>>,
    cells_per_seq: usize,
    /// The number of releases so far, the time of `Seq::idle_since`.
    releases: u64,
}

#[derive(Debug, Default)]
struct Seq {
    /// The committed tokens; their number is the next position.
    tokens: Vec<Token>,
    /// The least number of tokens held since `take_least` was last called.
    least: usize,
    /// The ledger's cells of `tokens`, one each; empty without a ledger.
    cells: Vec<u32>,
    owner: Option<SlotId>,
    /// The space of requests that may reuse its cells (`GenerateParams::space`).
    space: Owner,
    /// The least number of tokens since `intact` was last called.
    intact: usize,
    /// When it was released, if it is idle.
    idle_since: u64,
}

/// A sequence that holds the beginning of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The sequence.
    pub seq: SeqId,
    /// Length of the common beginning, in tokens.
    pub len: usize,
}

impl Kv {
    /// All sequences are empty. `checkpoints`: where a sequence can't be cut at any position.
    pub fn new(capacity: &Capacity, checkpoints: Option<Box<Checkpoints>>) -> Kv {
        let cells_per_seq = capacity.cells_per_seq as usize;
        Kv {
            seqs: (0..capacity.seqs)
                .map(|_| Seq { tokens: Vec::with_capacity(cells_per_seq.min(4_096)), ..Seq::default() })
                .collect(),
            ledger: capacity.cells_common.map(Ledger::new),
            checkpoints,
            cells_per_seq,
            releases: 0,
        }
    }

    /// The committed tokens of `seq`.
    pub fn tokens(&self, seq: SeqId) -> &[Token] {
        &self.seqs[seq.index()].tokens
    }

    /// The checkpoints; `None` where a sequence can be cut at any position.
    pub fn checkpoints(&self) -> Option<&Checkpoints> {
        self.checkpoints.as_deref()
    }

    /// The state of `seq` at `len` tokens, if it was kept.
    pub fn state(&mut self, seq: SeqId, len: usize) -> Option<Arc<[u8]>> {
        self.checkpoints.as_deref_mut()?.state(seq, len)
    }

    /// The last state that was kept of `seq` with at most `len` tokens, and its tokens.
    pub fn state_before(&mut self, seq: SeqId, len: usize) -> Option<(usize, Arc<[u8]>)> {
        let all = self.checkpoints.as_deref_mut()?;
        let at = all.last_before(seq, len)?;
        Some((at, all.state(seq, at)?))
    }

    /// Keeps `state`, which the decoder gave of `seq` as it is now.
    pub fn keep_state(&mut self, seq: SeqId, state: Box<[u8]>) {
        let len = self.tokens(seq).len();
        if let Some(all) = self.checkpoints.as_deref_mut() {
            all.keep(seq, len, state);
        }
    }

    /// The least number of tokens that `seq` has held since the last call: these are unchanged.
    pub fn take_least(&mut self, seq: SeqId) -> usize {
        let state = &mut self.seqs[seq.index()];
        std::mem::replace(&mut state.least, state.tokens.len())
    }

    /// The position of the next token.
    pub fn next_pos(&self, seq: SeqId) -> Pos {
        Pos(self.seqs[seq.index()].tokens.len() as u32)
    }

    /// The slot that uses `seq`; `None`: it is idle.
    pub fn owner(&self, seq: SeqId) -> Option<SlotId> {
        self.seqs[seq.index()].owner
    }

    /// The space of requests that may reuse the cells of `seq`.
    pub fn space(&self, seq: SeqId) -> Owner {
        self.seqs[seq.index()].space
    }

    /// Sets the space of `seq`, which must be empty or of this space.
    pub fn set_space(&mut self, seq: SeqId, space: Owner) {
        let state = &mut self.seqs[seq.index()];
        assert!(state.tokens.is_empty() || state.space == space, "{seq:?} has tokens of another space");
        state.space = space;
    }

    /// How many of its first tokens `seq` has held without a break since the last call.
    pub fn intact(&mut self, seq: SeqId) -> usize {
        let state = &mut self.seqs[seq.index()];
        std::mem::replace(&mut state.intact, state.tokens.len())
    }

    /// When an idle sequence was released, as a number of releases; `None`: it has an owner.
    pub fn idle_since(&self, seq: SeqId) -> Option<u64> {
        let state = &self.seqs[seq.index()];
        state.owner.is_none().then_some(state.idle_since)
    }

    /// Whether sequences share one buffer, so that one pass computes rows of all of them.
    pub fn is_shared(&self) -> bool {
        self.ledger.is_some()
    }

    /// Used cells and all cells, for metrics.
    pub fn usage(&self) -> (usize, usize) {
        match &self.ledger {
            Some(ledger) => (ledger.total() - ledger.free(), ledger.total()),
            None => (self.seqs.iter().map(|s| s.tokens.len()).sum(), self.seqs.len() * self.cells_per_seq),
        }
    }

    fn ids(&self) -> impl Iterator<Item = SeqId> + use<> {
        (0..self.seqs.len() as u16).map(SeqId)
    }

    fn idle(&self) -> impl Iterator<Item = SeqId> + '_ {
        self.ids().filter(|seq| self.owner(*seq).is_none())
    }

    /// The sequence of `space`, idle or busy, with the longest beginning in common with `prompt`; an idle one wins a
    /// tie. At most `prompt.len() - 1` tokens count, because the last one must be decoded to get its logits. If
    /// sequences can't be cut, the beginning ends at a checkpoint, or is everything that the sequence holds.
    pub fn longest_prefix(&self, prompt: &[Token], space: Owner) -> Option<Prefix> {
        self.ids()
            .filter(|seq| self.space(*seq) == space)
            .map(|seq| {
                let common = common_prefix(self.tokens(seq), &prompt[..prompt.len() - 1]);
                let len = match &self.checkpoints {
                    Some(all) if common < self.tokens(seq).len() => all.last_before(seq, common).unwrap_or(0),
                    _ => common,
                };
                Prefix { seq, len }
            })
            .filter(|prefix| prefix.len > 0)
            .max_by_key(|prefix| (prefix.len, self.owner(prefix.seq).is_none(), std::cmp::Reverse(prefix.seq)))
    }

    /// The idle sequence to use next; `spare` only if there is no other. Its cells are lost, so one of the older half
    /// is chosen, and empty ones count as oldest. If each sequence has a buffer of its own, the decoder computes only
    /// neighbouring sequences in one pass, together with idle sequences between them, which then take part in attention
    /// in every step. A lost cell costs about as much as a cell in between costs in two hundred steps (3.3 ms and 17 us
    /// for the Qwen3-0.6B shape on two cores), so the sum of both decides.
    pub fn idle_to_use(&self, spare: Option<SeqId>) -> Option<SeqId> {
        let mut idle: Vec<SeqId> = self.idle().filter(|seq| Some(*seq) != spare).collect();
        let half = idle.len().div_ceil(2);
        if half < idle.len() {
            idle.select_nth_unstable_by_key(half, |seq| (self.age_key(*seq), *seq));
            idle.truncate(half);
        }
        let cheapest = idle.into_iter().min_by_key(|seq| {
            let (between, distance) = self.to_nearest_busy(*seq);
            (self.tokens(*seq).len() + between, distance, self.age_key(*seq), *seq)
        });
        cheapest.or(spare.filter(|seq| self.owner(*seq).is_none()))
    }

    /// A sort key: empty sequences first, then from the oldest to the newest.
    fn age_key(&self, seq: SeqId) -> u64 {
        let state = &self.seqs[seq.index()];
        if state.tokens.is_empty() { 0 } else { state.idle_since }
    }

    /// The cheapest way from `seq` to a busy sequence: the cells of the idle sequences between them, and their number.
    /// If no sequence is busy, the cells of the neighbour with fewer, because the next request will be placed there or
    /// beyond it.
    fn to_nearest_busy(&self, seq: SeqId) -> (usize, u16) {
        if self.is_shared() {
            return (0, 0);
        }
        let at = seq.index();
        let (below, above) = (self.seqs[..at].iter().rev(), self.seqs[at + 1..].iter());
        let ways = [to_first_busy(below.clone()), to_first_busy(above.clone())];
        ways.into_iter().flatten().min().unwrap_or_else(|| {
            let neighbours = below.take(1).chain(above.take(1));
            (neighbours.map(|seq| seq.tokens.len()).min().unwrap_or(0), 0)
        })
    }

    /// The idle sequence with cells that was released longest ago.
    pub fn least_recently_used(&self) -> Option<SeqId> {
        self.idle().filter(|seq| !self.tokens(*seq).is_empty()).min_by_key(|seq| self.seqs[seq.index()].idle_since)
    }

    /// Cells that no running request holds; `None` if each sequence has a buffer of its own.
    pub fn cells_not_live(&self) -> Option<usize> {
        self.ledger.as_ref().map(|ledger| ledger.total() - ledger.live())
    }

    /// Cells that no sequence holds; `None` if each sequence has a buffer of its own.
    pub fn cells_free(&self) -> Option<usize> {
        self.ledger.as_ref().map(Ledger::free)
    }

    /// How many of the prefix's cells running requests hold already; 0 if each sequence has a buffer of its own.
    pub fn cells_live(&self, prefix: Prefix) -> usize {
        let Some(ledger) = &self.ledger else { return 0 };
        self.seqs[prefix.seq.index()].cells[..prefix.len].iter().filter(|&&cell| ledger.is_live(cell)).count()
    }

    /// Cells that only the running request of `seq` holds; 0 if each sequence has a buffer of its own.
    pub fn cells_live_only_in(&self, seq: SeqId) -> usize {
        let Some(ledger) = &self.ledger else { return 0 };
        self.seqs[seq.index()].cells.iter().filter(|&&cell| ledger.is_live_once(cell)).count()
    }

    /// Gives the idle sequence `seq`, with its tokens, to `slot`.
    pub fn acquire(&mut self, seq: SeqId, slot: SlotId) {
        let state = &mut self.seqs[seq.index()];
        assert!(state.owner.is_none(), "{seq:?} has an owner");
        state.owner = Some(slot);
        if let Some(ledger) = &mut self.ledger {
            state.cells.iter().for_each(|&cell| ledger.enliven(cell));
        }
    }

    /// Makes `seq` idle. Its cells stay.
    pub fn release(&mut self, seq: SeqId) {
        self.releases += 1;
        let state = &mut self.seqs[seq.index()];
        assert!(state.owner.is_some(), "{seq:?} has no owner");
        state.owner = None;
        state.idle_since = self.releases;
        if let Some(ledger) = &mut self.ledger {
            state.cells.iter().for_each(|&cell| ledger.retire(cell));
        }
    }

    /// The decoder accepted one more token of a live sequence.
    pub fn commit(&mut self, seq: SeqId, token: Token) {
        let state = &mut self.seqs[seq.index()];
        assert!(state.owner.is_some() && state.tokens.len() < self.cells_per_seq);
        state.tokens.push(token);
        if let Some(ledger) = &mut self.ledger {
            state.cells.push(ledger.take());
        }
    }

    /// The decoder removed everything of `seq` from `len` on.
    pub fn truncate(&mut self, seq: SeqId, len: usize) {
        let state = &mut self.seqs[seq.index()];
        state.tokens.truncate(len);
        state.intact = state.intact.min(len);
        if let Some(all) = &mut self.checkpoints {
            all.truncate(seq, len);
        }
        state.least = state.least.min(len);
        if let Some(ledger) = &mut self.ledger {
            for cell in state.cells.drain(len.min(state.cells.len())..) {
                if state.owner.is_some() {
                    ledger.retire(cell);
                }
                ledger.release(cell);
            }
        }
    }

    /// The decoder gave `to`, live and empty, the first `len` cells of `from`.
    pub fn copy_prefix(&mut self, from: SeqId, to: SeqId, len: usize) {
        let (tokens, cells) = {
            let source = &self.seqs[from.index()];
            (source.tokens[..len].to_vec(), source.cells.get(..len).unwrap_or_default().to_vec())
        };
        let target = &mut self.seqs[to.index()];
        assert!(target.tokens.is_empty() && target.owner.is_some());
        if let Some(ledger) = &mut self.ledger {
            cells.iter().for_each(|&cell| ledger.share(cell));
        }
        target.tokens.extend(tokens);
        target.cells.extend(cells);
        if let Some(all) = &mut self.checkpoints {
            all.share(from, to, len);
        }
    }

    /// Checks that the record adds up. For tests and after a resync.
    pub fn check(&self) {
        if let Some(all) = &self.checkpoints {
            all.check(|seq| self.seqs[seq].tokens.len());
        }
        let Some(ledger) = &self.ledger else { return };
        let mut held: Vec<u32> = self.seqs.iter().flat_map(|s| s.cells.iter().copied()).collect();
        for seq in &self.seqs {
            assert_eq!(seq.tokens.len(), seq.cells.len());
        }
        held.sort_unstable();
        held.dedup();
        assert_eq!(held.len() + ledger.free(), ledger.total(), "a cell leaked");
        let mut live: Vec<u32> =
            self.seqs.iter().filter(|s| s.owner.is_some()).flat_map(|s| s.cells.iter().copied()).collect();
        live.sort_unstable();
        live.dedup();
        assert_eq!(live.len(), ledger.live(), "the live count is off");
    }
}

/// The number of cells before the first busy sequence of `seqs`, and its distance.
fn to_first_busy<'a>(seqs: impl Iterator<Item = &'a Seq>) -> Option<(usize, u16)> {
    let mut between = 0;
    for (seq, distance) in seqs.zip(1..) {
        if seq.owner.is_some() {
            return Some((between, distance));
        }
        between += seq.tokens.len();
    }
    None
}

/// The number of tokens that `a` and `b` have in common from the start.
pub fn common_prefix(a: &[Token], b: &[Token]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books_of(seqs: u16) -> Kv {
        Kv::new(&Capacity { seqs, cells_per_seq: 16, cells_common: None, rows_max: 8, n_vocab: 8 }, None)
    }

    fn books(shared: Option<u32>) -> Kv {
        Kv::new(&Capacity { seqs: 3, cells_per_seq: 16, cells_common: shared, rows_max: 8, n_vocab: 8 }, None)
    }

    fn tokens(ids: &[u32]) -> Vec<Token> {
        ids.iter().copied().map(Token).collect()
    }

    #[test]
    fn a_shared_prefix_costs_its_cells_once_and_outlives_its_donor() {
        let mut kv = books(Some(16));
        kv.acquire(SeqId(0), SlotId(0));
        tokens(&[1, 2, 3, 4]).into_iter().for_each(|t| kv.commit(SeqId(0), t));
        kv.acquire(SeqId(1), SlotId(1));
        kv.copy_prefix(SeqId(0), SeqId(1), 3);
        assert_eq!(kv.cells_free(), Some(12));
        kv.release(SeqId(0));
        kv.truncate(SeqId(0), 0);
        assert_eq!(kv.cells_free(), Some(13));
        assert_eq!(kv.tokens(SeqId(1)), &tokens(&[1, 2, 3])[..]);
        kv.check();
    }

    #[test]
    fn the_prefix_never_covers_the_whole_prompt() {
        let mut kv = books(None);
        kv.acquire(SeqId(2), SlotId(0));
        tokens(&[1, 2, 3]).into_iter().for_each(|t| kv.commit(SeqId(2), t));
        kv.release(SeqId(2));
        assert_eq!(kv.longest_prefix(&tokens(&[1, 2, 3]), Owner(0)), Some(Prefix { seq: SeqId(2), len: 2 }));
        assert_eq!(kv.longest_prefix(&tokens(&[9, 2, 3]), Owner(0)), None);
    }

    #[test]
    fn a_prefix_serves_requests_of_its_own_space_only() {
        let mut kv = books(None);
        kv.acquire(SeqId(1), SlotId(0));
        kv.set_space(SeqId(1), Owner(7));
        tokens(&[1, 2, 3]).into_iter().for_each(|t| kv.commit(SeqId(1), t));
        assert_eq!(kv.longest_prefix(&tokens(&[1, 2, 3, 4]), Owner(7)), Some(Prefix { seq: SeqId(1), len: 3 }));
        assert_eq!(kv.longest_prefix(&tokens(&[1, 2, 3, 4]), Owner(8)), None);
    }

    #[test]
    fn what_was_cut_off_since_the_last_look_is_not_intact() {
        let mut kv = books(None);
        kv.acquire(SeqId(0), SlotId(0));
        tokens(&[1, 2, 3, 4]).into_iter().for_each(|t| kv.commit(SeqId(0), t));
        assert_eq!(kv.intact(SeqId(0)), 0);
        kv.truncate(SeqId(0), 2);
        tokens(&[7, 8]).into_iter().for_each(|t| kv.commit(SeqId(0), t));
        assert_eq!((kv.intact(SeqId(0)), kv.intact(SeqId(0))), (2, 4));
    }

    #[test]
    fn a_neighbour_of_the_busy_is_used_first() {
        let mut kv = books_of(6);
        kv.acquire(SeqId(3), SlotId(0));
        assert_eq!(kv.idle_to_use(None), Some(SeqId(2)), "an empty one beside it");
        for seq in [0, 5, 2, 1, 4] {
            kv.acquire(SeqId(seq), SlotId(1));
            kv.commit(SeqId(seq), Token(5));
            kv.release(SeqId(seq));
        }
        assert_eq!(kv.idle_to_use(None), Some(SeqId(2)), "of the older three the nearest");
    }

    #[test]
    fn a_long_idle_sequence_is_not_left_between_two_busy_ones() {
        let mut kv = books_of(6);
        for (seq, cells) in [(4, 1), (5, 1), (1, 9), (3, 9), (0, 9)] {
            kv.acquire(SeqId(seq), SlotId(0));
            (0..cells).for_each(|_| kv.commit(SeqId(seq), Token(5)));
            kv.release(SeqId(seq));
        }
        assert_eq!(kv.idle_to_use(None), Some(SeqId(4)), "beside a short one, though another is empty");
        kv.acquire(SeqId(4), SlotId(0));
        assert_eq!(kv.idle_to_use(None), Some(SeqId(5)), "its neighbour");
        kv.acquire(SeqId(0), SlotId(0));
        assert_eq!(kv.idle_to_use(None), Some(SeqId(5)), "rather than an empty one beyond a long one");
        kv.release(SeqId(4));
        assert_eq!(kv.idle_to_use(None), Some(SeqId(1)), "where all cost much, the neighbour");
    }

    /// Compares with the plain algorithm: every busy sequence, and all sequences between.
    #[test]
    fn the_nearest_busy_one_is_the_cheapest_of_all() {
        let mut dice = crate::dice::Dice::new(7);
        for _ in 0..500 {
            let seqs = 1 + dice.below(9) as u16;
            let mut kv = books_of(seqs);
            for seq in kv.ids() {
                kv.acquire(seq, SlotId(0));
                (0..dice.below(4)).for_each(|_| kv.commit(seq, Token(5)));
                if dice.below(3) > 0 {
                    kv.release(seq);
                }
            }
            let held = |seq: u16| kv.tokens(SeqId(seq)).len();
            for seq in kv.idle() {
                let way = |busy: SeqId| {
                    let between = busy.0.min(seq.0) + 1..busy.0.max(seq.0);
                    (between.map(held).sum::<usize>(), busy.0.abs_diff(seq.0))
                };
                if let Some(best) = kv.ids().filter(|other| kv.owner(*other).is_some()).map(way).min() {
                    assert_eq!(kv.to_nearest_busy(seq), best);
                }
            }
        }
    }

    #[test]
    fn empty_sequences_go_before_old_ones_and_old_before_new() {
        let mut kv = books(None);
        for seq in [1, 0] {
            kv.acquire(SeqId(seq), SlotId(seq));
            kv.commit(SeqId(seq), Token(5));
            kv.release(SeqId(seq));
        }
        assert_eq!(kv.idle_to_use(None), Some(SeqId(2)));
        kv.acquire(SeqId(2), SlotId(2));
        assert_eq!(kv.idle_to_use(None), Some(SeqId(1)));
        assert_eq!(kv.idle_to_use(Some(SeqId(1))), Some(SeqId(0)));
        assert_eq!(kv.least_recently_used(), Some(SeqId(1)));
    }
}
