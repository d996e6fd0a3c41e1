//! What a client asks for, after validation: the engine trusts every number in here.

/// How the next token is chosen from a row of logits. Stages run in field order.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// `(token id, bias)`: added to the raw logit first; `-inf` forbids a token.
    pub logit_bias: Vec<(u32, f32)>,
    /// > 0; above 1 divides positive and multiplies negative logits of tokens seen (CTRL, Keskar et al. 2019). 1 = off.
    pub repetition_penalty: f32,
    /// Subtracted times the number of occurrences, -2..=2. 0 = off.
    pub frequency_penalty: f32,
    /// Subtracted once if the token occurred, -2..=2. 0 = off.
    pub presence_penalty: f32,
    /// How many of the latest tokens (prompt and generated) the penalties look back on, at most
    /// `PENALTY_LAST_N_MAX`. 0 = none.
    pub penalty_last_n: usize,
    /// Keep the k most likely. 0 = off.
    pub top_k: usize,
    /// Locally typical sampling (Meister et al. 2022), (0, 1]. 1 = off.
    pub typical_p: f32,
    /// Nucleus: the smallest set whose probability reaches p (Holtzman et al. 2020), (0, 1]. 1 = off.
    pub top_p: f32,
    /// Keep tokens with at least `min_p` of the best one's probability (Nguyen et al. 2024), [0, 1]. 0 = off.
    pub min_p: f32,
    /// At least 0; 0 = greedy: the largest logit after bias and penalties, whatever the filters. Applied last, as llama.cpp's
    /// default chain does: the filters above see the untempered distribution.
    pub temperature: f32,
    /// The same seed gives the same text whoever else is being served.
    pub seed: u64,
}

impl SamplingParams {
    /// Bound of `penalty_last_n`: 4,096 x 4 bytes = 16 KiB a slot, gone through twice a token.
    pub const PENALTY_LAST_N_MAX: usize = 4_096;

    /// Whether any penalty does anything.
    pub fn penalises(&self) -> bool {
        self.penalty_last_n > 0
            && (self.repetition_penalty != 1.0 || self.frequency_penalty != 0.0 || self.presence_penalty != 0.0)
    }
}

impl Default for SamplingParams {
    fn default() -> Self {
        SamplingParams {
            logit_bias: Vec::new(),
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            penalty_last_n: 64,
            top_k: 40,
            typical_p: 1.0,
            top_p: 0.95,
            min_p: 0.05,
            temperature: 0.8,
            seed: 0,
        }
    }
}

/// Everything the engine needs to know about a generation besides its prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerateParams {
    pub sampling: SamplingParams,
    /// Most tokens to generate; prompt + this fits the sequence's context. 0: the prompt is read, and that is all.
    pub max_tokens: usize,
    /// Byte strings that end the text; the text stops before them. Never empty strings.
    pub stop: Vec<Vec<u8>>,
    /// Generate past end-of-generation tokens.
    pub ignore_eos: bool,
    /// Each token waits for its mask, which the request's reader publishes in the reply slot.
    pub constrained: bool,
    /// Say how likely each token was, and so many of the likeliest, at most `TOP_LOGPROBS_MAX`. `None`: don't.
    pub logprobs: Option<usize>,
    /// Say the same of the prompt's tokens, all but the first; only with `logprobs`.
    pub prompt_logprobs: bool,
}
