//! The `Decoder` of real models: rows into `llama_decode`, return codes into `Outcome`. Batching thread only.

use std::ops::Range;

use llama_cpp_sys_2 as sys;

use super::context::{Context, KvLayout};
use super::shim;
use crate::types::seams::{Capacity, Decoder, Outcome, Row};
use crate::types::{Pos, SeqId};

/// Drives one llama.cpp context. Its batch arrays are allocated once and reused.
pub struct LlamaDecoder {
    context: Context,
    layout: KvLayout,
    capacity: Capacity,
    batch: BatchArrays,
}

/// The arrays a `llama_batch` points into, each `rows_max` long.
struct BatchArrays {
    token: Vec<sys::llama_token>,
    pos: Vec<sys::llama_pos>,
    n_seq_id: Vec<i32>,
    seq_id: Vec<sys::llama_seq_id>,
    /// `seq_id_ptr[i]` points at `seq_id[i]`; set once, the vectors never grow.
    seq_id_ptr: Vec<*mut sys::llama_seq_id>,
    wants_logits: Vec<i8>,
}

// SAFETY: the pointers lead into `seq_id` of the same struct, whose heap block moves with it unchanged.
unsafe impl Send for BatchArrays {}

impl BatchArrays {
    fn new(rows_max: usize) -> BatchArrays {
        let mut seq_id = vec![0; rows_max];
        let seq_id_ptr = seq_id.iter_mut().map(|id| id as *mut _).collect();
        BatchArrays {
            token: vec![0; rows_max],
            pos: vec![0; rows_max],
            n_seq_id: vec![1; rows_max],
            seq_id,
            seq_id_ptr,
            wants_logits: vec![0; rows_max],
        }
    }

    fn fill(&mut self, rows: &[Row]) -> sys::llama_batch {
        for (i, row) in rows.iter().enumerate() {
            self.token[i] = row.token.0 as i32;
            self.pos[i] = row.pos.0 as i32;
            self.seq_id[i] = i32::from(row.seq.0);
            self.wants_logits[i] = i8::from(row.wants_logits);
        }
        sys::llama_batch {
            n_tokens: rows.len() as i32,
            token: self.token.as_mut_ptr(),
            embd: std::ptr::null_mut(),
            pos: self.pos.as_mut_ptr(),
            n_seq_id: self.n_seq_id.as_mut_ptr(),
            seq_id: self.seq_id_ptr.as_mut_ptr(),
            logits: self.wants_logits.as_mut_ptr(),
        }
    }
}

impl LlamaDecoder {
    /// Takes over a context made with the same `rows_max`, `seqs` and layout.
    pub fn new(context: Context, layout: KvLayout, seqs: u16, rows_max: usize) -> LlamaDecoder {
        let capacity = Capacity {
            seqs,
            cells_per_seq: context.cells_per_seq(),
            cells_shared: (layout == KvLayout::Unified).then(|| context.cells_total()),
            rows_max,
            n_vocab: context.model().n_vocab(),
        };
        LlamaDecoder { context, layout, capacity, batch: BatchArrays::new(rows_max) }
    }

    fn seq_rm(&mut self, seq: SeqId, p0: i32, p1: i32) -> bool {
        assert!(seq.0 < self.capacity.seqs, "llama.cpp aborts on a bad sequence id");
        let mut removed = false;
        // SAFETY: a live context, a valid sequence id.
        let called = shim::call(|err, len| unsafe {
            shim::cllm_seq_rm(self.context.as_ptr(), i32::from(seq.0), p0, p1, &mut removed, err, len)
        });
        called.is_ok() && removed
    }
}

impl Decoder for LlamaDecoder {
    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn decode(&mut self, rows: &[Row]) -> Outcome {
        assert!(!rows.is_empty() && rows.len() <= self.capacity.rows_max, "llama.cpp aborts on more than n_batch rows");
        let batch = self.batch.fill(rows);
        let mut status = 0;
        // SAFETY: the batch points into arrays that outlive the call and hold `n_tokens` entries each.
        let called =
            shim::call(|err, len| unsafe { shim::cllm_decode(self.context.as_ptr(), &batch, &mut status, err, len) });
        if let Err(error) = called {
            tracing::error!(?error, "llama_decode threw");
            return Outcome::Partial;
        }
        match status {
            0 => Outcome::Done,
            1 => Outcome::NoRoom,
            -1 => Outcome::Invalid,
            2 | -2 => Outcome::Partial,
            _ => Outcome::Fatal,
        }
    }

    fn logits(&mut self, row: usize) -> &mut [f32] {
        let mut out = std::ptr::null_mut();
        // SAFETY: a live context; a bad row gives an error, not undefined behaviour.
        let called =
            shim::call(|err, len| unsafe { shim::cllm_logits(self.context.as_ptr(), row as i32, &mut out, err, len) });
        match called {
            // SAFETY: llama.cpp guarantees `n_vocab` floats until the next decode; `&mut self` keeps them ours.
            Ok(()) => unsafe { std::slice::from_raw_parts_mut(out, self.capacity.n_vocab) },
            Err(error) => {
                tracing::error!(?error, row, "no logits");
                &mut []
            }
        }
    }

    fn seq_remove(&mut self, seq: SeqId, range: Range<Pos>) -> bool {
        let end = if range.end >= Pos::MAX { -1 } else { range.end.0 as i32 };
        self.seq_rm(seq, range.start.0 as i32, end)
    }

    fn seq_copy(&mut self, from: SeqId, to: SeqId, len: usize) -> bool {
        assert!(from != to && from.0 < self.capacity.seqs && to.0 < self.capacity.seqs);
        // Between buffers llama.cpp copies whole sequences only: copy, then trim.
        let end = if self.layout == KvLayout::Separate { -1 } else { len as i32 };
        // SAFETY: a live context, valid sequence ids, a whole-sequence range where the layout demands one.
        let copied = shim::call(|err, len| unsafe {
            shim::cllm_seq_cp(self.context.as_ptr(), i32::from(from.0), i32::from(to.0), -1, end, err, len)
        });
        if copied.is_err() || (end == -1 && !self.seq_rm(to, len as i32, -1)) {
            self.seq_rm(to, -1, -1);
            return false;
        }
        true
    }

    fn seq_pos_max(&self, seq: SeqId) -> Option<Pos> {
        assert!(seq.0 < self.capacity.seqs, "llama.cpp aborts on a bad sequence id");
        // SAFETY: a live context, a valid sequence id; reads only.
        let pos =
            unsafe { sys::llama_memory_seq_pos_max(sys::llama_get_memory(self.context.as_ptr()), i32::from(seq.0)) };
        u32::try_from(pos).ok().map(Pos)
    }
}
