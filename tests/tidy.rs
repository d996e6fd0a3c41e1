//! What we promise each other about `src/`, checked: arrows between rooms, where `unsafe` lives, how files open, how
//! long they get, what may panic, and that no file knows the machine it was written on.
//!
//! Each rule is a function from a file to complaints; the tests at the end show each of them complain.

#[path = "tidy/circles.rs"]
mod circles;

use std::fs;
use std::path::{Path, PathBuf};

/// Room -> rooms it may name, besides itself. `cli` and `main` may name all.
const ARROWS: &[(&str, &[&str])] = &[
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
/// Rooms in which a panic takes other people's requests along.
const CALM: &[&str] = &["http", "constrain", "engine", "handoff", "prompts"];
const LINES_MAX: usize = 600;

/// A file of `src/`.
struct Source {
    /// From `src/` on, with slashes.
    path: String,
    text: String,
}

impl Source {
    /// `engine` for `src/engine/plan.rs` and `src/engine.rs`.
    fn room(&self) -> &str {
        let path = self.path.strip_prefix("src/").unwrap_or(&self.path);
        path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }

    /// The code alone: no comments, no literals, no test modules. Lines keep their numbers.
    fn code(&self) -> String {
        without_test_modules(&without_comments_and_literals(&self.text))
    }

    fn complaint(&self, line: usize, what: impl std::fmt::Display) -> String {
        format!("{}:{}: {what}", self.path, line + 1)
    }

    /// One complaint for each line of code that holds one of `words`.
    fn lines_with(&self, words: &[&str], what: &str) -> Vec<String> {
        let found = |line: &str| words.iter().find(|word| holds_word(line, word)).copied();
        let code = self.code();
        let hits = code.lines().enumerate().filter_map(|(n, line)| Some((n, found(line)?)));
        hits.map(|(n, word)| self.complaint(n, format!("`{word}` {what}"))).collect()
    }
}

/// Whether `word` stands in `line` with no identifier touching it where it itself begins or ends like one.
fn holds_word(line: &str, word: &str) -> bool {
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = word.starts_with(in_name) && line[..at].ends_with(in_name);
        let after = word.ends_with(in_name) && line[at + word.len()..].starts_with(in_name);
        !before && !after
    })
}

