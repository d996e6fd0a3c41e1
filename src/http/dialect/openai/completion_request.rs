//! Parses the body of `/v1/completions`, without the model. Pure.

use serde_json::json;

use super::options::{StreamOptions, text_format, top_logprobs};
use crate::http::ask::fields::Fields;
use crate::http::ask::generation::{Defaults, Generation, Input};
use crate::http::ask::inputs::{TextOrTokens, prompts};
use crate::http::ask::warnings::{self, warn};
use crate::types::RequestError;
use crate::types::limits::CHOICES_MAX;

/// What the answer must know of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompletionOptions {
    /// Options for the end of a stream.
    pub options: StreamOptions,
    /// Answers to show for each prompt: the best of those that are generated.
    pub n: usize,
    /// Whether each text begins with its prompt.
    pub echo: bool,
    /// Whether the answer has log probabilities.
    pub logprobs: bool,
}

/// Parses a body.
///
/// # Errors
/// A field has the wrong type or is out of bounds; `best_of` is less than `n`, or can't be streamed.
pub fn parse(
    body: &[u8],
    defaults: &Defaults,
    fresh_seed: u64,
) -> Result<(Generation, CompletionOptions), RequestError> {
    let mut fields = Fields::parse(body)?;
    let prompts = match fields.take_noted("prompt", || json!({"type": "string", "minLength": 1})) {
        None => return Err(RequestError::field("prompt", "is missing")),
        Some(value) => prompts(value, "prompt")?,
    };
    let mut generation = Generation::new(Vec::new(), defaults, fresh_seed);
    let options = StreamOptions::take(&mut fields, defaults, &mut generation)?;
    let n = generation.answers;
    let best_of = fields.integer("best_of", 1..=CHOICES_MAX)?.map_or(n, |best_of| best_of as usize);
    if best_of < n {
        return Err(RequestError::field("best_of", format!("must be at least n, which is {n}")));
    }
    if best_of > n {
        if generation.stream {
            return Err(RequestError::field("best_of", "can't be streamed: the best is known at the end"));
        }
        generation.answers_field = "best_of";
    }
    generation.answers = best_of;
    let echo = fields.bool("echo")?.unwrap_or(false);
    let suffix = fields.string("suffix")?.filter(|suffix| !suffix.is_empty());
    let logprobs = top_logprobs(&mut fields, "logprobs")?;
    if echo && logprobs.is_some() && suffix.is_some() {
        return Err(RequestError::field("logprobs", "of an echoed prompt with a suffix aren't known"));
    }
    // Ranking needs log probabilities, whether or not they are shown.
    generation.scores.top = logprobs.or((best_of > n).then_some(0));
    generation.scores.of_prompt = echo && logprobs.is_some();
    generation.shows_prompts = echo;
    generation.format = text_format(&mut fields)?;
    if generation.reasoning_tokens_max.take().is_some() {
        warn("reasoning_budget_tokens: ignored, which part of a completion is a thought is not known");
    }
    let input = |prompt: TextOrTokens| match &suffix {
        None => Input::Prompt(prompt.parts()),
        Some(after) => Input::Between { before: prompt.parts(), after: after.clone() },
    };
    generation.inputs = prompts.into_iter().map(input).collect();
    warnings::ignored(&fields.unknown());
    Ok((generation, CompletionOptions { options, n, echo, logprobs: logprobs.is_some() }))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::http::ask::generation::PromptPart;
    use crate::types::Token;

    fn read(body: Value) -> Result<(Generation, CompletionOptions), RequestError> {
        parse(body.to_string().as_bytes(), &Defaults::of_tests(), 7)
    }

    #[test]
    fn every_refusal_names_its_param() {
        for (body, param) in [
            (json!({}), "prompt"),
            (json!({"prompt": ""}), "prompt"),
            (json!({"prompt": []}), "prompt"),
            (json!({"prompt": {}}), "prompt"),
            (json!({"prompt": vec!["a"; 2049]}), "prompt"),
            (json!({"prompt": ["a", ""]}), "prompt[1]"),
            (json!({"prompt": ["a", 3]}), "prompt[1]"),
            (json!({"prompt": [3, "a"]}), "prompt[1]"),
            (json!({"prompt": [3, -1]}), "prompt[1]"),
            (json!({"prompt": [[3], [4, 1.5]]}), "prompt[1][1]"),
            (json!({"prompt": [[3], []]}), "prompt[1]"),
            (json!({"prompt": "a", "n": 3, "best_of": 2}), "best_of"),
            (json!({"prompt": "a", "best_of": 17}), "best_of"),
            (json!({"prompt": "a", "best_of": 2, "stream": true}), "best_of"),
            (json!({"prompt": "a", "echo": 1}), "echo"),
            (json!({"prompt": "a", "suffix": 1}), "suffix"),
            (json!({"prompt": "a", "logprobs": true}), "logprobs"),
            (json!({"prompt": "a", "logprobs": 21}), "logprobs"),
            (json!({"prompt": "a", "logprobs": 1, "echo": true, "suffix": "b"}), "logprobs"),
            (json!({"prompt": "a", "regex": 1}), "regex"),
        ] {
            match read(body.clone()) {
                Err(RequestError::Field { field, .. }) => assert_eq!(field, param, "{body}"),
                other => panic!("{body}: {other:?}"),
            }
        }
    }

    #[test]
    fn prompts_come_in_four_shapes() {
        let prompts = |prompt: Value| read(json!({"prompt": prompt})).unwrap().0.inputs;
        let text = Input::Prompt(vec![PromptPart::Text("a".into())]);
        let ids = Input::Prompt(vec![PromptPart::Token(Token(3)), PromptPart::Token(Token(4))]);
        assert_eq!(prompts(json!("a")), std::slice::from_ref(&text));
        assert_eq!(prompts(json!(["a", "a"])), [text.clone(), text]);
        assert_eq!(prompts(json!([3, 4])), std::slice::from_ref(&ids));
        assert_eq!(prompts(json!([[3, 4], [3, 4]])), [ids.clone(), ids]);
    }

    #[test]
    fn what_is_ranked_is_scored() {
        let (generation, shown) = read(json!({"prompt": "a", "n": 2, "best_of": 3})).unwrap();
        assert_eq!((generation.answers, generation.scores.top, shown.n, shown.logprobs), (3, Some(0), 2, false));
    }
}
