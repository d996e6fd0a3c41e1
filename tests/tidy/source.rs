//! A file of the project as the rules see it, and the files that they are held against.

use std::fs;
use std::path::{Path, PathBuf};

use super::literals::without_comments_and_literals;

/// A file of `src/`.
pub struct Source {
    /// From `src/` on, with slashes.
    pub path: String,
    pub text: String,
}

impl Source {
    /// `engine` for `src/engine/plan.rs` and `src/engine.rs`.
    pub fn room(&self) -> &str {
        let path = self.path.strip_prefix("src/").unwrap_or(&self.path);
        path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
    }

    pub fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }

    /// The code alone: no comments, no literals, no test modules. Lines keep their numbers.
    pub fn code(&self) -> String {
        without_test_modules(&without_comments_and_literals(&self.text))
    }

    pub fn complaint(&self, line: usize, what: impl std::fmt::Display) -> String {
        format!("{}:{}: {what}", self.path, line + 1)
    }

    /// One complaint for each line of code that holds one of `words`.
    pub fn lines_with(&self, words: &[&str], what: &str) -> Vec<String> {
        let found = |line: &str| words.iter().find(|word| holds_word(line, word)).copied();
        let code = self.code();
        let hits = code.lines().enumerate().filter_map(|(n, line)| Some((n, found(line)?)));
        hits.map(|(n, word)| self.complaint(n, format!("`{word}` {what}"))).collect()
    }
}

/// Whether `word` stands in `line` with no identifier touching it where it itself begins or ends like one.
pub fn holds_word(line: &str, word: &str) -> bool {
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = word.starts_with(in_name) && line[..at].ends_with(in_name);
        let after = word.ends_with(in_name) && line[at + word.len()..].starts_with(in_name);
        !before && !after
    })
}

/// What follows `#[cfg(test)]` or `#[cfg(all(test, ...))]` becomes blanks: a braced item, or up to a semicolon.
pub fn without_test_modules(code: &str) -> String {
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

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Files below `folder` whose names end in one of `ends`; target folders and hidden ones left out.
pub fn files(folder: &Path, ends: &[&str]) -> Vec<Source> {
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

pub fn hold(rule: fn(&Source) -> Vec<String>, sources: &[Source]) {
    let complaints: Vec<String> = sources.iter().flat_map(rule).collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

pub fn src() -> Vec<Source> {
    files(&root().join("src"), &[".rs"])
}

/// How many complaints a rule has about a file of this path and text.
pub fn complaints(rule: fn(&Source) -> Vec<String>, path: &str, text: &str) -> usize {
    rule(&Source { path: path.to_owned(), text: text.to_owned() }).len()
}