/// Comments, strings and characters become blanks.
fn without_comments_and_literals(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    let blank = |out: &mut String, part: &[char]| out.extend(part.iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
    while i < bytes.len() {
        let rest = &bytes[i..];
        let named = i > 0 && (bytes[i - 1].is_alphanumeric() || bytes[i - 1] == '_');
        let len = match rest {
            ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => block_comment(rest),
            ['"', ..] => string(rest),
            ['r' | 'b' | 'c', ..] if !named => raw_string(rest).unwrap_or(0),
            ['\'', '\\', ..] => 3 + rest[3..].iter().position(|c| *c == '\'').unwrap_or(0),
            ['\'', _, '\'', ..] => 3,
            _ => 0,
        };
        if len == 0 {
            out.push(bytes[i]);
            i += 1;
        } else {
            blank(&mut out, &rest[..len.min(rest.len())]);
            i += len;
        }
    }
    out
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut i) = (0, 0);
    while i + 1 < rest.len() {
        match (rest[i], rest[i + 1]) {
            ('/', '*') => (depth, i) = (depth + 1, i + 2),
            ('*', '/') if depth == 1 => return i + 2,
            ('*', '/') => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
    }
    rest.len()
}

fn string(rest: &[char]) -> usize {
    let mut i = 1;
    while i < rest.len() {
        match rest[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    rest.len()
}

/// `r"..."`, `r#"..."#`, `br"..."`, ...; `None` when it isn't one.
fn raw_string(rest: &[char]) -> Option<usize> {
    let prefix = rest.iter().take_while(|c| matches!(**c, 'b' | 'c')).count();
    if rest.get(prefix) != Some(&'r') {
        return None;
    }
    let hashes = rest[prefix + 1..].iter().take_while(|c| **c == '#').count();
    let open = prefix + 1 + hashes;
    if rest.get(open) != Some(&'"') {
        return None;
    }
    let end: String = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body: String = rest[open + 1..].iter().collect();
    let chars = body.find(&end).map_or(body.chars().count(), |at| body[..at].chars().count());
    Some(open + 1 + chars + end.len())
}

/// What follows `#[cfg(test)]` or `#[cfg(all(test, ...))]` becomes blanks: a braced item, or up to a semicolon.
fn without_test_modules(code: &str) -> String {
    let mut out = String::new();
    let mut rest = code;
    while let Some(at) = ["#[cfg(test)]", "#[cfg(all(test"].iter().filter_map(|mark| rest.find(mark)).min() {
        out.push_str(&rest[..at]);
        let tail = &rest[at..];
        let mut depth = 0;
        let end = tail.char_indices().find_map(|(i, c)| {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            ((c == '}' || c == ';') && depth == 0).then_some(i + 1)
        });
        let end = end.unwrap_or(tail.len());
        out.extend(tail[..end].chars().filter(|c| *c == '\n'));
        rest = &tail[end..];
    }
    out + rest
}

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
        return vec![source.complaint(0, format!("room `{room}` has no arrows in tests/tidy.rs"))];
    };
    let code = source.code();
    let rooms = |name: &str| TOP.contains(&name) || ARROWS.iter().any(|(room, _)| *room == name);
    let mut complaints: Vec<String> = rooms_named(&code)
        .into_iter()
        .filter(|(_, to)| rooms(to) && to != room && !allowed.contains(&to.as_str()))
        .map(|(line, to)| source.complaint(line, format!("`{room}` may not name `{to}`")))
        .collect();
    // `super` out of the room would be an arrow that nobody sees.
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

fn opens_with_prose(source: &Source) -> Vec<String> {
    let opens = source.text.starts_with("//! ");
    if opens { Vec::new() } else { vec![source.complaint(0, "doesn't open with `//!` prose")] }
}

fn not_too_long(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    if lines <= LINES_MAX || source.path.ends_with("_data.rs") {
        return Vec::new();
    }
    vec![source.complaint(lines - 1, format!("{lines} lines; split at {LINES_MAX}"))]
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

/// Folders of one machine, and where crates were fetched from. In any file, comments included.
fn no_machine(source: &Source) -> Vec<String> {
    // The built-in model's lessons name made-up folders as examples.
    if source.path == "vendor/model/generate.py" {
        return Vec::new();
    }
    // Put together here, so that this file may be checked too.
    let needles = [
        ["/ho", "me/"].concat(),
        ["/ro", "ot/"].concat(),
        ["/wo", "rk/"].concat(),
        ["/Us", "ers/"].concat(),
        [".cargo/reg", "istry"].concat(),
        ["index.crates", ".io"].concat(),
    ];
    let lines = source.text.lines().enumerate();
    let hits = lines.filter_map(|(n, line)| Some((n, needles.iter().find(|needle| line.contains(needle.as_str()))?)));
    hits.map(|(n, needle)| source.complaint(n, format!("names a place on one machine: {needle}"))).collect()
}

/// Files that documents and comments name in backquotes, from the top of the project or from their own folder on, and that are
/// not there. A source's name alone, such as `plan.rs`, may stand for a file in any folder.
fn names_what_exists(source: &Source) -> Vec<String> {
    const TOPS: [&str; 5] = ["src/", "tests/", "benches/", "docs/", "vendor/"];
    let mut complaints = Vec::new();
    for (n, line) in source.text.lines().enumerate() {
        let is_path = |name: &&str| name.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
        let beside = root().join(&source.path).with_file_name("");
        let is_there = |name: &str| match TOPS.iter().any(|top| name.starts_with(top)) {
            true => root().join(name).exists() || beside.join(name).exists(),
            false => !is_source(name) || source_names().iter().any(|known| known.ends_with(&format!("/{name}"))),
        };
        for name in line.split('`').skip(1).step_by(2).filter(is_path).filter(|name| !is_there(name)) {
            complaints.push(source.complaint(n, format!("names {name}, which does not exist")));
        }
    }
    complaints
}

const SOURCES: [&str; 5] = [".rs", ".py", ".js", ".cpp", ".sh"];

/// Whether a word is a source's name. `llama.cpp` is a project's.
fn is_source(name: &str) -> bool {
    name != "llama.cpp" && SOURCES.iter().any(|end| name.len() > end.len() && name.ends_with(end))
}

/// The paths of all sources, each with a slash before it.
fn source_names() -> &'static [String] {
    static NAMES: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    NAMES.get_or_init(|| files(&root(), &SOURCES).into_iter().map(|source| format!("/{}", source.path)).collect())
}

/// The rooms that the map of ARCHITECTURE.md shows, from top to bottom.
fn mapped(architecture: &str) -> Vec<String> {
    let map = architecture.split("\n## ").find(|section| section.starts_with("The map")).unwrap_or_default();
    let rows = map.lines().filter_map(|line| line.strip_prefix("| `src/"));
    let cells = rows.map(|row| row.split('|').next().unwrap_or_default());
    let names = cells.flat_map(|cell| cell.split("`src/").filter_map(|rest| rest.split('`').next()));
    names.map(|name| name.trim_end_matches(".rs").to_owned()).collect()
}

/// Rooms that the map lacks, rooms that it only has itself, and rooms that stand above one that names them.
fn map_complaints(mapped: &[String], rooms: &[String]) -> Vec<String> {
    let place = |room: &str| mapped.iter().position(|shown| shown == room);
    let mut complaints: Vec<String> =
        rooms.iter().filter(|room| place(room).is_none()).map(|room| format!("the map lacks {room}")).collect();
    complaints.extend(mapped.iter().filter(|room| !rooms.contains(room)).map(|room| format!("no room is {room}")));
    for (room, below) in ARROWS {
        for named in below.iter().filter(|named| place(named) <= place(room)) {
            complaints.push(format!("the map has {named} above {room}, which names it"));
        }
    }
    complaints
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Files below `folder` whose names end in one of `ends`; target folders and hidden ones left out.
fn files(folder: &Path, ends: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.expect("a folder can be read").path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if ends.iter().any(|end| name.ends_with(end)) {
                let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                let path = path.strip_prefix(root()).unwrap_or(&path).to_string_lossy().replace('\\', "/");
                found.push(Source { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no files below {}", folder.display());
    found
}

fn hold(rule: fn(&Source) -> Vec<String>, sources: &[Source]) {
    let complaints: Vec<String> = sources.iter().flat_map(rule).collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

fn src() -> Vec<Source> {
    files(&root().join("src"), &[".rs"])
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
fn unsafe_lives_in_llama() {
    hold(unsafe_only_in_llama, &src());
}

#[test]
fn each_unsafe_says_why_it_is_sound() {
    hold(every_unsafe_has_its_reason, &src());
}

#[test]
fn each_file_opens_with_prose() {
    hold(opens_with_prose, &src());
}

#[test]
fn no_file_is_too_long() {
    hold(not_too_long, &src());
}

#[test]
fn files_do_not_name_each_other_in_circles() {
    let files: Vec<(String, String)> =
        src().into_iter().map(|source| (source.path.trim_start_matches("src/").to_owned(), source.text)).collect();
    assert!(files.len() > 200, "{} files", files.len());
    assert_eq!(circles::circles(&files), Vec::<Vec<String>>::new());
}

#[test]
fn shared_threads_do_not_panic() {
    hold(calm, &src());
}

/// Checked-in files that aren't text: the built-in model, and what `make pictures` draws.
const BINARIES: &[&str] = &["vendor/model/cllm-tiny.gguf", "docs/pictures/page.png", "docs/pictures/waterfall.png"];

/// What somebody built doesn't belong here: everything that git keeps can be read, the model and the pictures aside.
#[test]
fn what_is_checked_in_can_be_read() {
    // An archive of the sources has no list to look at.
    if !root().join(".git").exists() {
        return;
    }
    let output = std::process::Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let list = String::from_utf8(output.expect("git runs").stdout).expect("names are UTF-8");
    let names: Vec<&str> = list.split('\0').filter(|name| !name.is_empty()).collect();
    assert!(names.len() > 100, "{names:?}");
    let is_text = |name: &str| fs::read(root().join(name)).is_ok_and(|content| String::from_utf8(content).is_ok());
    // A file that was removed and not yet committed is no complaint.
    let unread = |name: &&&str| root().join(name).exists() && !BINARIES.contains(*name) && !is_text(name);
    let complaints: Vec<&&str> = names.iter().filter(unread).collect();
    assert!(complaints.is_empty(), "not text: {complaints:?}");
    let built: Vec<&&str> =
        names.iter().filter(|name| name.contains("/release/") || name.ends_with("CACHEDIR.TAG")).collect();
    assert!(built.is_empty(), "build output: {built:?}");
}

#[test]
fn no_file_knows_a_machine() {
    let ends = [".rs", ".toml", ".md", ".cpp", ".h", ".sh", ".py", ".yml", "Makefile", "Dockerfile"];
    hold(no_machine, &files(&root(), &ends));
    for folder in [".cargo", ".ci"] {
        hold(no_machine, &files(&root().join(folder), &[""]));
    }
}

#[test]
fn what_documents_and_comments_name_exists() {
    hold(names_what_exists, &files(&root(), &[".md"]));
    hold(names_what_exists, &src());
}

/// The folders and files directly under src/, without the two that are no rooms.
fn rooms() -> Vec<String> {
    let entries = fs::read_dir(root().join("src")).expect("src/");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let names = names.map(|name| name.trim_end_matches(".rs").to_owned());
    names.filter(|name| name != "main" && name != "lib").collect()
}

#[test]
fn the_map_shows_each_room_above_those_that_it_names() {
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let complaints = map_complaints(&mapped(&architecture), &rooms());
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn the_crates_own_map_names_each_room() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs");
    let prose: String = lib.lines().filter(|line| line.starts_with("//!")).collect();
    let words: Vec<&str> = prose.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let missing: Vec<String> = rooms().into_iter().filter(|room| !words.contains(&room.as_str())).collect();
    assert!(missing.is_empty(), "src/lib.rs does not name {missing:?}");
}

/// Each rule, broken once.
mod each_rule_complains {
    use super::*;

    fn complaints(rule: fn(&Source) -> Vec<String>, path: &str, text: &str) -> usize {
        rule(&Source { path: path.to_owned(), text: text.to_owned() }).len()
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

    #[test]
    fn about_unsafe() {
        let block = "fn f() { unsafe { g() } }";
        assert_eq!(complaints(unsafe_only_in_llama, "src/http/mod.rs", block), 1);
        assert_eq!(complaints(unsafe_only_in_llama, "src/llama/mod.rs", block), 0);
        assert_eq!(
            complaints(unsafe_only_in_llama, "src/lib.rs", "//! the only unsafe Rust\n#![deny(unsafe_code)]"),
            0
        );
        assert_eq!(complaints(every_unsafe_has_its_reason, "src/llama/mod.rs", block), 1);
        let reasoned = ["// SAFETY: g asks for nothing.\n", block].concat();
        assert_eq!(complaints(every_unsafe_has_its_reason, "src/llama/mod.rs", &reasoned), 0);
    }

    #[test]
    fn about_prose_and_length() {
        assert_eq!(complaints(opens_with_prose, "src/types/ids.rs", "use x;\n//! late"), 1);
        assert_eq!(complaints(opens_with_prose, "src/types/ids.rs", "//! What it is."), 0);
        assert_eq!(complaints(not_too_long, "src/types/ids.rs", &"x\n".repeat(LINES_MAX + 1)), 1);
        assert_eq!(complaints(not_too_long, "src/types/ids.rs", &"x\n".repeat(LINES_MAX)), 0);
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

    #[test]
    fn about_machines() {
        let path = ["// see /ho", "me/someone/notes"].concat();
        assert_eq!(complaints(no_machine, "Makefile", &path), 1);
        assert_eq!(complaints(no_machine, "Makefile", "# see docs/notes"), 0);
    }

    #[test]
    fn about_names_of_files() {
        assert_eq!(complaints(names_what_exists, "docs/http.md", "see `src/http` and `src/nowhere.rs`, `src/`"), 1);
        assert_eq!(complaints(names_what_exists, "docs/http.md", "`GET /page`, `src/{a,b}.rs`, src/nowhere.rs"), 0);
        assert_eq!(complaints(names_what_exists, "docs/http.md", "`plan.rs`, `engine/plan.rs`, `llama.cpp`, `.js`"), 0);
        assert_eq!(complaints(names_what_exists, "docs/http.md", "`plans.rs` and `http/plan.rs`"), 2);
    }

    #[test]
    fn about_the_map() {
        let map = "# A\n\n## The map\n\n| room | |\n|---|---|\n| `src/cli` | `src/x` |\n| `src/a`, `src/b.rs` | |\n\n## On\n| `src/c` |";
        assert_eq!(mapped(map), ["cli", "a", "b"]);
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut shown = mapped(&fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md"));
        shown.reverse();
        let complaints = map_complaints(&shown, &rooms());
        assert!(complaints.contains(&"the map has types above http, which names it".to_owned()), "{complaints:?}");
        let complaints = map_complaints(&names(&["attic"]), &names(&["cellar"]));
        assert_eq!(complaints[..2], ["the map lacks cellar", "no room is attic"]);
    }
}
