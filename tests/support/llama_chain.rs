//! llama.cpp's own sampler chain: the reference of `tests/sampling.rs`, and the comparison in `benches/sample.rs`.
//!
//! Not part of cllm: cllm's sampler is safe Rust, and all `unsafe` of the program is in `src/llama/`. Files that need this
//! one include it with `#[path]`. Stages are added in the order of `common_sampler_init` (llama.cpp's own programs): logit
//! bias, penalties, DRY, top-n-sigma, top-k, typical-p, top-p, min-p, XTC, temperature, then a draw; or logit bias,
//! temperature, Mirostat.
#![allow(dead_code, reason = "the test and the bench each use a part")]

use std::ops::Range;
use std::ptr::NonNull;

use cllm::types::{SamplingParams, Token};
use llama_cpp_sys_2 as llama;

/// The stage that picks the token.
#[derive(Clone, Copy)]
pub enum Last {
    Greedy,
    /// A draw with this seed. It also leaves the probability of each remaining token.
    Draw(u32),
}

/// A chain and its list of candidates. Its memory is reused between calls, as in llama.cpp.
pub struct LlamaChain {
    chain: NonNull<llama::llama_sampler>,
    candidates: Vec<llama::llama_token_data>,
    /// The range of `candidates` that the last run left.
    left: Range<usize>,
}

impl LlamaChain {
    pub fn new(n_vocab: usize, params: &SamplingParams, last: Last) -> LlamaChain {
        let bias: Vec<_> =
            params.logit_bias.iter().map(|&(id, bias)| llama::llama_logit_bias { token: id as i32, bias }).collect();
        // SAFETY: plain constructors; `logit_bias` copies what its pointer names; `chain_add` takes ownership of each
        // stage, so that freeing the chain frees them all.
        unsafe {
            let mut settings = llama::llama_sampler_chain_default_params();
            settings.no_perf = true;
            let chain = llama::llama_sampler_chain_init(settings);
            let add = |stage| llama::llama_sampler_chain_add(chain, stage);
            if !bias.is_empty() {
                add(llama::llama_sampler_init_logit_bias(n_vocab as i32, bias.len() as i32, bias.as_ptr()));
            }
            if let (Some(mirostat), Last::Draw(seed)) = (params.mirostat, last) {
                add(llama::llama_sampler_init_temp(params.temperature));
                add(llama::llama_sampler_init_mirostat_v2(seed, mirostat.tau, mirostat.eta));
                let chain = NonNull::new(chain).expect("llama_sampler_chain_init returned null");
                return LlamaChain { chain, candidates: Vec::with_capacity(n_vocab), left: 0..0 };
            }
            if params.penalises() {
                add(llama::llama_sampler_init_penalties(
                    n_vocab as i32,
                    params.penalty_last_n as i32,
                    params.repetition_penalty,
                    params.frequency_penalty,
                    params.presence_penalty,
                ));
            }
            if params.dry.is_on() {
                assert!(params.dry.breakers.is_none(), "breakers need a vocabulary");
                add(llama::llama_sampler_init_dry(
                    std::ptr::null(),
                    params.dry.multiplier,
                    params.dry.base,
                    params.dry.allowed_length as i32,
                    params.dry.last_n as i32,
                    std::ptr::null_mut(),
                    0,
                ));
            }
            if params.top_n_sigma > 0.0 {
                add(llama::llama_sampler_init_top_n_sigma(params.top_n_sigma));
            }
            if params.top_k > 0 {
                add(llama::llama_sampler_init_top_k(params.top_k as i32));
            }
            if params.typical_p < 1.0 {
                add(llama::llama_sampler_init_typical(params.typical_p, params.min_keep));
            }
            if params.top_p < 1.0 {
                add(llama::llama_sampler_init_top_p(params.top_p, params.min_keep));
            }
            if params.min_p > 0.0 {
                add(llama::llama_sampler_init_min_p(params.min_p, params.min_keep));
            }
            match last {
                Last::Greedy => add(llama::llama_sampler_init_greedy()),
                Last::Draw(seed) => {
                    if params.xtc_probability > 0.0 {
                        let (p, t) = (params.xtc_probability, params.xtc_threshold);
                        add(llama::llama_sampler_init_xtc(p, t, params.min_keep, seed));
                    }
                    let (range, exponent) = (params.dynatemp_range, params.dynatemp_exponent);
                    add(llama::llama_sampler_init_temp_ext(params.temperature, range, exponent));
                    add(llama::llama_sampler_init_dist(seed));
                }
            }
            let chain = NonNull::new(chain).expect("llama_sampler_chain_init returned null");
            LlamaChain { chain, candidates: Vec::with_capacity(n_vocab), left: 0..0 }
        }
    }

    pub fn accept(&mut self, token: Token) {
        // SAFETY: the chain is live and used only here.
        unsafe { llama::llama_sampler_accept(self.chain.as_ptr(), token.0 as i32) }
    }

    /// Does for a row what `llama_sampler_sample` does: list the candidates, run the chain, read the selected one.
    pub fn sample(&mut self, logits: &[f32]) -> Token {
        self.candidates.clear();
        self.candidates.extend(logits.iter().enumerate().map(|(id, &logit)| llama::llama_token_data {
            id: id as i32,
            logit,
            p: 0.0,
        }));
        let mut array = llama::llama_token_data_array {
            data: self.candidates.as_mut_ptr(),
            size: self.candidates.len(),
            selected: -1,
            sorted: false,
        };
        // SAFETY: `array` names `candidates`, which outlives the call; stages write only within `data..data + size`
        // and none of ours moves `data` out of it or lets `size` grow (asserted).
        unsafe { llama::llama_sampler_apply(self.chain.as_ptr(), &mut array) };
        // XTC removes the first candidates.
        let start = (array.data as usize - self.candidates.as_ptr() as usize) / size_of::<llama::llama_token_data>();
        assert!(start + array.size <= self.candidates.len());
        self.left = start..start + array.size;
        let selected =
            &self.candidates[self.left.clone()][usize::try_from(array.selected).expect("nothing was selected")];
        Token(selected.id as u32)
    }

    /// The remaining tokens of the last `sample` with their probabilities. Only `Last::Draw` gives probabilities.
    pub fn survivors(&self) -> Vec<(Token, f32)> {
        self.candidates[self.left.clone()].iter().map(|c| (Token(c.id as u32), c.p)).collect()
    }
}

impl Drop for LlamaChain {
    fn drop(&mut self) {
        // SAFETY: used only here, freed once.
        unsafe { llama::llama_sampler_free(self.chain.as_ptr()) }
    }
}
