//! Arrows between rooms: which room of `src/` may name which, and which within `src/http`.

use super::source::{Source, complaints, hold, root, src};

/// Room -> rooms it may name, besides itself. `cli` and `main` may name all.
pub const ARROWS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("appliance", &["types"]),
    ("topology", &["types"]),
    ("clock", &["types"]),
    ("model_file", &["appliance", "config", "gguf", "types"]),
    ("metrics", &["types"]),
    ("config", &["appliance", "types"]),
    ("logging", &["config", "types"]),
    ("handoff", &["types"]),
    ("kv_events", &["handoff", "metrics", "types"]),
    ("hub", &["gguf", "types"]),
    ("gguf", &["types"]),
    ("sample", &["types"]),
    ("sandbox", &["types"]),
    ("llama", &["types"]),
    ("null_decoder", &["types"]),
    ("tokenizer", &["gguf", "types"]),
    ("chat", &["tokenizer", "types"]),
    ("constrain", &["chat", "handoff", "tokenizer", "types"]),
    ("engine", &["handoff", "metrics", "sample", "trace", "types"]),
    (
        "http",
        &[
            "chat",
            "config",
            "constrain",
            "handoff",
            "kv_events",
            "metrics",
            "page",
            "tokenizer",
            "topology",
            "trace",
            "types",
        ],
    ),
    ("page", &[]),
    ("trace", &["types"]),
    ("synth", &["gguf", "llama", "types"]),
    ("prompts", &["handoff", "metrics", "types"]),
    ("console", &["hub", "types"]),
    ("server", SERVER),
    ("measure", MEASURE),
];

/// What a server is composed of: every room but `cli`, `measure` and what makes files.
const SERVER: &[&str] = &[
    "appliance",
    "chat",
    "clock",
    "config",
    "console",
    "constrain",
    "engine",
    "gguf",
    "handoff",
    "http",
    "hub",
    "kv_events",
    "llama",
    "logging",
    "metrics",
    "model_file",
    "null_decoder",
    "prompts",
    "sandbox",
    "tokenizer",
    "topology",
    "trace",
    "types",
];

/// Benches drive a server and its parts.
const MEASURE: &[&str] = &[
    "chat",
    "clock",
    "config",
    "console",
    "constrain",
    "engine",
    "gguf",
    "handoff",
    "http",
    "llama",
    "logging",
    "metrics",
    "model_file",
    "null_decoder",
    "sample",
    "server",
    "tokenizer",
    "topology",
    "trace",
    "types",
];

/// Within `src/http`: room -> rooms and files it may name, besides itself. What stands beside them may name all.
const HTTP_ARROWS: &[(&str, &[&str])] = &[
    ("ask", &[]),
    ("run", &["access", "account", "ask", "caller", "fault", "log_line", "rate", "service"]),
    ("dialect::native", &["ask", "run", "caller", "fault", "service"]),
    ("dialect::openai", &["ask", "run", "caller", "fault", "path", "service"]),
    ("dialect::responses", &["ask", "run", "caller", "fault", "service"]),
    ("dialect::anthropic", &["ask", "run", "caller", "fault", "service"]),
    ("dialect::llama_server", &["ask", "run", "caller", "fault", "service"]),
    ("dialect::ollama", &["ask", "run", "caller", "fault", "service"]),
];

/// Rooms that know every other.
const TOP: &[&str] = &["cli", "main", "lib"];

/// The rooms that code names by `crate::room`, `cllm::room` or a group after either.
fn rooms_named(code: &str) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    for root in ["crate::", "cllm::"] {
        for (at, _) in code.match_indices(root) {
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
                continue;
            }
            let line = code[..at].matches('\n').count();
            let tail = &code[at + root.len()..];
            let paths: Vec<&str> = match tail.strip_prefix('{') {
                Some(group) => top_level_paths(group),
                None => vec![tail],
            };
            for path in paths {
                let room: String = path.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                named.push((line, room));
            }
        }
    }
    named
}

