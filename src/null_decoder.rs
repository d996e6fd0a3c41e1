//! A `Decoder` without a model: it keeps the length of each sequence, computes nothing, and always knows the next token.
//! Sequences have a buffer of cells each, or share one, as they do with large models.
//!
//! `--decoder null` serves with it, so that the cost of everything else can be measured. A step takes no time, or a fixed
//! time in which the batching thread sleeps, as it does while a GPU works. The text is meaningless and repeats exactly: the
//! next token depends only on the position. Batching thread only.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::types::seams::{Capacity, Decoder, Outcome, Row};
use crate::types::{Pos, SeqId, Token, TokenTable};

/// The logit of the next token; all others have 0. It is so large that no penalty changes the choice.
const LEAD: f32 = 1e6;

/// The number of different tokens in its text, which then repeats.
const WORDS_MAX: usize = 256;

/// Holds the length of each sequence, one row of logits, and the tokens of its text.
#[derive(Debug)]
pub struct NullDecoder {
    capacity: Capacity,
    /// The number of cells of each sequence.
    lens: Vec<u32>,
    /// The cells themselves, where all sequences share one buffer.
    buffer: Option<Buffer>,
    /// The position of each row of the latest step.
    at: Vec<Pos>,
    logits: Vec<f32>,
    /// The token with the largest value in `logits`.
    leader: Token,
    words: Vec<Token>,
    step: Duration,
}

impl NullDecoder {
    /// Makes a decoder. Each `decode` takes the time `step`. Its text consists of printable tokens of `table`, which has
    /// `capacity.n_vocab` tokens.
    ///
    /// # Panics
    /// If the vocabulary is empty.
    pub fn new(capacity: Capacity, table: &TokenTable, step: Duration) -> NullDecoder {
        let is_word = |token: &Token| {
            let bytes = table.bytes(*token);
            !table.is_eog(*token) && !bytes.is_empty() && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b' ')
        };
        let mut words: Vec<Token> = (0..capacity.n_vocab as u32).map(Token).filter(is_word).collect();
        if words.is_empty() {
            words.push(Token(0));
        }
        // Tokens are taken from the whole vocabulary, because its first ones are single letters.
        let stride = words.len().div_ceil(WORDS_MAX);
        let words: Vec<Token> = words.into_iter().step_by(stride).collect();
        let leader = words[0];
        let mut logits = vec![0.0; capacity.n_vocab];
        logits[leader.index()] = LEAD;
        NullDecoder {
            lens: vec![0; usize::from(capacity.seqs)],
            buffer: capacity.cells_common.map(|cells| Buffer::new(cells, usize::from(capacity.seqs))),
            at: Vec::with_capacity(capacity.rows_max),
            logits,
            leader,
            words,
            step,
            capacity,
        }
    }
}

impl Decoder for NullDecoder {
    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn decode(&mut self, rows: &[Row]) -> Outcome {
        let started = (!self.step.is_zero()).then(Instant::now);
        assert!(!rows.is_empty() && rows.len() <= self.capacity.rows_max);
        if self.buffer.as_ref().is_some_and(|buffer| buffer.free.len() < rows.len()) {
            return Outcome::NoRoom;
        }
        self.at.clear();
        for row in rows {
            let len = &mut self.lens[row.seq.index()];
            assert!(row.pos.0 == *len, "{:?}: row at {:?}, {len} cells held", row.seq, row.pos);
            assert!(*len < self.capacity.cells_per_seq, "{:?} is full", row.seq);
            *len += 1;
            if let Some(buffer) = &mut self.buffer {
                buffer.write(row.seq);
            }
            self.at.push(row.pos);
        }
        if let Some(started) = started {
            std::thread::sleep(self.step.saturating_sub(started.elapsed()));
        }
        Outcome::Done
    }

    fn logits(&mut self, row: usize) -> &mut [f32] {
        let next = self.words[self.at[row].count_before() % self.words.len()];
        self.logits[self.leader.index()] = 0.0;
        self.logits[next.index()] = LEAD;
        self.leader = next;
        &mut self.logits
    }

    fn seq_remove(&mut self, seq: SeqId, range: Range<Pos>) -> bool {
        let len = &mut self.lens[seq.index()];
        if range.end.0 < *len {
            return false;
        }
        *len = (*len).min(range.start.0);
        if let Some(buffer) = &mut self.buffer {
            buffer.cut(seq, *len as usize);
        }
        true
    }

    fn seq_copy(&mut self, from: SeqId, to: SeqId, len: usize) -> bool {
        let len = (len as u32).min(self.lens[from.index()]);
        self.lens[to.index()] = len;
        if let Some(buffer) = &mut self.buffer {
            buffer.share(from, to, len as usize);
        }
        true
    }

