//! The `Decoder` of real models: passes rows to `llama_decode` and turns return codes into `Outcome`. Used by the batching
//! thread only.

use std::ops::Range;

use llama_cpp_sys_2 as sys;

use super::attention;
use super::context::{Context, KvLayout};
use super::shim;
use crate::types::limits::{BRIDGE_MAX, CHECKPOINT_BYTES_MAX, CHECKPOINT_TOKENS};
use crate::types::seams::{Capacity, CheckpointRule, Decoder, Outcome, Row};
use crate::types::{Pos, SeqId};

/// Drives one llama.cpp context. Its batch arrays are allocated once and reused.
pub struct LlamaDecoder {
    context: Context,
    layout: KvLayout,
    capacity: Capacity,
    batch: BatchArrays,
    /// Whether a sequence's end can be removed at any position.
    can_cut: bool,
    /// Tokens that layers with a sliding window see.
    window: Option<u32>,
    /// Whether layers with a sliding window have cells only for that: what a sequence has lost there only a checkpoint brings back.
    windows_only: bool,
    /// Whether rows of idle sequences may be added (see `hole_before`).
    bridges_holes: bool,
    /// The index in the batch of each row of the latest step.
    placed: Vec<usize>,
    /// The rows added for idle sequences in the latest step, by sequence and position.
    bridges: Vec<(SeqId, Pos)>,
    /// The number of rows added for idle sequences in the latest step.
    bridged: usize,
    /// A sequence that serves no request: what is saved and restored passes through it. `None`: nothing is, or whole sequences are.
    spare: Option<SeqId>,
    /// Whether sequences are saved and restored as a whole.
    saves_whole: bool,
    /// Where each sequence of the latest step began in it; empty without a sliding window or a spare sequence.
    stepped: Vec<(SeqId, Pos)>,
}

/// The arrays a `llama_batch` points into, each `rows_max` long.
pub(super) struct BatchArrays {
    token: Vec<sys::llama_token>,
    pos: Vec<sys::llama_pos>,
    n_seq_id: Vec<i32>,
    seq_id: Vec<sys::llama_seq_id>,
    /// `seq_id_ptr[i]` points at `seq_id[i]`. Set once, since the vectors never grow.
    seq_id_ptr: Vec<*mut sys::llama_seq_id>,
    wants_logits: Vec<i8>,
}

// SAFETY: the pointers lead into `seq_id` of this struct. Moving the struct does not move that heap block.
unsafe impl Send for BatchArrays {}