/// `a::{b, c}, d}` -> `a::{b, c}`, `d`.
fn top_level_paths(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut paths) = (0, 0, Vec::new());
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                paths.push(&group[start..i]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                paths.push(&group[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    paths
}

fn arrows(source: &Source) -> Vec<String> {
    let room = source.room();
    if TOP.contains(&room) || source.is_test() {
        return Vec::new();
    }
    let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == room) else {
        return vec![source.complaint(0, format!("room `{room}` has no arrows in tests/tidy/rooms.rs"))];
    };
    let code = source.code();
    let rooms = |name: &str| TOP.contains(&name) || ARROWS.iter().any(|(room, _)| *room == name);
    let mut complaints: Vec<String> = rooms_named(&code)
        .into_iter()
        .filter(|(_, to)| rooms(to) && to != room && !allowed.contains(&to.as_str()))
        .map(|(line, to)| source.complaint(line, format!("`{room}` may not name `{to}`")))
        .collect();
    // A path of `super` that leaves the room names another room without its name, so the rule above wouldn't find it.
    let depth = source.path.matches('/').count() + usize::from(!source.path.ends_with("/mod.rs"));
    let escape = "super::".repeat(depth - 1);
    complaints.extend(source.lines_with(&[&escape], "leaves the room unseen; say `crate::`"));
    complaints
}

/// Arrows between the rooms of `src/http`: what a request means knows no way to serve it, and no dialect knows another.
fn http_arrows(source: &Source) -> Vec<String> {
    let Some(path) = source.path.strip_prefix("src/http/").filter(|_| !source.is_test()) else { return Vec::new() };
    let place = path.trim_end_matches(".rs").replace('/', "::");
    let is_in = |place: &str, room: &str| place == room || place.starts_with(&format!("{room}::"));
    let Some((room, allowed)) = HTTP_ARROWS.iter().find(|(room, _)| is_in(&place, room)) else { return Vec::new() };
    let code = source.code();
    let mut complaints = Vec::new();
    for (at, _) in code.match_indices("crate::http::") {
        let tail = &code[at + "crate::http::".len()..];
        let named = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        let to: String = tail.chars().take_while(|c| named(*c)).collect();
        if !is_in(&to, room) && !allowed.iter().any(|known| is_in(&to, known)) {
            let line = code[..at].matches('\n').count();
            complaints.push(source.complaint(line, format!("`{room}` may not name `{to}`")));
        }
    }
    // `super` out of the room would be an arrow that this rule doesn't see.
    let depth = path.matches('/').count() - room.matches("::").count() + usize::from(!path.ends_with("/mod.rs"));
    complaints.extend(source.lines_with(&[&"super::".repeat(depth)], "leaves the room unseen; say `crate::`"));
    complaints
}

#[test]
fn rooms_name_only_the_rooms_below_them() {
    hold(arrows, &src());
}

#[test]
fn what_is_asked_how_it_runs_and_how_it_is_told_stay_apart() {
    hold(http_arrows, &src());
    // Each rule has rooms to hold for.
    for (room, _) in HTTP_ARROWS {
        assert!(root().join("src/http").join(room.replace("::", "/")).is_dir(), "{room}");
    }
}

#[test]
fn about_arrows() {
    assert_eq!(complaints(arrows, "src/engine/plan.rs", "use crate::http::Server;"), 1);
    assert_eq!(complaints(arrows, "src/engine/plan.rs", "use crate::{types::Token, llama::{Model, Context}};"), 1);
    for (path, code, expected) in [
        ("src/http/ask/fields.rs", "use crate::http::run::choices::Choices;", 1),
        ("src/http/ask/fields.rs", "use crate::http::ask::notes;", 0),
        ("src/http/run/read.rs", "use crate::http::dialect::openai::Chat;", 1),
        ("src/http/run/read.rs", "use crate::http::ask::notes; use super::choices;", 0),
        ("src/http/dialect/ollama/mod.rs", "use crate::http::dialect::openai::Chat;", 1),
        ("src/http/dialect/ollama/request.rs", "use super::super::openai::Chat;", 1),
        ("src/http/dialect/ollama/request.rs", "use super::ERRORS; use crate::http::dialect::ollama::body;", 0),
        ("src/http/worker.rs", "use crate::http::dialect::openai::Chat;", 0),
    ] {
        assert_eq!(complaints(http_arrows, path, code), expected, "{path}: {code}");
    }
    assert_eq!(complaints(arrows, "src/http/mod.rs", "let x = crate::engine::run();"), 1);
    assert_eq!(complaints(arrows, "src/types/ids.rs", "use super::super::engine;"), 1);
    assert_eq!(complaints(arrows, "src/types/mod.rs", "use super::engine;"), 1);
    assert_eq!(complaints(arrows, "src/newroom.rs", ""), 1);
    // And not where nothing is wrong.
    assert_eq!(
        complaints(arrows, "src/engine/plan.rs", "use crate::{handoff::Ring, types::Token};\nuse super::slot;"),
        0
    );
    assert_eq!(complaints(arrows, "src/types/ids.rs", "// use crate::engine;\nlet x = \"crate::engine\";"), 0);
    assert_eq!(complaints(arrows, "src/llama/quantize.rs", "#[cfg(test)]\nmod tests { use crate::gguf; }"), 0);
    assert_eq!(complaints(arrows, "src/cli/serve.rs", "use crate::engine;"), 0);
}
