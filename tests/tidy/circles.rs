//! Circles: files that name each other, directly or by way of others, can only be understood together.
//!
//! A file names another by `use`, or by a path that begins with `crate` or `super`. What its module `tests` names doesn't count, nor do
//! a folder's `mod.rs` and the files below it: a room's middle and its parts may know each other.

use std::collections::{BTreeMap, BTreeSet};

use super::source::src;

/// A module, as its path from the crate's root: `["engine", "plan"]`.
type Module = Vec<String>;

/// The circles among `files`, each a set of modules, in order. `files`: path from `src/` on, and text.
pub fn circles(files: &[(String, String)]) -> Vec<Vec<String>> {
    let texts: BTreeMap<Module, &str> = files.iter().map(|(path, text)| (module(path), without_tests(text))).collect();
    let exported = exported(&texts);
    let named: BTreeMap<&Module, BTreeSet<Module>> = (texts.iter())
        .map(|(from, text)| {
            let all = names(text).into_iter().filter_map(|name| resolve(&texts, &exported, from, &name));
            (from, all.filter(|to| !related(from, to)).collect())
        })
        .collect();
    let reached: BTreeMap<&Module, BTreeSet<Module>> = named.keys().map(|from| (*from, reach(&named, from))).collect();
    let mut found = BTreeSet::new();
    for (from, all) in &reached {
        if all.contains(*from) {
            let round = all.iter().filter(|other| reached[*other].contains(*from));
            found.insert(round.map(|module| module.join("/")).collect::<Vec<_>>());
        }
    }
    found.into_iter().collect()
}

fn module(path: &str) -> Module {
    let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').filter(|part| *part != "lib").map(str::to_owned).collect()
}

fn without_tests(text: &str) -> &str {
    text.find("mod tests {").map_or(text, |at| &text[..at])
}

/// One is above the other.
fn related(a: &Module, b: &Module) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

fn reach(named: &BTreeMap<&Module, BTreeSet<Module>>, from: &Module) -> BTreeSet<Module> {
    let (mut seen, mut left) = (BTreeSet::new(), vec![from.clone()]);
    while let Some(next) = left.pop() {
        for to in named.get(&next).into_iter().flatten() {
            if seen.insert(to.clone()) {
                left.push(to.clone());
            }
        }
    }
    seen
}

/// The paths that `text` names: each leaf of its `use` declarations, and paths that begin with `crate` or `super`.
fn names(text: &str) -> Vec<String> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .fold(String::new(), |all, line| all + line + "\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let is_word = code[..at].chars().next_back().is_none_or(char::is_whitespace);
        if let Some(end) = code[at..].find(';').filter(|_| is_word) {
            leaves(&code[at + 4..at + end], "", &mut found);
        }
    }
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let whole =
                code[at..].split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).next().unwrap_or_default();
            let begins = code[..at].chars().next_back().is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == ':'));
            if begins {
                found.push(whole.trim_end_matches(':').to_owned());
            }
        }
    }
    found
}

/// `a::{b, c::{d}}` as `a::b` and `a::c::d`.
fn leaves(tree: &str, before: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        if !path.is_empty() {
            found.push(format!("{before}{path}"));
        }
        return;
    };
    let before = format!("{before}{}", &tree[..open]);
    let inside = tree[open + 1..].trim_end().trim_end_matches('}');
    let (mut depth, mut from) = (0, 0);
    for (at, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                leaves(&inside[from..at], &before, found);
                from = at + 1;
            }
            _ => {}
        }
    }
    // A group that is cut off by the trimming above has lost only its closing brace.
    leaves(&inside[from..], &before, found);
}

/// What each module hands on under its own name by `pub use`: (module, name) -> where it is from.
fn exported(texts: &BTreeMap<Module, &str>) -> BTreeMap<(Module, String), Module> {
    let mut all = BTreeMap::new();
    for (module, text) in texts {
        for line in text.split(';').filter_map(|part| part.split_once("pub use ").map(|(_, tree)| tree)) {
            let mut found = Vec::new();
            leaves(line, "", &mut found);
            for path in found {
                let name = path.rsplit("::").next().unwrap_or_default().to_owned();
                if let Some(from) = walk(texts, module, &path) {
                    all.insert((module.clone(), name), from);
                }
            }
        }
    }
    all
}

/// The deepest module on `path`, which stands in `from`.
fn walk(texts: &BTreeMap<Module, &str>, from: &Module, path: &str) -> Option<Module> {
    let mut parts = path.split("::").peekable();
    let mut at = match parts.peek()? {
        &"crate" => Vec::new(),
        &"super" => from[..from.len().checked_sub(1)?].to_vec(),
        &"self" => from.clone(),
        first => {
            let below = [from.clone(), vec![(*first).to_owned()]].concat();
            return texts.contains_key(&below).then(|| deepest(texts, from.clone(), parts));
        }
    };
    parts.next();
    while parts.peek() == Some(&"super") {
        parts.next();
        at.pop();
    }
    Some(deepest(texts, at, parts))
}

fn deepest<'a>(texts: &BTreeMap<Module, &str>, mut at: Module, parts: impl Iterator<Item = &'a str>) -> Module {
    for part in parts {
        at.push(part.to_owned());
        if !texts.contains_key(&at) {
            at.pop();
            break;
        }
    }
    at
}

fn resolve(
    texts: &BTreeMap<Module, &str>,
    exported: &BTreeMap<(Module, String), Module>,
    from: &Module,
    path: &str,
) -> Option<Module> {
    let mut to = walk(texts, from, path)?;
    let name = path.rsplit("::").next().unwrap_or_default().to_owned();
    // A name may be handed on several times.
    for _ in 0..4 {
        match exported.get(&(to.clone(), name.clone())) {
            Some(next) => to = next.clone(),
            None => break,
        }
    }
    Some(to)
}

#[test]
fn files_that_name_each_other_are_found() {
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let room = "mod a;\nmod b;\npub use b::{B, Other};\n";
    let found = |a: &str, b: &str| {
        circles(&[file("lib.rs", "mod x;"), file("x/mod.rs", room), file("x/a.rs", a), file("x/b.rs", b)])
    };
    let both = vec![vec!["x/a".to_owned(), "x/b".to_owned()]];
    assert_eq!(found("use super::b::B;", "use super::a::A;"), both);
    assert_eq!(found("use super::{B, Q};", "fn f() -> crate::x::a::A { todo!() }"), both, "by way of the room");
    assert_eq!(found("use super::b::{B, deep::{C, D}};", "use crate::{types::T, x::a::A};"), both, "in groups");
    assert_eq!(found("use super::b::B;", "use super::Q;\nmod tests {\n use super::a::A; }"), Vec::<Vec<String>>::new());
    assert_eq!(found("use super::b::B;", "// crate::x::a::A\n"), Vec::<Vec<String>>::new());
}

#[test]
fn files_do_not_name_each_other_in_circles() {
    let files: Vec<(String, String)> =
        src().into_iter().map(|source| (source.path.trim_start_matches("src/").to_owned(), source.text)).collect();
    assert!(files.len() > 200, "{} files", files.len());
    assert_eq!(circles(&files), Vec::<Vec<String>>::new());
}
