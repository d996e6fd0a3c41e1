//! Cargo.toml: dependencies in the order of the alphabet, each below a comment that says what it is for.

use std::fs;

use super::source::root;

/// One complaint for each dependency that stands before the one above it, or without a comment above it.
fn complaints(manifest: &str) -> Vec<String> {
    let (mut complaints, mut before, mut is_dependency, mut above) = (Vec::new(), "", false, "");
    for line in manifest.lines() {
        if line.starts_with('[') {
            (is_dependency, before) = (line.ends_with("dependencies]"), "");
        } else if let Some((name, _)) = line.split_once(" = ").filter(|_| is_dependency && !line.starts_with('#')) {
            if name < before {
                complaints.push(format!("{name} stands behind {before}"));
            }
            if !above.starts_with('#') {
                complaints.push(format!("{name} has no reason above it"));
            }
            before = name;
        }
        above = line;
    }
    complaints
}

#[test]
fn each_dependency_has_its_place_and_its_reason() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    assert!(manifest.matches("\n# ").count() > 30, "its comments are read");
    assert_eq!(complaints(&manifest), Vec::<String>::new());
}

#[test]
fn about_dependencies() {
    let good = "[package]\nname = \"x\"\n[dependencies]\n# For this.\na = \"1\"\n# For that.\nb = \"1\"\n[dev-dependencies]\n# Too.\na = \"1\"\n";
    assert_eq!(complaints(good), Vec::<String>::new());
    let bad = "[dependencies]\n# For this.\nb = \"1\"\na = { version = \"1\" }\n";
    assert_eq!(complaints(bad), ["a stands behind b", "a has no reason above it"]);
}
