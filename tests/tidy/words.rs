//! Plain words: a comment and a test's name say which request, thread or client they speak of.

use super::source::{Source, complaints, files, hold, root};

/// Words with which no comment begins. They point to something that the reader doesn't know yet.
const OPENINGS: [&str; 9] =
    ["Who", "Whoever", "Whose", "Nobody", "Everyone", "Everybody", "The same", "So many", "Those who"];

/// Words that name nothing, anywhere in a comment.
const RIDDLES: [&str; 3] = ["nobody", "whoever", "everyone"];

/// Words that a test's name doesn't have.
const UNNAMED: [&str; 5] = ["who", "whoever", "nobody", "everyone", "everybody"];

/// What stands behind the mark of a line that is a comment, and the mark.
fn comment(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start();
    let mark = ["//!", "///", "//"].into_iter().find(|mark| line.starts_with(mark))?;
    Some((mark, line[mark.len()..].trim()))
}

fn begins_with(text: &str, words: &str) -> bool {
    text.strip_prefix(words).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}

fn plain_comments(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut before = None;
    for (n, line) in source.text.lines().enumerate() {
        let here = comment(line);
        let mark = here.map(|(mark, _)| mark);
        if let Some((mark, text)) = here {
            let opening = OPENINGS.iter().find(|words| before != Some(mark) && begins_with(text, words));
            complaints.extend(opening.map(|words| source.complaint(n, format!("a comment begins with `{words}`"))));
            let words = text.split(|c: char| !c.is_alphanumeric() && c != '`').map(str::to_lowercase);
            let riddle = words.into_iter().find(|word| RIDDLES.contains(&word.as_str()));
            complaints.extend(riddle.map(|word| source.complaint(n, format!("says `{word}`, and not which one"))));
        }
        before = mark;
    }
    complaints
}

fn plain_test_names(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().map(str::trim).collect();
    let mut complaints = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        let is_test =
            lines[..n].iter().rev().take_while(|line| line.starts_with("#[")).any(|line| line.contains("test"));
        let name = line.strip_prefix("fn ").and_then(|rest| rest.split('(').next()).filter(|_| is_test);
        let unnamed = name.into_iter().flat_map(|name| name.split('_')).find(|word| UNNAMED.contains(word));
        complaints.extend(unnamed.map(|word| source.complaint(n, format!("a test's name says `{word}`"))));
    }
    complaints
}

#[test]
fn comments_are_plain() {
    hold(plain_comments, &files(&root(), &[".rs", ".cpp", ".h"]));
}

#[test]
fn names_of_tests_are_plain() {
    hold(plain_test_names, &files(&root(), &[".rs"]));
}

#[test]
fn about_comments() {
    let file = |text: &str| complaints(plain_comments, "src/engine/plan.rs", text);
    for opening in OPENINGS {
        assert_eq!(
            file(&format!("/// {opening} waits.\nfn x() {{}}\n")),
            1 + usize::from(is_riddle(opening)),
            "{opening}"
        );
    }
    assert_eq!(file("    // Waits for the request\n    // whoever sent it.\n"), 1);
    // In the middle of a comment the line may begin with such a word, and a longer word is another.
    assert_eq!(file("/// A slot.\n/// The same slot serves the next request.\n/// Whole steps.\n"), 0);
    assert_eq!(file("// The user `nobody` runs it.\n// The sameness of both.\n"), 0);
}

fn is_riddle(word: &str) -> bool {
    RIDDLES.contains(&word.to_lowercase().as_str())
}

#[test]
fn about_names_of_tests() {
    let file = |text: &str| complaints(plain_test_names, "src/engine/plan.rs", text);
    assert_eq!(file("#[test]\nfn who_waits_is_told() {}\n"), 1);
    assert_eq!(file("#[test]\n#[ignore]\nfn a_request_hurts_nobody() {}\n"), 1);
    assert_eq!(file("#[test]\nfn a_whole_step() {}\nfn who() {}\n"), 0);
}
