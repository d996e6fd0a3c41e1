//! The `Encoder` of real models: passes rows to `llama_decode` and reads one embedding for each. Used by the batching
//! thread only.
//!
//! Nothing is pooled here. llama.cpp would pool only the tokens of one micro-batch, so a text that comes in chunks would
//! get the embedding of its last chunk. The engine pools over all chunks.

use super::context::Context;
use super::decoder::{BatchArrays, outcome_of};
use super::shim;
use crate::types::SeqId;
use crate::types::seams::{Encoder, EncoderCapacity, Outcome, Row};

/// Drives one llama.cpp context that was made for embeddings.
pub struct LlamaEncoder {
    context: Context,
    capacity: EncoderCapacity,
    batch: BatchArrays,
    /// Whether the model's head pools and ranks. Its output belongs to the sequence, not to a row.
    ranks: bool,
}

impl LlamaEncoder {
    /// Takes `context`, which must have been made with the same `seqs` and `rows_max`.
    ///
    /// # Panics
    /// If `capacity` doesn't fit the model.
    pub fn new(context: Context, capacity: EncoderCapacity) -> LlamaEncoder {
        assert!(capacity.n_embd == context.model().n_embd_out());
        LlamaEncoder::build(context, capacity, false)
    }

    /// Takes a context made with `Context::for_ranks`. `embedding` then gives the first number of the head's output for the
    /// row's sequence.
    ///
    /// # Panics
    /// If `capacity` isn't that of a model that ranks.
    pub fn ranking(context: Context, capacity: EncoderCapacity) -> LlamaEncoder {
        assert!(capacity.n_embd == 1 && capacity.whole);
        LlamaEncoder::build(context, capacity, true)
    }

    fn build(context: Context, capacity: EncoderCapacity, ranks: bool) -> LlamaEncoder {
        assert!(!capacity.whole || capacity.rows_max >= capacity.input_max, "llama.cpp aborts on more than n_ubatch");
        LlamaEncoder { context, capacity, batch: BatchArrays::new(capacity.rows_max), ranks }
    }
}

impl Encoder for LlamaEncoder {
    fn capacity(&self) -> EncoderCapacity {
        self.capacity
    }

    fn encode(&mut self, rows: &[Row]) -> Outcome {
        assert!(!rows.is_empty() && rows.len() <= self.capacity.rows_max, "llama.cpp aborts on more than n_batch rows");
        // The model looks learned positions up in a table, and llama.cpp aborts beyond its end.
        assert!(rows.iter().all(|row| row.pos.count_before() < self.capacity.input_max), "a position too far");
        for (i, row) in rows.iter().enumerate() {
            self.batch.set(i, Row { wants_logits: true, ..*row });
        }
        let batch = self.batch.first(rows.len());
        let mut status = 0;
        // SAFETY: the batch points into arrays that outlive the call and hold `n_tokens` entries each.
        let called =
            shim::call(|err, len| unsafe { shim::cllm_decode(self.context.as_ptr(), &batch, &mut status, err, len) });
        if let Err(error) = called {
            tracing::error!(?error, "llama_decode threw");
            return Outcome::Partial;
        }
        outcome_of(status)
    }

    fn embedding(&self, row: usize) -> &[f32] {
        let mut out = std::ptr::null_mut();
        // SAFETY: a live context; a bad row or sequence gives an error, not undefined behaviour.
        let called = shim::call(|err, len| unsafe {
            if self.ranks {
                shim::cllm_embedding_seq(self.context.as_ptr(), self.batch.seq_of(row), &mut out, err, len)
            } else {
                shim::cllm_embedding(self.context.as_ptr(), row as i32, &mut out, err, len)
            }
        });
        match called {
            // SAFETY: without pooling llama.cpp keeps `n_embd_out` floats for each row until the next decode, which needs
            // `&mut`. With a head it keeps at least one float for each sequence.
            Ok(()) => unsafe { std::slice::from_raw_parts(out, self.capacity.n_embd) },
            Err(error) => {
                tracing::error!(?error, row, "no embedding");
                &[]
            }
        }
    }

    fn seq_clear(&mut self, seq: SeqId) {
        assert!(seq.0 < self.capacity.seqs, "llama.cpp aborts on a bad sequence id");
        let mut removed = false;
        // SAFETY: a live context and a valid sequence id. A context without memory has nothing to remove.
        let called = shim::call(|err, len| unsafe {
            shim::cllm_seq_rm(self.context.as_ptr(), i32::from(seq.0), -1, -1, &mut removed, err, len)
        });
        if let Err(error) = called {
            tracing::error!(?error, ?seq, "a sequence could not be cleared");
        }
    }
}
