//! Where an answer differs from llama-server's, and why. Everywhere else the two are equal.

use super::compare::{Difference, Kind};

/// Whether an entry must be found in each run. What depends on the clock, on the machine or on chance may be equal now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Always,
    Sometimes,
}

/// A difference that has a reason.
#[derive(Debug)]
pub struct Entry {
    pub when: When,
    kind: Kind,
    /// The names of cases; a `*` stands for any text.
    cases: &'static str,
    /// Its field; a `*` stands for any text.
    path: &'static str,
    #[allow(dead_code, reason = "for readers")]
    reason: &'static str,
}

const fn always(kind: Kind, cases: &'static str, path: &'static str, reason: &'static str) -> Entry {
    Entry { when: When::Always, kind, cases, path, reason }
}

const fn sometimes(cases: &'static str, path: &'static str, reason: &'static str) -> Entry {
    Entry { when: When::Sometimes, kind: Kind::Value, cases, path, reason }
}

const PAGE: &str = "llama-server's own page asks for it";
const PARSER: &str = "the state of llama.cpp's parser of answers";
const NO_SHIFT: &str = "a context is never shifted: a prompt is kept whole";
const SLOTS: &str = "which slot serves a request is the engine's choice, and no request can name one";
const OPENAI: &str = "OpenAI's answers have it, and its clients' types want it";
const NOT_OPENAI: &str = "OpenAI's answers don't have it; the log, /metrics and /completion tell it";
const REFUSED: &str = "refused: without it there is nothing to answer";
const ERRORS: &str = "errors name the field to blame, and have a code in words, as OpenAI's";
const WORDS: &str = "messages say what is wrong and what to do";
const FAULT_OF_CLIENT: &str = "the client is to blame, so that is no server error";
const LAST_TOKEN: &str = "the token that ends an answer has no text, and isn't counted";
const OWN: &str = "ours has more to tell";
const CACHE: &str =
    "what the cache has of a prompt is always used here; llama-server was recorded with --no-cache-prompt";
const CLOCK: &str = "by the clock";
const CHANCE: &str = "drawn by another random generator";
const OFF: &str = "samplers that aren't in the list are told as what switches them off";
const BUILD: &str = "which program it is";

