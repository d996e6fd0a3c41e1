//! What each API key has got. HTTP threads write; the names are those of the key file, so there are `API_KEYS_MAX` at most.

use std::fmt::Write;

use super::Counter;
use super::render::Seconds;

/// One key's counts since the start.
#[derive(Debug, Default)]
pub struct KeyCounts {
    /// Requests that its limits let in, and those that they refused.
    pub requests: Counter,
    pub refused: Counter,
    /// Tokens of prompts, those among them that the cache had, and tokens of answers.
    pub prompt_tokens: Counter,
    pub cached_tokens: Counter,
    pub generated_tokens: Counter,
    /// Microseconds that requests waited for a slot, together.
    pub waited_us: Counter,
    /// Times that its running requests gave their slots to interactive ones.
    pub gave_way: Counter,
}

/// A family of counters: its name, its help, and a key's number.
type Family = (&'static str, &'static str, fn(&KeyCounts) -> String);

const FAMILIES: [Family; 7] = [
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
            // A name has no character that a label would have to escape.
            let _ = writeln!(text, "{family}{{key=\"{name}\"}} {}", number(counts));
        }
    }
    text
}
