//! A decoder with given texts: it runs the model's decoder, and then makes the next token of a script the most likely one.
//! So a step takes its real time, and a text repeats as its workload says, with any model.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use crate::types::seams::{Capacity, Decoder, Outcome, Row};
use crate::types::{Pos, SeqId, Token};

/// The logit of the script's next token, far above any that a model computes.
const LEAD: f32 = 1e6;

/// Texts of prompt and answer, by their first token, which is different for each.
pub type Scripts = Rc<RefCell<HashMap<Token, Vec<Token>>>>;

/// A decoder, and the scripts of its sequences.
pub struct Scripted<D> {
    decoder: D,
    scripts: Scripts,
    /// The first token of each sequence.
    first: Vec<Option<Token>>,
    /// The sequence and position of each row of the latest step.
    rows: Vec<(SeqId, Pos)>,
}

impl<D: Decoder> Scripted<D> {
    /// A sequence without a script gets the model's own logits.
    pub fn new(decoder: D, scripts: Scripts) -> Scripted<D> {
        let seqs = usize::from(decoder.capacity().seqs);
        Scripted { decoder, scripts, first: vec![None; seqs], rows: Vec::new() }
    }
}

impl<D: Decoder> Decoder for Scripted<D> {
    fn capacity(&self) -> Capacity {
        self.decoder.capacity()
    }

    fn decode(&mut self, rows: &[Row]) -> Outcome {
        self.rows.clear();
        for row in rows {
            self.rows.push((row.seq, row.pos));
            if row.pos == Pos(0) {
                self.first[row.seq.index()] = Some(row.token);
            }
        }
        self.decoder.decode(rows)
    }

    fn logits(&mut self, row: usize) -> &mut [f32] {
        let (seq, pos) = self.rows[row];
        let scripts = self.scripts.borrow();
        let script = self.first[seq.index()].and_then(|first| scripts.get(&first));
        let next = script.and_then(|script| script.get(pos.plus(1).count_before()).copied());
        let logits = self.decoder.logits(row);
        if let Some(logit) = next.and_then(|next| logits.get_mut(next.index())) {
            *logit = LEAD;
        }
        logits
    }

    fn seq_remove(&mut self, seq: SeqId, range: Range<Pos>) -> bool {
        self.decoder.seq_remove(seq, range)
    }

    fn seq_copy(&mut self, from: SeqId, to: SeqId, len: usize) -> bool {
        self.first[to.index()] = self.first[from.index()];
        self.decoder.seq_copy(from, to, len)
    }

    fn rest(&mut self) {
        self.decoder.rest();
    }

    fn idle(&mut self) {
        self.decoder.idle();
    }

    fn seq_pos_max(&self, seq: SeqId) -> Option<Pos> {
        self.decoder.seq_pos_max(seq)
    }
}
