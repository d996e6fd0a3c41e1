//! What chat and completions both accept: how to sample, how much, how many, and whether to stream. OpenAI's names, and
//! the extras that other servers have.

use crate::http::ask::fields::Fields;
use crate::http::ask::params::{self, Limit, deadline_ms, limit, stops};
use crate::http::ask::sampling::Ends;
use crate::http::service::Defaults;
use crate::types::logprobs::TOP_LOGPROBS_MAX;
use crate::types::{GenerateParams, RequestError, SamplingParams};

/// Answers to one prompt.
pub const CHOICES_MAX: u64 = 16;

/// The common part of a request.
#[derive(Debug)]
pub struct Options {
    /// Answers to give.
    pub n: usize,
    /// `None`: as many as fit.
    pub max_tokens: Option<usize>,
    pub sampling: SamplingParams,
    pub stop: Vec<Vec<u8>>,
    pub ends: Ends,
    /// Tokens that a thought may have before it is closed. `None`: any number.
    pub reasoning_tokens_max: Option<usize>,
    pub ignore_eos: bool,
    pub stream: bool,
    /// A stream's last event before its end tells the usage.
    pub include_usage: bool,
    pub deadline_ms: Option<u64>,
}

impl Options {
    pub fn take(fields: &mut Fields, defaults: &Defaults, fresh_seed: u64) -> Result<Options, RequestError> {
        for name in ["model", "user"] {
            fields.string(name)?;
        }
        let n = fields.integer("n", 1..=CHOICES_MAX)?.unwrap_or(1) as usize;
        let old = limit(fields, "max_tokens")?;
        let new = limit(fields, "max_completion_tokens")?;
        let sampling = sampling(fields, &defaults.sampling, defaults.seed.unwrap_or(fresh_seed))?;
        let stop = stops(fields)?;
        let ends = Ends::take(fields)?;
        let reasoning_tokens_max = fields.integer("reasoning_budget_tokens", 0..=u64::from(u32::MAX))?;
        let ignore_eos = fields.bool("ignore_eos")?.unwrap_or(false);
        let stream = fields.bool("stream")?.unwrap_or(false);
        let include_usage = match fields.take("stream_options") {
            None => false,
            Some(value) => Fields::nested(value, "stream_options")?.bool("include_usage")?.unwrap_or(false),
        };
        let deadline_ms = deadline_ms(fields, defaults.deadline_ms)?;
        Ok(Options {
            n,
            max_tokens: new.or(old).map_or(defaults.max_tokens, Limit::tokens),
            sampling,
            stop,
            ends,
            reasoning_tokens_max: reasoning_tokens_max.map(|n| n as usize),
            ignore_eos,
            stream,
            include_usage,
            deadline_ms,
        })
    }

    /// What the engine is told for answer number `choice`, of at most `max_tokens`.
    pub fn params(&self, choice: usize, max_tokens: usize, logprobs: Option<usize>) -> GenerateParams {
        // The first answer is the one that a request for one alone gets.
        let seed = self.sampling.seed.wrapping_add((choice as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        GenerateParams {
            sampling: SamplingParams { seed, ..self.sampling.clone() },
            max_tokens,
            stop: self.stop.clone(),
            thought: None,
            min_tokens: self.ends.min_tokens,
            stop_tokens: self.ends.stop_tokens.clone(),
            ignore_eos: self.ignore_eos,
            logprobs,
            prompt_logprobs: false,
            sampled_logprobs: false,
            constrained: false,
            prediction: Vec::new(),
        }
    }
}

/// How many of the likeliest tokens `name` asks for.
pub fn top_logprobs(fields: &mut Fields, name: &str) -> Result<Option<usize>, RequestError> {
    Ok(fields.integer(name, 0..=TOP_LOGPROBS_MAX as u64)?.map(|top| top as usize))
}

/// As on the native routes, but for `top_p`, of which OpenAI's clients send 0 for "only the likeliest".
pub fn sampling(fields: &mut Fields, usual: &SamplingParams, fresh_seed: u64) -> Result<SamplingParams, RequestError> {
    let top_p = fields.number("top_p", 0.0..=1.0)?.map_or(usual.top_p, |p| p.max(f32::MIN_POSITIVE));
    Ok(SamplingParams { top_p, ..params::sampling(fields, usual, fresh_seed)? })
}
