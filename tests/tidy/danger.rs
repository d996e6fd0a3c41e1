//! Where `unsafe` lives and why it is sound, and where nothing may panic.

use super::source::{Source, complaints, hold, holds_word, src};

/// Rooms in which a panic takes other people's requests along.
const CALM: &[&str] = &["http", "constrain", "engine", "handoff", "prompts"];

fn unsafe_only_in_llama(source: &Source) -> Vec<String> {
    if source.room() == "llama" {
        return Vec::new();
    }
    source.lines_with(&["unsafe"], "belongs into src/llama")
}

fn every_unsafe_has_its_reason(source: &Source) -> Vec<String> {
    let original: Vec<&str> = source.text.lines().collect();
    let code = source.code();
    let blocks = code
        .lines()
        .enumerate()
        .filter(|(_, line)| ["unsafe {", "unsafe impl"].iter().any(|word| holds_word(line, word)));
    let reasoned = |n: usize| original[n.saturating_sub(12)..=n].iter().any(|line| line.contains("SAFETY:"));
    blocks
        .filter(|(n, _)| !reasoned(*n))
        .map(|(n, _)| source.complaint(n, "`unsafe` without a SAFETY comment"))
        .collect()
}

/// An invariant may be stated with `expect("why")` by the engine; whatever a client sends may not reach one.
fn calm(source: &Source) -> Vec<String> {
    if !CALM.contains(&source.room()) || source.is_test() {
        return Vec::new();
    }
    let mut words = vec![".unwrap()", "panic!", "todo!", "unimplemented!"];
    if source.room() == "http" {
        words.push(".expect(");
    }
    source.lines_with(&words, "takes other requests along")
}

#[test]
fn unsafe_lives_in_llama() {
    hold(unsafe_only_in_llama, &src());
}

#[test]
fn each_unsafe_says_why_it_is_sound() {
    hold(every_unsafe_has_its_reason, &src());
}

#[test]
fn shared_threads_do_not_panic() {
    hold(calm, &src());
}

#[test]
fn about_unsafe() {
    let block = "fn f() { unsafe { g() } }";
    assert_eq!(complaints(unsafe_only_in_llama, "src/http/mod.rs", block), 1);
    assert_eq!(complaints(unsafe_only_in_llama, "src/llama/mod.rs", block), 0);
    assert_eq!(complaints(unsafe_only_in_llama, "src/lib.rs", "//! the only unsafe Rust\n#![deny(unsafe_code)]"), 0);
    assert_eq!(complaints(every_unsafe_has_its_reason, "src/llama/mod.rs", block), 1);
    let reasoned = ["// SAFETY: g asks for nothing.\n", block].concat();
    assert_eq!(complaints(every_unsafe_has_its_reason, "src/llama/mod.rs", &reasoned), 0);
}

#[test]
fn about_panics() {
    for word in ["x.unwrap();", "panic!(\"no\");", "todo!()"] {
        assert_eq!(complaints(calm, "src/engine/plan.rs", word), 1, "{word}");
    }
    assert_eq!(complaints(calm, "src/http/route.rs", "x.expect(\"it is\")"), 1);
    assert_eq!(complaints(calm, "src/engine/plan.rs", "x.expect(\"it is\")"), 0);
    assert_eq!(complaints(calm, "src/engine/plan.rs", "x.unwrap_or(1); // .unwrap()\nlet s = r#\"panic!\"#;"), 0);
    assert_eq!(complaints(calm, "src/engine/plan.rs", "#[cfg(test)]\nmod tests { fn f() { x.unwrap() } }"), 0);
    assert_eq!(complaints(calm, "src/engine/tests.rs", "x.unwrap()"), 0);
    assert_eq!(complaints(calm, "src/cli/serve.rs", "x.unwrap()"), 0);
}
