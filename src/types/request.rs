//! What a client asks for, after validation. The engine relies on the bounds stated here.

use std::sync::Arc;

use super::{Owner, Share, ThoughtMarks, Token};

/// How the next token is chosen from a row of logits. Stages run in field order.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// `(token id, bias)`: added to the raw logit first; `-inf` forbids a token.
    pub logit_bias: Vec<(u32, f32)>,
    /// Above 0. A value above 1 divides positive and multiplies negative logits of tokens seen (CTRL, Keskar et al. 2019).
    /// 1 = off.
    pub repetition_penalty: f32,
    /// Subtracted from a token's logit once for each earlier occurrence, -2..=2. 0 = off.
    pub frequency_penalty: f32,
    /// Subtracted from a token's logit once if the token occurred before, -2..=2. 0 = off.
    pub presence_penalty: f32,
    /// How many of the latest tokens, of prompt and answer, the penalties consider: at most `PENALTY_LAST_N_MAX`. 0 = none.
    pub penalty_last_n: usize,
    /// The penalty on tokens that would continue a repetition.
    pub dry: Dry,
    /// Keep tokens with a logit at most this many standard deviations of the row below the largest logit (Tang et al.
    /// 2024). 0 or below = off.
    pub top_n_sigma: f32,
    /// Keep the k most likely tokens. 0 = off.
    pub top_k: usize,
    /// Locally typical sampling (Meister et al. 2022), (0, 1]. 1 = off.
    pub typical_p: f32,
    /// Nucleus: the smallest set with a probability of at least p (Holtzman et al. 2020), (0, 1]. 1 = off.
    pub top_p: f32,
    /// Keep tokens with at least `min_p` times the probability of the most likely one (Nguyen et al. 2024), [0, 1]. 0 =
    /// off.
    pub min_p: f32,
    /// The least number of tokens that typical-p, top-p, min-p and XTC each leave, if there are as many. 0 means 1.
    pub min_keep: usize,
    /// Probability, [0, 1], with which XTC (exclude top choices) acts on a token. 0 = off.
    pub xtc_probability: f32,
    /// XTC keeps only the least likely of the tokens that have at least this probability, [0, 1]. Above 0.5 = off, because
    /// two tokens can't both have it.
    pub xtc_threshold: f32,
    /// At least 0. 0 = greedy: the largest logit after bias and penalties is chosen, and filters don't matter. Applied
    /// last, as in llama.cpp's default chain, so that the filters above see the distribution before temperature.
    pub temperature: f32,
    /// How far the entropy of the remaining tokens moves the temperature, up and down (dynamic temperature). 0 = off.
    pub dynatemp_range: f32,
    /// The exponent of the normalised entropy in dynamic temperature, at least 0.
    pub dynatemp_exponent: f32,
    /// Mirostat 2 in place of all penalties and filters; it acts after bias and temperature. `None` = off.
    pub mirostat: Option<Mirostat>,
    /// The seed of the random draws. A seed gives the same text whatever other requests are running.
    pub seed: u64,
}

impl SamplingParams {
    /// Whether the largest logit is always chosen.
    pub fn is_greedy(&self) -> bool {
        let moves = self.dynatemp_range > 0.0 && self.mirostat.is_none();
        self.temperature <= 0.0 && !moves
    }

    /// Whether any penalty is on.
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
    /// The factor of the penalty. 0 = off.
    pub multiplier: f32,
    /// The base of the penalty's growth. Below 1 = off.
    pub base: f32,
    /// Length, in tokens, up to which a repetition costs nothing.
    pub allowed_length: usize,
    /// How many of the latest tokens are searched for repetitions, at most `PENALTY_LAST_N_MAX`. 0 = off.
    pub last_n: usize,
    /// Texts at which repetitions end; `None`: the texts that llama.cpp uses by default.
    pub breaker_texts: Option<Arc<[String]>>,
    /// `breaker_texts` as tokens, for the engine. `None`: no token ends a repetition.
    pub breakers: Option<Arc<SequenceBreakers>>,
}

