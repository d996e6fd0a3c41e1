//! A constraint and stop strings apply after the thought, and a thought that exceeds its budget is closed. With
//! templates of several kinds, on each chat route, whole and streamed. The weights are random, so only force ends a
//! thought.

use std::cell::Cell;

use serde_json::{Value, json};

use super::made::Made;
use super::routes::{Answer, Ask, ROUTES, Route};
use super::server::Server;
use super::{COMPLETIONS, ask as asked};

/// A template, and its marks that are control tokens.
type Kind = (&'static str, &'static [&'static str]);

/// Templates whose prompts end within a thought.
const THINKING: [Kind; 3] = [
    ("thinks.jinja", &[]),
    ("thinks-brackets.jinja", &["[THINK]", "[/THINK]", "[TOOL_CALLS]"]),
    ("thinks-actions.jinja", &["<|START_THINKING|>", "<|END_THINKING|>", "<|START_ACTION|>", "<|END_ACTION|>"]),
];

/// A template whose thoughts are a channel. Random weights enter it only where a grammar leads them.
const CHANNELS: Kind = (
    "gpt-oss.jinja",
    &["<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|constrain|>", "<|call|>", "<|return|>"],
);

const BUDGET: usize = 20;

/// The end of the sentence that closes a thought by force.
const CLOSED: &str = "I answer now.";

fn serve((template, marks): Kind) -> Server {
    Made::new(template, marks).serve(Some(template))
}

fn schema() -> Value {
    json!({"type": "object", "properties": {"unit": {"enum": ["c", "f"]}, "n": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["unit", "n"], "additionalProperties": false})
}

fn city() -> Value {
    json!({"type": "object", "properties": {"city": {"enum": ["Paris", "Bonn"]}}, "required": ["city"],
        "additionalProperties": false})
}

fn is_right(text: &str) -> bool {
    serde_json::from_str(text).is_ok_and(|value: Value| jsonschema::is_valid(&schema(), &value))
}

fn with_budget(seed: u64) -> Ask {
    Ask { seed, max_tokens: 400, thought_tokens_max: Some(BUDGET), ..Ask::default() }
}

/// The answer, which must be equal whole and streamed.
fn answer(server: &Server, route: Route, ask: &Ask) -> Answer {
    let whole = route.whole(server, ask);
    let streamed = route.streamed(server, ask);
    let thought_tokens = streamed.thought_tokens.or(whole.thought_tokens);
    assert_eq!(Answer { thought_tokens, ..streamed }, whole, "{route:?} {ask:?}");
    whole
}

/// Runs `check` for each route, each kind of template, and each seed below `seeds`.
fn each(kinds: &[Kind], seeds: u64, ask: impl Fn(u64) -> Ask, check: impl Fn(&str, Answer)) {
    for kind in kinds {
        let server = serve(*kind);
        for route in ROUTES {
            for seed in 0..seeds {
                check(&format!("{} {route:?} {seed}", kind.0), answer(&server, route, &ask(seed)));
            }
        }
    }
}

fn all_kinds() -> Vec<Kind> {
    THINKING.into_iter().chain([CHANNELS]).collect()
}

#[test]
fn a_schema_holds_behind_a_thought() {
    let ask = |seed| Ask { schema: Some(schema()), ..with_budget(seed) };
    each(&all_kinds(), 2, ask, |place, answer| {
        assert!(is_right(&answer.content) && answer.calls.is_empty(), "{place}: {answer:?}");
    });
}

#[test]
fn a_thought_is_closed_when_its_budget_is_spent() {
    each(
        &THINKING,
        2,
        |seed| Ask { max_tokens: 80, ..with_budget(seed) },
        |place, answer| {
            assert!(answer.thought.ends_with(CLOSED), "{place}: {answer:?}");
            // The forced sentence and the mark after it count, too.
            let counted = answer.thought_tokens.unwrap_or(BUDGET as u64);
            assert!((BUDGET as u64..BUDGET as u64 + 40).contains(&counted), "{place}: {counted}");
            assert!(!answer.content.contains("THINK") && !answer.content.contains("</think>"), "{place}: {answer:?}");
        },
    );
}

#[test]
fn a_required_call_comes_behind_a_thought() {
    let ask = |seed| Ask { tools: vec![("get_weather", city())], is_required: true, ..with_budget(seed) };
    each(&all_kinds(), 2, ask, |place, answer| {
        let [(name, arguments)] = answer.calls.as_slice() else { panic!("{place}: {answer:?}") };
        assert!(name == "get_weather" && jsonschema::is_valid(&city(), arguments), "{place}: {answer:?}");
        assert!(answer.content.trim().is_empty(), "{place}: {answer:?}");
        let has_channels = place.starts_with(CHANNELS.0);
        assert!(has_channels || answer.thought.ends_with(CLOSED), "{place}: {answer:?}");
    });
}

#[test]
fn a_tool_may_be_called_and_what_is_said_instead_follows_the_schema() {
    let (texts, calls) = (Cell::new(0), Cell::new(0));
    let ask = |seed| Ask { tools: vec![("get_weather", city())], schema: Some(schema()), ..with_budget(seed) };
    let mut kinds = all_kinds();
    // Without a thought, with bare JSON for a call, and with objects between marks.
    kinds.extend([("llama3.jinja", &[][..]), ("qwen3.jinja", &[][..])]);
    each(&kinds, 3, ask, |place, answer| match answer.calls.as_slice() {
        [] => {
            texts.set(texts.get() + 1);
            assert!(is_right(&answer.content), "{place}: {answer:?}");
        }
        [(name, arguments)] => {
            calls.set(calls.get() + 1);
            assert!(name == "get_weather" && jsonschema::is_valid(&city(), arguments), "{place}: {answer:?}");
            assert!(answer.content.trim().is_empty(), "{place}: {answer:?}");
        }
        _ => panic!("{place}: {answer:?}"),
    });
    // The seed decides, and both cases must occur.
    assert!(texts.get() > 0 && calls.get() > 0, "{texts:?} texts, {calls:?} calls");
    println!("{} texts and {} calls, all as they should be", texts.get(), calls.get());
}

#[test]
fn a_stop_string_in_a_thought_stops_nothing() {
    for kind in THINKING {
        let server = serve(kind);
        for route in ROUTES {
            // The sentence that closes a thought contains the stop string, which must not count there.
            let free = Ask { stop: Some("answer".into()), max_tokens: 60, ..with_budget(3) };
            let full = answer(&server, route, &free);
            assert!(full.thought.ends_with(CLOSED), "{kind:?} {route:?}: {full:?}");
            assert!(!full.content.contains("answer"), "{kind:?} {route:?}: {full:?}");
            // What the content has stops it.
            let stop: String = full.content.chars().skip(2).take(2).collect();
            assert_eq!(stop.chars().count(), 2, "{kind:?} {route:?}: {full:?}");
            let short = answer(&server, route, &Ask { stop: Some(stop), ..free });
            assert!(
                full.content.starts_with(&short.content) && short.content.len() < full.content.len(),
                "{kind:?} {route:?}: {short:?} {full:?}"
            );
            assert_eq!(short.thought, full.thought, "{kind:?} {route:?}");
        }
    }
}

#[test]
fn a_completion_says_that_its_budget_means_nothing() {
    let server = Server::start("");
    let body = json!({"prompt": "Once", "max_tokens": 2, "reasoning_budget_tokens": 5});
    let answer = server.client().post(COMPLETIONS, &body);
    let warning = answer.header("X-Cllm-Warning").unwrap_or_default().to_owned();
    assert!(answer.status == 200 && warning.contains("reasoning_budget_tokens"), "{warning}");
    assert!(asked(&server, COMPLETIONS, &json!({"prompt": "Once", "max_tokens": 2}))["choices"].is_array());
}
