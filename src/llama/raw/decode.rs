//! The baseline of benches: calls llama.cpp's C functions directly, with all sequences in one batch, and takes the argmax
//! in place. It has no slots, sampler, handoff or tokenizer. The server never uses it.

use std::sync::mpsc;

use llama_cpp_sys_2 as sys;

use crate::llama::context::{FlashAttention, KvLayout};
use crate::llama::shim::{call, cllm_model_load, with_place};
use crate::types::ModelPlace;

/// A `RawLoop` on its own thread: the threadpool pins the thread that makes it and all threads started by it.
pub struct RawThread {
    jobs: mpsc::Sender<(Vec<Vec<i32>>, usize)>,
    done: mpsc::Receiver<usize>,
}

impl RawThread {
    /// Loads the model at `place`. Panics if that fails.
    pub fn start(
        place: &ModelPlace,
        seqs: usize,
        cells: usize,
        cores: &[usize],
        flash: FlashAttention,
        layout: KvLayout,
    ) -> RawThread {
        let (jobs, jobs_in) = mpsc::channel::<(Vec<Vec<i32>>, usize)>();
        let (done_out, done) = mpsc::channel();
        let (place, cores) = (place.clone(), cores.to_vec());
        let thread = std::thread::Builder::new().name("stage-0".to_owned());
        let spawned = thread.spawn(move || {
            let mut raw = RawLoop::load(&place, seqs, cells, &cores, flash, layout);
            for (prompts, max_tokens) in jobs_in {
                let _ = done_out.send(raw.generate(&prompts, max_tokens));
            }
        });
        spawned.expect("a thread starts");
        RawThread { jobs, done }
    }

    /// Runs `RawLoop::generate` on that thread and waits for its result.
    pub fn generate(&self, prompts: Vec<Vec<i32>>, max_tokens: usize) -> usize {
        self.jobs.send((prompts, max_tokens)).expect("the thread lives");
        self.done.recv().expect("the thread lives")
    }
}

/// A model, and a context of `seqs` sequences with `cells` cells each, computed on `cores`.
struct RawLoop {
    model: *mut sys::llama_model,
    ctx: *mut sys::llama_context,
    pool: *mut sys::ggml_threadpool,
    n_vocab: usize,
}

impl RawLoop {
    fn load(
        place: &ModelPlace,
        seqs: usize,
        cells: usize,
        cores: &[usize],
        flash: FlashAttention,
        layout: KvLayout,
    ) -> RawLoop {
        crate::llama::backend_init();
        let mut model = std::ptr::null_mut();
        // SAFETY: llama.cpp's own defaults fill the parameters; all pointers outlive the call.
        let loaded = with_place(place, |place| unsafe {
            let params = sys::llama_model_default_params();
            call(|err, len| cllm_model_load(place, &params, &mut model, err, len))
        });
        assert_eq!(loaded, Some(Ok(())), "the model loads");
        // SAFETY: as above; handles are checked and live as long as `self`.
        unsafe {
            let threads = cores.len() as i32;
            let mut params = sys::llama_context_default_params();
            params.n_ctx = (seqs * cells) as u32;
            params.n_seq_max = seqs as u32;
            params.kv_unified = layout != KvLayout::Separate;
            params.n_batch = ((seqs * cells) as u32).max(512);
            params.n_ubatch = 512;
            params.n_outputs_max = seqs as u32;
            params.n_threads = threads;
            params.n_threads_batch = threads;
            params.no_perf = true;
            params.flash_attn_type = flash.as_raw();
            let ctx = sys::llama_init_from_model(model, params);
            assert!(!ctx.is_null(), "the context is made");
            let mut pool_params = sys::ggml_threadpool_params_default(threads);
            for &core in cores {
                pool_params.cpumask[core] = true;
            }
            pool_params.strict_cpu = true;
            let pool = sys::ggml_threadpool_new(&mut pool_params);
            sys::llama_attach_threadpool(ctx, pool, pool);
            let n_vocab = sys::llama_vocab_n_tokens(sys::llama_model_get_vocab(model)) as usize;
            RawLoop { model, ctx, pool, n_vocab }
        }
    }

