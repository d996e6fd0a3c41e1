//! What a request used, as OpenAI counts it.

use serde_json::{Value, json};

use crate::types::Terminal;

/// Tokens in and out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    /// Of the prompt: taken from the cache.
    pub cached_tokens: u64,
    /// Of the completion: thought.
    pub reasoning_tokens: u64,
    /// Guesses of the completion's tokens that came true, and those that did not.
    pub accepted_prediction_tokens: u64,
    pub rejected_prediction_tokens: u64,
}

impl Usage {
    /// Of the answers to one prompt, which is counted once. What one answer took from another of the same request was
    /// decoded for it: the least of them is what was there before.
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
