//! One word, one meaning: a type that other files can see has a name that no other type of `src/` has. A reader who meets the name knows
//! which type is meant, and a search finds this type alone.

use std::collections::BTreeMap;

use super::source::{Source, src};

/// Names that several visible types have, and why.
const SHARED: &[(&str, &str)] = &[];

/// A type's definition.
struct Defined {
    name: String,
    /// Path and line.
    at: String,
    /// Whether other files can name it.
    is_visible: bool,
}

/// The types that `source` defines. Associated types aren't counted: they are named with their trait.
fn defined(source: &Source) -> Vec<Defined> {
    let mut found = Vec::new();
    for (n, line) in source.code().lines().enumerate() {
        let rest = line.trim_start();
        let after_pub = rest.strip_prefix("pub").map(|rest| match rest.strip_prefix('(') {
            Some(within) => within.split_once(')').map_or("", |(_, rest)| rest),
            None => rest,
        });
        let is_visible = after_pub.is_some();
        let words: Vec<&str> = after_pub.unwrap_or(rest).split_whitespace().take(2).collect();
        let [kind, name] = words[..] else { continue };
        let is_type = match kind {
            "struct" | "enum" | "trait" | "union" => true,
            "type" => is_visible || !line.starts_with(' '),
            _ => false,
        };
        let name: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if is_type && !name.is_empty() {
            found.push(Defined { name, at: format!("{}:{}", source.path, n + 1), is_visible });
        }
    }
    found
}

/// Names that several types have, one of them visible: one complaint for each name.
fn shared_names(sources: &[Source]) -> Vec<String> {
    let mut all: BTreeMap<String, Vec<Defined>> = BTreeMap::new();
    for one in sources.iter().filter(|source| !source.is_test()).flat_map(defined) {
        all.entry(one.name.clone()).or_default().push(one);
    }
    let several = all.into_iter().filter(|(_, types)| types.len() > 1 && types.iter().any(|one| one.is_visible));
    let excused = |name: &str| SHARED.iter().any(|(known, _)| *known == name);
    several
        .filter(|(name, _)| !excused(name))
        .map(|(name, types)| {
            let places: Vec<&str> = types.iter().map(|one| one.at.as_str()).collect();
            format!("`{name}` is {} types: {}", places.len(), places.join(", "))
        })
        .collect()
}

#[test]
fn each_visible_type_has_a_name_of_its_own() {
    let complaints = shared_names(&src());
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn about_names_of_types() {
    let count = |files: &[(&str, &str)]| {
        let source = |(path, text): &(&str, &str)| Source { path: (*path).to_owned(), text: (*text).to_owned() };
        shared_names(&files.iter().map(source).collect::<Vec<_>>()).len()
    };
    let (a, b) = ("src/engine/plan.rs", "src/http/plan.rs");
    assert_eq!(count(&[(a, "pub struct Step<'a> {}"), (b, "pub(super) enum Step {}")]), 1);
    assert_eq!(count(&[(a, "pub struct Step;"), (b, "struct Step;")]), 1);
    assert_eq!(count(&[(a, "pub type Step = u32;\nmod raw {\n    pub struct Step;\n}")]), 1);
    assert_eq!(count(&[(a, "struct Step;"), (b, "struct Step;")]), 0);
    assert_eq!(
        count(&[(a, "pub struct Step;"), (b, "pub struct Steps;\n// pub struct Step;\nfn step(struct_: Step) {}")]),
        0
    );
    assert_eq!(count(&[(a, "pub trait Step {\n    type Out;\n}"), (b, "impl Step for B {\n    type Out = u8;\n}")]), 0);
    assert_eq!(count(&[(a, "pub struct Step;"), (b, "#[cfg(test)]\nmod tests { struct Step; }")]), 0);
}
