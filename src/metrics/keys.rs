//! The usage of each API key. HTTP threads write; the names are those of the key file, at most `API_KEYS_MAX`.

use std::fmt::Write;

use super::Counter;
use super::render::Seconds;

/// The counts of one key since the start.
#[derive(Debug, Default)]
pub struct KeyCounts {
    /// Requests that were admitted.
    pub requests: Counter,
    /// Requests that were refused because of the key's limits.
    pub refused: Counter,
    /// Prompt tokens of admitted requests.
    pub prompt_tokens: Counter,
    /// How many of the prompt tokens were in the cache.
    pub cached_tokens: Counter,
    /// Generated tokens.
    pub generated_tokens: Counter,
    /// Microseconds that requests waited for a slot, summed.
    pub waited_us: Counter,
    /// How often a running request gave up its slot to an interactive one.
    pub gave_way: Counter,
}

/// A family of counters: its name, its help text, and the value for a key.
type KeyFamily = (&'static str, &'static str, fn(&KeyCounts) -> String);

const FAMILIES: [KeyFamily; 7] = [
    ("cllm_key_requests_total", "Requests that the limits of an API key let in.", |counts| {
        counts.requests.get().to_string()
    }),
    ("cllm_key_refused_total", "Requests that the key's limits refused.", |counts| counts.refused.get().to_string()),
    ("cllm_key_prompt_tokens_total", "Tokens of its prompts.", |counts| counts.prompt_tokens.get().to_string()),
    ("cllm_key_cached_tokens_total", "Of those, tokens that the cache had.", |counts| {
        counts.cached_tokens.get().to_string()
    }),
    ("cllm_key_generated_tokens_total", "Tokens of its answers.", |counts| counts.generated_tokens.get().to_string()),
    ("cllm_key_wait_seconds_total", "Time its requests waited for a slot.", |counts| {
        Seconds(counts.waited_us.get()).to_string()
    }),
    ("cllm_key_gave_way_total", "Times that its running requests gave way to interactive ones.", |counts| {
        counts.gave_way.get().to_string()
    }),
];

/// The counts of `keys`, each with its name, as Prometheus text. Empty without keys.
pub fn render_keys(keys: &[(&str, &KeyCounts)]) -> String {
    let mut text = String::new();
    for (family, help, number) in FAMILIES.iter().filter(|_| !keys.is_empty()) {
        let _ = writeln!(text, "# HELP {family} {help}\n# TYPE {family} counter");
        for (name, counts) in keys {
            // Names contain no characters that a label would have to escape.
            let _ = writeln!(text, "{family}{{key=\"{name}\"}} {}", number(counts));
        }
    }
    text
}