impl BatchArrays {
    pub(super) fn new(rows_max: usize) -> BatchArrays {
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

    pub(super) fn set(&mut self, i: usize, row: Row) {
        self.token[i] = row.token.0 as i32;
        self.pos[i] = row.pos.0 as i32;
        self.seq_id[i] = i32::from(row.seq.0);
        self.wants_logits[i] = i8::from(row.wants_logits);
    }

    /// The sequence that was last written to row `i`; -1 beyond the array.
    pub(super) fn seq_of(&self, i: usize) -> sys::llama_seq_id {
        self.seq_id.get(i).copied().unwrap_or(-1)
    }

    pub(super) fn first(&mut self, n_rows: usize) -> sys::llama_batch {
        sys::llama_batch {
            n_tokens: n_rows as i32,
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
    /// Takes `context`, which must have been made with the same `rows_max`, `seqs` and layout.
    pub fn new(context: Context, layout: KvLayout, seqs: u16, rows_max: usize) -> LlamaDecoder {
        let capacity = Capacity {
            seqs,
            cells_per_seq: match layout {
                KvLayout::Shares => context.cells_total() / u32::from(seqs),
                KvLayout::Separate | KvLayout::Pool => context.cells_per_seq(),
            },
            cells_common: (layout != KvLayout::Separate).then(|| context.cells_total()),
            rows_max,
            n_vocab: context.model().n_vocab(),
        };
        let can_cut = context.model().can_cut();
        let bridges_holes = layout == KvLayout::Separate && can_cut;
        LlamaDecoder {
            can_cut,
            window: context.model().window(),
            windows_only: context.windows_only(),
            context,
            bridges_holes,
            layout,
            capacity,
            batch: BatchArrays::new(rows_max),
            placed: Vec::with_capacity(rows_max),
            bridges: Vec::with_capacity(usize::from(seqs)),
            bridged: 0,
            spare: None,
            saves_whole: false,
            stepped: Vec::with_capacity(usize::from(seqs)),
        }
    }

    /// Saves and restores parts of sequences. The context must have been made for one sequence more than `seqs`, which share a buffer;
    /// between separate buffers llama.cpp can't copy a part.
    ///
    /// # Panics
    /// If sequences have separate buffers.
    #[must_use]
    pub fn with_spare_sequence(mut self) -> LlamaDecoder {
        assert!(self.layout != KvLayout::Separate);
        self.spare = Some(SeqId(self.capacity.seqs));
        self
    }

    /// Saves and restores whole sequences: of a recurrent model, whose memory has no parts.
    ///
    /// # Panics
    /// If the model isn't recurrent.
    #[must_use]
    pub fn with_whole_sequences(mut self) -> LlamaDecoder {
        assert!(self.context.model().is_recurrent());
        self.saves_whole = true;
        self
    }

    /// Limits one sequence to `cells`, where the buffer would allow it more.
    #[must_use]
    pub fn with_cells_per_seq_max(mut self, cells: u32) -> LlamaDecoder {
        self.capacity.cells_per_seq = self.capacity.cells_per_seq.min(cells);
        self
    }

    /// Writes `rows` into the batch, and between them the rows added for idle sequences.
    fn fill(&mut self, rows: &[Row]) -> sys::llama_batch {
        self.placed.clear();
        self.stepped.clear();
        if self.window.is_some() && (self.spare.is_some() || self.windows_only) {
            let firsts = rows.iter().enumerate().filter(|(i, row)| *i == 0 || rows[i - 1].seq != row.seq);
            self.stepped.extend(firsts.map(|(_, row)| (row.seq, row.pos)));
        }
        let mut n = 0;
        for (i, row) in rows.iter().enumerate() {
            let room = self.capacity.rows_max - (n + rows.len() - i);
            for seq in self.hole_before(rows, i).filter(|hole| hole.len() <= room).into_iter().flatten() {
                let pos = self.seq_pos_max(SeqId(seq)).map_or(Pos(0), |pos| pos.plus(1));
                if pos.0 < self.capacity.cells_per_seq {
                    self.batch.set(n, Row { token: row.token, pos, seq: SeqId(seq), wants_logits: false });
                    self.bridges.push((SeqId(seq), pos));
                    n += 1;
                }
            }
            self.batch.set(n, *row);
            self.placed.push(n);
            n += 1;
        }
        self.bridged = self.bridges.len();
        self.batch.first(n)
    }

    /// The number of rows added for idle sequences in the latest step.
    pub fn bridged(&self) -> usize {
        self.bridged
    }

    /// The idle sequences that get an added row before row `i`. With separate buffers llama.cpp computes only consecutive
    /// sequences in one pass. A second pass reads all weights again, which costs far more than a row. So an idle sequence
    /// between two that decode one row each gets a row, too; `unbridge` removes it after the step.
    fn hole_before(&self, rows: &[Row], i: usize) -> Option<Range<u16>> {
        let before = i.checked_sub(1)?;
        let is_alone = |i: usize| {
            let differs = |other: Option<&Row>| other.is_none_or(|other| other.seq != rows[i].seq);
            differs(i.checked_sub(1).map(|i| &rows[i])) && differs(rows.get(i + 1))
        };
        let hole = rows[before].seq.0 + 1..rows[i].seq.0;
        let wanted = self.bridges_holes && hole.len() <= usize::from(BRIDGE_MAX) && is_alone(before) && is_alone(i);
        wanted.then_some(hole)
    }

    /// Removes the cells that added rows wrote, whatever the result of the step.
    fn unbridge(&mut self) {
        while let Some((seq, pos)) = self.bridges.pop() {
            self.seq_rm(seq, pos.0 as i32, -1);
        }
    }

    fn seq_rm(&mut self, seq: SeqId, p0: i32, p1: i32) -> bool {
        assert!(seq.0 < self.capacity.seqs || Some(seq) == self.spare, "llama.cpp aborts on a bad sequence id");
        let mut removed = false;
        // SAFETY: a live context, a valid sequence id.
        let called = shim::call(|err, len| unsafe {
            shim::cllm_seq_rm(self.context.as_ptr(), i32::from(seq.0), p0, p1, &mut removed, err, len)
        });
        called.is_ok() && removed
    }

    /// Whether `seq` can go on behind its first `len` tokens: layers with a sliding window still have all that the next one sees.
    /// llama.cpp gives cells that a sequence's next token would not see to whichever sequence looks for room, in a buffer of any size.
    fn has_window(&mut self, seq: SeqId, len: usize) -> bool {
        let Some(window) = self.window else { return true };
        // SAFETY: a live context, a valid sequence id; reads only.
        let first =
            unsafe { sys::llama_memory_seq_pos_min(sys::llama_get_memory(self.context.as_ptr()), i32::from(seq.0)) };
        let needed = (len + 1).saturating_sub(window as usize)..len;
        // What the sequence saw at the beginning of the latest step is still there.
        let is_fresh = self.stepped.iter().any(|(stepped, from)| *stepped == seq && from.count_before() <= len);
        let is_whole = is_fresh || (!self.windows_only && self.holds(seq, needed.clone()));
        usize::try_from(first).is_ok_and(|first| first <= needed.start) && is_whole
    }

    /// Whether no layer with a sliding window has lost a cell of `seq` at the positions `range`, which are no more than a window. llama.cpp
    /// has no call for that. But the state of a part is longer by each cell, and of the latest tokens none can be lost. Always true
    /// without a spare sequence, through which parts are measured.
    fn holds(&mut self, seq: SeqId, range: Range<usize>) -> bool {
        let end = self.seq_pos_max(seq).map_or(0, |pos| pos.plus(1).count_before());
        let latest = end.saturating_sub(range.len())..end;
        let is_measured = self.window.is_some() && self.spare.is_some() && !range.is_empty() && latest != range;
        !is_measured || self.state_bytes(seq, &range).is_some_and(|bytes| Some(bytes) == self.state_bytes(seq, &latest))
    }

    /// The size of the state of `seq` at the positions `range`, in bytes.
    fn state_bytes(&mut self, seq: SeqId, range: &Range<usize>) -> Option<usize> {
        let spare = self.spare?;
        let range = Pos(range.start as u32)..Pos(range.end as u32);
        let (context, mut bytes) = (self.context.as_ptr(), 0);
        let is_known = self.share(seq, spare, &range)
            && shim::call(|err, len| {
                // SAFETY: a live context, a valid sequence id.
                unsafe { shim::cllm_state_size(context, i32::from(spare.0), &mut bytes, err, len) }
            })
            .is_ok();
        self.seq_rm(spare, -1, -1);
        is_known.then_some(bytes)
    }

    /// Whether a sequence's beginning can be had again only with a state that was taken there.
    fn needs_checkpoints(&self) -> bool {
        !self.can_cut || self.windows_only
    }

    /// Whether `seq` holds exactly `len` tokens.
    fn ends_at(&self, seq: SeqId, len: usize) -> bool {
        self.seq_pos_max(seq).map_or(0, |pos| pos.plus(1).count_before()) == len
    }

    /// Copies `from`'s cells, up to position `end` (-1: all), to `to`, which is empty, and its recurrent state as it is now.
    fn seq_cp(&mut self, from: SeqId, to: SeqId, end: i32) -> bool {
        assert!(from != to && from.0 < self.capacity.seqs && to.0 < self.capacity.seqs);
        // SAFETY: a live context and valid sequence ids; the range is the whole sequence where the layout needs that.
        let copied = shim::call(|err, len| unsafe {
            shim::cllm_seq_cp(self.context.as_ptr(), i32::from(from.0), i32::from(to.0), -1, end, err, len)
        });
        if self.layout == KvLayout::Separate {
            attention::stream_copied(from, to);
        }
        copied.is_ok()
    }
}

/// Parts of a sequence, by way of the spare one.
impl LlamaDecoder {
    /// Makes `to` hold the cells of `from` at `range` too. Both are in one buffer.
    fn share(&mut self, from: SeqId, to: SeqId, range: &Range<Pos>) -> bool {
        let (p0, p1) = (range.start.0 as i32, range.end.0 as i32);
        // SAFETY: a live context and valid sequence ids; within one buffer a part may be copied.
        let copied = shim::call(|err, len| unsafe {
            shim::cllm_seq_cp(self.context.as_ptr(), i32::from(from.0), i32::from(to.0), p0, p1, err, len)
        });
        copied.is_ok()
    }

    /// Appends the state of all cells of `seq` to `into`.
    fn save_all(&mut self, seq: SeqId, into: &mut Vec<u8>) -> bool {
        let (ctx, seq) = (self.context.as_ptr(), i32::from(seq.0));
        let mut bytes = 0;
        // SAFETY: a live context, a valid sequence id.
        let sized = shim::call(|err, len| unsafe { shim::cllm_state_size(ctx, seq, &mut bytes, err, len) });
        if sized.is_err() {
            return false;
        }
        into.reserve(bytes);
        let to = into.spare_capacity_mut().as_mut_ptr().cast::<u8>();
        // SAFETY: there is room for `bytes` bytes at `to`.
        let saved = shim::call(|err, len| unsafe { shim::cllm_state_save(ctx, seq, to, bytes, err, len) });
        if saved.is_ok() {
            // SAFETY: all `bytes` bytes behind the old length have been written.
            unsafe { into.set_len(into.len() + bytes) };
        }
        saved.is_ok()
    }

    /// Gives `seq` the cells whose state is `from`. Returns whether it then has the positions `range`; of a recurrent state, its last.
    fn restore_all(&mut self, seq: SeqId, range: &Range<Pos>, from: &[u8]) -> bool {
        let (ctx, id) = (self.context.as_ptr(), i32::from(seq.0));
        // SAFETY: a live context, a valid sequence id; `from` outlives the call.
        let restored =
            shim::call(|err, len| unsafe { shim::cllm_state_restore(ctx, id, from.as_ptr(), from.len(), err, len) });
        attention::cells_restored();
        // SAFETY: as above; reads only.
        let (first, last) = unsafe {
            let memory = sys::llama_get_memory(ctx);
            (sys::llama_memory_seq_pos_min(memory, id), sys::llama_memory_seq_pos_max(memory, id))
        };
        restored.is_ok()
            && (first == range.start.0 as i32 || self.needs_checkpoints())
            && last + 1 == range.end.0 as i32
    }
}

/// The meaning of `llama_decode`'s return code.
pub(super) fn outcome_of(status: i32) -> Outcome {
    match status {
        0 => Outcome::Done,
        1 => Outcome::NoRoom,
        -1 => Outcome::Invalid,
        2 | -2 => Outcome::Partial,
        _ => Outcome::Fatal,
    }
}

impl Decoder for LlamaDecoder {
    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn decode(&mut self, rows: &[Row]) -> Outcome {
        assert!(!rows.is_empty() && rows.len() <= self.capacity.rows_max, "llama.cpp aborts on more than n_batch rows");
        let batch = self.fill(rows);
        let mut status = 0;
        // SAFETY: the batch points into arrays that outlive the call and hold `n_tokens` entries each.
        let called =
            shim::call(|err, len| unsafe { shim::cllm_decode(self.context.as_ptr(), &batch, &mut status, err, len) });
        self.unbridge();
        if let Err(error) = called {
            tracing::error!(?error, "llama_decode threw");
            return Outcome::Partial;
        }
        outcome_of(status)
    }

    fn logits(&mut self, row: usize) -> &mut [f32] {
        let mut out = std::ptr::null_mut();
        let row = self.placed.get(row).copied().unwrap_or(usize::MAX >> 33);
        // SAFETY: a live context; a bad row gives an error, not undefined behaviour.
        let called =
            shim::call(|err, len| unsafe { shim::cllm_logits(self.context.as_ptr(), row as i32, &mut out, err, len) });
        match called {
            // SAFETY: llama.cpp keeps `n_vocab` floats valid until the next decode, and `&mut self` excludes one.
            Ok(()) => unsafe { std::slice::from_raw_parts_mut(out, self.capacity.n_vocab) },
            Err(error) => {
                tracing::error!(?error, row, "no logits");
                &mut []
            }
        }
    }

    fn seq_remove(&mut self, seq: SeqId, range: Range<Pos>) -> bool {
        assert!(seq.0 < self.capacity.seqs, "llama.cpp aborts on a bad sequence id");
        let end = if range.end >= Pos::MAX { -1 } else { range.end.0 as i32 };
        if range.start.0 > 0 && !self.has_window(seq, range.start.count_before()) {
            return false;
        }
        self.seq_rm(seq, range.start.0 as i32, end)
    }

    fn seq_copy(&mut self, from: SeqId, to: SeqId, len: usize) -> bool {
        // A recurrent state is that of all tokens.
        if self.needs_checkpoints() && !self.ends_at(from, len) {
            return false;
        }
        if self.windows_only {
            // Cells that two sequences share are not given to others behind both windows, and there are few.
            return self.checkpoint(from).is_some_and(|state| self.resume(from, to, len, &state));
        }
        if !self.has_window(from, len) {
            return false;
        }
        // Between separate buffers llama.cpp copies only whole sequences: copy all, then cut.
        let end = if self.layout == KvLayout::Separate { -1 } else { len as i32 };
        let copied = self.seq_cp(from, to, end);
        if !copied || (end == -1 && !self.seq_rm(to, len as i32, -1)) {
            self.seq_rm(to, -1, -1);
            return false;
        }
        true
    }

    fn keeps_blocks(&self) -> bool {
        self.spare.is_some() || self.saves_whole
    }

    fn save(&mut self, seq: SeqId, range: Range<Pos>, into: &mut Vec<u8>) -> bool {
        // A recurrent state is that of all tokens so far.
        if self.needs_checkpoints() && !self.ends_at(seq, range.end.count_before()) {
            return false;
        }
        if self.saves_whole {
            return range.start == Pos(0) && self.save_all(seq, into);
        }
        let Some(spare) = self.spare else { return false };
        if !self.holds(seq, range.start.count_before()..range.end.count_before()) {
            return false;
        }
        let saved = self.share(seq, spare, &range) && self.save_all(spare, into);
        self.seq_rm(spare, -1, -1);
        saved
    }

    fn restore(&mut self, seq: SeqId, range: Range<Pos>, from: &[u8]) -> bool {
        if self.saves_whole {
            let restored = self.restore_all(seq, &range, from);
            return restored || !self.seq_rm(seq, -1, -1);
        }
        let Some(spare) = self.spare else { return false };
        self.stepped.retain(|(stepped, _)| *stepped != seq);
        assert_eq!(self.seq_pos_max(seq).map_or(Pos(0), |pos| pos.plus(1)), range.start, "{seq:?} would have a hole");
        let restored = self.restore_all(spare, &range, from) && self.share(spare, seq, &range);
        self.seq_rm(spare, -1, -1);
        restored
    }

    fn checkpoint_rule(&self) -> Option<CheckpointRule> {
        self.needs_checkpoints().then(|| CheckpointRule {
            // Of a window each checkpoint has all cells.
            every: CHECKPOINT_TOKENS.max(self.window.map_or(0, |window| window as usize)),
            bytes_max: CHECKPOINT_BYTES_MAX,
            is_whole: self.context.model().is_recurrent(),
        })
    }

    fn checkpoint(&mut self, seq: SeqId) -> Option<Box<[u8]>> {
        assert!(seq.0 < self.capacity.seqs, "llama.cpp aborts on a bad sequence id");
        let (context, seq, mut size) = (self.context.as_ptr(), i32::from(seq.0), 0);
        // SAFETY: a live context, a valid sequence id.
        shim::call(|err, len| unsafe { shim::cllm_checkpoint_size(context, seq, &mut size, err, len) }).ok()?;
        let mut state = vec![0; size].into_boxed_slice();
        // SAFETY: as above; at most `size` bytes are written.
        shim::call(|err, len| unsafe {
            shim::cllm_checkpoint_get(context, seq, state.as_mut_ptr(), state.len(), err, len)
        })
        .ok()?;
        Some(state)
    }

    fn resume(&mut self, from: SeqId, to: SeqId, len: usize, state: &[u8]) -> bool {
        assert!(to.0 < self.capacity.seqs, "llama.cpp aborts on a bad sequence id");
        self.stepped.retain(|(stepped, _)| *stepped != to);
        // Between separate buffers llama.cpp copies cells at the next step, over a window that was put there before.
        if self.windows_only && self.layout == KvLayout::Separate && from != to {
            return false;
        }
        let end = if self.layout == KvLayout::Separate { -1 } else { len as i32 };
        let has_cells = from == to || self.seq_cp(from, to, end);
        let context = self.context.as_ptr();
        // SAFETY: a live context, a valid sequence id; at most `state.len()` bytes are read.
        let is_set = has_cells
            && shim::call(|err, n| unsafe {
                shim::cllm_checkpoint_set(context, i32::from(to.0), state.as_ptr(), state.len(), err, n)
            })
            .is_ok();
        if self.windows_only {
            attention::cells_restored();
        }
        // The state is that of `len` tokens now, so that the cells behind them can be removed.
        let is_done = is_set
            && self.seq_rm(to, len as i32, -1)
            && self.seq_pos_max(to).map(|pos| pos.plus(1).count_before()) == Some(len);
        if !is_done {
            tracing::warn!(?from, ?to, len, "a checkpoint could not be used: its tokens are prefilled again");
            self.seq_rm(to, -1, -1);
        }
        is_done
    }

    fn rest(&mut self) {
        self.context.rest();
    }

    fn idle(&mut self) {
        self.context.rest();
        self.context.model().release_file_pages();
    }

    fn seq_pos_max(&self, seq: SeqId) -> Option<Pos> {
        assert!(seq.0 < self.capacity.seqs, "llama.cpp aborts on a bad sequence id");
        // SAFETY: a live context, a valid sequence id; reads only.
        let pos =
            unsafe { sys::llama_memory_seq_pos_max(sys::llama_get_memory(self.context.as_ptr()), i32::from(seq.0)) };
        u32::try_from(pos).ok().map(Pos)
    }
}