    /// Generates `max_tokens` tokens for each of `prompts`, of which there are at most as many as sequences. Returns the
    /// number of generated tokens.
    fn generate(&mut self, prompts: &[Vec<i32>], max_tokens: usize) -> usize {
        // SAFETY: a live context; `false` clears what the cells hold in its books and leaves their data.
        unsafe { sys::llama_memory_clear(sys::llama_get_memory(self.ctx), false) };
        let rows = prompts.iter().enumerate().flat_map(|(seq, prompt)| {
            let last = prompt.len() - 1;
            prompt.iter().enumerate().map(move |(pos, &token)| (token, pos as i32, seq as i32, pos == last))
        });
        let rows: Vec<_> = rows.collect();
        self.decode(&rows);
        let outputs: Vec<usize> = rows.iter().enumerate().filter(|(_, row)| row.3).map(|(i, _)| i).collect();
        let mut next: Vec<i32> = outputs.iter().map(|&row| self.argmax(row)).collect();
        for step in 1..max_tokens {
            let rows: Vec<_> = (0..prompts.len())
                .map(|seq| (next[seq], (prompts[seq].len() + step - 1) as i32, seq as i32, true))
                .collect();
            self.decode(&rows);
            next = (0..prompts.len()).map(|row| self.argmax(row)).collect();
        }
        prompts.len() * max_tokens
    }

    fn decode(&mut self, rows: &[(i32, i32, i32, bool)]) {
        let mut token: Vec<i32> = rows.iter().map(|row| row.0).collect();
        let mut pos: Vec<i32> = rows.iter().map(|row| row.1).collect();
        let mut count = vec![1; rows.len()];
        let mut seq: Vec<i32> = rows.iter().map(|row| row.2).collect();
        let mut seq_ptr: Vec<*mut i32> = seq.iter_mut().map(|seq| seq as *mut _).collect();
        let mut logits: Vec<i8> = rows.iter().map(|row| i8::from(row.3)).collect();
        let batch = sys::llama_batch {
            n_tokens: rows.len() as i32,
            token: token.as_mut_ptr(),
            embd: std::ptr::null_mut(),
            pos: pos.as_mut_ptr(),
            n_seq_id: count.as_mut_ptr(),
            seq_id: seq_ptr.as_mut_ptr(),
            logits: logits.as_mut_ptr(),
        };
        // SAFETY: the arrays outlive the call.
        assert_eq!(unsafe { sys::llama_decode(self.ctx, batch) }, 0);
    }

    fn argmax(&self, row: usize) -> i32 {
        // SAFETY: the row asked for logits; there are `n_vocab` of them until the next decode.
        let logits =
            unsafe { std::slice::from_raw_parts(sys::llama_get_logits_ith(self.ctx, row as i32), self.n_vocab) };
        argmax(logits) as i32
    }
}

impl Drop for RawLoop {
    fn drop(&mut self) {
        // SAFETY: each handle was made once and is freed once, the context before what it uses.
        unsafe {
            sys::llama_detach_threadpool(self.ctx);
            sys::llama_free(self.ctx);
            sys::ggml_threadpool_free(self.pool);
            sys::llama_model_free(self.model);
        }
    }
}

/// The index of the first largest logit. Compares in independent lanes: one comparison after another would take longer than
/// a small model's step.
fn argmax(logits: &[f32]) -> usize {
    let mut lanes = [f32::NEG_INFINITY; 64];
    let (whole, rest) = logits.as_chunks::<64>();
    for chunk in whole {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    let largest = lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().position(|value| *value == largest).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::argmax;

    #[test]
    fn the_first_of_the_largest_is_found_in_each_place() {
        for len in [1, 63, 64, 65, 200] {
            for at in 0..len {
                let mut logits = vec![-1.0; len];
                logits[at..].fill(2.0);
                assert_eq!(argmax(&logits), at, "of {len}");
            }
        }
    }
}
