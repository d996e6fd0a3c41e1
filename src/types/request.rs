//! What a client asks for, after validation: the engine trusts every number in here.

use std::sync::Arc;

use super::{Owner, ThoughtMarks, Token};

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
    /// Penalty on tokens that would go on with a repetition.
    pub dry: Dry,
    /// Keep tokens whose logit is at most so many standard deviations of the row below the largest (Tang et al. 2024). At most 0 =
    /// off.
    pub top_n_sigma: f32,
    /// Keep the k most likely. 0 = off.
    pub top_k: usize,
    /// Locally typical sampling (Meister et al. 2022), (0, 1]. 1 = off.
    pub typical_p: f32,
    /// Nucleus: the smallest set whose probability reaches p (Holtzman et al. 2020), (0, 1]. 1 = off.
    pub top_p: f32,
    /// Keep tokens with at least `min_p` of the best one's probability (Nguyen et al. 2024), [0, 1]. 0 = off.
    pub min_p: f32,
    /// Tokens that typical-p, top-p, min-p and XTC each leave at least, if there are as many. 0 and 1 are the same.
    pub min_keep: usize,
    /// Probability, [0, 1], with which XTC (exclude top choices) acts on a token. 0 = off.
    pub xtc_probability: f32,
    /// Of the tokens at least this likely, [0, 1], XTC keeps the least likely alone. Above 0.5 = off: two can't be.
    pub xtc_threshold: f32,
    /// At least 0; 0 = greedy: the largest logit after bias and penalties, whatever the filters. Applied last, as llama.cpp's
    /// default chain does: the filters above see the untempered distribution.
    pub temperature: f32,
    /// How far the entropy of what the filters left moves the temperature, up and down. 0 = off.
    pub dynatemp_range: f32,
    /// Exponent of the normalised entropy, at least 0.
    pub dynatemp_exponent: f32,
    /// Mirostat 2 instead of all penalties and filters; after bias and temperature. `None` = off.
    pub mirostat: Option<Mirostat>,
    /// The same seed gives the same text whoever else is being served.
    pub seed: u64,
}

impl SamplingParams {
    /// Bound of `penalty_last_n`: 4,096 x 4 bytes = 16 KiB a slot, gone through twice a token.
    pub const PENALTY_LAST_N_MAX: usize = 4_096;

    /// Whether the largest logit is chosen, whatever the filters leave.
    pub fn is_greedy(&self) -> bool {
        let moves = self.dynatemp_range > 0.0 && self.mirostat.is_none();
        self.temperature <= 0.0 && !moves
    }

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
            dry: Dry::default(),
            top_n_sigma: 0.0,
            top_k: 40,
            typical_p: 1.0,
            top_p: 0.95,
            min_p: 0.05,
            min_keep: 0,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            temperature: 0.8,
            dynatemp_range: 0.0,
            dynatemp_exponent: 1.0,
            mirostat: None,
            seed: 0,
        }
    }
}

/// DRY ("don't repeat yourself", p-e-w 2024): a token that would make a repetition of `n` tokens one longer loses
/// `multiplier * base ^ (n - allowed_length)` of its logit.
#[derive(Clone, Debug, PartialEq)]
pub struct Dry {
    /// 0 = off.
    pub multiplier: f32,
    /// Below 1 = off.
    pub base: f32,
    /// Repetitions shorter than this cost nothing.
    pub allowed_length: usize,
    /// Tokens looked back on, at most `SamplingParams::PENALTY_LAST_N_MAX`. 0 = off.
    pub last_n: usize,
    /// Texts at which repetitions end; `None`: llama.cpp's usual ones.
    pub breaker_texts: Option<Arc<[String]>>,
    /// `breaker_texts` as tokens, which the engine reads. `None`: no token ends a repetition.
    pub breakers: Option<Arc<SequenceBreakers>>,
}

impl Dry {
    /// Whether it does anything.
    pub fn is_on(&self) -> bool {
        self.multiplier != 0.0 && self.base >= 1.0 && self.last_n > 0
    }
}

impl Default for Dry {
    fn default() -> Self {
        Dry { multiplier: 0.0, base: 1.75, allowed_length: 2, last_n: 64, breaker_texts: None, breakers: None }
    }
}

/// Texts that end a repetition, as the tokens that contain or spell them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SequenceBreakers {
    /// A token that contains the beginning of a breaker, and the tokens that spell its rest: none where it holds all of it.
    /// Sorted by the first.
    spelt: Vec<(Token, Vec<Token>)>,
}

impl SequenceBreakers {
    /// From `(head, tail)` pairs in any order.
    pub fn new(mut spelt: Vec<(Token, Vec<Token>)>) -> SequenceBreakers {
        spelt.sort_unstable();
        spelt.dedup();
        SequenceBreakers { spelt }
    }

    /// The pairs that begin with `head`, shortest tail first of equal beginnings.
    pub fn beginning_with(&self, head: Token) -> &[(Token, Vec<Token>)] {
        let start = self.spelt.partition_point(|pair| pair.0 < head);
        let len = self.spelt[start..].partition_point(|pair| pair.0 == head);
        &self.spelt[start..start + len]
    }
}

/// Mirostat 2 (Basu et al. 2021): cuts where surprise exceeds a bound that follows the surprise of what was drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mirostat {
    /// Surprise aimed at, in bits; at least 0.
    pub tau: f32,
    /// How fast the bound follows, [0, 1].
    pub eta: f32,
}

impl Default for Mirostat {
    fn default() -> Self {
        Mirostat { tau: 5.0, eta: 0.1 }
    }
}

/// Everything the engine needs to know about a generation besides its prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerateParams {
    pub sampling: SamplingParams,
    /// Most tokens to generate; prompt + this fits the sequence's context. 0: the prompt is read, and that is all.
    pub max_tokens: usize,
    /// Tokens before which neither an end-of-generation token nor one of `stop_tokens` can be chosen. Stop strings are looked for
    /// in the text behind them.
    pub min_tokens: usize,
    /// Byte strings that end the text; the text stops before them. Never empty strings.
    pub stop: Vec<Vec<u8>>,
    /// How the model's thought shows, in which no stop string is looked for; `None`: all text is answer.
    pub thought: Option<ThoughtMarks>,
    /// Tokens that end the text as an end-of-generation token does, at most `STOP_TOKENS_MAX`; also with `ignore_eos`.
    pub stop_tokens: Vec<Token>,
    /// Generate past end-of-generation tokens.
    pub ignore_eos: bool,
    /// What the answer is expected to be like, at most `PREDICTION_TOKENS_MAX`: guesses come from it, and it changes no text.
    pub prediction: Vec<Token>,
    /// The owner of this request, by API key. Answers to earlier requests of this owner may be sources of guesses, and this answer is
    /// kept as one. `None`: no earlier answers are used, and this one is not kept.
    pub owner: Option<Owner>,
    /// Each token waits for its mask, which the request's reader publishes in the reply slot.
    pub constrained: bool,
    /// Say how likely each token was, and so many of the likeliest, at most `TOP_LOGPROBS_MAX`. `None`: don't.
    pub logprobs: Option<usize>,
    /// Say the same of the prompt's tokens, all but the first; only with `logprobs`.
    pub prompt_logprobs: bool,
    /// `logprobs` are of the distribution that the token was drawn from, after bias, penalties, filters and temperature. Those of
    /// the prompt stay the model's own.
    pub sampled_logprobs: bool,
}
