//! A decoder that plays given tokens, whatever the prompt is: the next of them has by far the largest logit. So the
//! test decides the answer, as far as the request's grammar allows it.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cllm::null_decoder::NullDecoder;
use cllm::tokenizer::Tokenizer;
use cllm::types::seams::{Capacity, Decoder, Outcome, Row};
use cllm::types::{Pos, SeqId, Token};

/// The leading token's logit; all others have 0.
const LEAD: f32 = 1e6;

/// The tokens to play; must be set before each request.
#[derive(Clone, Default)]
pub struct Score(Arc<Mutex<Played>>);

#[derive(Default)]
struct Played {
    tokens: Vec<Token>,
    /// Steps with a row of logits so far.
    n_steps: usize,
}

impl Score {
    /// Sets the next request's answer.
    pub fn set(&self, tokens: Vec<Token>) {
        *self.0.lock().expect("no one panics with it") = Played { tokens, n_steps: 0 };
    }
}

/// Serves one request at a time. Keeps positions as `NullDecoder` does.
pub struct Player {
    books: NullDecoder,
    score: Score,
    logits: Vec<f32>,
}

impl Player {
    pub fn new(capacity: Capacity, tokenizer: &Tokenizer, score: Score) -> Player {
        let books = NullDecoder::new(capacity, tokenizer.table(), Duration::ZERO);
        Player { books, score, logits: vec![0.0; capacity.n_vocab] }
    }
}

impl Decoder for Player {
    fn capacity(&self) -> Capacity {
        self.books.capacity()
    }

    fn decode(&mut self, rows: &[Row]) -> Outcome {
        self.score.0.lock().expect("no one panics with it").n_steps +=
            usize::from(rows.iter().any(|row| row.wants_logits));
        self.books.decode(rows)
    }

    fn logits(&mut self, _row: usize) -> &mut [f32] {
        self.logits.fill(0.0);
        let played = self.score.0.lock().expect("no one panics with it");
        if let Some(token) = played.n_steps.checked_sub(1).and_then(|at| played.tokens.get(at)) {
            self.logits[token.index()] = LEAD;
        }
        drop(played);
        &mut self.logits
    }

    fn seq_remove(&mut self, seq: SeqId, range: Range<Pos>) -> bool {
        self.books.seq_remove(seq, range)
    }

    fn seq_copy(&mut self, from: SeqId, to: SeqId, len: usize) -> bool {
        self.books.seq_copy(from, to, len)
    }

    fn seq_pos_max(&self, seq: SeqId) -> Option<Pos> {
        self.books.seq_pos_max(seq)
    }
}