    fn seq_pos_max(&self, seq: SeqId) -> Option<Pos> {
        self.lens[seq.index()].checked_sub(1).map(Pos)
    }
}

/// One buffer of cells. A cell is free when no sequence holds it.
#[derive(Debug)]
struct Buffer {
    /// By cell: the number of sequences that hold it.
    holders: Vec<u16>,
    free: Vec<u32>,
    /// By sequence: its cells, in the order of positions.
    held: Vec<Vec<u32>>,
}

impl Buffer {
    fn new(cells: u32, seqs: usize) -> Buffer {
        Buffer { holders: vec![0; cells as usize], free: (0..cells).rev().collect(), held: vec![Vec::new(); seqs] }
    }

    /// Gives `seq` a free cell.
    ///
    /// # Panics
    /// If there is none.
    fn write(&mut self, seq: SeqId) {
        let cell = self.free.pop().expect("a step that is decoded has a free cell for each row");
        self.holders[cell as usize] = 1;
        self.held[seq.index()].push(cell);
    }

    /// `seq` keeps its first `len` cells.
    fn cut(&mut self, seq: SeqId, len: usize) {
        let held = &mut self.held[seq.index()];
        for cell in held.drain(len.min(held.len())..) {
            let holders = &mut self.holders[cell as usize];
            *holders -= 1;
            if *holders == 0 {
                self.free.push(cell);
            }
        }
    }

    /// The empty sequence `to` holds the first `len` cells of `from`, too.
    fn share(&mut self, from: SeqId, to: SeqId, len: usize) {
        let cells = self.held[from.index()][..len].to_vec();
        cells.iter().for_each(|cell| self.holders[*cell as usize] += 1);
        self.held[to.index()] = cells;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoder() -> NullDecoder {
        decoder_of(None)
    }

    fn decoder_of(cells_common: Option<u32>) -> NullDecoder {
        let pieces: [&[u8]; 5] = [b"a", b"\n", b" b", b"", b"end"];
        let table = TokenTable::new(pieces, &[Token(4)]);
        let capacity = Capacity { seqs: 2, cells_per_seq: 4, cells_common, rows_max: 4, n_vocab: 5 };
        NullDecoder::new(capacity, &table, Duration::ZERO)
    }

    fn row(pos: u32, seq: u16) -> Row {
        Row { token: Token(0), pos: Pos(pos), seq: SeqId(seq), wants_logits: true }
    }

    fn best(logits: &[f32]) -> usize {
        (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap()
    }

    #[test]
    fn the_next_token_depends_on_the_position_alone_and_is_printable() {
        let mut decoder = decoder();
        assert_eq!(decoder.decode(&[row(0, 0), row(1, 0), row(0, 1)]), Outcome::Done);
        assert_eq!([0, 1, 2, 0].map(|i| best(decoder.logits(i))), [0, 2, 0, 0]);
    }

    #[test]
    fn sequences_are_cut_and_copied() {
        let mut decoder = decoder();
        decoder.decode(&[row(0, 0), row(1, 0), row(2, 0)]);
        assert!(decoder.seq_copy(SeqId(0), SeqId(1), 2) && decoder.seq_remove(SeqId(0), Pos(1)..Pos::MAX));
        assert_eq!((decoder.seq_pos_max(SeqId(0)), decoder.seq_pos_max(SeqId(1))), (Some(Pos(0)), Some(Pos(1))));
        assert!(decoder.seq_remove(SeqId(0), Pos(0)..Pos::MAX));
        assert_eq!(decoder.seq_pos_max(SeqId(0)), None);
    }

    #[test]
    fn a_shared_buffer_counts_cells_of_several_sequences_once() {
        let mut decoder = decoder_of(Some(4));
        assert_eq!(decoder.decode(&[row(0, 0), row(1, 0), row(2, 0)]), Outcome::Done);
        assert!(decoder.seq_copy(SeqId(0), SeqId(1), 2));
        assert_eq!(decoder.decode(&[row(3, 0), row(2, 1)]), Outcome::NoRoom);
        assert_eq!((decoder.seq_pos_max(SeqId(0)), decoder.seq_pos_max(SeqId(1))), (Some(Pos(2)), Some(Pos(1))));
        assert_eq!(decoder.decode(&[row(2, 1)]), Outcome::Done);
        // Of three cells, two are held by the other sequence.
        assert!(decoder.seq_remove(SeqId(0), Pos(0)..Pos::MAX));
        assert_eq!(decoder.decode(&[row(0, 0), row(1, 0)]), Outcome::NoRoom);
        assert_eq!(decoder.decode(&[row(0, 0)]), Outcome::Done);
    }

    #[test]
    #[should_panic(expected = "cells held")]
    fn a_gap_is_a_bug_of_ours() {
        decoder().decode(&[row(1, 0)]);
    }
}