impl Dry {
    /// Whether DRY is on.
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
    /// Pairs of a token that ends with the beginning of a breaker, and the tokens that spell the rest. The rest is empty if
    /// the first token contains the whole breaker. Sorted by the first token.
    spelt: Vec<(Token, Vec<Token>)>,
}

impl SequenceBreakers {
    /// Builds it from `(head, tail)` pairs in any order.
    pub fn new(mut spelt: Vec<(Token, Vec<Token>)>) -> SequenceBreakers {
        spelt.sort_unstable();
        spelt.dedup();
        SequenceBreakers { spelt }
    }

    /// The pairs with `head` as the first token, sorted, so that a tail comes before longer tails that begin with it.
    pub fn beginning_with(&self, head: Token) -> &[(Token, Vec<Token>)] {
        let start = self.spelt.partition_point(|pair| pair.0 < head);
        let len = self.spelt[start..].partition_point(|pair| pair.0 == head);
        &self.spelt[start..start + len]
    }
}

/// Mirostat 2 (Basu et al. 2021): drops tokens with a surprise above a bound, and moves that bound by the surprise of each
/// drawn token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mirostat {
    /// The surprise to aim at, in bits; at least 0.
    pub tau: f32,
    /// How fast the bound moves, [0, 1].
    pub eta: f32,
}

impl Default for Mirostat {
    fn default() -> Self {
        Mirostat { tau: 5.0, eta: 0.1 }
    }
}

/// All that the engine needs to know about a generation besides its prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerateParams {
    /// How each token is chosen.
    pub sampling: SamplingParams,
    /// Most tokens to generate. The prompt and these fit in the sequence's context. 0: the prompt is read and nothing is
    /// generated.
    pub max_tokens: usize,
    /// The number of tokens before which neither an end-of-generation token nor one of `stop_tokens` can be chosen. Stop
    /// strings are searched only in the text after them.
    pub min_tokens: usize,
    /// Byte strings that end the text, which then stops before them. None of them is empty.
    pub stop: Vec<Vec<u8>>,
    /// How the model marks its thought. Stop strings are not searched inside a thought. `None`: all text is answer.
    pub thought: Option<ThoughtMarks>,
    /// Tokens that end the text as an end-of-generation token does, even with `ignore_eos`. At most `STOP_TOKENS_MAX`.
    pub stop_tokens: Vec<Token>,
    /// Whether generation continues after end-of-generation tokens.
    pub ignore_eos: bool,
    /// The text that the client expects, at most `PREDICTION_TOKENS_MAX` tokens. It is a source of guesses only and changes
    /// no answer.
    pub prediction: Vec<Token>,
    /// The owner of this request, by API key. Answers to earlier requests of this owner may be sources of guesses, and this answer is
    /// kept as one. `None`: no earlier answers are used, and this one is not kept.
    pub owner: Option<Owner>,
    /// The space of the request's KV state. Requests of one space use each other's KV state, in the cells and outside
    /// of them. A request of another space never does, because the time that its prompt takes would reveal what others
    /// have asked. 0 where all requests share one space.
    pub space: Owner,
    /// The account of the request, and its rank among waiting requests.
    pub share: Share,
    /// Whether each token needs a mask, which the request's HTTP thread publishes in the reply slot.
    pub constrained: bool,
    /// Report the log probability of each generated token and of this many most likely tokens, at most `TOP_LOGPROBS_MAX`.
    /// `None`: report none.
    pub logprobs: Option<usize>,
    /// Report log probabilities also for the prompt's tokens, except the first. Needs `logprobs`.
    pub prompt_logprobs: bool,
    /// Whether the log probabilities of generated tokens are taken from the distribution that they were drawn from, after
    /// bias, penalties, filters and temperature. Those of the prompt's tokens always come from the model's own
    /// distribution.
    pub sampled_logprobs: bool,
}
