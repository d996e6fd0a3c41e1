//! Token counts of a request, as OpenAI counts them.

use serde_json::{Value, json};

use crate::types::Terminal;

/// Token counts of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompts.
    pub prompt_tokens: u64,
    /// Tokens of the answers.
    pub completion_tokens: u64,
    /// How many of the prompt tokens were in the cache.
    pub cached_tokens: u64,
    /// How many of the answers' tokens are thoughts.
    pub reasoning_tokens: u64,
    /// Guesses of the answers' tokens that were right.
    pub accepted_prediction_tokens: u64,
    /// Guesses of the answers' tokens that were wrong.
    pub rejected_prediction_tokens: u64,
}

impl Usage {
    /// The usage of all answers to one prompt. The prompt is counted once. An answer may have reused prompt tokens that
    /// another answer of this request decoded, so the least `cached_tokens` of all is what was cached before.
    pub fn of_prompt<'a>(ends: impl Iterator<Item = &'a Terminal>) -> Usage {
        let mut usage = Usage::default();
        for (i, end) in ends.enumerate() {
            let cached = u64::from(end.cached_tokens);
            usage.prompt_tokens = end.prompt_tokens.into();
            usage.completion_tokens += u64::from(end.generated_tokens);
            usage.reasoning_tokens += u64::from(end.thought_tokens);
            usage.accepted_prediction_tokens += u64::from(end.guesses_accepted);
            usage.rejected_prediction_tokens += u64::from(end.guesses - end.guesses_accepted);
            usage.cached_tokens = if i == 0 { cached } else { usage.cached_tokens.min(cached) };
        }
        usage
    }

    /// The sum of both.
    pub fn plus(self, other: Usage) -> Usage {
        Usage {
            prompt_tokens: self.prompt_tokens + other.prompt_tokens,
            completion_tokens: self.completion_tokens + other.completion_tokens,
            cached_tokens: self.cached_tokens + other.cached_tokens,
            reasoning_tokens: self.reasoning_tokens + other.reasoning_tokens,
            accepted_prediction_tokens: self.accepted_prediction_tokens + other.accepted_prediction_tokens,
            rejected_prediction_tokens: self.rejected_prediction_tokens + other.rejected_prediction_tokens,
        }
    }

    /// OpenAI's `usage` object.
    pub fn json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            "completion_tokens_details": {
                "reasoning_tokens": self.reasoning_tokens,
                "accepted_prediction_tokens": self.accepted_prediction_tokens,
                "rejected_prediction_tokens": self.rejected_prediction_tokens,
            },
        })
    }
}
