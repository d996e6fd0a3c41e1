//! The workload of every stage: prompts of an exact number of tokens, all different, and how many tokens to generate.

use crate::config::Config;
use crate::tokenizer::Tokenizer;
use crate::types::limits::QUEUE_PER_SLOT;
use crate::types::{GenerateParams, SamplingParams, Token};

/// The seed of all prompts.
pub const SEED: u64 = 2026;

/// The size of one round.
#[derive(Clone, Copy, Debug)]
pub struct StagesWorkload {
    /// Requests of a round.
    pub requests: usize,
    /// Requests at the same time.
    pub concurrency: usize,
    /// Tokens of each prompt.
    pub prompt_tokens: usize,
    /// Tokens to generate for each prompt.
    pub max_tokens: usize,
}

/// A prompt as text and as the tokens of that text.
#[derive(Clone, Debug)]
pub struct StagePrompt {
    /// The text.
    pub text: String,
    /// The tokens of the text.
    pub tokens: Vec<Token>,
}

impl StagesWorkload {
    /// Cells that one sequence needs, rounded as llama.cpp does.
    pub fn cells(&self) -> usize {
        (self.prompt_tokens + self.max_tokens).next_multiple_of(256).max(512)
    }

    /// Adapts the configuration to the workload: a slot for each concurrent request.
    pub fn fit(&self, config: &mut Config) {
        config.parallel = self.concurrency as u16;
        config.queue = self.concurrency * QUEUE_PER_SLOT;
        config.http_threads = self.concurrency + 4;
        config.ctx_total = Some((self.cells() * self.concurrency) as u32);
        config.host = "127.0.0.1".to_owned();
        (config.port, config.tls) = (0, None);
    }

    /// Greedy sampling up to the last token.
    pub fn params(&self) -> GenerateParams {
        GenerateParams {
            sampling: SamplingParams { temperature: 0.0, ..SamplingParams::default() },
            max_tokens: self.max_tokens,
            ignore_eos: true,
            ..GenerateParams::default()
        }
    }

    /// The prompts of one round of one stage. Never inlined, because `cllm profile` excludes this function by name.
    #[inline(never)]
    pub fn prompts(&self, tokenizer: &Tokenizer, salt: u64) -> Vec<StagePrompt> {
        (0..self.requests as u64).map(|i| prompt(tokenizer, self.prompt_tokens, (salt << 32) | i)).collect()
    }
}

/// Random letters that make `n` tokens.
fn prompt(tokenizer: &Tokenizer, n: usize, salt: u64) -> StagePrompt {
    let mut state = SEED ^ salt.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut text = String::new();
    loop {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push(if (state >> 60) == 0 { ' ' } else { char::from(b'a' + ((state >> 33) % 26) as u8) });
        // A token has at least one letter, so a text of fewer than `n` letters is too short and need not be tokenised.
        if text.len() < n {
            continue;
        }
        let tokens = tokenizer.encode(&text, true, true).unwrap_or_default();
        if tokens.len() >= n {
            return StagePrompt { text, tokens };
        }
    }
}