/// All of them.
#[rustfmt::skip]
pub const DIFFERENT: &[Entry] = &[
    // How is sampled.
    always(Kind::Absent, "*", "*settings*.adaptive_*", "the sampler adaptive-p isn't here"),
    always(Kind::Absent, "*", "*settings*.backend_sampling", "tokens are always drawn on the CPU"),
    always(Kind::Absent, "*", "*settings*.chat_format", PARSER),
    always(Kind::Absent, "*", "*settings*.generation_prompt", PARSER),
    always(Kind::Absent, "*", "*settings*.reasoning_*", PARSER),
    always(Kind::Absent, "completion*", "*settings*.preserved_tokens", PARSER),
    always(Kind::Absent, "completion*", "*settings*.grammar_*", PARSER),
    always(Kind::Absent, "*", "*settings*.n_discard", NO_SHIFT),
    always(Kind::Absent, "*", "*settings*.n_keep", NO_SHIFT),
    always(Kind::Absent, "*", "*settings*.speculative.types", "guesses change no text; /metrics has them"),
    always(Kind::Value, "*", "*settings*.top_n_sigma", "0 is off as well as -1"),
    always(Kind::Value, "props", "*settings*.seed", "-1 is a fresh one, for llama-server, too"),
    always(Kind::Value, "completion, no*", "*settings*.seed", "a fresh seed is told, so that the answer can be had again"),
    always(Kind::Value, "completion, some samplers", "*settings*.seed", "a fresh seed is told"),
    always(Kind::Value, "completion, samplers as letters", "*settings*.seed", "a fresh seed is told"),
    always(Kind::Value, "completion, some samplers", "*settings*.min_p", OFF),
    always(Kind::Value, "completion, some samplers", "*settings*.top_p", OFF),
    always(Kind::Value, "completion, some samplers", "*settings*.repeat_last_n", OFF),
    always(Kind::Value, "completion, samplers as letters", "*settings*.min_p", OFF),
    always(Kind::Value, "completion, samplers as letters", "*settings*.repeat_last_n", OFF),
    // What is served.
    always(Kind::Added, "health", "answer.success", "cllm's own routes have it"),
    always(Kind::Added, "health", "answer.data", OWN),
    always(Kind::Absent, "models", "answer.models", "Ollama's list is at /api/tags"),
    always(Kind::Absent, "models", "answer.data[].aliases", "a model has one name"),
    always(Kind::Absent, "models", "answer.data[].tags", "a model has one name"),
    always(Kind::Absent, "models", "answer.data[].meta.n_embd", "told of models that make embeddings"),
    always(Kind::Absent, "models", "answer.data[].meta.vocab_type", "llama.cpp's own number; /model/info has the name"),
    always(Kind::Added, "models", "answer.*", "for clients of OpenAI's, Anthropic's and vLLM's"),
    always(Kind::Value, "models", "answer.data[].owned_by", BUILD),
    always(Kind::Absent, "props", "answer.chat_template_caps", PAGE),
    always(Kind::Absent, "props", "answer.cors_proxy_enabled", PAGE),
    always(Kind::Absent, "props", "answer.media_marker", PAGE),
    always(Kind::Absent, "props", "answer.ui*", PAGE),
    always(Kind::Value, "props", "answer.build_info", BUILD),
    always(Kind::Value, "props", "answer.model_path", "recorded without its folder"),
    always(Kind::Absent, "slots*", "answer[].speculative", "guesses change no text; /metrics has them"),
    always(Kind::Absent, "slots, busy", "answer[].params", "an answer tells how it was sampled"),
    always(Kind::Absent, "slots, busy", "answer[].next_token[].has_new_line", "the engine knows no text"),
    always(Kind::Added, "slots*", "answer[].*", OWN),
    sometimes("slots, busy", "answer[].n_prompt_tokens*", "llama-server counts generated tokens, too"),
    sometimes("slots, busy", "answer[].next_token[].*", CLOCK),
    sometimes("slots, busy", "answer[].id_task", "requests are counted from the start of each server"),
    // Completions.
    always(Kind::Absent, "completion*", "*id_slot", SLOTS),
    always(Kind::Value, "completion, none", "answer.content", "0 tokens are none"),
    always(Kind::Value, "completion, none", "answer.t*_predicted*", "0 tokens are none"),
    always(Kind::Value, "completion, none", "answer.timings.predicted_n", "0 tokens are none"),
    always(Kind::Value, "completion, the end", "answer.tokens_*", LAST_TOKEN),
    always(Kind::Value, "completion, the end", "answer.timings.predicted_n", LAST_TOKEN),
    always(Kind::Value, "completion, a grammar", "answer.tokens_*", LAST_TOKEN),
    always(Kind::Value, "completion, a grammar", "answer.timings.predicted_n", LAST_TOKEN),
    always(Kind::Value, "completion, a schema", "answer.tokens_*", LAST_TOKEN),
    always(Kind::Value, "completion, a schema", "answer.timings.predicted_n", LAST_TOKEN),
    always(Kind::Value, "completion, a schema", "*settings*.grammar", "llama-server makes a grammar of a schema, cllm masks"),
    always(Kind::Value, "completion, streamed to a stop", "events end.tokens", "an answer's tokens are all told, also of a text that was cut"),
    always(Kind::Value, "completion, streamed with progress", "events progress.tokens", "no token is told before one is there"),
    sometimes("completion, streamed with progress", "events progress.prompt_progress.*", CLOCK),
    sometimes("completion*", "*timings.cache_n", CACHE),
    sometimes("completion*", "*timings.prompt_n", CACHE),
    sometimes("completion, streamed from two prompts", "events end.*", "which of two answers ends first"),
    sometimes("completion, defaults", "answer.*", CHANCE),
    sometimes("completion, mirostat", "answer.*", CHANCE),
    sometimes("completion, probabilities of what is sampled", "answer.*", CHANCE),
    // Chats and OpenAI's completions.
    always(Kind::Added, "chat*", "*.logprobs", OPENAI),
    always(Kind::Added, "chat*", "*.refusal", OPENAI),
    always(Kind::Added, "chat*", "*.completion_tokens_details", OPENAI),
    always(Kind::Added, "completions*", "*.completion_tokens_details", OPENAI),
    always(Kind::Added, "chat, streamed with usage", "*.usage", "null before the last event, as OpenAI's"),
    always(Kind::Absent, "chat*", "*.timings", NOT_OPENAI),
    always(Kind::Absent, "completions*", "*.timings", NOT_OPENAI),
    always(Kind::Absent, "chat*", "*logprobs.content[].id", NOT_OPENAI),
    always(Kind::Absent, "chat*", "*top_logprobs[].id", NOT_OPENAI),
    always(Kind::Absent, "completions, logprobs", "*logprobs.content", "OpenAI's completions have four lists instead"),
    always(Kind::Added, "completions, logprobs", "*logprobs.*", OPENAI),
    always(Kind::Absent, "completions, streamed", "events finish.usage", "told where stream_options asks for it"),
    always(Kind::Value, "chat*", "*.usage.completion_tokens", LAST_TOKEN),
    always(Kind::Value, "chat*", "*.usage.total_tokens", LAST_TOKEN),
    always(Kind::Value, "chat, an answer begun", "answer.choices[].message.content", "the answer has what follows the text that was given"),
    always(Kind::Value, "chat, a schema", "answer.choices[].finish_reason", "an answer ends where its schema is met"),
    always(Kind::Type, "chat, streamed*", "events role.choices[].delta.content", "an empty text, as OpenAI's"),
    sometimes("chat*", "*.cached_tokens", CACHE),
    // Refusals.
    always(Kind::Absent, "tokenize, no content", "answer.tokens", REFUSED),
    always(Kind::Absent, "detokenize, no tokens", "answer.content", REFUSED),
    always(Kind::Absent, "apply-template, a role of its own", "answer.prompt", "refused: a template would leave out what it doesn't know"),
    always(Kind::Absent, "completion, an empty prompt", "answer.*", "refused: this model has nothing to begin with"),
    always(Kind::Added, "*", "answer.error", REFUSED),
    always(Kind::Value, "tokenize, no content", "status", REFUSED),
    always(Kind::Value, "detokenize, no tokens", "status", REFUSED),
    always(Kind::Value, "apply-template, a role of its own", "status", REFUSED),
    always(Kind::Value, "completion, an empty prompt", "status", REFUSED),
    always(Kind::Value, "*", "status", FAULT_OF_CLIENT),
    always(Kind::Value, "*", "answer.error.type", FAULT_OF_CLIENT),
    always(Kind::Value, "*", "answer.error.message", WORDS),
    always(Kind::Added, "*", "answer.error.param", ERRORS),
    always(Kind::Type, "*", "answer.error.code", ERRORS),
    always(Kind::Value, "apply-template, no turn begun", "answer.prompt", "an answer is a turn of the assistant's, and X-Cllm-Warning says so"),
    always(Kind::Type, "nowhere", "answer.error", "a path that no API has is answered in cllm's own shape"),
    always(Kind::Added, "nowhere", "answer.*", "a path that no API has is answered in cllm's own shape"),
    // What is another each time.
    sometimes("*", "*_ms", CLOCK),
    sometimes("*", "*_per_second", CLOCK),
    sometimes("*", "*.created", CLOCK),
    sometimes("*", "*data[].created", CLOCK),
    always(Kind::Value, "*", "answer.id", "a name of its own for each answer"),
    always(Kind::Value, "*", "events *.id", "a name of its own for each answer"),
    always(Kind::Value, "*", "*.system_fingerprint", BUILD),
];

/// Whether the list has the difference; notes in `used` which entries had one.
pub fn is_explained(case: &str, difference: &Difference, used: &mut [bool]) -> bool {
    let mut found = false;
    for (used, entry) in used.iter_mut().zip(DIFFERENT) {
        if entry.kind == difference.kind && matches(entry.cases, case) && matches(entry.path, &difference.path) {
            (*used, found) = (true, true);
        }
    }
    found
}

/// Whether a text is what a pattern says, in which each `*` stands for any text.
pub fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text
            .strip_prefix(before)
            .is_some_and(|rest| (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|rest| matches(after, rest)))),
    }
}
